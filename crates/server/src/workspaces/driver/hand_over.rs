//! A warm workspace becomes somebody's: its guest is told what it is from now on, and the engine hears nothing of it.

use super::{Driver, StepError};
use crate::secrets::inside::Inside;
use crate::time::now_ms;
use crate::workspaces::container;
use crate::workspaces::link::LinkError;
use crate::workspaces::store::Workspace;
use rexec_api::workspaces::WorkspaceStatus;
use std::time::Duration;

/// A guest that runs answers within a millisecond.
const PATIENCE: Duration = Duration::from_secs(5);

impl Driver {
    /// `false`: it is not as it was when it was chosen, and the usual way leads on from what is seen.
    pub(super) async fn hand_over(&mut self, ticket: u64, row: &Workspace) -> Result<bool, StepError> {
        if row.is_leaving() || !self.link_lives() {
            return Ok(false);
        }
        // Until then it reaches nothing.
        self.keep_told(row).await?;
        let inside = self.deps.vault.inside(row).await?;
        match self.tell_guest(row, inside).await {
            Ok(()) => self.link_is_warm = false,
            Err(error) => {
                tracing::debug!(workspace.id = %self.id, error = &error as &dyn std::error::Error, "a warm guest is gone");
                self.unlink();
                return Ok(false);
            }
        }
        // Whoever asked is here, and what was asked before is not theirs.
        self.slot.take_asked();
        self.asked = Some((row.intent.desired, row.intent.boot_seq));
        let now = now_ms();
        let written = self
            .write(row, WorkspaceStatus::Running, None, None, |o| {
                o.started_ms = Some(now);
                o.used_ms = Some(now);
            })
            .await;
        if let Err(error) = written {
            tracing::warn!(workspace.id = %self.id, error = &error as &dyn std::error::Error, "cannot record a hand-over");
            return Ok(false);
        }
        self.report(ticket, WorkspaceStatus::Running, None, None, true);
        // Another server may have taken it.
        self.host.pool.bell.notify_one();
        Ok(true)
    }

    async fn tell_guest(&mut self, row: &Workspace, inside: Inside) -> Result<(), LinkError> {
        let budget = self.deps.budgets.of(row.owner);
        let Some(link) = &mut self.link else { return Err(LinkError::Timeout) };
        self.inside = inside.clone();
        let configuration = container::configuration(row, inside);
        let configured = link.client.configure(&configuration);
        tokio::time::timeout(PATIENCE, configured).await.map_err(|_| LinkError::Timeout)??;
        // What it says counts as its owner's from now on.
        link.client = link.client.clone().within(budget);
        self.slot.publish_link(Some(link.client.clone()));
        Ok(())
    }
}
