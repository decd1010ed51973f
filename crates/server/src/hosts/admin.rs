//! Servers of the fleet, as administrators look after them.
//!
//! A server is proven before it is recorded: reached, told from the others, made ready, measured. What fails says so in one
//! stable word and a sentence, and leaves nothing behind. What is changed is recorded first and then in force at once.
//!
//! Invariants: only administrators see or change any of this. A server is deleted only when nothing lies on it, and the
//! local one never.

use super::access::{Access, Fault};
use super::by::By;
use super::placement::Amount;
use super::regions;
use super::store::{self, HostRow};
use super::{Fleet, Host, HostFacts, HostState, LOCAL};
use super::{certs_volume, changing};
use crate::actor::Actor;
use crate::config::Config;
use crate::db::{self, Db};
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::replicas::Replicas;
use crate::sealed::Sealer;
use crate::time::{now_ms, rfc3339};
use rexec_api::Page;
use rexec_api::error::ErrorCode;
use rexec_api::ids::HostId;
use rexec_api::servers::{ComputeHealth, NewServer, PatchServer, ServerFound, ServerHealth, ServerState, ServerView};
use rexec_api::tokens::Scope;
use rexec_engine::docker::DockerEngine;
use rexec_engine::{Engine as _, EngineInfo, Labels};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

/// How long it may take to reach an engine and make it ready; the guest's volume is filled then.
const PROOF_MAX: Duration = Duration::from_secs(60);
/// How long an engine may take to say how much of its disk is free.
const DISK_PATIENCE: Duration = Duration::from_secs(2);
/// How often each core is given out where nobody says: most workspaces wait for their user most of the time.
pub(super) const CORES_SHARED: i64 = 4;
const REGION_DEFAULT: &str = "default";
/// Servers of one installation.
const SERVERS_MAX: usize = 1000;

#[derive(Clone)]
pub struct Servers {
    db: Db,
    pub(super) fleet: Fleet,
    sealer: Sealer,
    pub(super) config: Arc<Config>,
    pub(super) replicas: Replicas,
    /// Held while a server is recorded and taken into the fleet, or all are read and are: what is older than what the fleet
    /// has does not take its place.
    pub(super) known: Arc<tokio::sync::Mutex<Known>>,
    /// The volume that our certificate for the local engine comes from, once it was found.
    certs_volume: Arc<OnceLock<String>>,
}

/// How each was reached when it was taken into the fleet.
pub(super) type Known = HashMap<HostId, Option<String>>;

/// One that was reached and is fit.
pub(super) struct Proven {
    pub(super) host: Arc<Host>,
    facts: HostFacts,
    access: Access,
    disk_gb: Option<u64>,
}

impl Servers {
    pub fn new(db: Db, fleet: Fleet, sealer: Sealer, config: Arc<Config>, replicas: Replicas) -> Self {
        Self { db, fleet, sealer, config, replicas, known: Arc::default(), certs_volume: Arc::default() }
    }

    /// Finds out from which volume our certificate for the local engine comes.
    pub async fn look_for_certs_volume(self) {
        let access = &self.config.engine.access;
        let (Some(directory), engine) = (&access.certificates, &self.fleet.local().engine) else { return };
        if let Some(name) = certs_volume::find(access.certs_volume.as_deref(), directory, engine.as_ref()).await {
            tracing::info!(volume = name, "the certificates for the engine come from a volume");
            // Nobody else looks.
            let _ = self.certs_volume.set(name);
        }
    }

    /// Takes the recorded servers into the fleet, besides the local one; those that cannot be spoken to say why.
    pub async fn load(&self) -> Result<()> {
        let mut known = self.known.lock().await;
        for row in store::all(self.db.read()).await? {
            if row.id == self.fleet.local().id {
                self.fleet.rename(&row);
                continue;
            }
            self.take_in(&row, &mut known)?;
        }
        Ok(())
    }

    pub async fn list(&self, actor: &Actor) -> Result<Page<ServerView>> {
        require_admin(actor)?;
        Ok(Page { items: self.views().await?, next: None })
    }

