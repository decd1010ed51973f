//! Disks: what workspaces have on their host, and what follows when that is too much.
//!
//! Where the engine can hold a size, it does (`quota`). Elsewhere what each has is measured by the engine's
//! own walk of its disk, at a pace that follows how fast the disk fills (`pace.rs`), and `judge.rs` says
//! what is to be done: tell, then stop. Files are counted besides (`files.rs`), where there is a quota as well, which
//! bounds none: each takes up [`FILE_BYTES_MIN`] at the least, so that a limit of bytes is one of files, too.
//!
//! Invariant: this only measures, tells and wants; the workspace's driver stops it. What was measured is
//! in memory: a server that has just started measures first. The sizes of homes are told with them (`volumes`).

mod files;
mod judge;
mod pace;
mod store;

use crate::config::DiskConfig;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::hosts::Host;
use crate::time::now_ms;
use crate::workspaces::lifecycle::Desired;
use crate::workspaces::store::{Want, WantBy, Workspace};
use crate::workspaces::{self, Deps, Workspaces, container_name};
use judge::{State, Verdict};
use pace::{Free, Need, Walk};
use rexec_api::error::ErrorCode;
use rexec_api::guest::FILE_BYTES_MIN;
use rexec_api::ids::{HostId, WorkspaceId};
use rexec_engine::{DiskLimits, DiskUsage, EngineError};
use sea_orm::DbErr;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use store::Tenant;
use tokio::time::MissedTickBehavior;

pub const NEARLY_FULL: &str = "The host's disk is nearly full. Delete workspaces, volumes or snapshots that are not \
    needed, or ask its administrator to free some space.";
/// How often it is asked for while something large is written.
const FILLING_LOOK_EVERY: Duration = Duration::from_millis(500);

/// How much of its disk each workspace was last seen to have. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<Mutex<HashMap<WorkspaceId, (HostId, u64)>>>);

impl Gauge {
    /// `None`: not measured yet.
    pub fn of(&self, id: WorkspaceId) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).map(|(_, bytes)| *bytes)
    }

    /// Those of one host.
    fn replace(&self, host: HostId, measured: &HashMap<WorkspaceId, u64>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (of, _)| *of != host);
        known.extend(measured.iter().map(|(id, bytes)| (*id, (host, *bytes))));
    }
}

/// Refuses to make anything more on a disk that is nearly full: what is there needs the rest.
pub async fn require_space(deps: &Deps, host: &Host) -> Result<()> {
    match spare_bytes(deps, host).await {
        Some(0) => Err(nearly_full()),
        _ => Ok(()),
    }
}

/// Resolves when a host's disk has become nearly full: what fills it is to be given up.
pub async fn until_nearly_full(deps: &Deps, host: &Host) {
    let mut period = tokio::time::interval(FILLING_LOOK_EVERY);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        if spare_bytes(deps, host).await == Some(0) {
            return;
        }
    }
}

/// What a host's disk has besides what is kept free. `None` where that cannot be seen: an engine that does not
/// answer says so better itself.
pub async fn spare_bytes(deps: &Deps, host: &Host) -> Option<u64> {
    let space = host.engine.disk_space().await.ok()??;
    Some(space.free_bytes.saturating_sub(deps.host_free_bytes_min))
}

pub fn nearly_full() -> Error {
    Error::new(ErrorCode::HostFull, NEARLY_FULL).details(json!({ "resource": "disk" }))
}

/// Measures and judges those of one host.
pub struct Disks {
    deps: Arc<Deps>,
    host: Arc<Host>,
    workspaces: Workspaces,
    config: DiskConfig,
    last: Option<(Instant, Walk)>,
    last_count: Option<(Instant, Walk)>,
    /// Files that were free at the last look, and how many have come and gone from one look to the next.
    seen_files: Option<u64>,
    turned_files: u64,
    /// Files of those who run under a limit.
    counts: HashMap<WorkspaceId, u64>,
    /// Those whose disk the last walk has seen as they run: before it runs, a home has nothing in it.
    walked: HashSet<WorkspaceId>,
    /// Of each that runs under a limit: for which boot, and how it stands.
    states: HashMap<WorkspaceId, (i64, State)>,
}

impl Disks {
    pub fn new(workspaces: Workspaces, host: Arc<Host>, config: DiskConfig) -> Self {
        Self {
            deps: workspaces.deps(),
            host,
            workspaces,
            config,
            last: None,
            last_count: None,
            seen_files: None,
            turned_files: 0,
            counts: HashMap::new(),
            walked: HashSet::new(),
            states: HashMap::new(),
        }
    }

