//! Workspaces: what their owners may ask for, and the drivers that make it so.
//!
//! The service writes what is wanted and wakes the workspace's driver; it never touches the
//! engine. A request waits for the driver's report up to its deadline and then answers with what
//! stands, so a slow engine makes slow news and not lost work.
//!
//! Invariant: every public method checks its actor first. What an actor may not see is not there.

mod budgets;
mod capacity;
mod change;
mod choice;
mod chosen;
pub(crate) mod container;
mod creation;
mod disk;
mod driver;
mod follower;
pub mod http;
mod idle;
mod incident;
mod keeper;
pub mod lifecycle;
mod limits;
mod link;
pub mod lost;
pub(crate) mod machine;
pub mod moving;
mod names;
mod occupant;
mod outlook;
pub mod plan;
mod pool;
mod presence;
mod progress;
mod reach;
mod restore;
mod retention;
mod runtimes;
mod slot;
pub mod store;
mod sweep;
mod used;
pub mod validate;
mod view;
mod waker;

pub use budgets::Budgets;
pub(crate) use capacity::Capacity;
pub(crate) use container::name_of as container_name;
pub use creation::{CPU_MILLI_DEFAULT, MEMORY_MB_DEFAULT};
pub use driver::Deps;
pub use follower::{Follow, Followed};
pub use moving::MOVES_MAX;
pub(crate) use pool::held as held_warm;
pub use reach::{Met, Reach, Waking};
pub(crate) use runtimes::Policy as RuntimePolicy;
pub use slot::Report;
pub use used::Used;
pub use waker::{InUse, Waker};

use crate::actor::Actor;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::hosts::reserve::{self, Hold};
use crate::hosts::{Heard, Host};
use crate::page;
use crate::tasks::Tasks;
use crate::time::now_ms;
use lifecycle::{Desired, Intent, Request};
use rexec_api::Page;
use rexec_api::error::ErrorCode;
use rexec_api::ids::{UserId, WorkspaceId};
use rexec_api::setups::SetupProgress;
use rexec_api::tokens::Scope;
use rexec_api::workspaces::{WorkspaceStatus, WorkspaceView};
use serde_json::json;
use slot::Slot;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::{Want, WantBy, Workspace};
use tokio::sync::Semaphore;

const NO_PAUSE: &str =
    "The host cannot hold a workspace still: its engine has no control groups. Stop the workspace instead.";

/// What came of a request: the workspace, and whether all that was asked is done.
pub struct Outcome {
    pub view: WorkspaceView,
    pub done: bool,
}

/// What becomes of a deleted workspace's home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// It can be restored for a while.
    Keep,
    Purge,
}

#[derive(Clone)]
pub struct Workspaces {
    deps: Arc<Deps>,
    config: Arc<Config>,
    tasks: Tasks,
    slots: Arc<Mutex<HashMap<WorkspaceId, Arc<Slot>>>>,
    /// Taken by those that are being recorded.
    recording: Arc<Semaphore>,
    /// Of hosts, for those that are not recorded yet.
    choices: chosen::Choices,
}

