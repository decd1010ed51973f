//! One driver per workspace: it alone makes the workspace what its record says it should be.
//!
//! A pass reads the record, looks at the engine, asks `lifecycle` for the next step and takes it,
//! until nothing is left to do. Requests nudge; events of the engine, a broken link and a slow
//! sweep nudge too. A failure that may pass is retried with growing pauses; one that will not
//! parks the workspace in `error` until someone asks again.
//!
//! Invariant: every write of observed state happens here, after the step that makes it true, or
//! before a step whose half-done result the next pass will find by the container's name.

use super::incident::{self, Incidents};
use super::lifecycle::{Around, Desired, Seen, Step, decide};
use super::link::{DialDesk, Link, LinkError};
use super::slot::{Report, Slot};
use super::store::{self, Observation, Workspace};
use crate::db::Db;
use crate::hosts::dial::GuestKey;
use crate::hosts::{self, Host, HostFacts};
use crate::time::now_ms;
use futures_util::StreamExt;
use rexec_api::error::ErrorCode;
use rexec_api::guest::Configure;
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::WorkspaceStatus;
use rexec_engine::{ContainerState, EngineError, Labels};
use std::sync::Arc;
use std::time::Duration;

/// Everything is looked at this often even when nothing nudges.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Steps of one pass; a workspace needs fewer than ten from any state.
const STEPS_MAX: u32 = 24;
/// What PID 1 gets to end its processes before it is killed.
const STOP_GRACE_SECONDS: u32 = 10;
/// How long a guest may take to dial in before we reach for it through the engine.
const DIAL_PATIENCE: Duration = Duration::from_secs(3);

/// A guest that hangs up sooner than this after it was met is met again only with pauses between.
const LINK_STEADY: Duration = Duration::from_secs(1);
const UNREACHED: &str = "It does not answer at the moment; the server keeps trying. If it stays so, restart it.";

/// What every driver works with.
pub struct Deps {
    pub db: Db,
    pub host: Arc<Host>,
    pub pids_max: u32,
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
}

/// Why a step did not work.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Database(#[from] sea_orm::DbErr),
    #[error("cannot reach the guest: {0}")]
    Link(#[from] LinkError),
    #[error("the workspace's record has no usable guest key")]
    Key,
    #[error("its processes keep ending: {0}")]
    KeepsEnding(String),
}

pub struct Driver {
    id: WorkspaceId,
    deps: Arc<Deps>,
    slot: Arc<Slot>,
    desk: Option<DialDesk>,
    link: Option<Link>,
    /// When the last link came about: one that breaks at once is not made anew at once.
    linked_at: Option<std::time::Instant>,
    /// Said once the workspace runs again after something befell it.
    note: Option<String>,
    incidents: Incidents,
    image_present: bool,
    /// What was asked for in the last pass, to notice that someone has asked since.
    asked: Option<(Desired, i64)>,
}

impl Driver {
    pub fn new(id: WorkspaceId, deps: Arc<Deps>, slot: Arc<Slot>) -> Self {
        Self {
            id,
            deps,
            slot,
            desk: None,
            link: None,
            linked_at: None,
            note: None,
            incidents: Incidents::default(),
            image_present: true,
            asked: None,
        }
    }

    /// Drives until the workspace is buried.
    pub async fn run(mut self) {
        let mut host_state = self.deps.host.watch();
        let mut retry = RETRY_FIRST;
        loop {
            let ticket = self.slot.ticket();
            host_state.mark_unchanged();
            let pause = match self.pass(ticket).await {
                Rest::Gone => return,
                Rest::Parked => None,
                Rest::Settled => {
                    retry = RETRY_FIRST;
                    Some(SWEEP_EVERY)
                }
                Rest::Retry => {
                    let pause = retry;
                    retry = (retry * 2).min(RETRY_MAX);
                    Some(pause)
                }
            };
            let client = self.link.as_ref().map(|link| link.client.clone());
            tokio::select! {
                () = self.slot.nudged(ticket) => retry = RETRY_FIRST,
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
                _ = host_state.changed(), if pause.is_some() => retry = RETRY_FIRST,
                () = closed(client) => self.unlink(),
            }
        }
    }

