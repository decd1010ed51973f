//! What administrators look after, and credentials, which anybody may have.

use crate::{Client, ClientError, Result, accepted};
use http::{Method, StatusCode};
use rexec_api::Page;
use rexec_api::ids::RegistryId;
use rexec_api::registries::{NewRegistry, RegistryView};
use rexec_api::ssh::SshHostKeyView;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whether a server has all that it needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Readiness {
    pub ready: bool,
    /// `ok`, or what is wrong, by name.
    pub checks: BTreeMap<String, String>,
    /// What its machine does not hold workspaces to, in sentences.
    #[serde(default)]
    pub weaker: Vec<String>,
    /// By which SSH host key the engine's machine is known, where it is reached through SSH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_host_key: Option<String>,
}

/// What credentials are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialsFor {
    Images,
    Repositories,
}

impl CredentialsFor {
    const fn path(self) -> &'static str {
        match self {
            Self::Images => "/api/registries",
            Self::Repositories => "/api/git/credentials",
        }
    }
}

impl Client {
    /// How a server is, whether it is ready or not.
    pub async fn readiness(&self) -> Result<Readiness> {
        let response = self.request(Method::GET, "/ready").send().await?;
        let status = response.status();
        if status != StatusCode::OK && status != StatusCode::SERVICE_UNAVAILABLE {
            return Err(ClientError::Strange(status));
        }
        serde_json::from_slice(&response.bytes().await?).map_err(|_| ClientError::Strange(status))
    }

    /// The keys by which the SSH gateway proves itself.
    pub async fn ssh_host_keys(&self) -> Result<Page<SshHostKeyView>> {
        self.get("/api/ssh/host-keys").await
    }

    /// Puts new ones in their place, and gives those.
    pub async fn rotate_ssh_host_key(&self) -> Result<Page<SshHostKeyView>> {
        crate::json(self.request(Method::POST, "/api/admin/ssh/host-keys/rotate").send().await?).await
    }

    /// The account's credentials, and those for everyone.
    pub async fn credentials(&self, of: CredentialsFor) -> Result<Page<RegistryView>> {
        self.get(of.path()).await
    }

    pub async fn store_credentials(&self, of: CredentialsFor, new: &NewRegistry) -> Result<RegistryView> {
        self.send(Method::POST, of.path(), new).await
    }

    pub async fn remove_credentials(&self, of: CredentialsFor, id: RegistryId) -> Result<()> {
        accepted(self.request(Method::DELETE, &format!("{}/{id}", of.path())).send().await?).await.map(drop)
    }
}
