//! The driver of a joined machine: it makes nothing, it meets whoever has proven to be the machine.
//!
//! ```text
//!   unreachable --- it connects, its guest has its configuration ---> running
//!   running     --- the connection ends, and it is not back within RETURN_PATIENCE ---> unreachable
//!   either      --- its owner deletes it, or it leaves ---> deleted: it is told so if it is there
//! ```
//!
//! Invariant: the engine is never asked about a machine.

use super::{Driver, Rest, StepError};
use crate::guest_error::tame;
use crate::http::tunnel::End;
use crate::secrets::inside::Inside;
use crate::setups;
use crate::time::now_ms;
use crate::workspaces::container;
use crate::workspaces::link::Link;
use crate::workspaces::machine::{self, AWAY, Arrival};
use crate::workspaces::store::{self, Workspace};
use rexec_api::error::ErrorCode;
use rexec_api::frames::close;
use rexec_api::workspaces::WorkspaceStatus;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A connection that broke, or a server that has started: so long a machine has to come back unnoticed.
const RETURN_PATIENCE: Duration = Duration::from_secs(5);

/// How often the log is told that a machine cannot be met.
const TELL_EVERY: Duration = Duration::from_secs(60);

const REPLACED: End = (close::REPLACED, "the machine has connected anew");
const REMOVED: End = (close::ENDED, "the machine was removed");

/// What is known of a machine's connections.
#[derive(Default)]
pub(super) struct Meeting {
    /// Of the connection that the link goes over.
    farewell: Option<oneshot::Sender<End>>,
    boot_id: uuid::Uuid,
    /// Since when it is not there.
    missed_since: Option<Instant>,
    /// When the log was last told of one that was not met.
    told_unmet: Option<Instant>,
}

impl Driver {
    pub(super) async fn machine_pass(&mut self, ticket: u64, row: &Workspace) -> Rest {
        if row.is_leaving() {
            return match self.machine_leaves(row).await {
                Ok(()) => self.gone(),
                Err(error) => self.failed(ticket, Some(row), error.into()).await,
            };
        }
        let mut row = row.clone();
        if let Some(arrival) = self.slot.take_arrival()
            && let Err(error) = self.meet(&mut row, arrival).await
        {
            self.tell_unmet(&error);
        }
        let written = if self.link_lives() {
            self.meeting.missed_since = None;
            self.settle(ticket, &row, WorkspaceStatus::Running).await
        } else {
            self.unlink();
            let missed_since = *self.meeting.missed_since.get_or_insert_with(Instant::now);
            if row.status == WorkspaceStatus::Running && missed_since.elapsed() < RETURN_PATIENCE {
                self.report(
                    ticket,
                    row.status,
                    Some(ErrorCode::WorkspaceUnreachable),
                    row.status_reason.clone(),
                    false,
                );
                return Rest::Retry;
            }
            self.machine_is_away(ticket, &row).await
        };
        match written {
            Ok(()) => Rest::Settled,
            Err(error) => self.failed(ticket, Some(&row), error).await,
        }
    }

    /// To the log, which whoever is there is not to fill: its own words are among the causes.
    fn tell_unmet(&mut self, error: &StepError) {
        if self.meeting.told_unmet.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.meeting.told_unmet = Some(Instant::now());
            tracing::info!(workspace.id = %self.id, why = tame(&error.to_string()), "a machine was not met");
        }
    }

    async fn meet(&mut self, row: &mut Workspace, arrival: Arrival) -> Result<(), StepError> {
        let link = Link::over_stream(
            arrival.stream,
            &container::configuration(row, Inside::default()),
            self.deps.budgets.of(row.owner),
        )
        .await?;
        // Only now: one that cannot even say hello takes nobody's place.
        if let Some(before) = self.meeting.farewell.replace(arrival.farewell) {
            let _ = before.send(REPLACED);
        }
        tracing::info!(workspace.id = %self.id, boot.id = %link.boot_id, "machine connected");
        let known = machine::told(row, &link.machine, &link.version);
        let is_new = self.meeting.boot_id != link.boot_id;
        let started_ms = if is_new { Some(now_ms()) } else { row.started_ms };
        if is_new || known.machine != row.machine {
            *row = Workspace { started_ms, ..known };
            let tx = self.lease.begin(&self.deps.db).await?;
            store::note_machine(&tx, row, now_ms()).await?;
            tx.commit().await?;
        }
        self.meeting.boot_id = link.boot_id;
        self.slot.publish_link(Some(link.client.clone()));
        self.link = Some(link);
        Ok(())
    }

    async fn machine_is_away(&mut self, ticket: u64, row: &Workspace) -> Result<(), StepError> {
        let status = WorkspaceStatus::Unreachable;
        if row.status != status || row.status_reason.as_deref() != Some(AWAY) {
            self.write(row, status, Some(AWAY), None, |_| {}).await?;
        }
        self.report(ticket, status, None, Some(AWAY.into()), true);
        Ok(())
    }

    /// Its credential goes with its record; a machine that is not there learns of it when it comes.
    async fn machine_leaves(&mut self, row: &Workspace) -> Result<(), sea_orm::DbErr> {
        let tx = self.lease.begin(&self.deps.db).await?;
        setups::store::remove(&tx, row.id).await?;
        crate::machines::store::forget_credential(&tx, row.id).await?;
        store::bury(&tx, row.id, now_ms()).await?;
        tx.commit().await?;
        let waits = self.slot.take_arrival().map(|arrival| arrival.farewell);
        for farewell in self.meeting.farewell.take().into_iter().chain(waits) {
            let _ = farewell.send(REMOVED);
        }
        Ok(())
    }
}
