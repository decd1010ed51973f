//! Where a workspace's driver and everyone else meet: nudges go in, reports and the link come out.
//!
//! A nudge takes a ticket; a report carries the ticket it was made after. Whoever waits for a
//! report with its own ticket or a later one knows that the driver has seen what it asked for.

use rexec_api::error::ErrorCode;
use rexec_api::workspaces::WorkspaceStatus;
use rexec_channel::GuestClient;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::watch;

/// What a driver last said.
#[derive(Debug, Clone)]
pub struct Report {
    pub ticket: u64,
    pub status: WorkspaceStatus,
    pub error: Option<ErrorCode>,
    pub reason: Option<String>,
    /// Nothing more will happen by itself.
    pub done: bool,
}

pub struct Slot {
    tickets: AtomicU64,
    /// Wakes the driver; holds the newest ticket.
    bell: watch::Sender<u64>,
    /// Someone has asked since the driver last looked, as against an event or a sweep.
    asked: AtomicBool,
    report: watch::Sender<Report>,
    link: watch::Sender<Option<GuestClient>>,
}

impl Slot {
    pub fn new(status: WorkspaceStatus) -> Self {
        let report = Report { ticket: 0, status, error: None, reason: None, done: false };
        Self {
            tickets: AtomicU64::new(1),
            bell: watch::Sender::new(1),
            asked: AtomicBool::new(false),
            report: watch::Sender::new(report),
            link: watch::Sender::new(None),
        }
    }

    /// Something may have changed: look again.
    pub fn nudge(&self) -> u64 {
        let ticket = self.tickets.fetch_add(1, Ordering::AcqRel) + 1;
        self.bell.send_modify(|newest| *newest = (*newest).max(ticket));
        ticket
    }

    /// Someone has asked for something: look again, even if it was refused before.
    pub fn ask(&self) -> u64 {
        self.asked.store(true, Ordering::Release);
        self.nudge()
    }

    pub(super) fn take_asked(&self) -> bool {
        self.asked.swap(false, Ordering::AcqRel)
    }

    /// The newest ticket, for a pass that begins now.
    pub(super) fn ticket(&self) -> u64 {
        self.tickets.load(Ordering::Acquire)
    }

    /// Resolves when there is a ticket that a pass with `ticket` has not seen.
    pub(super) async fn nudged(&self, ticket: u64) {
        // The sender lives in self, so waiting cannot fail.
        let _ = self.bell.subscribe().wait_for(|newest| *newest > ticket).await;
    }

    /// Gives what was reported before.
    pub(super) fn report(&self, report: Report) -> Report {
        self.report.send_replace(report)
    }

    pub(super) fn publish_link(&self, link: Option<GuestClient>) {
        self.link.send_replace(link);
    }

    pub fn reports(&self) -> watch::Receiver<Report> {
        self.report.subscribe()
    }

    pub fn link(&self) -> watch::Receiver<Option<GuestClient>> {
        self.link.subscribe()
    }
}
