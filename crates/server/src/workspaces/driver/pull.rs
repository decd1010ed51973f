//! The step that has the host fetch an image, shared with all who want the same.

use super::{Driver, Progress, StepError};
use crate::hosts::pulls::{FETCHING, Pull};
use crate::workspaces::store::Workspace;
use rexec_api::ids::UserId;
use rexec_api::workspaces::WorkspaceStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the report says how far it is.
const TELL_EVERY: Duration = Duration::from_millis(500);

impl Driver {
    pub(super) async fn pull(&mut self, ticket: u64, row: &Workspace) -> Result<Progress, StepError> {
        let pull = match self.pulling.take() {
            Some(pull) => pull,
            None => self.join_pull(row.owner, &row.image).await?,
        };
        self.observe(ticket, row, WorkspaceStatus::Pulling, Some(FETCHING), |_| {}).await?;
        let mut state = pull.watch();
        let mut told: Option<Instant> = None;
        loop {
            let end = {
                let state = state.borrow_and_update();
                self.slot.tell_pull(Some(state.view.clone()));
                if told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                    told = Some(Instant::now());
                    self.report(ticket, WorkspaceStatus::Pulling, None, Some(state.sentence()), false);
                }
                state.end.clone()
            };
            if let Some(end) = end {
                self.give_up_pull();
                end.map_err(StepError::Pull)?;
                break;
            }
            tokio::select! {
                changed = state.changed() => if changed.is_err() { break },
                // A new pass sees whether it is still wanted, and goes on with it or drops it.
                () = self.slot.nudged(ticket) => {
                    self.pulling = Some(pull);
                    return Ok(Progress::Heard);
                }
            }
        }
        self.image_present = true;
        Ok(Progress::Again(None))
    }

    pub(super) async fn join_pull(&self, owner: UserId, image: &str) -> Result<Arc<Pull>, StepError> {
        let credentials = self.deps.registries.credentials(owner, image).await?;
        let (id, auth) = credentials.map(|credentials| (credentials.id, credentials.auth)).unzip();
        let host = &self.host;
        Ok(host.pulls.join(image, id, || host.engine.pull(image, auth.as_ref())))
    }

    /// Nobody wants it any more; the engine keeps the layers that it has.
    pub(super) fn give_up_pull(&mut self) {
        self.pulling = None;
        self.slot.tell_pull(None);
    }
}
