//! The guest of a workspace within reach: for terminals, commands and files; woken for that if it sleeps.

use super::lifecycle::Desired;
use super::slot::Report;
use super::slot::Slot;
use super::store::{self, Want, WantBy, Workspace};
use super::{Workspaces, settled, state_error};
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::time::now_ms;
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::WorkspaceStatus;
use rexec_channel::GuestClient;
use std::time::Duration;
use tokio::sync::watch;

/// How long a request for the guest waits while a link is being made anew.
const LINK_PATIENCE: Duration = Duration::from_secs(5);

/// How long a request waits for a workspace that it wakes.
const WAKE_PATIENCE: Duration = Duration::from_secs(10);

/// Whether reaching for a workspace that sleeps wakes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waking {
    No,
    Yes,
}

/// A guest within reach, and news of its workspace.
pub struct Reach {
    pub guest: GuestClient,
    pub reports: watch::Receiver<Report>,
}

impl Workspaces {
    /// The guest of a workspace, for terminals, exec and files: to be reached is to be used, so one
    /// that sleeps wakes.
    pub async fn reach(&self, actor: &Actor, id: WorkspaceId) -> Result<Reach> {
        self.reach_as(actor, id, Waking::Yes).await
    }

    /// The guest of a workspace, woken or not.
    pub async fn reach_as(&self, actor: &Actor, id: WorkspaceId, waking: Waking) -> Result<Reach> {
        let mut row = self.owned(actor, id).await?;
        if waking == Waking::Yes && (sleeps(&row) || wakes(&row)) {
            row = self.wake(actor, row).await?;
        }
        let slot = self.slot(id);
        let mut links = slot.link();
        let guest = links.borrow_and_update().clone().filter(|guest| !guest.is_closed());
        let guest = match (row.status, guest) {
            (WorkspaceStatus::Running, Some(guest)) => guest,
            // A server that has just started, or a guest that dials again: a matter of moments.
            (WorkspaceStatus::Running | WorkspaceStatus::Creating | WorkspaceStatus::Unreachable, _)
                if row.intent.desired == Desired::Running =>
            {
                self.await_link(&row, &slot).await?
            }
            _ if wakes(&row) => return Err(still_waking()),
            _ => return Err(not_running(&row)),
        };
        Ok(Reach { guest, reports: slot.reports() })
    }

    /// Resumes a workspace that sleeps and waits for it. A person's own wish meanwhile stands; of two
    /// who wake it at once, one does and both wait.
    async fn wake(&self, actor: &Actor, row: Workspace) -> Result<Workspace> {
        if sleeps(&row) {
            self.want_awake(actor, &row).await?;
        }
        let slot = self.slot(row.id);
        settled(&slot, slot.ask(), WAKE_PATIENCE).await;
        self.owned(actor, row.id).await
    }

    async fn want_awake(&self, actor: &Actor, row: &Workspace) -> Result<()> {
        let tx = self.deps.db.begin().await?;
        if store::want_if(&tx, row, Desired::Running, &Want::user(), now_ms()).await? {
            let woken = NewEvent::of_user(actor.user, "workspace.woken").workspace(row.id);
            let logged = events::append(&tx, &woken).await?;
            tx.commit().await?;
            self.deps.bus.publish_logged(row.owner, logged);
        }
        Ok(())
    }

    async fn await_link(&self, row: &Workspace, slot: &Slot) -> Result<GuestClient> {
        slot.nudge();
        let mut links = slot.link();
        let open = |link: &Option<GuestClient>| link.as_ref().is_some_and(|guest| !guest.is_closed());
        let found = tokio::time::timeout(LINK_PATIENCE, links.wait_for(open)).await;
        match found {
            Ok(Ok(link)) => link.clone().ok_or_else(|| unreachable(row)),
            _ => Err(unreachable(row)),
        }
    }
}

/// Paused because nobody used it, as against by a person, whose pause stays until they resume it.
fn sleeps(row: &Workspace) -> bool {
    row.intent.desired == Desired::Paused && row.want.by == WantBy::Idle
}

/// Wanted awake, by whoever was first, and not yet seen to be.
fn wakes(row: &Workspace) -> bool {
    row.status == WorkspaceStatus::Paused && row.intent.desired == Desired::Running
}

fn still_waking() -> Error {
    Error::new(ErrorCode::WorkspaceUnreachable, "The workspace is waking and takes its time. Try again in a moment.")
        .retry_after(Duration::from_secs(1))
}

fn not_running(row: &Workspace) -> Error {
    let advice = match row.status {
        _ if sleeps(row) => "It wakes as soon as it is used.",
        WorkspaceStatus::Paused => "Resume it first.",
        WorkspaceStatus::Stopped | WorkspaceStatus::Error => "Start it first.",
        _ => "Try again in a moment.",
    };
    state_error(row, format!("The workspace is {}. {advice}", row.status.as_str()))
}

fn unreachable(row: &Workspace) -> Error {
    let reason = row.status_reason.clone().unwrap_or_else(|| "Its guest does not answer.".into());
    Error::new(ErrorCode::WorkspaceUnreachable, format!("The workspace cannot be reached at the moment. {reason}"))
        .retry_after(Duration::from_secs(1))
}
