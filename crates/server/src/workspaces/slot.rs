//! Where a workspace's driver and everyone else meet: nudges go in, reports and the link come out,
//! and what is seen of its use is kept.
//!
//! A nudge takes a ticket; a report carries the ticket it was made after. Whoever waits for a
//! report with its own ticket or a later one knows that the driver has seen what it asked for.

use super::limits::Refusal;
use super::machine::Arrival;
use super::presence::Presence;
use rexec_api::error::ErrorCode;
use rexec_api::ids::HostId;
use rexec_api::progress::PullView;
use rexec_api::setups::SetupProgress;
use rexec_api::workspaces::WorkspaceStatus;
use rexec_channel::GuestClient;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// What a driver last said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub ticket: u64,
    pub status: WorkspaceStatus,
    pub error: Option<ErrorCode>,
    pub reason: Option<String>,
    /// Nothing more will happen by itself.
    pub done: bool,
}

impl Report {
    /// Answers all that were asked, and all that will be.
    pub const LAST: u64 = u64::MAX;
}

/// What a driver is at, step by step, besides what it reports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Doing {
    pub pull: Option<PullView>,
    /// Its place in the queue of its host.
    pub queue: Option<u32>,
    pub setup: Option<SetupProgress>,
    /// Bytes that a move has brought to its new place.
    pub moved_bytes: Option<u64>,
}

pub struct Slot {
    tickets: AtomicU64,
    /// Wakes the driver; holds the newest ticket.
    bell: watch::Sender<u64>,
    /// Someone has asked since the driver last looked, as against an event or a sweep.
    asked: AtomicBool,
    /// A process of it was ended for that since the driver last looked.
    out_of_memory: AtomicBool,
    /// It was warm and nobody's when its driver last looked.
    warm: AtomicBool,
    /// By this server; else it is filled from the one that drives.
    driven: watch::Sender<bool>,
    /// What its owner should know while it runs.
    remark: Mutex<Option<String>>,
    /// The wish for other limits that was refused last, by its number, and why.
    refused_limits: Mutex<Option<(i64, Refusal)>>,
    report: watch::Sender<Report>,
    doing: watch::Sender<Doing>,
    link: watch::Sender<Option<GuestClient>>,
    /// A joined machine that has connected and waits for its driver.
    arrival: Mutex<Option<Arrival>>,
    /// The one of its driver; none before it has had any.
    host: Mutex<Option<HostId>>,
    /// What is known of its use.
    pub presence: Presence,
}

impl Doing {
    /// Its place in the queue, as a sentence.
    pub fn waits(&self) -> Option<String> {
        self.queue.map(|position| format!("It is number {position} in the queue of its host."))
    }
}

