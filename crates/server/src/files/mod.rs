//! Files of a workspace, one at a time, streamed between the caller and the guest.
//!
//! The guest does every access with the workspace user's rights; here a path is only checked for
//! shape. Nothing of a file is kept in memory beyond what is on its way.

pub mod http;

use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::workspaces::Workspaces;
use rexec_api::files::{FileInfo, PATH_BYTES_MAX};
use rexec_api::ids::WorkspaceId;
use rexec_channel::{BodyReceiver, FileSender};

#[derive(Clone)]
pub struct Files {
    workspaces: Workspaces,
}

impl Files {
    pub fn new(workspaces: Workspaces) -> Self {
        Self { workspaces }
    }

    pub async fn read(&self, actor: &Actor, workspace: WorkspaceId, path: &str) -> Result<(FileInfo, BodyReceiver)> {
        let reach = self.workspaces.reach(actor, workspace).await?;
        check(path)?;
        Ok(reach.guest.read_file(path).await?)
    }

    /// Opens a file for writing; it takes its name once [`FileSender::finish`] succeeds.
    pub async fn write(
        &self,
        actor: &Actor,
        workspace: WorkspaceId,
        path: &str,
        mode: Option<u32>,
    ) -> Result<FileSender> {
        let reach = self.workspaces.reach(actor, workspace).await?;
        check(path)?;
        if mode.is_some_and(|mode| mode > 0o777) {
            return Err(Error::field("mode", "`mode` must be permission bits from 0 to 511 (0o777)."));
        }
        Ok(reach.guest.write_file(path, mode).await?)
    }

    pub async fn remove(&self, actor: &Actor, workspace: WorkspaceId, path: &str, recursive: bool) -> Result<()> {
        let reach = self.workspaces.reach(actor, workspace).await?;
        check(path)?;
        Ok(reach.guest.remove_file(path, recursive).await?)
    }
}

fn check(path: &str) -> Result<()> {
    if path.starts_with('/') && !path.contains('\0') && path.len() <= PATH_BYTES_MAX {
        return Ok(());
    }
    Err(Error::field(
        "path",
        format!("`path` must be absolute, without NUL bytes, and {PATH_BYTES_MAX} bytes at most."),
    ))
}
