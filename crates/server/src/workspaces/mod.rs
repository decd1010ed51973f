//! Workspaces: what their owners may ask for, and the drivers that make it so.
//!
//! The service writes what is wanted and wakes the workspace's driver; it never touches the
//! engine. A request waits for the driver's report up to its deadline and then answers with what
//! stands, so a slow engine makes slow news and not lost work.
//!
//! Invariant: every public method checks its actor first. What an actor may not see is not there.

mod container;
mod driver;
pub mod http;
mod incident;
pub mod lifecycle;
mod link;
mod names;
mod slot;
pub mod store;
pub mod validate;

pub use driver::Deps;
pub use slot::Report;

use crate::actor::Actor;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::hosts::dial::GuestKey;
use crate::tasks::Tasks;
use crate::time::{now_ms, rfc3339};
use lifecycle::{Desired, Intent, Request};
use rexec_api::Page;
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::{NewWorkspace, WAIT_MS_DEFAULT, WorkspaceStatus, WorkspaceView};
use rexec_channel::GuestClient;
use serde_json::json;
use slot::Slot;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::Workspace;
use tokio::sync::watch;

/// What a workspace has when its request does not say.
const CPU_MILLI_DEFAULT: i64 = 2000;
const MEMORY_MB_DEFAULT: u32 = 2048;
/// Processes and threads of one workspace.
pub const PIDS_MAX: u32 = 4096;
/// Entries of one page of a list.
const PAGE_LIMIT: u64 = 100;
/// How long a request for the guest waits while a link is being made anew.
const LINK_PATIENCE: Duration = Duration::from_secs(5);

/// What came of a request: the workspace, and whether all that was asked is done.
pub struct Outcome {
    pub view: WorkspaceView,
    pub done: bool,
}

#[derive(Clone)]
pub struct Workspaces {
    deps: Arc<Deps>,
    config: Arc<Config>,
    tasks: Tasks,
    slots: Arc<Mutex<HashMap<WorkspaceId, Arc<Slot>>>>,
}

/// A guest within reach, and news of its workspace.
pub struct Reach {
    pub guest: GuestClient,
    pub reports: watch::Receiver<Report>,
}

impl Workspaces {
    pub fn new(deps: Deps, config: Arc<Config>, tasks: Tasks) -> Self {
        Self { deps: Arc::new(deps), config, tasks, slots: Arc::default() }
    }

    /// Gives every living workspace its driver: what exists is adopted, what is half made repaired.
    pub async fn adopt(&self) -> Result<()> {
        for id in store::living(self.deps.db.read()).await? {
            self.slot(id);
        }
        Ok(())
    }

    /// The engine says that something happened to a workspace's container.
    pub fn heard(&self, id: WorkspaceId) {
        let slot = self.lock().get(&id).cloned();
        if let Some(slot) = slot {
            slot.nudge();
        }
    }

    pub async fn create(&self, actor: &Actor, new: NewWorkspace) -> Result<Outcome> {
        validate::new_workspace(&new)?;
        self.require_runtime(new.runtime.as_deref()).await?;
        let row = self.record(actor, &new);
        let tx = self.deps.db.begin().await?;
        if let Some(max) = self.config.engine.workspaces_max
            && store::count(&tx).await? >= i64::from(max)
        {
            return Err(Error::new(
                ErrorCode::WorkspaceLimit,
                format!("This server has its {max} workspaces. Delete one first."),
            ));
        }
        store::insert(&tx, &row).await?;
        let created = NewEvent::of_user(actor.user, "workspace.created").workspace(row.id);
        events::append(&tx, &created.data(json!({ "name": row.name, "image": row.image }))).await?;
        tx.commit().await?;

        let wait = Duration::from_millis(new.wait_ms.unwrap_or(WAIT_MS_DEFAULT));
        let slot = self.slot(row.id);
        let report = settled(&slot, slot.ask(), wait).await;
        if let Some(Report { error: Some(code), reason, status: WorkspaceStatus::Error, .. }) = report {
            // The one who asked is told; nothing half made stays behind.
            self.discard(row.id).await?;
            return Err(Error::new(code, reason.unwrap_or_else(|| "The workspace could not be made.".into())));
        }
        self.outcome(actor, row.id, report).await
    }

