//! The guest of a workspace within reach: for terminals, commands and files.

use super::slot::Slot;
use super::store::Workspace;
use super::{Report, Workspaces, state_error};
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::workspaces::lifecycle::Desired;
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::WorkspaceStatus;
use rexec_channel::GuestClient;
use std::time::Duration;
use tokio::sync::watch;

/// How long a request for the guest waits while a link is being made anew.
const LINK_PATIENCE: Duration = Duration::from_secs(5);

/// A guest within reach, and news of its workspace.
pub struct Reach {
    pub guest: GuestClient,
    pub reports: watch::Receiver<Report>,
}

impl Workspaces {
    /// The guest of a running workspace, for terminals, exec and files.
    pub async fn reach(&self, actor: &Actor, id: WorkspaceId) -> Result<Reach> {
        let row = self.owned(actor, id).await?;
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
            _ => return Err(not_running(&row)),
        };
        Ok(Reach { guest, reports: slot.reports() })
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

fn not_running(row: &Workspace) -> Error {
    let advice = match row.status {
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
