//! One driver per workspace: it alone makes the workspace what its record says it should be.
//!
//! A pass reads the record, looks at the engine, asks `lifecycle` for the next step and takes it,
//! until nothing is left to do. Requests nudge; events of the engine, a broken link, a change
//! of the host and the host's sweep nudge too. A failure that may pass is retried with growing pauses; one that will not
//! parks the workspace in `error` until someone asks again.
//!
//! Invariant: every write of observed state happens here, after the step that makes it true, or
//! before a step whose half-done result the next pass will find by the container's name.

mod adopt;
mod boot;
mod end;
mod half_started;
mod hand_over;
mod home;
mod limit;
mod look;
mod machine;
mod moving;
mod pull;
mod report;
mod snapshot;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod turn;
mod verdict;
mod volume;
mod way_out;

use super::budgets::Budgets;
use super::container::container_name;
use super::incident::{self, Incidents};
use super::lifecycle::{Around, Desired, Seen, Step, decide};
use super::link::{DialDesk, Link};
use super::slot::Slot;
use super::store::{self, HomeState, Workspace};
use crate::crash::Crash;
use crate::db::Db;
use crate::disk::Gauge;
use crate::events::bus::Bus;
use crate::hosts::pulls::Pull;
use crate::hosts::reserve::{self, Hold};
use crate::hosts::turns::Place;
use crate::hosts::{self, Fleet, Host, HostFacts, HostState};
use crate::registries::Registries;
use crate::replicas::{self, Replicas};
use crate::secrets::inside::{Inside, Vault};
use crate::snapshots;
use crate::templates::Templates;
use rexec_api::ids::{UserId, WorkspaceId};
use rexec_api::workspaces::WorkspaceStatus;
use rexec_engine::Labels;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use uuid::Uuid;
use verdict::StepError;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Steps of one pass; a workspace needs fewer than ten from any state.
const STEPS_MAX: u32 = 24;

/// What every driver works with.
pub struct Deps {
    pub db: Db,
    pub fleet: Fleet,
    /// Where news of workspaces is told.
    pub bus: Bus,
    /// The other servers on the database.
    pub replicas: Replicas,
    pub crash: Crash,
    pub registries: Registries,
    pub vault: Vault,
    pub templates: Templates,
    /// Asks for a look at what is left of set-ups.
    pub setup_wanted: Arc<Notify>,
    /// How long the home of a deleted workspace is kept.
    pub home_kept: Duration,
    /// Counts the snapshots that were taken or failed, for those who wait for one.
    pub snapshot_news: watch::Sender<u64>,
    /// What one user's snapshots may take up.
    pub snapshot_bytes_max: u64,
    /// Nothing more is made on a host whose disk has less than this free.
    pub host_free_bytes_min: u64,
    /// What each has on its host's disk, as last measured.
    pub disk: Gauge,
    /// Of the server's memory, for what guests say.
    pub budgets: Budgets,
    /// Moves at once.
    pub moves: Arc<Semaphore>,
}

/// How a pass ended.
enum Rest {
    /// The record is buried.
    Gone,
    /// All is well until something happens.
    Settled,
    /// Nothing more can be done until someone asks.
    Parked,
    /// It will be tried again.
    Retry,
    /// It lies where another lease is needed.
    Elsewhere,
}

/// Why a driver has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The record is buried.
    Gone,
    /// Whoever has the lease of its host drives it.
    Elsewhere,
}

pub struct Driver {
    id: WorkspaceId,
    /// Known from the first look at the record.
    owner: Option<UserId>,
    deps: Arc<Deps>,
    /// The record's host, as of the last look at the record.
    host: Arc<Host>,
    host_state: watch::Receiver<HostState>,
    slot: Arc<Slot>,
    /// Of the record's host, or of a joined machine: without it nothing is written.
    lease: replicas::Hold,
    desk: Option<DialDesk>,
    link: Option<Link>,
    /// The guest was told that it is nobody's.
    link_is_warm: bool,
    /// When the last link came about: one that breaks at once is not made anew at once.
    linked_at: Option<std::time::Instant>,
    /// Said once the workspace runs again after something befell it.
    note: Option<String>,
    incidents: Incidents,
    /// The engine has not answered to its last start.
    cut_off: bool,
    /// How often its container was made anew because it could not start, since it last ran or was asked for.
    remade: u32,
    image_present: bool,
    /// The generation that was made last, and on which network, at which address.
    made: Option<(i64, String, Option<Ipv4Addr>)>,
    /// What its guest was told of secrets.
    inside: Inside,
    /// Which life of its gateway was told which `egress_seq`.
    told: Option<(Uuid, i64)>,
    /// When the next of what it may reach for a while ends.
    lent_until: Option<i64>,
    /// A pull that goes on from pass to pass for as long as the image is wanted.
    pulling: Option<Arc<Pull>>,
    /// At the host's engine, from when it is to make or start something until that is done.
    place: Option<Place>,
    /// What was asked for in the last pass, to notice that someone has asked since.
    asked: Option<(Desired, i64)>,
    /// Of a joined machine.
    meeting: machine::Meeting,
}