    pub async fn get(&self, actor: &Actor, id: HostId) -> Result<ServerView> {
        require_admin(actor)?;
        Ok(self.view(&self.find(id).await?).await)
    }

    pub async fn add(&self, actor: &Actor, new: NewServer) -> Result<ServerView> {
        require_admin(actor)?;
        let access =
            Access::asked(&new)?.ok_or_else(|| Error::field("hostname", "Name the `hostname`, or a `socket`."))?;
        self.admit(By::User(actor.user), HostId::new(), new, access).await
    }

    /// Takes one in that is reached this way.
    pub(super) async fn admit(&self, by: By, id: HostId, new: NewServer, access: Access) -> Result<ServerView> {
        changing::valid(&new)?;
        let rows = store::all(self.db.read()).await?;
        require_new_name(&rows, &new.name, None)?;
        if rows.len() >= SERVERS_MAX {
            return Err(Error::new(ErrorCode::QuotaExceeded, "There are as many servers as there may be.")
                .details(json!({ "quota": "servers", "used": rows.len(), "max": SERVERS_MAX })));
        }
        let region = new.region.clone().unwrap_or_else(|| REGION_DEFAULT.into());
        let mut row = HostRow {
            id,
            name: new.name.clone(),
            address: access.address(),
            region,
            state: ServerState::Active,
            total: Amount::default(),
            used: Amount::default(),
            workspaces: 0,
            workspaces_max: new.max_workspaces.map(i64::from),
            labels: new.labels.clone(),
            runtimes: new.runtimes.clone(),
            access_sealed: None,
            created_ms: now_ms(),
            machine_id: None,
            replica: None,
        };
        let mut proven = self.prove(&row, access, new.architecture.as_deref()).await?;
        row.replica = self.replicas.id().filter(|_| proven.is_here());
        proven.host = proven.host.bound_to(&self.replicas, row.replica, false);
        row.total = totals(&new, &proven);
        row.access_sealed = Some(proven.access.seal(&self.sealer, row.id)?);
        let mut known = self.known.lock().await;
        let tx = self.db.begin().await?;
        store::insert(&tx, &row).await.map_err(|error| taken(error, &row.name))?;
        let data = json!({ "server": row.id, "name": row.name, "address": row.address, "region": row.region });
        events::append(&tx, &by.event("server.added", data)).await?;
        tx.commit().await?;
        proven.host.declare(proven.facts);
        known.insert(row.id, row.access_sealed.clone());
        self.fleet.put(proven.host);
        self.replicas.tell_fleet();
        Ok(self.view(&row).await)
    }

    pub async fn change(&self, actor: &Actor, id: HostId, change: PatchServer) -> Result<ServerView> {
        require_admin(actor)?;
        let seen = self.find(id).await?;
        let asked = changing::asked(&seen, &change);
        changing::valid(&asked)?;
        let access = Access::asked(&asked)?;
        if access.is_some() && id == self.fleet.local().id {
            return Err(Error::field("hostname", "The local server is where DOCKER_HOST says. Change that instead."));
        }
        if seen.name != asked.name {
            if id == self.fleet.local().id {
                return Err(Error::field("name", format!("The local server is called `{LOCAL}` always.")));
            }
            require_new_name(&store::all(self.db.read()).await?, &asked.name, Some(id))?;
        }
        let wanted = changing::after(&seen, &change);
        if access.is_some() {
            self.require_change_here(&seen)?;
        }
        let proven = match access {
            Some(access) => Some(self.prove(&HostRow { address: access.address(), ..wanted }, access, None).await?),
            None => {
                let info = self.fleet.of(Some(id)).ready().ok().map(|facts| facts.engine.clone());
                require_runtimes(&wanted, info.as_ref())?;
                None
            }
        };
        let mut known = self.known.lock().await;
        let tx = self.db.begin().await?;
        // Others may have changed it while its engine was reached.
        let before = store::find(&tx, id).await?.ok_or_else(no_such)?;
        if proven.is_some() && before.replica != seen.replica {
            return Err(Error::new(
                ErrorCode::ServerInUse,
                "Another Rexec server has just taken it over. Look at it again.",
            ));
        }
        let mut row = changing::after(&before, &change);
        if let Some(proven) = &proven {
            row.address = proven.access.address();
            row.access_sealed = Some(proven.access.seal(&self.sealer, id)?);
            row.replica = self.replicas.id().filter(|_| proven.is_here());
        }
        if !store::update(&tx, &row).await.map_err(|error| taken(error, &row.name))? {
            return Err(no_such());
        }
        let data = json!({ "server": id, "name": row.name, "changed": changing::changed(&before, &row) });
        events::append(&tx, &NewEvent::of_user(actor.user, "server.changed").data(data)).await?;
        tx.commit().await?;
        if let Some(proven) = proven {
            proven.host.declare(proven.facts);
            known.insert(row.id, row.access_sealed.clone());
            self.fleet.put(proven.host.bound_to(&self.replicas, row.replica, false));
        }
        self.replicas.tell_fleet();
        let host = self.fleet.of(Some(id));
        if (&host.name, &host.region) != (&row.name, &row.region) {
            self.fleet.rename(&row);
        }
        self.get(actor, id).await
    }

