//! The guest of a workspace within reach: for terminals, commands and files; woken for that if it sleeps.

use super::lifecycle::Desired;
use super::slot::Report;
use super::slot::Slot;
use super::store::{self, Want, Workspace};
use super::waker::Waker;
use super::{Workspaces, no_such, settled, state_error};
use crate::actor::Actor;
use crate::config::Use;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::time::now_ms;
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::tokens::Scope;
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
    /// It is used, in this way.
    Yes(Use),
}

/// A guest within reach, and news of its workspace.
pub struct Reach {
    pub guest: GuestClient,
    pub reports: watch::Receiver<Report>,
    /// For those who stay.
    pub waker: Waker,
}

/// A guest that the server itself works with.
pub struct Met {
    pub guest: GuestClient,
    pub reports: watch::Receiver<Report>,
}

impl Workspaces {
    /// The guest of a workspace as soon as there is one, however long that takes, for what the server does there by
    /// itself: it wakes nobody. `None`: the workspace is gone.
    pub(crate) async fn meet(&self, id: WorkspaceId) -> Option<Met> {
        // Not kept: the slot ends with its driver, and that is how we learn of it.
        let (mut links, reports) = {
            let slot = self.slot(id);
            (slot.link(), slot.reports())
        };
        let open = |link: &Option<GuestClient>| link.as_ref().is_some_and(|guest| !guest.is_closed());
        let guest = links.wait_for(open).await.ok()?.clone()?;
        Some(Met { guest, reports })
    }

    /// The guest of a workspace, for what lies within this scope: to be reached is to be used, so one
    /// that sleeps wakes.
    pub async fn reach(&self, actor: &Actor, scope: Scope, id: WorkspaceId) -> Result<Reach> {
        self.reach_as(actor, scope, id, Waking::Yes(Use::Exec)).await
    }

    /// The guest of a workspace, used by that or not.
    pub async fn reach_as(&self, actor: &Actor, scope: Scope, id: WorkspaceId, waking: Waking) -> Result<Reach> {
        let row = self.owned(actor, scope, id).await?;
        let slot = self.slot(id);
        let guest = self.guest_of(Some(actor), row, &slot, waking).await?;
        let waker = Waker::new(self.clone(), actor.clone(), scope, slot.clone(), id);
        Ok(Reach { guest, reports: slot.reports(), waker })
    }

    /// The guest of a workspace, for the preview of a port: its owner's, or without an actor anybody's,
    /// where the caller has made sure that the owner has said so.
    pub(crate) async fn reach_preview(&self, actor: Option<&Actor>, id: WorkspaceId) -> Result<GuestClient> {
        let row = match actor {
            Some(actor) => self.owned(actor, Scope::Ports, id).await?,
            None => self.standing(id).await?,
        };
        self.guest_of(actor, row, &self.slot(id), Waking::Yes(Use::Preview)).await
    }

    /// Something passes through a preview that was reached before.
    pub(crate) async fn preview_used(&self, id: WorkspaceId) -> Result<()> {
        let Some(slot) = self.slot_if_any(id) else { return Ok(()) };
        slot.presence.note(Use::Preview, now_ms());
        if slot.status() == WorkspaceStatus::Paused {
            self.want_awake(None, &self.standing(id).await?).await?;
        }
        Ok(())
    }

    async fn guest_of(
        &self,
        by: Option<&Actor>,
        mut row: Workspace,
        slot: &Slot,
        waking: Waking,
    ) -> Result<GuestClient> {
        if let Waking::Yes(using) = waking {
            slot.presence.note(using, now_ms());
            if row.status == WorkspaceStatus::Running && slot.status() == WorkspaceStatus::Paused {
                // It fell asleep between the look at its row and the note.
                row = self.standing(row.id).await?;
            }
            if row.sleeps() || wakes(&row) {
                row = self.wake(by, row).await?;
            }
        }
        let mut links = slot.link();
        let guest = links.borrow_and_update().clone().filter(|guest| !guest.is_closed());
        match (row.status, guest) {
            (WorkspaceStatus::Running, Some(guest)) => Ok(guest),
            // A server that has just started, or a guest that dials again: a matter of moments.
            // It is known to be away: it comes when its owner has it come.
            (WorkspaceStatus::Unreachable, None) if row.is_machine() => Err(unreachable(&row)),
            (WorkspaceStatus::Running | WorkspaceStatus::Creating | WorkspaceStatus::Unreachable, _)
                if row.intent.desired == Desired::Running =>
            {
                self.await_link(&row, slot).await
            }
            _ if wakes(&row) => Err(still_waking()),
            _ => Err(not_running(&row)),
        }
    }

