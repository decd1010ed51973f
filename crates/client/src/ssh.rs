//! SSH keys, and how a workspace is reached by SSH.

use crate::{Client, Result, accepted};
use http::Method;
use rexec_api::Page;
use rexec_api::ids::{SshKeyId, WorkspaceId};
use rexec_api::ssh::{ImportSshKeys, ImportedSshKeys, NewSshKey, SshConnect, SshKeyView, SyncedSshKeys};

impl Client {
    pub async fn ssh_keys(&self) -> Result<Page<SshKeyView>> {
        self.get("/api/ssh/keys").await
    }

    pub async fn add_ssh_key(&self, new: &NewSshKey) -> Result<SshKeyView> {
        self.send(Method::POST, "/api/ssh/keys", new).await
    }

    /// Adds the keys that a user has at GitHub.
    pub async fn import_ssh_keys(&self, username: &str) -> Result<ImportedSshKeys> {
        self.send(Method::POST, "/api/ssh/keys/github", &ImportSshKeys { username: username.into() }).await
    }

    pub async fn delete_ssh_key(&self, id: SshKeyId) -> Result<()> {
        accepted(self.request(Method::DELETE, &format!("/api/ssh/keys/{id}")).send().await?).await.map(drop)
    }

    /// Writes the account's keys into a workspace, for an sshd of its own.
    pub async fn sync_ssh_keys(&self, workspace: WorkspaceId) -> Result<SyncedSshKeys> {
        crate::json(self.request(Method::POST, &format!("/api/ssh/sync/{workspace}")).send().await?).await
    }

    pub async fn ssh_connect(&self, workspace: WorkspaceId) -> Result<SshConnect> {
        self.get(&format!("/api/ssh/connect/{workspace}")).await
    }
}