    /// Has workspaces made there, or no more of them.
    pub async fn set_state(&self, actor: &Actor, id: HostId, state: ServerState) -> Result<ServerView> {
        require_admin(actor)?;
        self.turn(By::User(actor.user), id, state).await
    }

    pub(super) async fn turn(&self, by: By, id: HostId, state: ServerState) -> Result<ServerView> {
        let before = self.find(id).await?;
        let row = HostRow { state, ..before.clone() };
        if before.state != state {
            let kind = match state {
                ServerState::Active => "server.activated",
                ServerState::Draining => "server.drained",
            };
            let tx = self.db.begin().await?;
            if !store::set_state(&tx, id, state).await? {
                return Err(no_such());
            }
            let data = json!({ "server": id, "name": row.name });
            events::append(&tx, &by.event(kind, data)).await?;
            tx.commit().await?;
            self.replicas.tell_fleet();
            self.fleet.of(Some(id)).pool.bell.notify_one();
        }
        Ok(self.view(&row).await)
    }

    /// Reaches it anew and looks at what it is, whatever its health says.
    pub async fn test(&self, actor: &Actor, id: HostId) -> Result<ServerView> {
        require_admin(actor)?;
        let row = self.find(id).await?;
        let host = self.fleet.of(Some(id));
        let engine = host.engine.clone();
        if row.access_sealed.is_some() {
            self.engine_of(&row)?;
        }
        let info = tokio::time::timeout(PROOF_MAX, engine.info()).await.map_err(|_| slow())?;
        let info = info.map_err(|error| Fault::of(&error))?;
        require_runtimes(&row, Some(&info))?;
        // What lies beyond its first answer, its own keeper sees to; but that it is closed is worth a look at once.
        if let Err(reason) = host.ready_or_tried().await {
            return Err(Fault::new("not_ready", reason).into());
        }
        // Whoever tends it sees to that.
        let open = if host.is_bound_elsewhere() { Vec::new() } else { host.close_network(&info).await.all() };
        if !open.is_empty() && !host.allow_weaker {
            return Err(Fault::new("not_closed", open.join(" ")).into());
        }
        Ok(self.view(&row).await)
    }

    pub async fn remove(&self, actor: &Actor, id: HostId) -> Result<()> {
        require_admin(actor)?;
        self.take_out(By::User(actor.user), id).await
    }

