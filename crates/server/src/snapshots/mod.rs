//! Snapshots: workspaces as they were at one time, from which others are made.
//!
//! The service records what is to be taken; the workspace's driver takes it. What is deleted or has
//! failed is removed from the engine by the rounds of [`upkeep`].
//!
//! Invariant: whatever the engine has of a snapshot is named by its row from before it is made until
//! after it is removed, so a crash leaves nothing that nobody knows of.

pub mod archive;
pub mod http;
pub mod plan;
pub mod store;
pub mod upkeep;

use crate::actor::Actor;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::page;
use crate::replicas::Hold;
use crate::tasks::Tasks;
use crate::time::{now_ms, rfc3339};
use crate::turns::Turns;
use crate::workspaces::store::{HomeState, Workspace};
use crate::workspaces::{self, Deps, Workspaces, validate};
use plan::{Quota, SnapshotPlan};
use rexec_api::Page;
use rexec_api::error::ErrorCode;
use rexec_api::ids::{HostId, SnapshotId, WorkspaceId};
use rexec_api::snapshots::{NewSnapshot, SnapshotState, SnapshotView};
use rexec_api::tokens::Scope;
use rexec_api::workspaces::{MoveState, NAME_CHARS_MAX, NewWorkspace, WAIT_MS_DEFAULT, WorkspaceStatus};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use store::{Failure, Snapshot};

#[derive(Clone)]
pub struct Snapshots {
    deps: Arc<Deps>,
    workspaces: Workspaces,
    tasks: Tasks,
    quota: Quota,
    /// What stands for the base image of a snapshot that came from elsewhere.
    workspace_image: String,
    transfers: Turns,
}

impl Snapshots {
    pub fn new(workspaces: Workspaces, config: &Config, tasks: Tasks) -> Self {
        let storage = &config.storage;
        Self {
            deps: workspaces.deps(),
            workspaces,
            tasks,
            quota: Quota { count_max: storage.snapshots_max, bytes_max: storage.snapshot_bytes_max },
            workspace_image: config.engine.workspace_image.clone(),
            transfers: Turns::new(archive::TRANSFERS_MAX, archive::USER_TRANSFERS_MAX),
        }
    }

    /// At the start, before any driver: what a server that died was taking is given up.
    pub async fn repair(&self) -> Result<()> {
        // Of several servers each sees to its own as it takes it.
        if self.deps.replicas.is_alone() {
            for host in self.deps.fleet.all() {
                self.repair_on(host.id, &Hold::alone()).await?;
            }
        }
        Ok(())
    }

    /// The same of one host, which whoever tended it does no more.
    pub(crate) async fn repair_on(&self, host: HostId, hold: &Hold) -> Result<()> {
        let failure = Failure::given_up("The server stopped while it was taken. Take it again.");
        let tx = hold.begin(&self.deps.db).await?;
        store::fail_all(&tx, host, &failure).await?;
        Ok(tx.commit().await?)
    }

    pub async fn list(&self, actor: &Actor, before: Option<SnapshotId>) -> Result<Page<SnapshotView>> {
        actor.authorise_list(Scope::Snapshots)?;
        let rows = store::list(self.deps.db.read(), actor.user, actor.limit(), before).await?;
        Ok(page::of(rows, |row| row.id.to_string(), view))
    }

    pub async fn get(&self, actor: &Actor, id: SnapshotId) -> Result<SnapshotView> {
        Ok(view(&self.owned(actor, id).await?))
    }

    /// Takes one, and waits for it up to its deadline.
    pub async fn take(&self, actor: &Actor, workspace: WorkspaceId, new: NewSnapshot) -> Result<SnapshotView> {
        let row = self.workspaces.owned_container(actor, Scope::Snapshots, workspace, "snapshots").await?;
        let name = new.name.clone().unwrap_or_else(|| row.name.clone());
        let asked = NewWorkspace { name: Some(name.clone()), wait_ms: new.wait_ms, ..Default::default() };
        validate::new_workspace(&asked)?;
        let host = self.deps.fleet.of(row.host);
        host.ready_or_tried().await.map_err(|why| Error::new(ErrorCode::EngineUnavailable, why))?;
        require_settled(&row)?;
        self.workspaces.require_space(&host).await?;
        let mut news = self.deps.snapshot_news.subscribe();
        let id = self.record(actor, &row, name).await?;
        self.deps.crash.point("snapshot.recorded");
        self.workspaces.ask(workspace);

        let wait = Duration::from_millis(new.wait_ms.unwrap_or(WAIT_MS_DEFAULT));
        let taken = async {
            loop {
                let view = self.get(actor, id).await?;
                if view.state != SnapshotState::Taking || news.changed().await.is_err() {
                    return Ok::<_, Error>(view);
                }
            }
        };
        let view = match tokio::time::timeout(wait, taken).await {
            Ok(view) => view?,
            Err(_) => self.get(actor, id).await?,
        };
        match (view.state, &view.reason) {
            (SnapshotState::Failed, Some(reason)) => {
                let code = view.error_code.unwrap_or(ErrorCode::EngineError);
                Err(Error::new(code, reason.clone()).details(json!({ "snapshot_id": id })))
            }
            _ => Ok(view),
        }
    }

