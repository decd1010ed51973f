//! Moves of stopped workspaces from one host to another: who may ask, and whereto.
//!
//! The service records what is to be moved and takes the target's room for it, both or neither; the workspace's driver
//! carries it out (`driver/moving.rs`).
//!
//! Invariant: a workspace is whole at one host at any time, the one that its row names; what was made of it at the other
//! is named by rows of its own until it is gone (`store.rs`).

pub mod clearing;
pub mod store;
pub mod upkeep;

use super::store::Workspace;
use super::{Outcome, Workspaces, choice, state_error, store as workspaces};
use crate::actor::Actor;
use crate::egress::network_of;
use crate::error::{Error, Result};
use crate::hosts::gateway::NoGateway;
use crate::hosts::placement::{Amount, Wanted};
use crate::hosts::store::{self as hosts, HostRow};
use crate::hosts::{Host, HostFacts, regions, reserve};
use crate::time::{now_ms, rfc3339};
use rexec_api::egress::EgressNetwork;
use rexec_api::error::ErrorCode;
use rexec_api::ids::{SnapshotId, WorkspaceId};
use rexec_api::tokens::Scope;
use rexec_api::workspaces::{
    MoveState, MoveView, MoveWorkspace, WAIT_MS_DEFAULT, WAIT_MS_MAX, WorkspaceStatus, WorkspaceView,
};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use store::{Began, Move, Moving};

/// Moves at once; more wait for their turn. Each keeps the disks of two hosts busy.
pub const MOVES_MAX: usize = 4;

impl Workspace {
    /// It is to be brought to another host, or on its way.
    pub fn is_moving(&self) -> bool {
        self.moving.as_ref().is_some_and(|moving| moving.state == MoveState::Moving)
    }
}

impl Workspaces {
    /// Moves a stopped workspace, and waits for it up to its deadline.
    pub async fn relocate(&self, actor: &Actor, id: WorkspaceId, to: MoveWorkspace) -> Result<Outcome> {
        let row = self.owned_container(actor, Scope::WorkspacesWrite, id, "server").await?;
        let wait = to.wait_ms.unwrap_or(WAIT_MS_DEFAULT);
        if wait > WAIT_MS_MAX {
            return Err(Error::field("wait_ms", format!("`wait_ms` must be at most {WAIT_MS_MAX}.")));
        }
        if to.host.is_some() && !actor.is_admin() {
            let message = "Only administrators choose the server. Name a `region`, or leave both out.";
            return Err(Error::new(ErrorCode::Forbidden, message).details(json!({ "field": "host" })));
        }
        self.begin_move(actor, &row, &to).await?;
        let moved = async {
            let mut reports = self.slot(id).reports();
            loop {
                let view = self.get(actor, id).await?;
                let is_moving = view.moving.as_ref().is_some_and(|moving| moving.state == MoveState::Moving);
                if !is_moving || reports.changed().await.is_err() {
                    return Ok::<_, Error>(view);
                }
            }
        };
        match tokio::time::timeout(Duration::from_millis(wait), moved).await {
            Ok(view) => outcome(view?),
            Err(_) => Ok(Outcome { view: self.get(actor, id).await?, done: false }),
        }
    }