    /// Until dropped.
    pub async fn keep_measuring(mut self) {
        let mut period = tokio::time::interval(self.config.look_every);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            if let Ok(facts) = self.host.ready()
                && let Err(error) = self.look(facts.disk).await
            {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot look after disks");
            }
        }
    }

    async fn look(&mut self, held: DiskLimits) -> std::result::Result<(), DbErr> {
        let engine = self.host.engine.clone();
        // Of what the engine itself holds only the files need a judge: root and home may have that much each.
        let held = held.volumes && held.root;
        let space = engine.disk_space().await.ok().flatten();
        let free = Free {
            bytes: space.map(|space| if held { 0 } else { space.free_bytes }),
            files: space.and_then(|space| space.free_files),
        };
        let tenants = store::tenants(self.deps.db.read(), self.host.id).await?;
        let limited = |tenant: &Tenant| tenant.runs && tenant.limit_bytes > 0;
        let need = if !tenants.iter().any(limited) {
            let any_new = tenants.iter().any(|tenant| tenant.runs && !self.walked.contains(&tenant.id));
            if any_new { Need::First } else { Need::Statistics }
        } else if self.states.values().any(|(_, state)| *state != State::Fine) {
            Need::Pressing
        } else {
            Need::Limits
        };
        let since = self.last.map_or(Duration::ZERO, |(at, _)| at.elapsed());
        let last = self.last.map(|(_, walk)| walk);
        let is_due = pace::is_due(last, since, free, need, self.config.rest_times);
        let turned = self.turned(free.files);
        // A walk may have come when files could not be counted again yet: what it saw is no reason to leave them.
        let is_rested = pace::is_rested(last, since, self.config.rest_times);
        let is_counted = is_rested && tenants.iter().any(limited) && self.is_count_due(turned, need == Need::Pressing);
        if tenants.is_empty() || !(is_due || is_counted) {
            return Ok(());
        }
        if is_counted {
            self.count_files(&tenants, turned).await;
        }
        let began = Instant::now();
        match engine.disk_usage().await {
            Ok(usage) => {
                let took = began.elapsed();
                tracing::debug!(workspaces = tenants.len(), duration_ms = took.as_millis() as u64, "measured disks");
                self.last = Some((Instant::now(), Walk { took, free }));
                self.walked = tenants.iter().filter(|tenant| tenant.runs).map(|tenant| tenant.id).collect();
                let used = self.measured(&tenants, &usage);
                self.record_homes(&tenants, &usage).await?;
                if held {
                    let files = |id: &WorkspaceId| Some((*id, self.files_bytes(*id)?));
                    let used = used.keys().filter_map(files).collect();
                    return self.judge_all(&tenants, &used).await;
                }
                self.judge_all(&tenants, &used).await
            }
            // Somebody else has it walk at this moment: the next look asks again.
            Err(EngineError::Conflict(_)) => {
                self.last = None;
                Ok(())
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot measure disks");
                self.last = Some((Instant::now(), Walk { took: began.elapsed(), free }));
                Ok(())
            }
        }
    }

    /// How many files have come and gone so far, as far as that is seen: one that makes them beside another who removes as
    /// many leaves as many free.
    fn turned(&mut self, free_files: Option<u64>) -> Free {
        if let (Some(before), Some(now)) = (self.seen_files, free_files) {
            self.turned_files += before.abs_diff(now);
        }
        self.seen_files = free_files;
        Free { bytes: None, files: free_files.map(|_| self.turned_files) }
    }

    fn is_count_due(&self, turned: Free, is_pressing: bool) -> bool {
        let since = self.last_count.map_or(Duration::ZERO, |(at, _)| at.elapsed());
        let last = self.last_count.map(|(_, walk)| walk);
        pace::is_count_due(last, since, turned, is_pressing, self.config.rest_times)
    }

    /// Of those who run under a limit.
    async fn count_files(&mut self, tenants: &[Tenant], turned: Free) {
        let limited: Vec<&Tenant> = tenants.iter().filter(|tenant| tenant.runs && tenant.limit_bytes > 0).collect();
        let began = Instant::now();
        files::count(&self.host, &limited, &mut self.counts).await;
        self.last_count = Some((Instant::now(), Walk { took: began.elapsed(), free: turned }));
    }

    /// What it has at the least, for all of its files. `None`: not counted.
    fn files_bytes(&self, id: WorkspaceId) -> Option<u64> {
        self.counts.get(&id).map(|files| files.saturating_mul(FILE_BYTES_MIN))
    }

    fn measured(&self, tenants: &[Tenant], usage: &DiskUsage) -> HashMap<WorkspaceId, u64> {
        let used = |tenant: &Tenant| {
            let root = usage.containers.get(&container_name(tenant.id, tenant.generation));
            let home = usage.volumes.get(&tenant.volume);
            let bytes = (root.is_some() || home.is_some()).then(|| root.unwrap_or(&0) + home.unwrap_or(&0));
            bytes.map(|bytes| bytes.max(self.files_bytes(tenant.id).unwrap_or(0)))
        };
        let used: HashMap<_, _> = tenants.iter().filter_map(|tenant| Some((tenant.id, used(tenant)?))).collect();
        self.deps.disk.replace(self.host.id, &used);
        used
    }

    async fn record_homes(&self, tenants: &[Tenant], usage: &DiskUsage) -> std::result::Result<(), DbErr> {
        let size = |tenant: &'_ Tenant| usage.volumes.get(&tenant.volume).copied();
        let homes: Vec<_> = tenants.iter().filter_map(|t| Some((t.volume.as_str(), size(t)?))).collect();
        let tx = self.deps.db.begin().await?;
        store::record_homes(&tx, &homes, now_ms()).await?;
        tx.commit().await
    }

    async fn judge_all(
        &mut self,
        tenants: &[Tenant],
        used: &HashMap<WorkspaceId, u64>,
    ) -> std::result::Result<(), DbErr> {
        let mut states = HashMap::new();
        for tenant in tenants {
            if !tenant.runs || tenant.limit_bytes == 0 {
                self.workspaces.remark(tenant.id, None);
                continue;
            }
            let before = self.states.get(&tenant.id).filter(|(boot, _)| *boot == tenant.started_ms);
            let before = before.map_or_else(State::default, |(_, state)| *state);
            let Some(&bytes) = used.get(&tenant.id) else { continue };
            let (state, verdict) = judge::judge(before, bytes, tenant.limit_bytes, now_ms(), self.config.grace);
            states.insert(tenant.id, (tenant.started_ms, state));
            self.workspaces.remark(tenant.id, remark(state, bytes, tenant.limit_bytes));
            if verdict != Verdict::Nothing {
                self.act(tenant, verdict, state, bytes).await?;
            }
        }
        self.states = states;
        Ok(())
    }

    async fn act(&self, tenant: &Tenant, verdict: Verdict, state: State, bytes: u64) -> std::result::Result<(), DbErr> {
        let Some(row) = workspaces::store::find(self.deps.db.read(), tenant.id).await? else { return Ok(()) };
        // Something else is wanted of it meanwhile, or it has another limit, or has begun anew.
        let is_as_measured = u64::try_from(row.disk_mb << 20).is_ok_and(|limit| limit == tenant.limit_bytes)
            && row.started_ms.unwrap_or(0) == tenant.started_ms;
        if row.intent.desired != Desired::Running || !is_as_measured {
            return Ok(());
        }
        let kind = match (verdict, state) {
            (Verdict::Stop, _) => "workspace.disk_stopped",
            (_, State::Over { .. }) => "workspace.disk_full",
            _ => "workspace.disk_nearly_full",
        };
        let tx = self.deps.db.begin().await?;
        if verdict == Verdict::Stop {
            let want = Want { by: WantBy::Disk, reason: Some(self.stopped(&row)) };
            if !workspaces::store::want_if(&tx, &row, Desired::Stopped, &want, now_ms()).await? {
                return Ok(());
            }
        }
        let data = json!({ "disk_bytes": bytes, "disk_limit_bytes": tenant.limit_bytes });
        let logged = events::append(&tx, &NewEvent::of_user(row.owner, kind).workspace(row.id).data(data)).await?;
        tx.commit().await?;
        self.deps.bus.publish_logged(row.owner, logged);
        if verdict == Verdict::Stop {
            self.workspaces.ask(row.id);
        }
        Ok(())
    }

    fn stopped(&self, row: &Workspace) -> String {
        format!(
            "Stopped because its disk of {} GiB is full. Give it a larger one, or start it and remove files within {}.",
            row.disk_mb >> 10,
            minutes(self.config.grace)
        )
    }
}

/// What its owner is told while it runs.
fn remark(state: State, bytes: u64, limit: u64) -> Option<String> {
    let gigabytes = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let (used, limit) = (gigabytes(bytes), gigabytes(limit));
    match state {
        State::Fine => None,
        State::Warned => Some(format!(
            "Its disk is nearly full: {used:.1} of {limit} GiB are in use. Remove files, or give it a larger one."
        )),
        State::Over { .. } => Some(format!(
            "Its disk is full: {used:.1} of {limit} GiB are in use. It will be stopped soon unless files are removed or it gets a larger one."
        )),
    }
}

fn minutes(duration: Duration) -> String {
    match duration.as_secs().div_ceil(60) {
        0 | 1 => "a minute".into(),
        n => format!("{n} minutes"),
    }
}
