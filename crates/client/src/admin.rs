//! What administrators look after, and credentials, which anybody may have.

use crate::{Client, ClientError, Result, accepted};
use http::{Method, StatusCode};
use rexec_api::Page;
use rexec_api::ids::{HostId, RegistryId};
use rexec_api::registries::{NewRegistry, RegistryView};
use rexec_api::servers::{
    ComputeHealth, NewServer, PatchServer, PullImage, PutRegion, RegionView, ServerImages, ServerLeft, ServerLost,
    ServerView, WantedImage,
};
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
    /// OCI runtimes there by which nothing runs, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub runtimes_unfit: BTreeMap<String, String>,
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

/// What becomes of what moved workspaces leave on a server that is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sources {
    /// It is kept until they have run at their new places.
    Keep,
    Drop,
}

/// What a server is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerRequest {
    Test,
    Drain,
    Activate,
}

impl ServerRequest {
    const fn path(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Drain => "drain",
            Self::Activate => "activate",
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

    /// The servers that workspaces run on.
    pub async fn servers(&self) -> Result<Page<ServerView>> {
        self.get("/api/admin/servers").await
    }

    /// Adds one, which is reached and made ready before this returns.
    pub async fn add_server(&self, new: &NewServer) -> Result<ServerView> {
        self.send(Method::POST, "/api/admin/servers", new).await
    }

    pub async fn server_images(&self, id: HostId) -> Result<ServerImages> {
        self.get(&format!("/api/admin/servers/{id}/images")).await
    }

    /// Has it fetched; how far that is stands in the list.
    pub async fn pull_image(&self, id: HostId, image: &str) -> Result<WantedImage> {
        let asked = PullImage { image: image.to_owned() };
        self.send(Method::POST, &format!("/api/admin/servers/{id}/images"), &asked).await
    }

    pub async fn change_server(&self, id: HostId, change: &PatchServer) -> Result<ServerView> {
        self.send(Method::PATCH, &format!("/api/admin/servers/{id}"), change).await
    }

    pub async fn ask_server(&self, id: HostId, request: ServerRequest) -> Result<ServerView> {
        let path = format!("/api/admin/servers/{id}/{}", request.path());
        crate::json(self.request(Method::POST, &path).send().await?).await
    }

    pub async fn remove_server(&self, id: HostId) -> Result<()> {
        accepted(self.request(Method::DELETE, &format!("/api/admin/servers/{id}")).send().await?).await.map(drop)
    }

    /// Takes out one that does not come back, with all that lay there.
    pub async fn write_off_server(&self, id: HostId) -> Result<ServerLost> {
        crate::json(self.request(Method::DELETE, &format!("/api/admin/servers/{id}?lost=true")).send().await?).await
    }

    /// Takes no more workspaces there, moves what is stopped, and deletes it once nothing is left: `None`. Else what is.
    pub async fn clear_server(&self, id: HostId, sources: Sources) -> Result<Option<ServerLeft>> {
        let path = format!("/api/admin/servers/{id}?move=true&drop_sources={}", sources == Sources::Drop);
        let response = accepted(self.request(Method::DELETE, &path).send().await?).await?;
        match response.status() {
            StatusCode::NO_CONTENT => Ok(None),
            _ => Ok(Some(response.json().await?)),
        }
    }

    /// How the servers are.
    pub async fn compute_health(&self) -> Result<ComputeHealth> {
        self.get("/api/compute/health").await
    }

    /// The regions that servers are in, by name.
    pub async fn regions(&self) -> Result<Page<RegionView>> {
        self.get("/api/admin/regions").await
    }

    /// How many workspaces a region may have; `None`: as many as its servers take.
    pub async fn limit_region(&self, name: &str, max_workspaces: Option<u32>) -> Result<RegionView> {
        self.send(Method::PUT, &format!("/api/admin/regions/{name}"), &PutRegion { max_workspaces }).await
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
