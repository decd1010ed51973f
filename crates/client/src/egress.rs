//! What a workspace may reach, and what it did.

use crate::{Client, Result};
use http::Method;
use rexec_api::Page;
use rexec_api::egress::{EgressEntry, EgressSettings, EgressView, LendRule};
use rexec_api::ids::WorkspaceId;

impl Client {
    pub async fn egress(&self, workspace: WorkspaceId) -> Result<EgressView> {
        self.get(&format!("/api/workspaces/{workspace}/egress")).await
    }

    /// All of it; waits until its gateway has been told.
    pub async fn set_egress(&self, workspace: WorkspaceId, settings: &EgressSettings) -> Result<EgressView> {
        self.send(Method::PUT, &format!("/api/workspaces/{workspace}/egress"), settings).await
    }

    /// Lets it reach this for a while.
    pub async fn lend(&self, workspace: WorkspaceId, lend: &LendRule) -> Result<EgressView> {
        self.send(Method::POST, &format!("/api/workspaces/{workspace}/egress/allow"), lend).await
    }

    /// The newest of what it asked for; what was refused alone, if that is wanted.
    pub async fn egress_log(&self, workspace: WorkspaceId, denied: bool) -> Result<Page<EgressEntry>> {
        self.get(&format!("/api/workspaces/{workspace}/egress/log?denied={denied}")).await
    }
}