    async fn pass(&mut self, ticket: u64) -> Rest {
        let mut hint = None;
        for _ in 0..STEPS_MAX {
            let row = match store::find(self.deps.db.read(), self.id).await {
                Ok(Some(row)) => row,
                Ok(None) => return self.gone(ticket),
                Err(error) => return self.failed(ticket, None, StepError::Database(error)).await,
            };
            if self.parked_before(&row) {
                self.report(ticket, row.status, row.error_code, row.status_reason.clone(), true);
                return Rest::Parked;
            }
            let facts = match self.deps.host.ready() {
                Ok(facts) => facts,
                Err(reason) => return self.host_away(ticket, &row, reason).await,
            };
            match self.step(ticket, &row, &facts, hint.take()).await {
                Ok(Progress::Settled) => return Rest::Settled,
                Ok(Progress::Gone) => return self.gone(ticket),
                Ok(Progress::Heard) => return Rest::Retry,
                Ok(Progress::Again(seen)) => hint = seen,
                Err(error) => return self.failed(ticket, Some(&row), error).await,
            }
        }
        tracing::error!(workspace.id = %self.id, "a pass does not come to an end; pausing");
        Rest::Retry
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
        let around = Around { image_present: self.image_present, guest_ready: self.link_lives() };
        match decide(row.intent, seen, around) {
            Step::Settled(status) => {
                self.settle(ticket, row, status).await?;
                Ok(Progress::Settled)
            }
            Step::Wait => {
                tokio::time::sleep(RETRY_FIRST).await;
                Ok(Progress::Again(None))
            }
            Step::Pull => self.pull(ticket, row).await,
            Step::Create => self.create(ticket, row).await,
            Step::Start => self.start(ticket, row, facts).await,
            Step::Connect => self.connect(row, facts).await,
            Step::Pause => {
                self.deps.host.engine.pause(&container_name(row)).await?;
                Ok(Progress::Again(Some(Seen::Paused)))
            }
            Step::Unpause => {
                self.deps.host.engine.unpause(&container_name(row)).await?;
                Ok(Progress::Again(Some(Seen::Running)))
            }
            Step::Stop => self.stop(ticket, row).await,
            Step::Remove => self.remove(ticket, row).await,
            Step::Purge => self.purge(row).await,
        }
    }

    /// What the engine shows; whatever befell the container is noted on the way.
    async fn look(&mut self, row: &Workspace) -> Result<Seen, StepError> {
        if row.intent.desired == Desired::Deleted {
            let any = !self.deps.host.engine.containers(&self.labels()).await?.is_empty();
            return Ok(if any { Seen::Exited } else { Seen::Missing });
        }
        if row.generation == 0 {
            return Ok(Seen::Missing);
        }
        let Some(container) = self.deps.host.engine.inspect(&container_name(row)).await? else {
            if row.intent.booted_seq > 0 {
                self.note = Some(incident::VANISHED.into());
            }
            return Ok(Seen::Missing);
        };
        Ok(match container.state {
            ContainerState::Created => Seen::Created,
            ContainerState::Running => Seen::Running,
            ContainerState::Paused => Seen::Paused,
            ContainerState::Changing => Seen::Changing,
            ContainerState::Exited { code, oom_killed, .. } => {
                if matches!(
                    row.status,
                    WorkspaceStatus::Running | WorkspaceStatus::Paused | WorkspaceStatus::Unreachable
                ) && matches!(row.intent.desired, Desired::Running | Desired::Paused)
                    && row.intent.booted_seq == row.intent.boot_seq
                {
                    let what = incident::ended(code, oom_killed);
                    if !self.incidents.bearable(std::time::Instant::now()) {
                        return Err(StepError::KeepsEnding(what));
                    }
                    self.note = Some(what);
                }
                Seen::Exited
            }
        })
    }

    async fn pull(&mut self, ticket: u64, row: &Workspace) -> Result<Progress, StepError> {
        self.observe(ticket, row, WorkspaceStatus::Pulling, Some("Fetching the image."), |_| {}).await?;
        let mut progress = self.deps.host.engine.pull(&row.image);
        loop {
            tokio::select! {
                layer = progress.next() => match layer {
                    Some(layer) => drop(layer?),
                    None => break,
                },
                // Someone may want it no more; the engine keeps the layers that it has.
                () = self.slot.nudged(ticket) => return Ok(Progress::Heard),
            }
        }
        self.image_present = true;
        Ok(Progress::Again(None))
    }