    /// Refused while anything lies there.
    pub(super) async fn take_out(&self, by: By, id: HostId) -> Result<()> {
        let row = self.find(id).await?;
        self.require_other_than_local(id)?;
        if row.access_sealed.is_none() {
            self.require_nobodys(&row)?;
        }
        let mut known = self.known.lock().await;
        let tx = self.db.begin().await?;
        if let Some(load) = store::remove(&tx, id).await? {
            let (warm, homes, snapshots) = (load.warm, load.homes, load.snapshots);
            let workspaces = load.workspaces - warm;
            let message = match workspaces + homes + snapshots {
                0 => format!(
                    "{}, which nobody has, run on it. Drain it: they go by themselves, and then it can be deleted.",
                    counted(warm, "warm workspace")
                ),
                _ => {
                    let lie = [(workspaces, "workspace"), (homes, "kept home"), (snapshots, "snapshot")];
                    let lie = lie.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| counted(n, what));
                    let lie = lie.collect::<Vec<_>>().join(", ");
                    format!("On it lie still: {lie}. Drain it, and move or delete those first.")
                }
            };
            let details = json!({ "workspaces": workspaces, "warm": warm, "homes": homes, "snapshots": snapshots });
            return Err(Error::new(ErrorCode::ServerInUse, message).details(details));
        }
        let data = json!({ "server": id, "name": row.name });
        events::append(&tx, &by.event("server.removed", data)).await?;
        tx.commit().await?;
        self.forget(&mut known, id);
        Ok(())
    }

    pub(super) fn forget(&self, known: &mut Known, id: HostId) {
        known.remove(&id);
        self.fleet.take_out(id);
        self.replicas.tell_fleet();
    }

    /// How the fleet is: for everybody in numbers, for administrators one by one.
    pub async fn health(&self, actor: &Actor) -> Result<ComputeHealth> {
        actor.authorise_list(Scope::WorkspacesRead)?;
        let rows = store::all(self.db.read()).await?;
        let is_ready = |row: &&HostRow| self.fleet.of(Some(row.id)).ready().is_ok();
        let ready = rows.iter().filter(is_ready).count();
        let mut regions: BTreeMap<String, u32> = rows.iter().map(|row| (row.region.clone(), 0)).collect();
        for row in rows.iter().filter(|row| self.takes_workspaces(row)) {
            *regions.entry(row.region.clone()).or_default() += 1;
        }
        let status = if ready == rows.len() {
            "ok"
        } else if ready > 0 {
            "degraded"
        } else {
            "down"
        };
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(ComputeHealth {
            status: status.into(),
            servers: count(rows.len()),
            ready: count(ready),
            regions,
            latency_ms: self.latency(&rows),
            full_regions: regions::full(self.db.read()).await?.into_iter().collect(),
            details: if actor.is_admin() { self.views().await? } else { Vec::new() },
        })
    }

    pub(super) fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    pub(super) async fn find(&self, id: HostId) -> Result<HostRow> {
        store::find(self.db.read(), id).await?.ok_or_else(no_such)
    }

    pub(super) fn instance(&self) -> String {
        self.fleet.local().instance.clone()
    }

    pub(super) fn engine_of(&self, row: &HostRow) -> std::result::Result<DockerEngine, Fault> {
        let sealed = row.access_sealed.as_deref().unwrap_or_default();
        let access = Access::open(&self.sealer, row.id, sealed).ok_or_else(|| {
            Fault::new("access", "What it takes to be let in there cannot be read: this server has another signing secret. Name it anew.")
        })?;
        access.engine()
    }

    /// Reaches a server, tells it from the others, and makes it ready; nothing is recorded.
    async fn prove(&self, row: &HostRow, access: Access, architecture: Option<&str>) -> Result<Proven> {
        let engine = access.engine()?;
        let info = tokio::time::timeout(PROOF_MAX, engine.info()).await.map_err(|_| slow())?;
        let info = info.map_err(|error| Fault::of(&error))?;
        if let Some(wanted) = architecture.filter(|wanted| *wanted != info.architecture) {
            let message = format!("Its processor is {}, and {wanted} was asked for.", info.architecture);
            return Err(Fault::new("architecture", message).into());
        }
        require_runtimes(row, Some(&info))?;
        let access = access.pinned(&engine);
        let host = Host::of_row(row, self.instance(), engine, &self.config)
            .bound_to(&self.replicas, row.replica, false)
            .in_place_of(&self.fleet.of(Some(row.id)));
        self.require_unmarked(&host).await?;
        self.require_other(&host).await?;
        self.require_same(&host).await?;
        let made = tokio::time::timeout(PROOF_MAX, host.prove(&self.db)).await.map_err(|_| slow())?;
        let facts = made.map_err(|reason| Fault::new("not_ready", reason))?;
        let disk_gb = disk_gb(&host).await.map(|(total, _)| total);
        Ok(Proven { host, facts, access, disk_gb })
    }

    /// Two servers that are one engine would take each other's things for leftovers. A volume that one makes, the other has
    /// only if it is the same.
    async fn require_other(&self, host: &Host) -> Result<()> {
        let mark = format!("rexec-mark-{}", uuid::Uuid::new_v4().simple());
        let labels = Labels::from([("rexec.mark".into(), "1".into())]);
        host.engine.volume_create(&mark, &labels, None).await.map_err(|error| Fault::of(&error))?;
        let others = self.fleet.all().into_iter().filter(|other| other.id != host.id && other.ready().is_ok());
        let looks = others.map(|other| {
            let (mark, labels) = (&mark, &labels);
            async move {
                let seen = tokio::time::timeout(DISK_PATIENCE, other.engine.volumes(labels)).await.ok()?.ok()?;
                seen.iter().any(|volume| volume.name == *mark).then(|| other.name.clone())
            }
        });
        let same = futures_util::future::join_all(looks).await.into_iter().flatten().next();
        host.engine.remove_volume(&mark).await.map_err(|error| Fault::of(&error))?;
        match same {
            Some(name) => {
                Err(Error::new(ErrorCode::ServerExists, format!("That engine is the server `{name}` already."))
                    .details(json!({ "host": name })))
            }
            None => Ok(()),
        }
    }

    async fn views(&self) -> Result<Vec<ServerView>> {
        let rows = store::all(self.db.read()).await?;
        Ok(futures_util::future::join_all(rows.iter().map(|row| self.view(row))).await)
    }

    async fn view(&self, row: &HostRow) -> ServerView {
        let host = self.fleet.of(Some(row.id));
        let (health, reason, facts) = match &*host.watch().borrow() {
            HostState::Ready(facts) => (ServerHealth::Ready, None, Some(facts.clone())),
            HostState::Connecting { reason } => (ServerHealth::Connecting, Some(reason.clone()), None),
            HostState::Offline { reason } => (ServerHealth::Offline, Some(reason.clone()), None),
        };
        let free_gb = match facts {
            Some(_) => disk_gb(&host).await.map(|(_, free)| free),
            None => None,
        };
        let access = row.access_sealed.as_deref().and_then(|sealed| Access::open(&self.sealer, row.id, sealed));
        let validity = host.address.as_ref().and_then(|address| address.validity()).unwrap_or_default();
        ServerView {
            id: row.id,
            name: row.name.clone(),
            is_local: row.id == self.fleet.local().id,
            address: row.address.clone(),
            state: row.state,
            health,
            reason,
            last_seen_at: host.seen_ms().map(rfc3339),
            latency_ms: host.round_trip.ms(),
            pool: host.pool.seen(),
            weaker: facts.as_ref().map(|facts| weaker(&host, facts)).unwrap_or_default(),
            region: row.region.clone(),
            labels: row.labels.clone(),
            runtimes: row.runtimes.clone(),
            total_cpu: row.total.cpu_milli as f64 / 1000.0,
            total_memory_mb: unsigned(row.total.memory_mb),
            total_disk_gb: unsigned(row.total.disk_mb >> 10),
            max_workspaces: row.workspaces_max.and_then(|max| u32::try_from(max).ok()),
            used_cpu: row.used.cpu_milli as f64 / 1000.0,
            used_memory_mb: unsigned(row.used.memory_mb),
            used_disk_gb: unsigned(row.used.disk_mb >> 10),
            workspaces: u32::try_from(row.workspaces).unwrap_or(0),
            found: facts.map(|facts| ServerFound { runtimes_unfit: host.unfit(), ..found(&facts.engine, free_gb) }),
            ssh_host_key: access.and_then(|access| access.host_key()),
            certificate_expires_at: validity.ours.map(time),
            server_certificate_expires_at: validity.engines.map(time),
            certs_volume: self.certs_volume.get().filter(|_| row.id == self.fleet.local().id).cloned(),
            provisioner: row.machine_id.map(|_| super::elastic::PROVISIONER.into()),
            machine_id: row.machine_id.map(|id| id.to_string()),
            created_at: rfc3339(row.created_ms),
        }
    }
}