    pub async fn list(&self, actor: &Actor, before: Option<WorkspaceId>) -> Result<Page<WorkspaceView>> {
        let mut rows = store::list(self.deps.db.read(), actor.user, before, PAGE_LIMIT + 1).await?;
        let more = rows.len() as u64 > PAGE_LIMIT;
        rows.truncate(PAGE_LIMIT as usize);
        let next = rows.last().filter(|_| more).map(|row| row.id.to_string());
        Ok(Page { items: rows.iter().map(|row| self.view(actor, row)).collect(), next })
    }

    pub async fn get(&self, actor: &Actor, id: WorkspaceId) -> Result<WorkspaceView> {
        Ok(self.view(actor, &self.owned(actor, id).await?))
    }

    pub async fn rename(&self, actor: &Actor, id: WorkspaceId, name: &str) -> Result<WorkspaceView> {
        let row = self.owned(actor, id).await?;
        validate::name(name)?;
        let tx = self.deps.db.begin().await?;
        if !store::rename(&tx, id, name, now_ms()).await? {
            return Err(no_such());
        }
        let renamed = NewEvent::of_user(actor.user, "workspace.renamed").workspace(id);
        events::append(&tx, &renamed.data(json!({ "from": row.name, "to": name }))).await?;
        tx.commit().await?;
        self.get(actor, id).await
    }

    /// Starts, stops, restarts, pauses or resumes.
    pub async fn request(&self, actor: &Actor, id: WorkspaceId, request: Request, wait: Duration) -> Result<Outcome> {
        let row = self.owned(actor, id).await?;
        let intent = lifecycle::ask(row.intent, row.status, request).ok_or_else(|| refused(&row, request))?;
        if intent.desired != Desired::Stopped {
            self.deps.host.ready_or_tried().await.map_err(|reason| Error::new(ErrorCode::EngineUnavailable, reason))?;
        }
        self.want(actor, id, intent, request_event(request)).await?;
        let slot = self.slot(id);
        let report = settled(&slot, slot.ask(), wait).await;
        if let Some(Report { error: Some(code), reason, status: WorkspaceStatus::Error, .. }) = report {
            return Err(Error::new(code, reason.unwrap_or_else(|| "The workspace could not be brought there.".into())));
        }
        self.outcome(actor, id, report).await
    }

    /// Deletes a workspace and its home. `true`: it is gone; `false`: it is on its way.
    pub async fn delete(&self, actor: &Actor, id: WorkspaceId, wait: Duration) -> Result<bool> {
        let row = self.owned(actor, id).await?;
        self.want(actor, id, Intent { desired: Desired::Deleted, ..row.intent }, "workspace.deleted").await?;
        let slot = self.slot(id);
        let report = settled(&slot, slot.ask(), wait).await;
        Ok(report.is_some_and(|r| r.status == WorkspaceStatus::Deleted))
    }

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

    async fn owned(&self, actor: &Actor, id: WorkspaceId) -> Result<Workspace> {
        store::find(self.deps.db.read(), id)
            .await?
            .filter(|row| actor.owns(row.owner) && row.intent.desired != Desired::Deleted)
            .ok_or_else(no_such)
    }

