//! How a workspace comes to be: its record, and what is taken back when that fails.

use super::capacity::Capacity;
use super::disk::disk_mb;
use super::lifecycle::{Desired, Intent};
use super::plan::Plan;
use super::store::{self, HomeState, SourceState, Want, WantBy, Workspace};
use super::{Outcome, Report, Workspaces, choice, names, settled, validate};
use crate::actor::Actor;
use crate::config::CustomImages;
use crate::egress::rules;
use crate::error::{Error, Result};
use crate::events::bus::News;
use crate::events::{self, NewEvent};
use crate::hosts::dial::GuestKey;
use crate::hosts::fitness::Unfit;
use crate::hosts::nesting::NoNesting;
use crate::hosts::placement::Amount;
use crate::hosts::turns::WAITING_MAX;
use crate::hosts::{Host, HostFacts, regions, reserve};
use crate::setups;
use crate::snapshots;
use crate::snapshots::plan::SnapshotPlan;
use crate::snapshots::store::Snapshot;
use crate::templates::Template;
use crate::time::now_ms;
use crate::volumes;
use crate::volumes::store::NewHome;
use rexec_api::egress::EgressSettings;
use rexec_api::error::ErrorCode;
use rexec_api::ids::{EventId, SnapshotId, UserId, WorkspaceId};
use rexec_api::snapshots::SnapshotState;
use rexec_api::tokens::Scope;
use rexec_api::workspaces::{NewWorkspace, PIDS_MAX, PatchWorkspace, WAIT_MS_DEFAULT, WorkspaceStatus};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::SemaphorePermit;

/// What a workspace has when its request does not say.
pub const CPU_MILLI_DEFAULT: i64 = 2000;
pub const MEMORY_MB_DEFAULT: u32 = 2048;
/// Workspaces that are recorded at once. Each holds a connection to the database, and those on one host wait for each
/// other there: of many at once the others wait here, in their turn, and leave connections to everyone else.
pub(super) const RECORDED_AT_ONCE_MAX: usize = 6;

