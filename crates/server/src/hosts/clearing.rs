//! A server's end. In good order it begins with taking no more workspaces, so that those that are there can be moved
//! (`workspaces/moving/clearing.rs`); of one that is lost, all that lay there goes with it (`workspaces/lost.rs`).

use super::admin::{Servers, require_admin};
use super::by::By;
use super::store;
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::events;
use crate::workspaces::Deps;
use crate::workspaces::lost::{self, WrittenOff};
use rexec_api::error::ErrorCode;
use rexec_api::ids::HostId;
use rexec_api::servers::{ServerLost, ServerState};
use serde_json::json;

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
        self.require_other_than_local(id)?;
        if self.fleet().of(Some(id)).ready().is_ok() {
            let message =
                "It answers, so that nothing on it is lost. Move what is there to other servers, or delete it.";
            return Err(Error::new(ErrorCode::ServerInUse, message).details(json!({ "is_ready": true })));
        }
        let mut known = self.known.lock().await;
        let tx = self.db().begin().await?;
        store::retire(&tx, id).await?;
        let off = lost::write_off(&tx, deps, id).await?;
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

    pub(super) fn require_other_than_local(&self, id: HostId) -> Result<()> {
        if id == self.fleet().local().id {
            return Err(Error::new(ErrorCode::ServerInUse, "The local server cannot be deleted; drain it instead.")
                .details(json!({ "is_local": true })));
        }
        Ok(())
    }
}
