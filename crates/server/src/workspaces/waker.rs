//! One who stays with a workspace, such as a viewer of a terminal: tells that it is used, and wakes it
//! when it has fallen asleep beneath them.

use super::Workspaces;
use super::slot::{Report, Slot};
use crate::actor::Actor;
use crate::config::Use;
use crate::error::Error;
use crate::time::now_ms;
use rexec_api::ids::WorkspaceId;
use rexec_api::tokens::Scope;
use rexec_api::workspaces::WorkspaceStatus;
use std::sync::Arc;
use tokio::sync::watch;

/// Keeps a workspace in use until it is dropped: held by what takes its time, such as a transfer.
pub struct InUse(Arc<Slot>);

impl InUse {
    pub(super) fn new(slot: Arc<Slot>) -> Self {
        slot.presence.hold(now_ms());
        Self(slot)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.presence.release(now_ms());
    }
}

#[derive(Clone)]
pub struct Waker {
    workspaces: Workspaces,
    actor: Actor,
    /// What it is used for.
    scope: Scope,
    id: WorkspaceId,
    slot: Arc<Slot>,
    reports: watch::Receiver<Report>,
    /// As was last reported, and not acted upon since.
    is_paused: bool,
}

impl Waker {
    pub(super) fn new(workspaces: Workspaces, actor: Actor, scope: Scope, slot: Arc<Slot>, id: WorkspaceId) -> Self {
        let mut reports = slot.reports();
        let is_paused = reports.borrow_and_update().status == WorkspaceStatus::Paused;
        Self { workspaces, actor, scope, id, slot, reports, is_paused }
    }

    /// The workspace is used: cheap enough for every keystroke, unless it sleeps.
    pub async fn used(&mut self, using: Use) {
        if self.note(using)
            && let Err(error) = self.workspaces.rouse(&self.actor, self.scope, self.id).await
        {
            warn(self.id, &error);
            self.is_paused = true;
        }
    }

    /// Whether it is to be roused: once to a pause, because what a person has paused does not wake, however much is typed.
    fn note(&mut self, using: Use) -> bool {
        self.slot.presence.note(using, now_ms());
        if self.reports.has_changed().unwrap_or(false) {
            self.is_paused = self.reports.borrow_and_update().status == WorkspaceStatus::Paused;
        }
        std::mem::take(&mut self.is_paused)
    }

    /// The same as [`Self::used`] where nobody can wait for it.
    pub fn used_soon(&mut self, using: Use) {
        if self.note(using) {
            let (workspaces, actor, scope, id) = (self.workspaces.clone(), self.actor.clone(), self.scope, self.id);
            self.workspaces.tasks.spawn_abortable("wake", async move {
                if let Err(error) = workspaces.rouse(&actor, scope, id).await {
                    warn(id, &error);
                }
            });
        }
    }
}

fn warn(id: WorkspaceId, error: &Error) {
    tracing::warn!(
        workspace.id = %id, error = error as &dyn std::error::Error, causes = error.causes(),
        "cannot wake a workspace that is used"
    );
}