    async fn want(&self, actor: &Actor, id: WorkspaceId, intent: Intent, event: &'static str) -> Result<()> {
        let tx = self.deps.db.begin().await?;
        if !store::want(&tx, id, intent, now_ms()).await? {
            return Err(no_such());
        }
        events::append(&tx, &NewEvent::of_user(actor.user, event).workspace(id)).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Takes back a creation that was refused.
    async fn discard(&self, id: WorkspaceId) -> Result<()> {
        let intent = Intent { desired: Desired::Deleted, boot_seq: 1, booted_seq: 0 };
        store::want(self.deps.db.write(), id, intent, now_ms()).await?;
        self.slot(id).ask();
        Ok(())
    }

    fn record(&self, actor: &Actor, new: &NewWorkspace) -> Workspace {
        let id = WorkspaceId::new();
        Workspace {
            id,
            owner: actor.user,
            name: new.name.clone().unwrap_or_else(names::make_up),
            image: new.image.clone().unwrap_or_else(|| self.config.engine.workspace_image.clone()),
            runtime: new.runtime.clone().or_else(|| self.config.engine.runtime.clone()).unwrap_or_default(),
            cpu_milli: new.cpu.map_or(CPU_MILLI_DEFAULT, |cpu| (cpu * 1000.0).round() as i64),
            memory_mb: i64::from(new.memory_mb.unwrap_or(MEMORY_MB_DEFAULT)),
            env: new.env.clone(),
            intent: Intent { desired: Desired::Running, boot_seq: 1, booted_seq: 0 },
            status: WorkspaceStatus::Pending,
            status_reason: None,
            error_code: None,
            host: Some(self.deps.host.id),
            generation: 0,
            volume: format!("rexec-home-{}", id.0.simple()),
            guest_key: GuestKey::generate().to_hex(),
            created_ms: now_ms(),
            started_ms: None,
        }
    }

    /// Refuses a runtime that the host does not have, before anything is made.
    async fn require_runtime(&self, runtime: Option<&str>) -> Result<()> {
        let facts =
            self.deps.host.ready_or_tried().await.map_err(|reason| Error::new(ErrorCode::EngineUnavailable, reason))?;
        match runtime {
            Some(name) if !facts.engine.runtimes.iter().any(|r| r == name) => Err(Error::new(
                ErrorCode::RuntimeUnavailable,
                format!("The host has no runtime `{name}`; it has {}.", facts.engine.runtimes.join(", ")),
            )
            .details(json!({ "field": "runtime", "runtimes": facts.engine.runtimes }))),
            _ => Ok(()),
        }
    }

    async fn outcome(&self, actor: &Actor, id: WorkspaceId, report: Option<Report>) -> Result<Outcome> {
        Ok(Outcome { view: self.get(actor, id).await?, done: report.is_some() })
    }

    fn view(&self, actor: &Actor, row: &Workspace) -> WorkspaceView {
        let facts = self.deps.host.ready().ok();
        let runtime = if row.runtime.is_empty() {
            facts.map_or_else(|| "default".into(), |facts| facts.engine.default_runtime.clone())
        } else {
            row.runtime.clone()
        };
        WorkspaceView {
            id: row.id,
            name: row.name.clone(),
            owner_id: row.owner,
            status: row.status,
            status_reason: row.status_reason.clone(),
            image: row.image.clone(),
            region: self.deps.host.region.clone(),
            host: actor.is_admin().then(|| self.deps.host.name.clone()),
            runtime,
            cpu: row.cpu_milli as f64 / 1000.0,
            memory_mb: u32::try_from(row.memory_mb).unwrap_or(u32::MAX),
            created_at: rfc3339(row.created_ms),
            started_at: row.started_ms.map(rfc3339),
        }
    }

    /// The workspace's slot; its driver is started if it has none.
    fn slot(&self, id: WorkspaceId) -> Arc<Slot> {
        let mut slots = self.lock();
        if let Some(slot) = slots.get(&id) {
            return slot.clone();
        }
        let slot = Arc::new(Slot::new(WorkspaceStatus::Pending));
        slots.insert(id, slot.clone());
        let driver = driver::Driver::new(id, self.deps.clone(), slot.clone());
        let slots = self.slots.clone();
        self.tasks.spawn_abortable("workspace", async move {
            driver.run().await;
            slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        });
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

fn not_running(row: &Workspace) -> Error {
    let advice = match row.status {
        WorkspaceStatus::Paused => "Resume it first.",
        WorkspaceStatus::Stopped | WorkspaceStatus::Error => "Start it first.",
        _ => "Try again in a moment.",
    };
    state_error(row, format!("The workspace is {}. {advice}", row.status.as_str()))
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

fn unreachable(row: &Workspace) -> Error {
    let reason = row.status_reason.clone().unwrap_or_else(|| "Its guest does not answer.".into());
    Error::new(ErrorCode::WorkspaceUnreachable, format!("The workspace cannot be reached at the moment. {reason}"))
        .retry_after(Duration::from_secs(1))
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