impl Driver {
    pub fn new(id: WorkspaceId, deps: Arc<Deps>, slot: Arc<Slot>, lease: replicas::Hold) -> Self {
        let host = deps.fleet.local();
        slot.set_host(host.id);
        Self {
            id,
            owner: None,
            host_state: host.watch(),
            host,
            deps,
            slot,
            lease,
            desk: None,
            link: None,
            link_is_warm: false,
            linked_at: None,
            note: None,
            incidents: Incidents::default(),
            cut_off: false,
            remade: 0,
            image_present: true,
            made: None,
            inside: Inside::default(),
            told: None,
            lent_until: None,
            pulling: None,
            place: None,
            asked: None,
            meeting: machine::Meeting::default(),
        }
    }

    /// Drives until the workspace is buried, or lies where another lease is needed.
    pub async fn run(mut self) -> End {
        let mut retry = RETRY_FIRST;
        loop {
            let ticket = self.slot.ticket();
            self.host_state.mark_unchanged();
            let rest = self.pass(ticket).await;
            let pause = match rest {
                Rest::Gone => return End::Gone,
                Rest::Elsewhere => {
                    self.unlink();
                    return End::Elsewhere;
                }
                Rest::Parked => None,
                Rest::Settled => {
                    retry = RETRY_FIRST;
                    self.lent_for()
                }
                Rest::Retry => {
                    let pause = retry;
                    retry = (retry * 2).min(RETRY_MAX);
                    Some(pause)
                }
            };
            let parked = matches!(rest, Rest::Parked);
            let client = self.link.as_ref().map(|link| link.client.clone());
            tokio::select! {
                () = self.slot.nudged(ticket) => retry = RETRY_FIRST,
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
                _ = self.host_state.changed(), if !parked => retry = RETRY_FIRST,
                () = closed(client) => self.unlink(),
            }
        }
    }

    async fn pass(&mut self, ticket: u64) -> Rest {
        let mut hint = None;
        for _ in 0..STEPS_MAX {
            let row = match store::find(self.deps.db.read(), self.id).await {
                Ok(Some(row)) => row,
                Ok(None) => return self.gone(),
                Err(error) => return self.failed(ticket, None, StepError::Database(error)).await,
            };
            self.owner = Some(row.owner);
            if !self.lease.is_of(&lease_of(&row, &self.deps.fleet)) {
                return Rest::Elsewhere;
            }
            self.turn_to(self.deps.fleet.of(row.host));
            self.slot.set_warm(row.pool.is_some());
            if self.link_is_warm && row.pool.is_none() {
                match self.hand_over(ticket, &row).await {
                    Ok(true) => return Rest::Settled,
                    Ok(false) => {}
                    Err(error) => return self.failed(ticket, Some(&row), error).await,
                }
            }
            if row.is_machine() {
                return self.machine_pass(ticket, &row).await;
            }
            if self.parked_before(&row) {
                self.report(ticket, row.status, row.error_code, row.status_reason.clone(), true);
                return Rest::Parked;
            }
            if self.slot.take_out_of_memory() {
                self.note = Some(incident::out_of_memory(row.memory_mb));
            }
            let facts = match self.host.ready() {
                Ok(facts) => facts,
                Err(reason) => return self.host_away(ticket, &row, reason).await,
            };
            match self.step(ticket, &row, &facts, hint.take()).await {
                Ok(Progress::Settled) => return Rest::Settled,
                Ok(Progress::Gone) => return self.gone(),
                Ok(Progress::Heard) => return Rest::Retry,
                Ok(Progress::Again(seen)) => hint = seen,
                Err(error) => return self.failed(ticket, Some(&row), error).await,
            }
        }
        tracing::error!(workspace.id = %self.id, "a pass does not come to an end; pausing");
        Rest::Retry
    }

    /// Works with this host from now on; what was open at another is let go. One that is reached as the one before it was
    /// is no other: whoever is in the middle of something in the workspace does not hear of it.
    fn turn_to(&mut self, host: Arc<Host>) {
        if Arc::ptr_eq(&host, &self.host) {
            return;
        }
        if !host.is_reached_as(&self.host) {
            self.unlink();
            self.give_up_pull();
            self.give_up_turn();
        }
        // Before its state is looked at: no change between the two is missed.
        self.host_state = host.watch();
        self.slot.set_host(host.id);
        self.host = host;
    }

