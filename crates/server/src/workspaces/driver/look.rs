//! What the engine shows of the workspace's container.

use super::{Driver, StepError};
use crate::workspaces::container::container_name;
use crate::workspaces::incident;
use crate::workspaces::lifecycle::{Desired, Seen};
use crate::workspaces::store::Workspace;
use rexec_api::workspaces::WorkspaceStatus;
use rexec_engine::ContainerState;

impl Driver {
    /// What the engine shows; whatever befell the container is noted on the way.
    pub(super) async fn look(&mut self, row: &Workspace) -> Result<Seen, StepError> {
        if row.intent.desired == Desired::Deleted {
            let any = !self.host.engine.containers(&self.labels()).await?.is_empty();
            return Ok(if any { Seen::Exited } else { Seen::Missing });
        }
        if row.generation == 0 {
            return Ok(Seen::Missing);
        }
        let Some(container) = self.host.engine.inspect(&container_name(row)).await? else {
            if row.intent.booted_seq > 0 {
                self.note = Some(incident::VANISHED.into());
            }
            return Ok(Seen::Missing);
        };
        Ok(match container.state {
            ContainerState::Created => Seen::Created,
            ContainerState::Running => Seen::Running,
            ContainerState::Paused => Seen::Paused,
            ContainerState::Changing => Seen::Changing,
            ContainerState::Exited { code, oom_killed, .. } => {
                if matches!(
                    row.status,
                    WorkspaceStatus::Running | WorkspaceStatus::Paused | WorkspaceStatus::Unreachable
                ) && matches!(row.intent.desired, Desired::Running | Desired::Paused)
                    && row.intent.booted_seq == row.intent.boot_seq
                {
                    let what = incident::ended(code, oom_killed);
                    if !self.incidents.bearable(std::time::Instant::now()) {
                        return Err(StepError::KeepsEnding(what));
                    }
                    self.note = Some(what);
                }
                Seen::Exited
            }
        })
    }
}
