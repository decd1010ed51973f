//! How far a workspace is on its way to being usable, as its owner follows it.
//!
//! The driver tells it through the slot and writes none of it down: it is news, and lost with the server.

use super::Workspaces;
use super::slot::{Doing, Report};
use crate::actor::Actor;
use crate::error::Result;
use futures_util::stream::{self, Stream};
use rexec_api::ids::WorkspaceId;
use rexec_api::progress::ProgressView;
use rexec_api::tokens::Scope;
use std::time::Duration;
use tokio::sync::watch;

/// The least time between two events of one watcher: a person sees no more.
const TELL_EVERY: Duration = Duration::from_millis(100);

struct Following {
    reports: watch::Receiver<Report>,
    doing: watch::Receiver<Doing>,
    /// What stands in the record, for a driver that has not said anything yet.
    standing: Report,
    told: Option<ProgressView>,
}

impl Workspaces {
    /// What is so now, and then every change, until dropped.
    pub async fn progress(&self, actor: &Actor, id: WorkspaceId) -> Result<impl Stream<Item = ProgressView> + use<>> {
        let row = self.owned(actor, Scope::WorkspacesRead, id).await?;
        let slot = self.slot(id);
        let (reports, doing) = (slot.reports(), slot.doing());
        let reason = row.status_reason;
        let standing = Report { ticket: 0, status: row.status, error: row.error_code, reason, done: false };
        let following = Following { reports, doing, standing, told: None };
        Ok(stream::unfold(following, |mut following| async move {
            let view = following.next().await?;
            Some((view, following))
        }))
    }
}

impl Following {
    /// The next view that differs from the last; `None` once the workspace is gone.
    async fn next(&mut self) -> Option<ProgressView> {
        if self.told.is_some() {
            tokio::time::sleep(TELL_EVERY).await;
        }
        loop {
            let view = self.view();
            if self.told.as_ref() != Some(&view) {
                self.told = Some(view.clone());
                return Some(view);
            }
            tokio::select! {
                changed = self.reports.changed() => changed.ok()?,
                changed = self.doing.changed() => changed.ok()?,
            }
        }
    }

    fn view(&mut self) -> ProgressView {
        let report = self.reports.borrow_and_update();
        let report = if report.ticket == 0 { &self.standing } else { &*report };
        let (status, reason) = (report.status, report.reason.clone());
        let doing = self.doing.borrow_and_update();
        let (reason, queue_position) = (doing.waits().or(reason), doing.queue);
        ProgressView {
            status,
            reason,
            queue_position,
            pull: doing.pull.clone(),
            setup: doing.setup.clone(),
            moved_bytes: doing.moved_bytes,
        }
    }
}