    /// Records a move and has the driver see to it; whoever calls has judged who may.
    pub(super) async fn begin_move(&self, actor: &Actor, row: &Workspace, to: &MoveWorkspace) -> Result<()> {
        require_movable(row)?;
        let from = self.deps.fleet.of(row.host);
        let facts = from.ready_or_tried().await.map_err(|why| Error::new(ErrorCode::EngineUnavailable, why))?;
        let mut refused = None;
        for host in self.destinations(actor, row, &facts, to).await? {
            match self.begin_on(row, &from, &host).await {
                Ok(()) => {
                    self.deps.crash.point("move.recorded");
                    self.ask(row.id);
                    return Ok(());
                }
                Err(error) if choice::is_of_one_host(&error) => drop(refused.get_or_insert(error)),
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(choice::all_full))
    }

    /// Hosts that could have it, the best first, and one at the least.
    async fn destinations(
        &self,
        actor: &Actor,
        row: &Workspace,
        facts: &HostFacts,
        to: &MoveWorkspace,
    ) -> Result<Vec<Arc<Host>>> {
        let rows = hosts::all(self.deps.db.read()).await?;
        let here = rows.iter().find(|host| Some(host.id) == row.host);
        if let Some(name) = &to.host
            && here.is_some_and(|here| here.name == *name)
        {
            let message = format!("It lies on {name} already. Name another server, or a region.");
            return Err(Error::new(ErrorCode::AlreadyThere, message).details(json!({ "field": "host" })));
        }
        // Who names nothing wants it to be near still.
        let region = match (&to.host, &to.region) {
            (None, None) => here.map(|here| here.region.clone()),
            (_, region) => region.clone(),
        };
        require_other(&rows, row, to, region.as_deref())?;
        let wanted = Wanted {
            region,
            host: to.host.clone(),
            not: row.host,
            runtime: Some(row.runtime.clone()).filter(|runtime| !runtime.is_empty()),
            architecture: Some(facts.engine.architecture.clone()),
            // It takes the disk alone, but is to run there.
            amount: Amount { cpu_milli: row.cpu_milli, memory_mb: row.memory_mb, disk_mb: row.disk_mb },
            names_cpu: true,
            names_memory: true,
            ..Wanted::default()
        };
        self.hosts_for(actor, &wanted).await
    }

    /// What is to be behind a gateway is not moved to where there can be none. Of one that merely does not answer its driver
    /// sees to it, and so does the server that tends a host where we do not.
    async fn require_gateway(&self, row: &Workspace, to: &Host) -> Result<()> {
        if network_of(row, &to.egress) == EgressNetwork::Open || !to.is_ours() {
            return Ok(());
        }
        let facts = to.ready().map_err(|why| Error::new(ErrorCode::EngineUnavailable, why))?;
        match to.guarded(&self.deps.vault, &facts.engine).await {
            Err(NoGateway::Never(why)) => {
                let message = format!("That server cannot guard what it reaches: {why} Choose another.");
                Err(Error::new(ErrorCode::EgressUnavailable, message))
            }
            _ => Ok(()),
        }
    }

    async fn begin_on(&self, row: &Workspace, from: &Host, to: &Host) -> Result<()> {
        let runtime = Some(row.runtime.as_str()).filter(|runtime| !runtime.is_empty());
        self.require_runtime(to, runtime).await?;
        self.require_space(to).await?;
        self.require_nesting(&Workspace { host: Some(to.id), ..row.clone() }).await?;
        self.require_gateway(row, to).await?;
        let id = SnapshotId::new();
        let wanted = Move {
            id,
            workspace: row.id,
            from: from.id,
            to: to.id,
            from_volume: row.volume.clone(),
            to_volume: format!("rexec-home-{}", id.0.simple()),
            from_snapshot: SnapshotId::new(),
            generation: row.generation,
            disk_mb: row.disk_mb,
            asked_ms: now_ms(),
        };
        let tx = self.deps.db.begin().await?;
        if from.region != to.region {
            regions::require_place(&tx, &to.region).await?;
        }
        match store::begin(&tx, &wanted, row).await? {
            Began::Yes => Ok(tx.commit().await?),
            Began::Full => Err(choice::all_full()),
            Began::Changed => {
                let message = "Something else has just been asked of it. Look at it, and move it then.";
                Err(Error::new(ErrorCode::WorkspaceBusy, message).details(json!({ "doing": "other" })))
            }
        }
    }

    pub(super) fn move_view(&self, actor: &Actor, row: &Workspace, moving: &Moving) -> MoveView {
        let host = self.deps.fleet.of(Some(moving.to));
        let bytes = self.slot_if_any(row.id).and_then(|slot| slot.doing().borrow().moved_bytes);
        MoveView {
            state: moving.state,
            region: host.region.clone(),
            host: actor.is_admin().then(|| host.name.clone()),
            bytes: bytes.unwrap_or(0),
            reason: moving.reason.clone(),
            error_code: moving.error,
            asked_at: rfc3339(moving.asked_ms),
        }
    }

    /// What is said to whoever starts what has no room where it lies.
    pub(super) fn no_room(&self) -> Error {
        let error = |message: String| Error::new(ErrorCode::HostFull, message);
        if self.deps.fleet.all().len() < 2 {
            return error(reserve::NO_ROOM.into());
        }
        error(format!("{} Or move it to another server.", reserve::NO_ROOM)).details(json!({ "can_move": true }))
    }
}

/// A move that is over has done what was asked, or says why not.
fn outcome(view: WorkspaceView) -> Result<Outcome> {
    match &view.moving {
        Some(MoveView { state: MoveState::Failed, reason, error_code, .. }) => {
            let reason = reason.clone().unwrap_or_else(|| "It could not be moved.".into());
            Err(Error::new(error_code.unwrap_or(ErrorCode::EngineError), reason))
        }
        _ => Ok(Outcome { view, done: true }),
    }
}

fn require_movable(row: &Workspace) -> Result<()> {
    if row.is_moving() {
        return Err(Error::new(ErrorCode::WorkspaceBusy, "It is being moved already. Wait for that first.")
            .details(json!({ "doing": "move" })));
    }
    if row.status != WorkspaceStatus::Stopped || row.intent.desired != super::lifecycle::Desired::Stopped {
        let message = "Only a stopped workspace can be moved. Stop it first.";
        return Err(Error::new(ErrorCode::NotStopped, message).details(json!({ "status": row.status.as_str() })));
    }
    if row.generation == 0 || row.home_state != workspaces::HomeState::Ready {
        return Err(state_error(
            row,
            "It has never run, so there is nothing of it to move. Start it, or make another.".into(),
        ));
    }
    Ok(())
}

/// Says what is to be said where there is nothing else to choose from.
fn require_other(rows: &[HostRow], row: &Workspace, to: &MoveWorkspace, region: Option<&str>) -> Result<()> {
    let is_other = |host: &&HostRow| {
        Some(host.id) != row.host
            && to.host.as_ref().is_none_or(|name| host.name == *name)
            && region.is_none_or(|region| host.region == region)
    };
    if rows.iter().any(|host| is_other(&host)) {
        return Ok(());
    }
    let (field, message) = match (&to.host, region) {
        (Some(name), None) => ("host", format!("There is no server `{name}`.")),
        (Some(name), Some(region)) => ("host", format!("There is no server `{name}` in the region `{region}`.")),
        (None, Some(region)) if rows.iter().any(|host| host.region == region) => {
            ("region", format!("There is no other server in its region, `{region}`. Name another region."))
        }
        (None, Some(region)) => ("region", format!("There is no region `{region}`.")),
        (None, None) => ("host", "There is no other server.".into()),
    };
    Err(Error::new(ErrorCode::NoHost, message).details(json!({ "field": field })))
}
