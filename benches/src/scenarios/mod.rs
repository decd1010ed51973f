//! What is measured: one file per kind of figure.

pub mod bulk;
pub mod echo;
pub mod egress;
pub mod files;
pub mod gvisor;
pub mod many;
pub mod memory;
pub mod placement;
pub mod pool;
pub mod preview;
pub mod scale;
pub mod sleep;
pub mod snapshot;
pub mod ssh;
pub mod starting;
pub mod transport;

use crate::ours::Ours;
use crate::peer::Peer;
use anyhow::Result;
use rexec_api::ids::WorkspaceId;
use serde_json::Value;
use std::path::Path;

/// A running workspace of ours, and a container of the peer's like it.
pub struct Stage<'a> {
    pub ours: &'a Ours,
    pub peer: Peer,
    pub workspace: WorkspaceId,
    /// The workspace's container, as the engine describes it: what the peer's are made like.
    pub model: Value,
    pub container: String,
    home: String,
    made: u32,
}

impl<'a> Stage<'a> {
    pub async fn open(ours: &'a Ours, socket: &Path) -> Result<Self> {
        Self::around(ours, socket, ours.workspace().await?.id).await
    }

    /// With a container like this workspace's.
    pub async fn around(ours: &'a Ours, socket: &Path, workspace: WorkspaceId) -> Result<Self> {
        let peer = Peer::new(socket);
        let model = peer.workspace(workspace).await?;
        let home = format!("rexec-bench-{}", uuid::Uuid::new_v4().simple());
        let container = peer.container_like(&model, &home, &home).await?;
        Ok(Self { ours, peer, workspace, model, container, home, made: 0 })
    }

    /// A name that is not used yet.
    pub fn fresh_name(&mut self) -> String {
        self.made += 1;
        format!("{}-{}", self.home, self.made)
    }

    pub async fn close(self) -> Result<()> {
        self.peer.remove(&self.container, &self.home).await
    }
}