    async fn create(&mut self, ticket: u64, row: &Workspace) -> Result<Progress, StepError> {
        let made = Workspace { generation: row.generation + 1, ..row.clone() };
        // Written first: if we die after the engine has made it, the next pass looks for this name.
        self.observe(ticket, row, WorkspaceStatus::Creating, None, |o| o.generation = made.generation).await?;
        let dial_dir = self.deps.host.ready().ok().filter(|facts| dials(facts, row)).map(|_| self.open_desk(row));
        let dial_dir = dial_dir.transpose()?.flatten();
        let spec = super::container::spec(&made, &self.deps.host, self.deps.pids_max, dial_dir);
        match self.deps.host.engine.create(&spec).await {
            Ok(_) => Ok(Progress::Again(Some(Seen::Created))),
            Err(EngineError::ImageNotFound(_)) if self.image_present => {
                self.image_present = false;
                Ok(Progress::Again(Some(Seen::Missing)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Starts the container and meets its guest, which may dial in before the engine has answered.
    async fn start(&mut self, ticket: u64, row: &Workspace, facts: &HostFacts) -> Result<Progress, StepError> {
        self.unlink();
        self.linked_at = None;
        if row.status != WorkspaceStatus::Creating {
            let reason = self.note.clone();
            self.observe(ticket, row, WorkspaceStatus::Creating, reason.as_deref(), |_| {}).await?;
        }
        if dials(facts, row) {
            self.open_desk(row)?;
        }
        let name = container_name(row);
        let engine = self.deps.host.engine.clone();
        engine.start(&name).await?;
        let booted = row.intent.boot_seq;
        let now = now_ms();
        self.observe(ticket, row, WorkspaceStatus::Creating, self.note.clone().as_deref(), |o| {
            o.booted_seq = booted;
            o.started_ms = Some(now);
        })
        .await?;
        Ok(Progress::Again(Some(Seen::Running)))
    }

    async fn connect(&mut self, row: &Workspace, facts: &HostFacts) -> Result<Progress, StepError> {
        self.unlink();
        if self.linked_at.is_some_and(|at| at.elapsed() < LINK_STEADY) {
            return Err(LinkError::Unsteady.into());
        }
        let configure = Configure {
            workspace: self.id,
            user: Default::default(),
            env: row.env.clone(),
            sudo: Default::default(),
            entrypoint: None,
            ring_bytes: None,
            scrollback_lines: None,
        };
        if dials(facts, row) {
            self.open_desk(row)?;
        }
        let dialled = match self.desk.as_mut() {
            Some(desk) => {
                let stream = tokio::time::timeout(DIAL_PATIENCE, desk.next()).await.ok().flatten();
                stream.map(|stream| (stream, desk.lanes()))
            }
            None => None,
        };
        let link = match dialled {
            Some((stream, lanes)) => Link::over_dial(stream, lanes, &configure).await?,
            None => Link::over_exec(&*self.deps.host.engine, &container_name(row), &configure).await?,
        };
        tracing::debug!(workspace.id = %self.id, boot.id = %link.boot_id, "guest linked");
        self.slot.publish_link(Some(link.client.clone()));
        self.link = Some(link);
        self.linked_at = Some(std::time::Instant::now());
        Ok(Progress::Again(Some(Seen::Running)))
    }

    async fn stop(&mut self, ticket: u64, row: &Workspace) -> Result<Progress, StepError> {
        self.observe(ticket, row, WorkspaceStatus::Stopping, None, |_| {}).await?;
        self.deps.host.engine.stop(&container_name(row), STOP_GRACE_SECONDS).await?;
        self.unlink();
        Ok(Progress::Again(None))
    }

    async fn remove(&mut self, ticket: u64, row: &Workspace) -> Result<Progress, StepError> {
        self.unlink();
        self.observe(ticket, row, WorkspaceStatus::Stopping, None, |_| {}).await?;
        for container in self.deps.host.engine.containers(&self.labels()).await? {
            self.deps.host.engine.remove(&container.id).await?;
        }
        Ok(Progress::Again(Some(Seen::Missing)))
    }

    async fn purge(&mut self, row: &Workspace) -> Result<Progress, StepError> {
        match self.deps.host.engine.remove_volume(&row.volume).await {
            Ok(()) | Err(EngineError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        self.desk = None;
        let dir = self.deps.host.dial_dir(self.id);
        if let Err(error) = std::fs::remove_dir_all(&dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %dir.display(), "the dial directory stays behind");
        }
        store::bury(self.deps.db.write(), self.id, now_ms()).await?;
        Ok(Progress::Gone)
    }

    async fn settle(&mut self, ticket: u64, row: &Workspace, status: WorkspaceStatus) -> Result<(), StepError> {
        if status != WorkspaceStatus::Running && status != WorkspaceStatus::Paused {
            self.unlink();
        }
        let reason = self.note.clone().filter(|_| status == WorkspaceStatus::Running);
        if row.status != status || row.status_reason != reason || row.error_code.is_some() {
            self.write(row, status, reason.as_deref(), None, |_| {}).await?;
        }
        self.report(ticket, status, None, reason, true);
        Ok(())
    }

    async fn failed(&mut self, ticket: u64, row: Option<&Workspace>, error: StepError) -> Rest {
        let verdict = verdict(&error);
        tracing::warn!(
            workspace.id = %self.id, error = &error as &dyn std::error::Error,
            parked = verdict.is_some(), "a step failed"
        );
        match (verdict, row) {
            (Some((code, message)), Some(row)) => {
                self.unlink();
                if let Err(error) = self.write(row, WorkspaceStatus::Error, Some(&message), Some(code), |_| {}).await {
                    tracing::error!(workspace.id = %self.id, error = &error as &dyn std::error::Error, "cannot record a failure");
                    return Rest::Retry;
                }
                self.report(ticket, WorkspaceStatus::Error, Some(code), Some(message), true);
                Rest::Parked
            }
            (None, Some(row)) => self.trouble(ticket, row, &error).await,
            (_, None) => Rest::Retry,
        }
    }

    /// Something that passes keeps the workspace from where it should be: says so and tries again.
    async fn trouble(&mut self, ticket: u64, row: &Workspace, error: &StepError) -> Rest {
        match error {
            StepError::Database(_) => Rest::Retry,
            StepError::Engine(error) => {
                self.tell_trouble(ticket, row, ErrorCode::EngineUnavailable, hosts::explain(error)).await
            }
            _ => self.tell_trouble(ticket, row, ErrorCode::WorkspaceUnreachable, UNREACHED.into()).await,
        }
    }

    async fn host_away(&mut self, ticket: u64, row: &Workspace, reason: String) -> Rest {
        self.tell_trouble(ticket, row, ErrorCode::EngineUnavailable, reason).await
    }

    async fn tell_trouble(&mut self, ticket: u64, row: &Workspace, code: ErrorCode, reason: String) -> Rest {
        let status = match row.status {
            // Its terminals go on by the guest's own stream, whatever the engine does.
            WorkspaceStatus::Running if self.link_lives() => WorkspaceStatus::Running,
            WorkspaceStatus::Running | WorkspaceStatus::Paused => WorkspaceStatus::Unreachable,
            other => other,
        };
        if (row.status != status || row.status_reason.as_deref() != Some(&reason))
            && let Err(error) = self.write(row, status, Some(&reason), None, |_| {}).await
        {
            tracing::warn!(workspace.id = %self.id, error = &error as &dyn std::error::Error, "cannot record trouble");
        }
        self.report(ticket, status, Some(code), Some(reason), false);
        Rest::Retry
    }

    fn gone(&mut self, ticket: u64) -> Rest {
        self.unlink();
        self.report(ticket, WorkspaceStatus::Deleted, None, None, true);
        Rest::Gone
    }

    /// Writes and reports a status on the way to another.
    async fn observe(
        &self,
        ticket: u64,
        row: &Workspace,
        status: WorkspaceStatus,
        reason: Option<&str>,
        change: impl FnOnce(&mut Observation<'_>),
    ) -> Result<(), sea_orm::DbErr> {
        self.write(row, status, reason, None, change).await?;
        self.report(ticket, status, None, reason.map(str::to_owned), false);
        Ok(())
    }

    async fn write(
        &self,
        row: &Workspace,
        status: WorkspaceStatus,
        reason: Option<&str>,
        error: Option<ErrorCode>,
        change: impl FnOnce(&mut Observation<'_>),
    ) -> Result<(), sea_orm::DbErr> {
        let mut observation = Observation {
            status,
            reason,
            error,
            generation: row.generation,
            booted_seq: row.intent.booted_seq,
            started_ms: row.started_ms,
        };
        change(&mut observation);
        store::observe(self.deps.db.write(), self.id, &observation, now_ms()).await
    }

    fn report(
        &self,
        ticket: u64,
        status: WorkspaceStatus,
        error: Option<ErrorCode>,
        reason: Option<String>,
        done: bool,
    ) {
        self.slot.report(Report { ticket, status, error, reason, done });
    }

    fn link_lives(&self) -> bool {
        self.link.as_ref().is_some_and(|link| !link.client.is_closed())
    }

    fn unlink(&mut self) {
        if self.link.take().is_some() {
            self.slot.publish_link(None);
        }
    }

    /// Listens for the workspace's guest; the directory's path when that works.
    fn open_desk(&mut self, row: &Workspace) -> Result<Option<String>, StepError> {
        let dir = self.deps.host.dial_dir(self.id);
        if self.desk.is_none() {
            let key = GuestKey::from_hex(&row.guest_key).ok_or(StepError::Key)?;
            match DialDesk::open(&dir, key) {
                Ok(desk) => self.desk = Some(desk),
                Err(error) => tracing::warn!(workspace.id = %self.id, %error, "cannot listen for the guest"),
            }
        }
        Ok(self.desk.as_ref().and(dir.to_str().map(str::to_owned)))
    }

    fn labels(&self) -> Labels {
        let mut labels = self.deps.host.labels();
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

/// The container's name: unique to workspace and generation, so that two makers collide.
pub fn container_name(row: &Workspace) -> String {
    format!("rexec-{}-g{}", row.id.0.simple(), row.generation)
}

/// gVisor and virtual machines refuse or cannot carry a dial through a mounted socket.
fn dials(facts: &HostFacts, row: &Workspace) -> bool {
    let runtime = if row.runtime.is_empty() { &facts.engine.default_runtime } else { &row.runtime };
    facts.dials && matches!(runtime.as_str(), "runc" | "crun" | "youki" | "io.containerd.runc.v2")
}

async fn closed(client: Option<rexec_channel::GuestClient>) {
    match client {
        Some(client) => client.closed().await,
        None => std::future::pending().await,
    }
}

/// The code and sentence of a failure that trying again will not mend; `None` for one that passes.
fn verdict(error: &StepError) -> Option<(ErrorCode, String)> {
    let engine = match error {
        StepError::Engine(error) | StepError::Link(LinkError::Engine(error)) => error,
        StepError::Database(_) | StepError::Link(_) => return None,
        StepError::Key => {
            return Some((ErrorCode::Internal, "Its record is damaged. Delete it and make a new one.".into()));
        }
        StepError::KeepsEnding(what) => {
            return Some((
                ErrorCode::EngineError,
                format!("{what} That happened too often; start it when the cause is mended."),
            ));
        }
    };
    match engine {
        EngineError::Unavailable(_)
        | EngineError::Conflict(_)
        | EngineError::NotFound(_)
        | EngineError::Protocol(_) => None,
        EngineError::ImageNotFound(image) => Some((
            ErrorCode::ImageNotFound,
            format!("There is no image {image}. Check its name, or ask for access if it is private."),
        )),
        EngineError::PullFailed(why) => Some((
            ErrorCode::ImagePullFailed,
            format!("The image could not be fetched: {why}. Try again when the registry answers."),
        )),
        EngineError::RuntimeUnavailable(runtime) => Some((
            ErrorCode::RuntimeUnavailable,
            format!("The host has no runtime {runtime}. Ask for another, or have it installed."),
        )),
        EngineError::DiskFull(_) => Some((
            ErrorCode::DiskFull,
            "The host's disk is full. Free some space on it, then start the workspace.".into(),
        )),
        EngineError::Refused(why) => Some((ErrorCode::EngineError, format!("The container engine refused: {why}."))),
    }
}
