//! The steps that bring a workspace up: container, start, and the link to its guest.

use super::half_started::Mended;
use super::{Driver, Progress, StepError};
use crate::hosts::dial::GuestKey;
use crate::hosts::fitness::Unfit;
use crate::hosts::nesting::NoNesting;
use crate::hosts::{HostFacts, shares_kernel};
use crate::time::now_ms;
use crate::workspaces::container::{self, container_name};
use crate::workspaces::lifecycle::Seen;
use crate::workspaces::link::{DialDesk, Link, LinkError, Opening};
use crate::workspaces::store::Workspace;
use rexec_api::error::ErrorCode;
use rexec_api::workspaces::WorkspaceStatus;
use rexec_engine::{ContainerSpec, EngineError};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a guest may take to dial in before we reach for it through the engine.
const DIAL_PATIENCE: Duration = Duration::from_secs(3);

/// A guest that hangs up sooner than this after it was met is met again only with pauses between.
const LINK_STEADY: Duration = Duration::from_secs(1);

impl Driver {
    pub(super) async fn create(
        &mut self,
        ticket: u64,
        row: &Workspace,
        facts: &HostFacts,
    ) -> Result<Progress, StepError> {
        self.require_runtime(row, facts).await?;
        self.require_nesting(row).await?;
        self.require_home(row).await?;
        let made = Workspace { generation: row.generation + 1, ..row.clone() };
        // Written first: if we die after the engine has made it, the next pass looks for this name.
        self.observe(ticket, row, WorkspaceStatus::Creating, None, |o| o.generation = made.generation).await?;
        self.deps.crash.point("create.generation");
        let dial_dir = dials(facts, row).then(|| self.open_desk(row));
        let dial_dir = dial_dir.transpose()?.flatten();
        let disk = facts.disk;
        if let Some(bytes) = container::disk_bytes(row).filter(|_| disk.volumes) {
            // The container's own mount would make it without a size.
            let labels = container::home_labels(row, &self.host);
            self.host.engine.volume_create(&row.volume, &labels, Some(bytes)).await?;
        }
        let mut spec = container::spec(&made, &self.host, disk, dial_dir);
        if let Some(door) = self.door(row, facts).await? {
            spec.network = door.gateway.network.clone();
            spec.address = Some(door.address);
        }
        match self.make(&mut spec).await {
            Ok(_) => {
                self.made = Some((made.generation, spec.network, spec.address));
                self.deps.crash.point("create.made");
                Ok(Progress::Again(Some(Seen::Created)))
            }
            Err(EngineError::ImageNotFound(_)) if self.image_present => {
                self.image_present = false;
                Ok(Progress::Again(Some(Seen::Missing)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// An engine makes a volume that is missing, empty: one that has run had something in it. What is there of the
    /// workspace besides is kept as it is, under the number that it has.
    async fn require_home(&self, row: &Workspace) -> Result<(), StepError> {
        if row.started_ms.is_some() && !self.host.engine.has_volume(&row.volume).await? {
            return Err(StepError::HomeGone);
        }
        Ok(())
    }

    /// Makes a container of an image that asks for no volumes, so that all it writes is in its root or its home, where
    /// the engine can make one.
    async fn make(&self, spec: &mut ContainerSpec) -> Result<String, EngineError> {
        let (engine, image) = (&self.host.engine, spec.image.clone());
        spec.image = engine.without_volumes(&image).await?.unwrap_or_else(|| image.clone());
        match engine.create(spec).await {
            // Nobody was using the one that was made for this, so a round of tidying up took it away.
            Err(EngineError::ImageNotFound(_)) if spec.image != image => {
                spec.image = engine.without_volumes(&image).await?.unwrap_or_else(|| image.clone());
                engine.create(spec).await.map_err(|error| match error {
                    EngineError::ImageNotFound(_) => EngineError::ImageNotFound(image),
                    error => error,
                })
            }
            made => made,
        }
    }

    /// Starts the container and meets its guest, which may dial in before the engine has answered.
    pub(super) async fn start(
        &mut self,
        ticket: u64,
        row: &Workspace,
        facts: &HostFacts,
    ) -> Result<Progress, StepError> {
        self.require_runtime(row, facts).await?;
        self.require_nesting(row).await?;
        self.unlink();
        self.linked_at = None;
        if row.status != WorkspaceStatus::Creating {
            let reason = self.note.clone();
            self.observe(ticket, row, WorkspaceStatus::Creating, reason.as_deref(), |_| {}).await?;
        }
        self.lead_out(row, facts).await?;
        if dials(facts, row) {
            self.open_desk(row)?;
        }
        let name = container_name(row);
        let engine = self.host.engine.clone();
        let started = engine.start(&name).await;
        self.cut_off |= matches!(started, Err(EngineError::Unavailable(_)));
        match started {
            Err(EngineError::HalfStarted(why)) => match self.mend_start(row, facts, &why).await? {
                Mended::Started => {}
                Mended::Removed => return Ok(Progress::Again(Some(Seen::Missing))),
            },
            started => started?,
        }
        (self.cut_off, self.remade) = (false, 0);
        self.deps.crash.point("create.started");
        let booted = row.intent.boot_seq;
        let now = now_ms();
        self.observe(ticket, row, WorkspaceStatus::Creating, self.note.clone().as_deref(), |o| {
            o.booted_seq = booted;
            o.started_ms = Some(now);
            o.used_ms = Some(now);
            o.stopped_ms = None;
        })
        .await?;
        self.deps.crash.point("create.booted");
        Ok(Progress::Again(Some(Seen::Running)))
    }

    /// A workspace runs only by a runtime that is allowed now and keeps what is written, whenever it was made.
    async fn require_runtime(&self, row: &Workspace, facts: &HostFacts) -> Result<(), StepError> {
        let runtime = if row.runtime.is_empty() { &facts.engine.default_runtime } else { &row.runtime };
        if !self.host.runtime_policy(facts).allows(runtime) {
            let reason = format!(
                "It is to run by `{runtime}`, by which this server does not run workspaces any more. Make a new one of a snapshot of it, \
                 or have whoever runs the server allow that (REXEC_RUNTIMES)."
            );
            return Err(StepError::Runtime(ErrorCode::RuntimeNotAllowed, reason));
        }
        self.host.require_fit(runtime).await.map_err(|unfit| match unfit {
            Unfit::Refused(reason) => StepError::Runtime(ErrorCode::RuntimeUnfit, reason),
            Unfit::Unknown(reason) => EngineError::Unavailable(reason.into()).into(),
        })
    }

    /// A workspace that may hold containers runs only where that is allowed now, whenever it was made.
    async fn require_nesting(&self, row: &Workspace) -> Result<(), StepError> {
        if row.nested.is_none() {
            return Ok(());
        }
        self.host.nesting(&row.runtime).await.map_err(|no| match no {
            NoNesting::Refused(reason) => StepError::NotNested(reason),
            NoNesting::Unknown(reason) => EngineError::Unavailable(reason.into()).into(),
        })
    }

    pub(super) async fn connect(&mut self, row: &Workspace, facts: &HostFacts) -> Result<Progress, StepError> {
        self.unlink();
        if self.linked_at.is_some_and(|at| at.elapsed() < LINK_STEADY) {
            return Err(LinkError::Unsteady.into());
        }
        let (inside, budget) = (self.deps.vault.inside(row).await?, self.deps.budgets.of(row.owner));
        self.inside = inside.clone();
        let configure = container::configuration(row, inside);
        if dials(facts, row) {
            self.open_desk(row)?;
        }
        let ways = self.ways(row).await?;
        let opening = Opening { configure: &configure, trial: ways.as_ref() };
        let dialled = match self.desk.as_mut() {
            Some(desk) => {
                let stream = tokio::time::timeout(DIAL_PATIENCE, desk.next()).await.ok().flatten();
                stream.map(|stream| (stream, desk.lanes()))
            }
            None => None,
        };
        let met = match dialled {
            Some((stream, lanes)) => Link::over_dial(stream, lanes, &opening, budget).await,
            None => Link::over_exec(&*self.host.engine, &container_name(row), &opening, budget).await,
        };
        let link = match met {
            Err(LinkError::Leaks(reached)) => return Err(self.leaks(row, &reached).await?),
            met => met?,
        };
        if ways.is_some() {
            self.host.guard.names_proven.store(true, Ordering::Relaxed);
        }
        tracing::debug!(workspace.id = %self.id, boot.id = %link.boot_id, "guest linked");
        self.slot.publish_link(Some(link.client.clone()));
        self.deps.crash.point("create.linked");
        self.link = Some(link);
        self.link_is_warm = row.pool.is_some();
        self.linked_at = Some(std::time::Instant::now());
        Ok(Progress::Again(Some(Seen::Running)))
    }

    pub(super) fn link_lives(&self) -> bool {
        self.link.as_ref().is_some_and(|link| !link.client.is_closed())
    }

    /// A frozen guest answers no ping; it keeps its link all the same, so that to wake it is to thaw it.
    pub(super) fn hold_pings(&self, held: bool) {
        if let Some(link) = &self.link {
            link.client.hold_pings(held);
        }
    }

    pub(super) fn unlink(&mut self) {
        if self.link.take().is_some() {
            self.slot.publish_link(None);
        }
    }

    /// Listens for the workspace's guest; the directory's path when that works.
    pub(super) fn open_desk(&mut self, row: &Workspace) -> Result<Option<String>, StepError> {
        let dir = self.host.dial_dir(self.id);
        if self.desk.is_none() {
            let key = GuestKey::from_hex(&row.guest_key).ok_or(StepError::Key)?;
            match DialDesk::open(&dir, key) {
                Ok(desk) => self.desk = Some(desk),
                Err(error) => tracing::warn!(workspace.id = %self.id, %error, "cannot listen for the guest"),
            }
        }
        Ok(self.desk.as_ref().and(dir.to_str().map(str::to_owned)))
    }
}

/// gVisor and virtual machines refuse or cannot carry a dial through a mounted socket.
pub(super) fn dials(facts: &HostFacts, row: &Workspace) -> bool {
    let runtime = if row.runtime.is_empty() { &facts.engine.default_runtime } else { &row.runtime };
    facts.dials && shares_kernel(runtime)
}