impl Slot {
    pub fn new(status: WorkspaceStatus) -> Self {
        let report = Report { ticket: 0, status, error: None, reason: None, done: false };
        Self {
            tickets: AtomicU64::new(1),
            bell: watch::Sender::new(1),
            asked: AtomicBool::new(false),
            out_of_memory: AtomicBool::new(false),
            warm: AtomicBool::new(false),
            driven: watch::Sender::new(false),
            remark: Mutex::default(),
            refused_limits: Mutex::default(),
            report: watch::Sender::new(report),
            doing: watch::Sender::default(),
            link: watch::Sender::new(None),
            arrival: Mutex::default(),
            host: Mutex::default(),
            presence: Presence::default(),
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

    pub(super) fn tell_out_of_memory(&self) {
        self.out_of_memory.store(true, Ordering::Release);
        self.nudge();
    }

    pub(super) fn take_out_of_memory(&self) -> bool {
        self.out_of_memory.swap(false, Ordering::AcqRel)
    }

    pub(super) fn set_asked(&self) {
        self.asked.store(true, Ordering::Release);
    }

    pub(super) fn set_driven(&self, is_driven: bool) {
        self.driven.send_replace(is_driven);
    }

    pub(super) fn is_driven(&self) -> bool {
        *self.driven.borrow()
    }

    pub(super) async fn until_driven(&self) {
        // The sender lives in self, so waiting cannot fail.
        let _ = self.driven.subscribe().wait_for(|driven| *driven).await;
    }

    /// Nobody waits for what it has to tell.
    pub(super) fn is_unwatched(&self) -> bool {
        self.report.receiver_count() + self.doing.receiver_count() + self.link.receiver_count() == 0
    }

    /// Passes on what another server's driver says.
    pub(super) fn say(&self, report: Report, doing: &Doing, refused: Option<(i64, Refusal)>) {
        *self.refused_limits.lock().unwrap_or_else(PoisonError::into_inner) = refused;
        self.doing.send_if_modified(|known| {
            let changed = known != doing;
            known.clone_from(doing);
            changed
        });
        self.report.send_if_modified(|known| {
            let changed = *known != report;
            *known = report;
            changed
        });
    }

    pub(super) fn refused_limits(&self) -> Option<(i64, Refusal)> {
        self.refused_limits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_warm(&self, is_warm: bool) {
        self.warm.store(is_warm, Ordering::Release);
    }

    pub(super) fn is_warm(&self) -> bool {
        self.warm.load(Ordering::Acquire)
    }

    /// A joined machine is here; one that came before and waits still is sent away.
    pub(super) fn arrive(&self, arrival: Arrival) {
        *self.arrival.lock().unwrap_or_else(PoisonError::into_inner) = Some(arrival);
        self.nudge();
    }

    pub(super) fn take_arrival(&self) -> Option<Arrival> {
        self.arrival.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn set_host(&self, host: HostId) {
        *self.host.lock().unwrap_or_else(PoisonError::into_inner) = Some(host);
    }

    pub(super) fn host(&self) -> Option<HostId> {
        *self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the driver tell this from now on, where nothing more important is to be told.
    pub(super) fn set_remark(&self, remark: Option<String>) {
        let mut told = self.remark.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != remark {
            *told = remark;
            drop(told);
            self.nudge();
        }
    }

    pub(super) fn remark(&self) -> Option<String> {
        self.remark.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn refuse_limits(&self, seq: i64, why: Refusal) {
        *self.refused_limits.lock().unwrap_or_else(PoisonError::into_inner) = Some((seq, why));
    }

    /// Why the wish of this number is not granted, if that is so.
    pub(super) fn refusal_of(&self, seq: i64) -> Option<Refusal> {
        let refused = self.refused_limits.lock().unwrap_or_else(PoisonError::into_inner);
        refused.as_ref().filter(|(refused, _)| *refused == seq).map(|(_, why)| why.clone())
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

    pub(super) fn tell_pull(&self, pull: Option<PullView>) {
        self.doing.send_if_modified(|doing| std::mem::replace(&mut doing.pull, pull) != doing.pull);
    }

    pub(super) fn tell_queue(&self, place: Option<u32>) {
        self.doing.send_if_modified(|doing| std::mem::replace(&mut doing.queue, place) != doing.queue);
    }

    pub(super) fn tell_setup(&self, setup: Option<SetupProgress>) {
        self.doing.send_if_modified(|doing| {
            let changed = doing.setup != setup;
            doing.setup = setup;
            changed
        });
    }

    pub(super) fn tell_moved(&self, bytes: Option<u64>) {
        self.doing.send_if_modified(|doing| std::mem::replace(&mut doing.moved_bytes, bytes) != bytes);
    }

    pub fn doing(&self) -> watch::Receiver<Doing> {
        self.doing.subscribe()
    }

    pub(super) fn publish_link(&self, link: Option<GuestClient>) {
        self.link.send_replace(link);
    }

    pub fn status(&self) -> WorkspaceStatus {
        self.report.borrow().status
    }

    pub fn reports(&self) -> watch::Receiver<Report> {
        self.report.subscribe()
    }

    pub fn link(&self) -> watch::Receiver<Option<GuestClient>> {
        self.link.subscribe()
    }
}