impl Workspaces {
    pub async fn create(&self, actor: &Actor, mut new: NewWorkspace) -> Result<Outcome> {
        actor.authorise(Scope::WorkspacesWrite)?;
        validate::new_workspace(&new)?;
        if let Some(settings) = new.egress.take() {
            let settings = rules::checked(settings, &EgressSettings::default(), &self.config.egress, now_ms())?;
            self.deps.vault.require(actor, actor.user, &settings.secrets).await?;
            self.deps.vault.github().require(actor, settings.github.as_ref(), None).await?;
            new.egress = Some(settings);
        }
        self.require_image(actor, &new)?;
        let template = new.template.as_deref().map(|id| self.deps.templates.find(id)).transpose()?;
        let snapshot = match new.snapshot {
            Some(id) => Some(self.snapshot_of(actor, id).await?),
            None => None,
        };
        let wanted = self.wanted(actor, &new, snapshot.as_ref())?;
        let wait = Duration::from_millis(new.wait_ms.unwrap_or(WAIT_MS_DEFAULT));
        let (mut hosts, mut chosen) = self.choose(actor, &wanted).await?;
        // One that everybody may choose: a host without it lacks something, and another has it.
        let usual = self.usual_image(&new, template);
        if let Some(image) = usual {
            hosts.sort_by_key(|host| host.images.has_failed(image));
        }
        let mut refused = None;
        for host in hosts {
            let recorded = self.make_on(actor, &host, &new, template, snapshot.clone()).await;
            // It is in the host's numbers from here on, or not there at all.
            drop(chosen.take());
            let made = match recorded {
                Ok((row, made)) => self.bring_up(actor, &row, made, wait).await,
                Err(error) => Err(error),
            };
            match made {
                Ok(made) => return Ok(made),
                Err(error) if choice::is_of_one_host(&error) => drop(refused.get_or_insert(error)),
                Err(error) if usual.is_some() && choice::lacks_image(&error) => drop(refused.get_or_insert(error)),
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(choice::all_full))
    }

    /// Records it on this host, which nothing is asked of yet.
    async fn make_on(
        &self,
        actor: &Actor,
        host: &Host,
        new: &NewWorkspace,
        template: Option<&Template>,
        snapshot: Option<Snapshot>,
    ) -> Result<(Workspace, EventId)> {
        let capacity = Capacity::of(&self.require_runtime(host, new.runtime.as_deref()).await?.engine);
        capacity.require(new.cpu, new.memory_mb)?;
        self.require_space(host).await?;
        require_turn(host)?;
        let row = match snapshot {
            Some(snapshot) => self.record_clone(actor, new, host, snapshot)?,
            None => self.record_new(actor, new, host, template),
        };
        let row = capacity.fit(row);
        self.require_nesting(&row).await?;
        let _turn = self.turn_to_record().await;
        let tx = self.deps.db.begin().await?;
        if let Some(snapshot) = new.snapshot
            && !snapshots::store::hold(&tx, snapshot).await?
        {
            return Err(Error::not_found("snapshot"));
        }
        self.require_room(&tx).await?;
        regions::require_place(&tx, &host.region).await?;
        // One that runs already costs no engine call.
        let (row, is_warm) = match self.claim(&tx, host, &row).await? {
            Some(warm) => (warm, true),
            None => {
                self.insert_on(&tx, host, &row).await?;
                (row, false)
            }
        };
        let steps = setups::steps_of(row.id, row.git_url.is_some(), &Plan::of_row(&row).setup);
        for step in &steps {
            setups::store::insert(&tx, step).await?;
        }
        if !is_warm {
            volumes::store::insert(&tx, &home_of(&row)).await?;
        }
        let created = NewEvent::of_user(actor.user, "workspace.created").workspace(row.id);
        let logged = events::append(&tx, &created.data(json!({ "name": row.name, "image": row.image }))).await?;
        tx.commit().await?;
        let made = logged.id;
        self.deps.bus.publish_logged(actor.user, logged);
        self.deps.crash.point("create.recorded");
        if !steps.is_empty() {
            self.deps.setup_wanted.notify_one();
        }
        Ok((row, made))
    }

    /// To be held for as long as the transaction that records one.
    pub(super) async fn turn_to_record(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes it.
        self.recording.acquire().await.ok()
    }

    /// The record, and with it what it needs of the host: both or neither.
    pub(super) async fn insert_on(
        &self,
        tx: &sea_orm::DatabaseTransaction,
        host: &Host,
        row: &Workspace,
    ) -> Result<()> {
        let amount = Amount { cpu_milli: row.cpu_milli, memory_mb: row.memory_mb, disk_mb: row.disk_mb };
        while !reserve::take(tx, host.id, amount).await? {
            // What runs for nobody makes room for somebody.
            if row.pool.is_some() || !self.yield_room(tx, host).await? {
                return Err(choice::all_full());
            }
        }
        store::insert(tx, row).await?;
        Ok(reserve::taken_by(tx, row.id, amount).await?)
    }

    pub(super) async fn require_room(&self, tx: &sea_orm::DatabaseTransaction) -> Result<()> {
        match self.config.engine.workspaces_max {
            Some(max) if store::count(tx).await? >= i64::from(max) => Err(Error::new(
                ErrorCode::WorkspaceLimit,
                format!("This server has its {max} workspaces. Delete one first."),
            )),
            _ => Ok(()),
        }
    }

    /// Waits for what was recorded to run; when that is refused, it is taken back, and so is the event `made`.
    pub(super) async fn bring_up(
        &self,
        actor: &Actor,
        row: &Workspace,
        made: EventId,
        wait: Duration,
    ) -> Result<Outcome> {
        let slot = self.slot(row.id);
        let report = settled(&slot, slot.ask(), wait).await;
        if let Some(Report { error: Some(code), reason, status: WorkspaceStatus::Error, .. }) = report {
            // The one who asked is told; nothing half made stays behind.
            self.discard(row, made).await?;
            return Err(Error::new(code, reason.unwrap_or_else(|| "The workspace could not be made.".into())));
        }
        self.outcome(actor, row.id, report).await
    }

    /// Takes back a creation that was refused, and the event that told of it.
    async fn discard(&self, row: &Workspace, made: EventId) -> Result<()> {
        let intent = Intent { desired: Desired::Deleted, boot_seq: 1, booted_seq: 0 };
        // A home that was restored has lain before it: that one is kept again.
        let was_kept = volumes::store::was_kept(self.deps.db.read(), &row.volume).await?;
        let by = if was_kept { WantBy::User } else { WantBy::Purge };
        let tx = self.deps.db.begin().await?;
        store::want(&tx, row.id, intent, &Want { by, reason: None }, now_ms()).await?;
        events::unmake(&tx, made).await?;
        tx.commit().await?;
        // Those who follow have heard of it already.
        self.deps.bus.publish(News::unmade(row.owner, row.id));
        self.slot(row.id).ask();
        Ok(())
    }

    pub(super) fn record(&self, owner: UserId, new: &NewWorkspace, host: &Host) -> Workspace {
        let id = WorkspaceId::new();
        Workspace {
            id,
            owner,
            name: new.name.clone().unwrap_or_else(names::make_up),
            template: None,
            plan_json: "{}".into(),
            git_url: None,
            git_branch: None,
            source_snapshot: None,
            image: new.image.clone().unwrap_or_else(|| self.config.engine.workspace_image.clone()),
            runtime: new.runtime.clone().or_else(|| self.config.engine.runtime.clone()).unwrap_or_default(),
            cpu_milli: new.cpu.map_or(CPU_MILLI_DEFAULT, |cpu| (cpu * 1000.0).round() as i64),
            memory_mb: i64::from(new.memory_mb.unwrap_or(MEMORY_MB_DEFAULT)),
            disk_mb: disk_mb(new.disk_gb.or(self.config.disk.gb_default)),
            pids: i64::from(new.pids.unwrap_or(PIDS_MAX)),
            nested: None,
            env: new.env.clone(),
            intent: Intent { desired: Desired::Running, boot_seq: 1, booted_seq: 0 },
            want: Want::user(),
            idle: new.idle.unwrap_or_default(),
            limits_seq: 0,
            wish: None,
            rest: PatchWorkspace::default(),
            status: WorkspaceStatus::Pending,
            status_reason: None,
            error_code: None,
            host: Some(host.id),
            generation: 0,
            volume: format!("rexec-home-{}", id.0.simple()),
            home_state: HomeState::Ready,
            source_state: SourceState::None,
            image_found: None,
            made_from: None,
            limits_applied_seq: 0,
            guest_key: GuestKey::generate().to_hex(),
            created_ms: now_ms(),
            started_ms: None,
            last_active_ms: None,
            stopped_ms: None,
            delete_warned_ms: None,
            delete_told_ms: None,
            machine: None,
            pool: None,
            moving: None,
            egress: Some(new.egress.clone().unwrap_or_else(|| self.usual_egress())),
            egress_seq: 1,
            egress_applied_seq: 0,
            address: None,
            gateway: None,
        }
    }

    /// From a template or an image, and perhaps for a repository.
    fn record_new(&self, actor: &Actor, new: &NewWorkspace, host: &Host, template: Option<&Template>) -> Workspace {
        let mut row = self.record(actor.user, new, host);
        let mut plan = template.map(Plan::of).unwrap_or_default();
        if let Some(template) = template {
            row.template = Some(template.id.clone());
            row.image = template.image.clone();
            row.nested = template.nested.map(|nested| nested.as_str().to_owned());
            let mut env = template.env.clone();
            env.append(&mut row.env);
            row.env = env;
        }
        if new.git_url.is_some() {
            row.git_url = new.git_url.clone();
            row.git_branch = new.branch.clone();
            row.source_state = SourceState::Wanted;
            plan.repository_image = template.is_none() && new.image.is_none() && self.may_name_images(actor);
        }
        row.plan_json = plan.to_json();
        row
    }

    /// Of those that do not say.
    fn usual_egress(&self) -> EgressSettings {
        EgressSettings { preset: self.config.egress.preset, ..EgressSettings::default() }
    }

    fn may_name_images(&self, actor: &Actor) -> bool {
        match self.config.images.custom {
            CustomImages::Allow => true,
            CustomImages::Admins => actor.is_admin(),
            CustomImages::Deny => false,
        }
    }

    /// The image of a template or of this server.
    fn usual_image<'a>(&'a self, new: &NewWorkspace, template: Option<&'a Template>) -> Option<&'a str> {
        match template {
            Some(template) => Some(&template.image),
            None if new.image.is_none() && new.snapshot.is_none() => Some(&self.config.engine.workspace_image),
            None => None,
        }
    }

    /// The server's own image is everyone's.
    fn require_image(&self, actor: &Actor, new: &NewWorkspace) -> Result<()> {
        match &new.image {
            Some(image) if *image != self.config.engine.workspace_image && !self.may_name_images(actor) => {
                let message = "This server runs the images of its templates only. Choose one of those.";
                Err(Error::new(ErrorCode::ImageNotAllowed, message).details(json!({ "field": "image" })))
            }
            _ => Ok(()),
        }
    }

    async fn snapshot_of(&self, actor: &Actor, id: SnapshotId) -> Result<Snapshot> {
        let snapshot = snapshots::store::find(self.deps.db.read(), id).await?;
        snapshot.filter(|s| actor.owns(s.owner)).ok_or_else(|| Error::not_found("snapshot"))
    }

    /// As the snapshot's workspace was, where the request does not say otherwise.
    fn record_clone(&self, actor: &Actor, new: &NewWorkspace, host: &Host, snapshot: Snapshot) -> Result<Workspace> {
        if snapshot.state != SnapshotState::Ready {
            let message = "The snapshot is not ready. Wait until it is, or take another.";
            return Err(Error::field("snapshot", message));
        }
        let plan: SnapshotPlan = serde_json::from_str(&snapshot.plan_json).map_err(Error::internal)?;
        let fresh = self.record(actor.user, new, host);
        // What prepared it is in its image.
        let workspace = Plan { setup: Vec::new(), ..Plan::parse(&plan.workspace) };
        let mut env = plan.env;
        env.extend(new.env.clone());
        Ok(Workspace {
            image: snapshot.image_ref.unwrap_or(snapshot.base_image),
            source_snapshot: Some(snapshot.id.to_string()),
            home_state: HomeState::Empty,
            template: plan.template,
            plan_json: workspace.to_json(),
            nested: plan.nested,
            disk_mb: Some(plan.disk_mb).filter(|mb| *mb > 0 && new.disk_gb.is_none()).unwrap_or(fresh.disk_mb),
            cpu_milli: plan.cpu_milli.filter(|_| new.cpu.is_none()).unwrap_or(fresh.cpu_milli),
            memory_mb: plan.memory_mb.filter(|_| new.memory_mb.is_none()).unwrap_or(fresh.memory_mb),
            pids: plan.pids.filter(|_| new.pids.is_none()).unwrap_or(fresh.pids),
            egress: plan
                .egress
                .filter(|_| new.egress.is_none())
                .map(|own| self.inherited_egress(own))
                .or(fresh.egress.clone()),
            runtime: new.runtime.clone().unwrap_or_else(|| self.inherited_runtime(host, plan.runtime)),
            env,
            ..fresh
        })
    }

    /// The host; refuses a runtime that may not be asked for, or that it does not have, before anything is made.
    pub(super) async fn require_runtime(&self, host: &Host, runtime: Option<&str>) -> Result<Arc<HostFacts>> {
        let facts = host.ready_or_tried().await.map_err(|reason| Error::new(ErrorCode::EngineUnavailable, reason))?;
        let Some(name) = runtime else { return Ok(facts) };
        let (policy, there) = (host.runtime_policy(&facts), &facts.engine.runtimes);
        let offered = policy.of_host(there);
        let (code, message) = match there.iter().any(|runtime| runtime == name) {
            true if policy.allows(name) => {
                return host.require_fit(name).await.map(|()| facts).map_err(unfit);
            }
            true => (ErrorCode::RuntimeNotAllowed, format!("This server does not run workspaces by `{name}`")),
            false => (ErrorCode::RuntimeUnavailable, format!("The host has no runtime `{name}`")),
        };
        Err(Error::new(code, format!("{message}; you may ask for {}.", offered.join(", ")))
            .details(json!({ "field": "runtime", "runtimes": offered })))
    }

    /// What one had that is made again: an archive may name any runtime, and an operator thinks again.
    pub(super) fn inherited_runtime(&self, host: &Host, before: String) -> String {
        let allows =
            |facts: &HostFacts| facts.engine.runtimes.contains(&before) && host.runtime_policy(facts).allows(&before);
        let usual = || self.config.engine.runtime.clone().unwrap_or_default();
        if host.ready().is_ok_and(|facts| allows(&facts)) { before } else { usual() }
    }

    /// As one had it that is made again, and no wider than may be asked for now.
    pub(super) fn inherited_egress(&self, before: EgressSettings) -> EgressSettings {
        rules::inherited(before, &self.config.egress)
    }

    /// Refuses a workspace with containers inside where the host does not allow those, before anything is made.
    pub(super) async fn require_nesting(&self, row: &Workspace) -> Result<()> {
        let Some(nested) = &row.nested else { return Ok(()) };
        self.deps.fleet.of(row.host).nesting(&row.runtime).await.map_err(|no| match no {
            NoNesting::Refused(reason) => {
                Error::new(ErrorCode::NestedUnavailable, format!("{reason} Or choose another template."))
                    .details(json!({ "field": "template", "nested": nested }))
            }
            NoNesting::Unknown(reason) => Error::new(ErrorCode::EngineUnavailable, reason),
        })
    }
}

/// One more may wait for the engine. Those that exist already may always: there are only so many.
fn require_turn(host: &Host) -> Result<()> {
    if !host.turns.is_full() {
        return Ok(());
    }
    let message = format!("{WAITING_MAX} workspaces wait already for their host to make them. Try again in a minute.");
    Err(Error::new(ErrorCode::QueueFull, message).details(json!({ "max": WAITING_MAX })))
}

/// The home that it is made with.
pub(super) fn home_of(row: &Workspace) -> NewHome<'_> {
    NewHome {
        owner: row.owner,
        workspace: row.id,
        host: row.host,
        name: &row.volume,
        workspace_name: &row.name,
        now_ms: row.created_ms,
    }
}

fn unfit(unfit: Unfit) -> Error {
    match unfit {
        Unfit::Refused(reason) => Error::new(ErrorCode::RuntimeUnfit, format!("{reason} Ask for another."))
            .details(json!({ "field": "runtime" })),
        Unfit::Unknown(reason) => Error::new(ErrorCode::EngineUnavailable, reason),
    }
}