/// What workspaces there are not held to, in sentences.
fn weaker(host: &Host, facts: &HostFacts) -> Vec<String> {
    let never = host.guard.never();
    let only_open = never.map(|why| format!("Only `open` workspaces run there: {why}"));
    facts.weaker.iter().cloned().chain(only_open).collect()
}

pub(super) fn require_admin(actor: &Actor) -> Result<()> {
    actor.authorise(Scope::Admin)?;
    match actor.is_admin() {
        true => Ok(()),
        false => Err(Error::new(ErrorCode::Forbidden, "Only administrators look after servers.")),
    }
}

fn counted(n: i64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn no_such() -> Error {
    Error::not_found("server")
}

fn slow() -> Fault {
    Fault::new("timed_out", format!("It did not answer within {} s.", PROOF_MAX.as_secs()))
}

fn taken(error: sea_orm::DbErr, name: &str) -> Error {
    if db::is_duplicate(&error) { name_taken(name) } else { error.into() }
}

fn name_taken(name: &str) -> Error {
    Error::new(ErrorCode::ServerExists, format!("There is a server `{name}` already. Choose another name."))
        .details(json!({ "field": "name", "host": name }))
}

fn require_new_name(rows: &[HostRow], name: &str, but: Option<HostId>) -> Result<()> {
    match rows.iter().any(|row| row.name == name && Some(row.id) != but) {
        true => Err(name_taken(name)),
        false => Ok(()),
    }
}

/// Those that workspaces may have there it must have.
fn require_runtimes(row: &HostRow, info: Option<&EngineInfo>) -> Result<()> {
    let (Some(wanted), Some(info)) = (&row.runtimes, info) else { return Ok(()) };
    match wanted.iter().find(|name| !info.runtimes.contains(name)) {
        Some(missing) => Err(Fault::new(
            "runtime_missing",
            format!("It has no runtime `{missing}`; it has {}.", info.runtimes.join(", ")),
        )
        .into()),
        None => Ok(()),
    }
}

/// As named, else what it has.
fn totals(new: &NewServer, proven: &Proven) -> Amount {
    let engine = &proven.facts.engine;
    Amount {
        cpu_milli: new.total_cpu.map_or(i64::from(engine.cpus) * 1000 * CORES_SHARED, milli),
        memory_mb: new.total_memory_mb.unwrap_or(engine.memory_bytes >> 20) as i64,
        disk_mb: (new.total_disk_gb.or(proven.disk_gb).unwrap_or(0) << 10) as i64,
    }
}

pub(super) fn milli(cores: f64) -> i64 {
    (cores * 1000.0).round() as i64
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn time(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    rfc3339(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Of the engine's disk, in GiB: all and free. `None` where that cannot be seen, or not quickly.
async fn disk_gb(host: &Host) -> Option<(u64, u64)> {
    let space = tokio::time::timeout(DISK_PATIENCE, host.engine.disk_space()).await.ok()?.ok()??;
    Some((space.total_bytes >> 30, space.free_bytes >> 30))
}

fn found(engine: &EngineInfo, disk_free_gb: Option<u64>) -> ServerFound {
    ServerFound {
        engine: engine.kind.clone().into_owned(),
        version: engine.version.clone(),
        api_version: engine.api_version.clone(),
        architecture: engine.architecture.clone(),
        kernel: engine.kernel.clone(),
        cpu: engine.cpus,
        memory_mb: engine.memory_bytes >> 20,
        disk_free_gb,
        runtimes: engine.runtimes.clone(),
        default_runtime: engine.default_runtime.clone(),
        runtimes_unfit: BTreeMap::new(),
        rootless: engine.rootless,
        storage_driver: engine.storage_driver.clone(),
    }
}