    /// A workspace in `error` waits for someone to ask; the first pass after a start of the server
    /// is nobody asking.
    fn parked_before(&mut self, row: &Workspace) -> bool {
        let first = self.asked.is_none();
        let asked = (row.intent.desired, row.intent.boot_seq);
        let unchanged = self.asked == Some(asked) && !self.slot.take_asked();
        if first {
            self.slot.take_asked();
            self.note = row.status_reason.clone().filter(|reason| incident::is_one(reason));
        } else if !unchanged {
            self.note = None;
            self.incidents = Incidents::default();
            self.remade = 0;
            // Whoever asks again may have seen to it; if not, making the container tells.
            self.image_present |= self.pulling.is_none();
        }
        self.asked = Some(asked);
        row.status == WorkspaceStatus::Error && row.intent.desired != Desired::Deleted && (first || unchanged)
    }

    async fn step(
        &mut self,
        ticket: u64,
        row: &Workspace,
        facts: &HostFacts,
        hint: Option<Seen>,
    ) -> Result<Progress, StepError> {
        let seen = match hint {
            Some(seen) => seen,
            None => self.look(row).await?,
        };
        let around = Around {
            image_present: self.image_present,
            guest_ready: self.link_lives(),
            image_outdated: row.image_found.as_ref().is_some_and(|found| *found != row.image),
            home_filled: row.home_state == HomeState::Ready,
            snapshot_wanted: snapshots::store::taking(self.deps.db.read(), self.id).await?.is_some(),
            limits_wanted: row.wish.is_some(),
            move_wanted: row.is_moving(),
        };
        if row.is_moving() && row.intent.desired != Desired::Stopped {
            // Whoever wants it to run, or gone, comes first.
            self.give_up_move().await?;
        }
        let step = decide(row.intent, seen, around);
        if !matches!(step, Step::Pull | Step::AdoptImage) {
            self.give_up_pull();
        }
        if !matches!(step, Step::Create | Step::Start) {
            self.give_up_turn();
        } else if !self.take_turn(ticket, row.pool.is_some()).await {
            return Ok(Progress::Heard);
        }
        match step {
            Step::Settled(status) => {
                self.settle(ticket, row, status).await?;
                Ok(Progress::Settled)
            }
            Step::Wait => {
                tokio::time::sleep(RETRY_FIRST).await;
                Ok(Progress::Again(None))
            }
            Step::Snapshot(status) => {
                self.settle(ticket, row, status).await?;
                self.snapshot(ticket, row, status).await
            }
            Step::Limit => self.limit(row, seen).await,
            Step::Move => self.relocate(ticket, row).await,
            Step::FillHome => self.fill_home(ticket, row).await,
            Step::Pull => self.pull(ticket, row).await,
            Step::AdoptImage => self.adopt_image(ticket, row).await,
            Step::Create => self.create(ticket, row, facts).await,
            Step::Start => {
                self.take_room(row).await?;
                self.start(ticket, row, facts).await
            }
            Step::Connect => self.connect(row, facts).await,
            Step::Pause => {
                self.host.engine.pause(&container_name(row)).await?;
                Ok(Progress::Again(Some(Seen::Paused)))
            }
            Step::Unpause => {
                self.hold_pings(false);
                self.host.engine.unpause(&container_name(row)).await?;
                Ok(Progress::Again(Some(Seen::Running)))
            }
            Step::Stop => self.stop(ticket, row).await,
            Step::Remove => self.remove(ticket, row, facts).await,
            Step::Release => self.release(row).await,
        }
    }

    /// What it needs to run is its own from here on, if its host has that left.
    async fn take_room(&self, row: &Workspace) -> Result<(), StepError> {
        let tx = self.lease.begin(&self.deps.db).await?;
        if !reserve::hold(&tx, row.id, Hold::Running).await? {
            return Err(StepError::NoRoom);
        }
        Ok(tx.commit().await?)
    }

    fn labels(&self) -> Labels {
        let mut labels = self.host.labels();
        labels.insert(hosts::LABEL_WORKSPACE.into(), self.id.to_string());
        labels
    }
}

/// What a step led to.
enum Progress {
    Settled,
    Gone,
    /// Decide again; what the container is now, if the step tells.
    Again(Option<Seen>),
    /// Someone has nudged: what they want is for a new pass, with their ticket, to see.
    Heard,
}

/// By which lease a workspace is driven.
pub(super) fn lease_of(row: &Workspace, fleet: &Fleet) -> String {
    match row.host {
        _ if row.is_machine() => replicas::of_machine(row.id),
        Some(host) => replicas::of_host(host),
        None => replicas::of_host(fleet.local().id),
    }
}

pub(super) async fn closed(client: Option<rexec_channel::GuestClient>) {
    match client {
        Some(client) => client.closed().await,
        None => std::future::pending().await,
    }
}
