//! The steps that take a workspace down, and its remains away.

use super::{Driver, Progress, StepError};
use crate::egress;
use crate::hosts::HostFacts;
use crate::hosts::reserve::{self, Hold};
use crate::setups;
use crate::snapshots;
use crate::snapshots::store::Failure;
use crate::time::now_ms;
use crate::volumes;
use crate::workspaces::container::container_name;
use crate::workspaces::lifecycle::Seen;
use crate::workspaces::moving;
use crate::workspaces::store::{self, HomeState, WantBy, Workspace};
use rexec_api::workspaces::WorkspaceStatus;
use rexec_engine::{ContainerState, EngineError};

/// What PID 1 gets to end its processes before it is killed.
const STOP_GRACE_SECONDS: u32 = 10;

impl Driver {
    pub(super) async fn stop(&mut self, ticket: u64, row: &Workspace) -> Result<Progress, StepError> {
        self.observe(ticket, row, WorkspaceStatus::Stopping, None, |_| {}).await?;
        self.shut_out(row).await;
        self.host.engine.stop(&container_name(row), STOP_GRACE_SECONDS).await?;
        self.unlink();
        Ok(Progress::Again(None))
    }

    pub(super) async fn remove(
        &mut self,
        ticket: u64,
        row: &Workspace,
        facts: &HostFacts,
    ) -> Result<Progress, StepError> {
        self.unlink();
        self.observe(ticket, row, WorkspaceStatus::Stopping, None, |_| {}).await?;
        self.shut_out(row).await;
        for container in self.host.engine.containers(&self.labels()).await? {
            if self.cut_off && matches!(container.state, ContainerState::Created | ContainerState::Exited { .. }) {
                self.end_orphans(facts, &container.id).await?;
            }
            self.host.engine.remove(&container.id).await?;
        }
        Ok(Progress::Again(Some(Seen::Missing)))
    }

    /// The home of a workspace that had one is kept, unless its owner wants it gone together with it.
    pub(super) async fn release(&mut self, row: &Workspace) -> Result<Progress, StepError> {
        let was_lived_in = row.generation > 0 && row.home_state == HomeState::Ready;
        let keeps = row.want.by != WantBy::Purge
            && (was_lived_in || volumes::store::was_kept(self.deps.db.read(), &row.volume).await?);
        if !keeps {
            match self.host.engine.remove_volume(&row.volume).await {
                Ok(()) | Err(EngineError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.deps.crash.point("delete.removed");
        self.desk = None;
        let dir = self.host.dial_dir(self.id);
        if let Err(error) = std::fs::remove_dir_all(&dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %dir.display(), "the dial directory stays behind");
        }
        let now = now_ms();
        let tx = self.lease.begin(&self.deps.db).await?;
        if keeps {
            let kept = i64::try_from(self.deps.home_kept.as_millis()).unwrap_or(i64::MAX);
            volumes::store::keep(&tx, &row.volume, &row.name, now, now.saturating_add(kept)).await?;
        } else {
            volumes::store::purged(&tx, &row.volume).await?;
        }
        let failure = Failure::given_up("The workspace was deleted while it was taken.");
        snapshots::store::fail(&tx, self.id, &failure).await?;
        setups::store::remove(&tx, self.id).await?;
        egress::store::forget(&tx, self.id).await?;
        let left = moving::store::prove(&tx, self.id).await?;
        reserve::hold(&tx, self.id, if keeps { Hold::Home } else { Hold::Nothing }).await?;
        store::bury(&tx, self.id, now).await?;
        if !keeps {
            store::forget_env(&tx, &row.volume).await?;
        }
        tx.commit().await?;
        self.deps.crash.point("delete.released");
        self.host.upkeep.notify_one();
        left.into_iter().for_each(|host| self.deps.fleet.of(Some(host)).upkeep.notify_one());
        self.deps.snapshot_news.send_modify(|count| *count += 1);
        Ok(Progress::Gone)
    }
}