    /// No clone loses anything by it.
    pub async fn delete(&self, actor: &Actor, id: SnapshotId) -> Result<()> {
        let row = self.owned(actor, id).await?;
        let tx = self.deps.db.begin().await?;
        if !store::condemn(&tx, id).await? {
            return Err(no_such());
        }
        store::bury(&tx, &id.to_string()).await?;
        let event = NewEvent::of_user(actor.user, "snapshot.deleted").workspace(row.workspace);
        let logged = events::append(&tx, &event.data(json!({ "snapshot": id, "name": row.name }))).await?;
        tx.commit().await?;
        self.deps.bus.publish_logged(actor.user, logged);
        if row.state == SnapshotState::Taking {
            // Whoever takes it hears that nobody wants it.
            self.workspaces.ask(row.workspace);
        }
        self.deps.fleet.of(row.host).upkeep.notify_one();
        Ok(())
    }

    async fn record(&self, actor: &Actor, row: &Workspace, name: String) -> Result<SnapshotId> {
        let id = SnapshotId::new();
        let tx = self.deps.db.begin().await?;
        // It may have begun to move since it was looked at.
        let is_as_it_was =
            |now: &Workspace| now.host == row.host && now.generation == row.generation && !now.is_moving();
        if !workspaces::store::find(&tx, row.id).await?.is_some_and(|now| is_as_it_was(&now)) {
            return Err(Error::new(
                ErrorCode::WorkspaceBusy,
                "Something else has just been asked of it. Look at it, and try again.",
            )
            .details(json!({ "doing": "other" })));
        }
        let (count, bytes) = store::usage(&tx, actor.user).await?;
        if store::taking(&tx, row.id).await?.is_some() {
            return Err(Error::new(ErrorCode::WorkspaceBusy, "A snapshot of it is being taken. Wait for that first.")
                .details(json!({ "doing": "snapshot" })));
        }
        plan::allow(count, bytes, &self.quota)?;
        let base = store::base_of(&tx, &row.image).await?;
        let plan = serde_json::to_string(&SnapshotPlan::of(row)).map_err(Error::internal)?;
        let snapshot = Snapshot {
            id,
            owner: actor.user,
            workspace: row.id,
            workspace_name: row.name.clone(),
            host: row.host,
            name,
            state: SnapshotState::Taking,
            reason: None,
            error_code: None,
            image_ref: Some(store::image_name(id)),
            volume: Some(store::volume_name(id)),
            base_image: base,
            plan_json: plan,
            image_bytes: 0,
            home_bytes: 0,
            pause_ms: None,
            clones: 0,
            created_ms: now_ms(),
        };
        store::insert(&tx, &snapshot).await?;
        let event = NewEvent::of_user(actor.user, "snapshot.created").workspace(row.id);
        let logged = events::append(&tx, &event.data(json!({ "snapshot": id, "name": snapshot.name }))).await?;
        tx.commit().await?;
        self.deps.bus.publish_logged(actor.user, logged);
        Ok(id)
    }

    async fn owned(&self, actor: &Actor, id: SnapshotId) -> Result<Snapshot> {
        actor.authorise_list(Scope::Snapshots)?;
        let found = store::find(self.deps.db.read(), id).await?;
        found.filter(|row| actor.owns(row.owner) && actor.reaches(row.workspace)).ok_or_else(no_such)
    }
}

/// A workspace that is on its way from one state to another is not one thing to take.
fn require_settled(row: &Workspace) -> Result<()> {
    use WorkspaceStatus as S;
    let settled = matches!(row.status, S::Running | S::Paused | S::Stopped)
        && row.status.as_str() == row.intent.desired.as_str()
        && row.generation > 0
        && row.home_state == HomeState::Ready;
    // What it is made of lies there, and no container yet.
    if row.moving.as_ref().is_some_and(|moving| moving.is_unproven || moving.state == MoveState::Moving) {
        let message = "It is being moved, or was moved and has not run since. Start it at its new place first.";
        return Err(Error::new(ErrorCode::WorkspaceBusy, message).details(json!({ "doing": "move" })));
    }
    if settled {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::WorkspaceState,
        "A snapshot can be taken of a workspace that runs, is paused or is stopped. Wait until it is.",
    )
    .details(json!({ "status": row.status.as_str() })))
}

fn view(row: &Snapshot) -> SnapshotView {
    let bytes = |n: i64| u64::try_from(n).unwrap_or(0);
    SnapshotView {
        id: row.id,
        name: row.name.chars().take(NAME_CHARS_MAX).collect(),
        workspace_id: row.workspace,
        workspace_name: row.workspace_name.clone(),
        state: row.state,
        reason: row.reason.clone(),
        error_code: row.error_code,
        size_bytes: bytes(row.home_bytes) + bytes(row.image_bytes),
        home_bytes: bytes(row.home_bytes),
        image_bytes: bytes(row.image_bytes),
        pause_ms: row.pause_ms.map(bytes),
        clones: bytes(row.clones),
        created_at: rfc3339(row.created_ms),
    }
}

fn no_such() -> Error {
    Error::not_found("snapshot")
}
