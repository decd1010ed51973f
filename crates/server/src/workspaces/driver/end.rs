//! The steps that take a workspace down, and its remains away.

use super::{Driver, Progress, StepError};
use crate::time::now_ms;
use crate::workspaces::container::container_name;
use crate::workspaces::lifecycle::Seen;
use crate::workspaces::store::{self, Workspace};
use rexec_api::workspaces::WorkspaceStatus;
use rexec_engine::EngineError;

/// What PID 1 gets to end its processes before it is killed.
const STOP_GRACE_SECONDS: u32 = 10;

impl Driver {
    pub(super) async fn stop(&mut self, ticket: u64, row: &Workspace) -> Result<Progress, StepError> {
        self.observe(ticket, row, WorkspaceStatus::Stopping, None, |_| {}).await?;
        self.deps.host.engine.stop(&container_name(row), STOP_GRACE_SECONDS).await?;
        self.unlink();
        Ok(Progress::Again(None))
    }

    pub(super) async fn remove(&mut self, ticket: u64, row: &Workspace) -> Result<Progress, StepError> {
        self.unlink();
        self.observe(ticket, row, WorkspaceStatus::Stopping, None, |_| {}).await?;
        for container in self.deps.host.engine.containers(&self.labels()).await? {
            self.deps.host.engine.remove(&container.id).await?;
        }
        Ok(Progress::Again(Some(Seen::Missing)))
    }

    pub(super) async fn purge(&mut self, row: &Workspace) -> Result<Progress, StepError> {
        match self.deps.host.engine.remove_volume(&row.volume).await {
            Ok(()) | Err(EngineError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        self.desk = None;
        let dir = self.deps.host.dial_dir(self.id);
        if let Err(error) = std::fs::remove_dir_all(&dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %dir.display(), "the dial directory stays behind");
        }
        store::bury(self.deps.db.write(), self.id, now_ms()).await?;
        Ok(Progress::Gone)
    }
}