impl Workspaces {
    pub fn new(deps: Deps, config: Arc<Config>, tasks: Tasks) -> Self {
        let recording = Arc::new(Semaphore::new(creation::RECORDED_AT_ONCE_MAX));
        Self {
            deps: Arc::new(deps),
            config,
            tasks,
            slots: Arc::default(),
            recording,
            choices: chosen::Choices::default(),
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// How many there are in each state, as their drivers last said; warm ones are the pool's.
    pub(crate) fn counts(&self) -> HashMap<WorkspaceStatus, usize> {
        let mut counts = HashMap::new();
        for slot in self.lock().values().filter(|slot| slot.is_driven() && !slot.is_warm()) {
            *counts.entry(slot.reports().borrow().status).or_default() += 1;
        }
        counts
    }

    pub(crate) fn deps(&self) -> Arc<Deps> {
        self.deps.clone()
    }

    /// Gives every living workspace its driver: what exists is adopted, what is half made repaired.
    pub async fn adopt(&self) -> Result<()> {
        // Of several servers each adopts what is its own as it takes it.
        if self.deps.replicas.is_alone() {
            for id in store::living(self.deps.db.read()).await? {
                self.slot(id);
            }
        }
        Ok(())
    }

    /// An engine says that something happened to a workspace's container.
    pub fn heard(&self, heard: Heard) {
        match heard {
            Heard::Container(id) => {
                if let Some(slot) = self.slot_if_any(id) {
                    slot.nudge();
                }
            }
            Heard::OutOfMemory(id) => {
                let slot = self.lock().get(&id).cloned();
                if let Some(slot) = slot {
                    slot.tell_out_of_memory();
                }
            }
        }
    }

    pub async fn list(&self, actor: &Actor, before: Option<WorkspaceId>) -> Result<Page<WorkspaceView>> {
        actor.authorise_list(Scope::WorkspacesRead)?;
        let rows = store::list(self.deps.db.read(), actor.user, actor.limit(), before).await?;
        Ok(page::of(rows, |row| row.id.to_string(), |row| self.view(actor, row)))
    }

    pub async fn get(&self, actor: &Actor, id: WorkspaceId) -> Result<WorkspaceView> {
        Ok(self.view(actor, &self.owned(actor, Scope::WorkspacesRead, id).await?))
    }

    /// Starts, stops, restarts, pauses or resumes.
    pub async fn request(&self, actor: &Actor, id: WorkspaceId, request: Request, wait: Duration) -> Result<Outcome> {
        let row = self.owned_container(actor, Scope::WorkspacesWrite, id, "lifecycle").await?;
        let intent = lifecycle::ask(row.intent, row.status, request).ok_or_else(|| refused(&row, request))?;
        if intent.desired != Desired::Stopped {
            let host = self.deps.fleet.of(row.host);
            host.ready_or_tried().await.map_err(|reason| Error::new(ErrorCode::EngineUnavailable, reason))?;
        }
        if intent.desired == Desired::Paused && !self.pauses(&row) {
            return Err(Error::new(ErrorCode::UnsupportedByHost, NO_PAUSE));
        }
        let event = lifecycle::changes(row.intent, intent, row.status).then(|| request_event(request));
        self.want_as(row.owner, id, intent, &Want::user(), event).await?;
        let slot = self.slot(id);
        let report = settled(&slot, slot.ask(), wait).await;
        if let Some(Report { error: Some(code), reason, status: WorkspaceStatus::Error, .. }) = report {
            return Err(Error::new(code, reason.unwrap_or_else(|| "The workspace could not be brought there.".into())));
        }
        self.outcome(actor, id, report).await
    }

    /// Deletes a workspace. `true`: it is gone; `false`: it is on its way.
    pub async fn delete(&self, actor: &Actor, id: WorkspaceId, home: Home, wait: Duration) -> Result<bool> {
        let row = self.owned(actor, Scope::WorkspacesWrite, id).await?;
        let by = match home {
            Home::Keep => WantBy::User,
            Home::Purge => WantBy::Purge,
        };
        let intent = Intent { desired: Desired::Deleted, ..row.intent };
        self.want_as(row.owner, id, intent, &Want { by, reason: None }, Some("workspace.deleted")).await?;
        self.deps.crash.point("delete.recorded");
        let slot = self.slot(id);
        let report = settled(&slot, slot.ask(), wait).await;
        Ok(report.is_some_and(|r| r.status == WorkspaceStatus::Deleted))
    }

    /// Refuses what needs room on a host that has hardly any.
    pub(crate) async fn require_space(&self, host: &Host) -> Result<()> {
        crate::disk::require_space(&self.deps, host).await
    }

    /// The workspace, where it is the actor's and what is to be done there lies within this scope.
    pub(crate) async fn owned(&self, actor: &Actor, scope: Scope, id: WorkspaceId) -> Result<Workspace> {
        actor.authorise_in(scope, id)?;
        store::find(self.deps.db.read(), id)
            .await?
            .filter(|row| actor.owns(row.owner) && row.intent.desired != Desired::Deleted)
            .ok_or_else(no_such)
    }

    async fn want_as(
        &self,
        owner: UserId,
        id: WorkspaceId,
        intent: Intent,
        want: &Want,
        event: Option<&'static str>,
    ) -> Result<()> {
        let tx = self.deps.db.begin().await?;
        if !store::want(&tx, id, intent, want, now_ms()).await? {
            return Err(no_such());
        }
        if intent.desired == Desired::Running && !reserve::hold(&tx, id, Hold::Running).await? {
            return Err(self.no_room());
        }
        let logged = match event {
            Some(kind) => Some(events::append(&tx, &NewEvent::of_user(owner, kind).workspace(id)).await?),
            None => None,
        };
        tx.commit().await?;
        // Only its owner may ask for anything.
        logged.into_iter().for_each(|logged| self.deps.bus.publish_logged(owner, logged));
        Ok(())
    }

    async fn outcome(&self, actor: &Actor, id: WorkspaceId, report: Option<Report>) -> Result<Outcome> {
        Ok(Outcome { view: self.get(actor, id).await?, done: report.is_some() })
    }

    /// Has its driver look, and waits for it.
    pub(crate) async fn settle(&self, id: WorkspaceId, wait: Duration) {
        let slot = self.slot(id);
        settled(&slot, slot.nudge(), wait).await;
    }

    /// Has its driver look at what is wanted now.
    pub(crate) fn ask(&self, id: WorkspaceId) {
        self.slot(id).ask();
    }

    /// What the owner of a workspace should know while it runs.
    pub(crate) fn remark(&self, id: WorkspaceId, remark: Option<String>) {
        if let Some(slot) = self.slot_if_any(id) {
            slot.set_remark(remark);
        }
    }

    /// Says that a workspace is in use for as long as this is held, by somebody who may use it.
    pub(crate) fn in_use(&self, id: WorkspaceId) -> InUse {
        InUse::new(self.slot(id))
    }

    /// The slot of a workspace that has a driver.
    fn slot_if_any(&self, id: WorkspaceId) -> Option<Arc<Slot>> {
        self.lock().get(&id).cloned()
    }

    /// Has its driver look, without anybody having asked for anything.
    pub(crate) fn nudge(&self, id: WorkspaceId) {
        self.slot(id).nudge();
    }

    pub(crate) fn tell_setup(&self, id: WorkspaceId, setup: Option<SetupProgress>) {
        if let Some(slot) = self.slot_if_any(id) {
            slot.tell_setup(setup);
        }
    }

    /// The link to a living workspace's guest, as it comes and goes.
    pub(crate) fn link_of(&self, id: WorkspaceId) -> tokio::sync::watch::Receiver<Option<rexec_channel::GuestClient>> {
        self.slot(id).link()
    }

    /// The workspace's slot; its driver is started if it has none, or a follower where another server drives it.
    fn slot(&self, id: WorkspaceId) -> Arc<Slot> {
        let mut slots = self.lock();
        if let Some(slot) = slots.get(&id) {
            return slot.clone();
        }
        let slot = Arc::new(Slot::new(WorkspaceStatus::Pending));
        slots.insert(id, slot.clone());
        let (workspaces, filled) = (self.clone(), slot.clone());
        self.tasks.spawn_abortable("workspace", async move { workspaces.occupy(id, filled).await });
        slot
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<WorkspaceId, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The driver's report that answers this ticket, if it comes in time.
async fn settled(slot: &Slot, ticket: u64, wait: Duration) -> Option<Report> {
    let mut reports = slot.reports();
    let answered = reports.wait_for(|report| report.ticket >= ticket && report.done);
    let report = tokio::time::timeout(wait, answered).await.ok()?.ok()?.clone();
    Some(report)
}

fn no_such() -> Error {
    Error::not_found("workspace")
}

fn refused(row: &Workspace, request: Request) -> Error {
    let what = match request {
        Request::Start => "started",
        Request::Stop => "stopped",
        Request::Restart => "restarted",
        Request::Pause => "paused; only a running one can be",
        Request::Resume => "resumed; start it instead",
    };
    state_error(row, format!("A workspace that is {} cannot be {what}.", row.status.as_str()))
}

fn state_error(row: &Workspace, message: String) -> Error {
    Error::new(ErrorCode::WorkspaceState, message).details(json!({ "status": row.status.as_str() }))
}

const fn request_event(request: Request) -> &'static str {
    match request {
        Request::Start => "workspace.started",
        Request::Stop => "workspace.stopped",
        Request::Restart => "workspace.restarted",
        Request::Pause => "workspace.paused",
        Request::Resume => "workspace.resumed",
    }
}
