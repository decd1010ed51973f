//! The beginning of a server's end: it takes no more workspaces, so that those that are there can be moved
//! (`workspaces/moving/clearing.rs`).

use super::admin::Servers;
use crate::actor::Actor;
use crate::error::{Error, Result};
use rexec_api::error::ErrorCode;
use rexec_api::ids::HostId;
use rexec_api::servers::ServerState;
use serde_json::json;

impl Servers {
    /// From here on what is there is to go elsewhere.
    pub async fn begin_clearing(&self, actor: &Actor, id: HostId) -> Result<()> {
        if actor.is_admin() {
            self.require_other_than_local(id)?;
        }
        self.set_state(actor, id, ServerState::Draining).await.map(|_| ())
    }

    pub(super) fn require_other_than_local(&self, id: HostId) -> Result<()> {
        if id == self.fleet().local().id {
            return Err(Error::new(ErrorCode::ServerInUse, "The local server cannot be deleted; drain it instead.")
                .details(json!({ "is_local": true })));
        }
        Ok(())
    }
}