    /// A workspace that is not on its way out, whoever's it is.
    pub(super) async fn standing(&self, id: WorkspaceId) -> Result<Workspace> {
        let row = store::find(self.deps.db.read(), id).await?;
        row.filter(|row| row.intent.desired != Desired::Deleted).ok_or_else(no_such)
    }

    /// Resumes a workspace that sleeps and waits for it. A person's own wish meanwhile stands; of two
    /// who wake it at once, one does and both wait.
    async fn wake(&self, by: Option<&Actor>, row: Workspace) -> Result<Workspace> {
        self.want_awake(by, &row).await?;
        let slot = self.slot(row.id);
        settled(&slot, slot.ask(), WAKE_PATIENCE).await;
        self.standing(row.id).await
    }

    /// Wants one awake that sleeps; by nobody: because it was used while it fell asleep, or a
    /// stranger looks at what it shows.
    pub(super) async fn want_awake(&self, by: Option<&Actor>, row: &Workspace) -> Result<()> {
        if !row.sleeps() {
            return Ok(());
        }
        let tx = self.deps.db.begin().await?;
        if store::want_if(&tx, row, Desired::Running, &Want::user(), now_ms()).await? {
            let woken = match by {
                Some(actor) => NewEvent::of_user(actor.user, "workspace.woken"),
                None => NewEvent::of_server("workspace.woken"),
            };
            let logged = events::append(&tx, &woken.workspace(row.id)).await?;
            tx.commit().await?;
            self.deps.bus.publish_logged(row.owner, logged);
            self.slot(row.id).nudge();
        }
        Ok(())
    }

    /// Has one wake that sleeps, and does not wait for it.
    pub(super) async fn rouse(&self, actor: &Actor, scope: Scope, id: WorkspaceId) -> Result<()> {
        let row = self.owned(actor, scope, id).await?;
        self.want_awake(Some(actor), &row).await
    }

    async fn await_link(&self, row: &Workspace, slot: &Slot) -> Result<GuestClient> {
        slot.nudge();
        let mut links = slot.link();
        let open = |link: &Option<GuestClient>| link.as_ref().is_some_and(|guest| !guest.is_closed());
        let found = tokio::time::timeout(LINK_PATIENCE, links.wait_for(open)).await;
        match found {
            Ok(Ok(link)) => link.clone().ok_or_else(|| unreachable(row)),
            _ => Err(not_here(slot).unwrap_or_else(|| unreachable(row))),
        }
    }
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
        _ if row.sleeps() => "It wakes as soon as it is used.",
        WorkspaceStatus::Paused => "Resume it first.",
        WorkspaceStatus::Stopped | WorkspaceStatus::Error => "Start it first.",
        _ => "Try again in a moment.",
    };
    state_error(row, format!("The workspace is {}. {advice}", row.status.as_str()))
}

/// Why nobody who could drive it is reached from this server, if that is so.
fn not_here(slot: &Slot) -> Option<Error> {
    let report = slot.reports().borrow().clone();
    let reason = report.reason.filter(|_| report.error == Some(ErrorCode::NotHere))?;
    Some(Error::new(ErrorCode::NotHere, reason).retry_after(Duration::from_secs(2)))
}

fn unreachable(row: &Workspace) -> Error {
    let reason = row.status_reason.clone().unwrap_or_else(|| "Its guest does not answer.".into());
    Error::new(ErrorCode::WorkspaceUnreachable, format!("The workspace cannot be reached at the moment. {reason}"))
        .retry_after(Duration::from_secs(1))
}
