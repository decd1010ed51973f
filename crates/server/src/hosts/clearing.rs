//! A server's end. In good order it begins with taking no more workspaces, so that those that are there can be moved
//! (`workspaces/moving/clearing.rs`); of one that is lost, all that lay there goes with it (`workspaces/lost.rs`).

use super::Host;
use super::admin::{Servers, require_admin};
use super::by::By;
use super::store::{self, HostRow};
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::events;
use crate::replicas::{ReplicaId, of_host};
use crate::time::now_ms;
use crate::workspaces::Deps;
use crate::workspaces::lost::{self, WrittenOff};
use crate::workspaces::store as workspaces;
use rexec_api::error::ErrorCode;
use rexec_api::ids::HostId;
use rexec_api::servers::{ServerLost, ServerState};
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

/// A server that is there answers within this.
const PING_PATIENCE: Duration = Duration::from_secs(5);
/// One that another tends must not have answered for so long: longer than it takes to begin anew, or to be taken over.
const SEEN_LATELY_S: u32 = 60;

impl Servers {
    /// From here on what is there is to go elsewhere.
    pub async fn begin_clearing(&self, actor: &Actor, id: HostId) -> Result<()> {
        if actor.is_admin() {
            self.require_other_than_local(id)?;
        }
        self.set_state(actor, id, ServerState::Draining).await.map(|_| ())
    }

    /// Takes out one that does not come back, with all that lay there.
    pub async fn write_off(&self, actor: &Actor, id: HostId, deps: &Deps) -> Result<WrittenOff> {
        require_admin(actor)?;
        let row = self.find(id).await?;
        self.require_nobodys(&row)?;
        let mut known = self.known.lock().await;
        let host = self.fleet().of(Some(id));
        self.require_silent(&host).await?;
        let tx = self.db().begin().await?;
        // Workspaces before their hosts, as everywhere.
        workspaces::lock_on_host(&tx, id).await?;
        store::retire(&tx, id).await?;
        let off = lost::write_off(&tx, deps, id).await?;
        if host.ready().is_ok() {
            return Err(answers());
        }
        let ServerLost { workspaces, homes, snapshots, saved } = off.lost;
        let data = json!({
            "server": id, "name": row.name, "workspaces": workspaces, "homes": homes, "snapshots": snapshots, "saved": saved,
        });
        events::append(&tx, &By::User(actor.user).event("server.lost", data)).await?;
        tx.commit().await?;
        tracing::warn!(
            server = row.name,
            workspaces,
            homes,
            snapshots,
            saved,
            "a server is written off, with what lay there"
        );
        self.forget(&mut known, id);
        Ok(off)
    }

    /// Refuses where nothing is lost: it answers, or did a moment ago.
    async fn require_silent(&self, host: &Host) -> Result<()> {
        if host.ready_or_tried().await.is_ok() || matches!(timeout(PING_PATIENCE, host.engine.ping()).await, Ok(Ok(())))
        {
            return Err(answers());
        }
        // Of one that another server tends this one knows little while that begins anew.
        let seen_ms = host.seen_ms().unwrap_or(0);
        if host.is_bound_elsewhere() && now_ms() - seen_ms < i64::from(SEEN_LATELY_S) * 1000 {
            let message = format!("It answered less than {SEEN_LATELY_S} s ago. Should it not come back, ask again.");
            let later = Duration::from_secs(SEEN_LATELY_S.into());
            return Err(Error::new(ErrorCode::ServerInUse, message).retry_after(later));
        }
        Ok(())
    }

    /// Refuses the server that a `rexec serve` which is there has as its own, this one or another.
    pub(super) fn require_nobodys(&self, row: &HostRow) -> Result<()> {
        self.require_other_than_local(row.id)?;
        let table = self.replicas.table();
        let table = table.borrow();
        let holder = || table.holder(&of_host(row.id)).map(|replica| replica.id);
        // One that `DOCKER_HOST` names is nobody's but those who were started with that.
        let owner = row.replica.or_else(|| holder().filter(|_| row.access_sealed.is_none()));
        let is_there = |id: &ReplicaId| table.replicas.get(id).is_some_and(|replica| replica.alive);
        match owner.filter(|id| Some(*id) != self.replicas.id() && is_there(id)) {
            Some(_) => {
                let message =
                    "Another of Rexec's servers has it as its own, and runs. Do it there, or end that one first.";
                Err(Error::new(ErrorCode::NotHere, message))
            }
            None => Ok(()),
        }
    }

    pub(super) fn require_other_than_local(&self, id: HostId) -> Result<()> {
        if id == self.fleet().local().id {
            return Err(Error::new(ErrorCode::ServerInUse, "The local server cannot be deleted; drain it instead.")
                .details(json!({ "is_local": true })));
        }
        Ok(())
    }
}

fn answers() -> Error {
    let message = "It answers, so that nothing on it is lost. Move what is there to other servers, or delete it.";
    Error::new(ErrorCode::ServerInUse, message).details(json!({ "is_ready": true }))
}
