//! The step that fills a clone's home from its snapshot.

use super::volume::{FROM, TO, copied, open_copier, until_unwanted};
use super::{Driver, Progress, StepError};
use crate::disk;
use crate::snapshots;
use crate::workspaces::container;
use crate::workspaces::lifecycle::Seen;
use crate::workspaces::store::{self, HomeState, Workspace};
use rexec_api::workspaces::WorkspaceStatus;

impl Driver {
    /// Copies all of it, however much an earlier attempt has.
    pub(super) async fn fill_home(&mut self, ticket: u64, row: &Workspace) -> Result<Progress, StepError> {
        let why = Some("Copying the files of the snapshot.");
        self.observe(ticket, row, WorkspaceStatus::Creating, why, |_| {}).await?;
        let source = row.source_snapshot.as_deref().ok_or(StepError::SourceGone)?;
        let from = snapshots::store::source_volume(self.deps.db.read(), source).await?;
        let from = from.ok_or(StepError::SourceGone)?;
        self.set_home_state(row, HomeState::Filling).await?;
        self.deps.crash.point("fill.recorded");
        let (deps, slot, host) = (self.deps.clone(), self.slot.clone(), self.host.clone());
        let labels = container::home_labels(row, &host);
        let size = host.ready().ok().filter(|facts| facts.disk.volumes).and_then(|_| container::disk_bytes(row));
        host.engine.volume_create(&row.volume, &labels, size).await?;
        let job = format!("fill-{}", row.id.0.simple());
        let helper = open_copier(&host, job, &from, &row.volume).await?;
        let copying = async { copied(helper.run(&["volume", "copy", FROM, TO]).await?).await };
        let outcome = tokio::select! {
            done = copying => Some(done),
            () = disk::until_nearly_full(&deps, &host) => Some(Err(StepError::HostFull)),
            () = until_unwanted(&deps, &slot, row, ticket, None, || std::future::ready(true)) => None,
        };
        helper.close().await?;
        match outcome {
            Some(done) => done?,
            // The next pass sees what is wanted instead.
            None => return Ok(Progress::Heard),
        };
        self.deps.crash.point("fill.copied");
        self.set_home_state(row, HomeState::Ready).await?;
        Ok(Progress::Again(Some(Seen::Missing)))
    }

    async fn set_home_state(&self, row: &Workspace, state: HomeState) -> Result<(), StepError> {
        let tx = self.lease.begin(&self.deps.db).await?;
        store::set_home_state(&tx, row.id, state).await?;
        Ok(tx.commit().await?)
    }
}
