//! The step that makes a workspace again from the image that its repository names.

use super::verdict::verdict;
use super::{Driver, Progress, StepError};
use crate::workspaces::lifecycle::Seen;
use crate::workspaces::plan::Plan;
use crate::workspaces::store::{self, Workspace};
use rexec_api::workspaces::WorkspaceStatus;

impl Driver {
    /// The image is fetched before anything is removed: one that cannot be had costs nothing.
    pub(super) async fn adopt_image(&mut self, ticket: u64, row: &Workspace) -> Result<Progress, StepError> {
        let Some(found) = row.image_found.clone() else { return Ok(Progress::Again(None)) };
        if self.host.engine.image(&found).await?.is_none() {
            let wanted = Workspace { image: found.clone(), ..row.clone() };
            match self.pull(ticket, &wanted).await {
                Ok(Progress::Heard) => return Ok(Progress::Heard),
                Ok(_) => {}
                Err(error) => return self.stay(row, &found, error).await,
            }
        }
        let reason = Some("Making it again from the image that its repository names.");
        self.observe(ticket, row, WorkspaceStatus::Creating, reason, |_| {}).await?;
        self.unlink();
        for container in self.host.engine.containers(&self.labels()).await? {
            self.host.engine.remove(&container.id).await?;
        }
        self.deps.crash.point("adopt.removed");
        let tx = self.lease.begin(&self.deps.db).await?;
        store::take_found_image(&tx, row.id).await?;
        tx.commit().await?;
        self.image_present = true;
        Ok(Progress::Again(Some(Seen::Missing)))
    }

    async fn stay(&mut self, row: &Workspace, found: &str, error: StepError) -> Result<Progress, StepError> {
        let Some((_, why)) = verdict(&error) else { return Err(error) };
        tracing::info!(workspace.id = %row.id, image = found, "the image of a repository cannot be had");
        let mut plan = Plan::of_row(row);
        plan.notes.push(format!("`image` ({found}) was left out. {why}"));
        let tx = self.lease.begin(&self.deps.db).await?;
        store::drop_found_image(&tx, row.id, &plan.to_json()).await?;
        tx.commit().await?;
        Ok(Progress::Again(None))
    }
}
