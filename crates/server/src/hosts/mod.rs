//! Hosts: the container engines that run workspaces. One is always there, the engine that `DOCKER_HOST` or a
//! usual socket names, here or on another machine; `fleet.rs` knows them all.
//!
//! A host is tended by one task: it connects, prepares (guest volume, network, host rules), then
//! pings, and says in a watch what it found. Nobody else decides whether a host is usable.
//!
//! ```text
//!   connecting --prepared--> ready --two pings lost--> offline --prepared--> ready
//! ```
//!
//! Invariant: a host is `ready` only when its network is closed as the profile promises, or the
//! operator has said in so many words that it need not be.

pub mod access;
pub mod admin;
mod by;
pub mod certs_volume;
mod changing;
mod clearing;
mod closing;
pub mod delivery;
pub mod dial;
pub mod elastic;
pub mod fitness;
mod fleet;
pub mod gateway;
pub mod guard;
pub mod helper;
pub mod http;
pub mod images;
mod latency;
pub(crate) mod mark;
pub mod nesting;
mod network;
mod orphans;
pub mod placement;
mod pool_desk;
pub mod pulls;
pub mod regions;
pub mod remote;
pub mod reserve;
mod shared;
pub mod store;
mod tending;
mod trials;
pub mod turns;
mod words;

pub use fleet::Fleet;
pub use remote::usual_socket;
pub use words::explain;

use crate::config::{Config, EgressConfig, NestedPolicy};
use crate::db::Db;
use crate::replicas::{ReplicaId, Replicas};
use crate::time::now_ms;
use crate::workspaces::RuntimePolicy;
use network::bridge_name;
use pool_desk::PoolDesk;
use rexec_api::ids::{HostId, WorkspaceId};
use rexec_engine::docker::{Address, DockerEngine};
use rexec_engine::{DiskLimits, Engine, EngineInfo, Labels};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use store::HostRow;
use tokio::sync::{Notify, watch};

/// The name of the host that needs no configuration.
pub const LOCAL: &str = "local";
/// Labels of everything that is ours.
pub const LABEL_INSTANCE: &str = "rexec.instance";
pub const LABEL_WORKSPACE: &str = "rexec.workspace";
pub const LABEL_GENERATION: &str = "rexec.generation";
/// On the volumes of snapshots: which.
pub const LABEL_SNAPSHOT: &str = "rexec.snapshot";
/// On helper containers: their job.
pub const LABEL_HELPER: &str = "rexec.helper";
/// On a host's gateway: which build of the guest it runs.
pub const LABEL_GATEWAY: &str = "rexec.gateway";

/// What is said of a host until the first attempt to prepare it has ended, and how long a request waits for that.
const UNTRIED: &str = "The container engine has not answered yet. Try again in a moment.";
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(5);

/// What is known of a usable host.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct HostFacts {
    pub engine: EngineInfo,
    /// Workspaces can dial in: server and engine share a machine.
    pub dials: bool,
    /// Which sizes of disks the engine holds by itself.
    pub disk: DiskLimits,
    /// What the host cannot enforce, in sentences; allowed by the operator.
    pub weaker: Vec<String>,
}

#[derive(Debug, Clone)]
pub enum HostState {
    Connecting { reason: String },
    Ready(Arc<HostFacts>),
    Offline { reason: String },
}

impl HostState {
    pub fn facts(&self) -> Option<&Arc<HostFacts>> {
        match self {
            Self::Ready(facts) => Some(facts),
            Self::Connecting { .. } | Self::Offline { .. } => None,
        }
    }
}

/// What a host hears of its containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Something happened to this workspace's container.
    Container(WorkspaceId),
    /// A process of this workspace was ended because its memory was full.
    OutOfMemory(WorkspaceId),
}

/// One host.
pub struct Host {
    pub id: HostId,
    pub name: String,
    pub region: String,
    pub engine: Arc<dyn Engine>,
    /// Labels what this installation made, as against another on the same engine.
    pub instance: String,
    /// The network of every workspace, and its bridge on the host.
    pub network: String,
    pub pulls: Arc<pulls::Pulls>,
    /// Who may have the engine make or start something.
    pub turns: Arc<turns::Turns>,
    /// Asks for a sweep at once: the engine's events were interrupted, anything may have happened.
    pub gap: Notify,
    /// Asks for a round of removing what is to go from here.
    pub upkeep: Notify,
    /// Asks for a look at the warm ones here, and what was last seen of them.
    pub pool: PoolDesk,
    /// Images that it is to have before anyone asks.
    pub images: Arc<images::ImageDesk>,
    /// When it last answered; 0: not yet.
    seen_ms: AtomicI64,
    /// How long it takes to answer.
    pub round_trip: latency::RoundTrip,
    /// How the engine is reached, where that is known to be Docker's way.
    pub address: Option<Address>,
    /// The jobs that have a helper container here.
    helpers: helper::LiveJobs,
    /// Which runtimes were tried for containers inside of workspaces.
    trials: Arc<trials::Trials<nesting::Verdict>>,
    /// Which were tried for keeping what is written, and why not.
    fitness: Arc<trials::Trials<Option<String>>>,
    /// What keeps its gateway.
    pub guard: Arc<guard::Guard>,
    /// The operator's part of what workspaces may reach.
    pub egress: Arc<EgressConfig>,
    nested: NestedPolicy,
    /// Of workspaces that do not name one; the engine's own when absent.
    runtime: Option<String>,
    /// Those that may be asked for besides; those with a kernel of their own when absent.
    runtimes: Option<Vec<String>>,
    bridge: Mutex<String>,
    /// Whether paths and firewall rules of this machine are the engine's.
    is_here: bool,
    /// Fingerprint of the machine's SSH key, once it was shown.
    host_key: Arc<OnceLock<String>>,
    dial_root: PathBuf,
    allow_weaker: bool,
    /// Given to what we make, besides our own.
    extra_labels: Labels,
    /// The servers that share the fleet.
    replicas: Replicas,
    /// The one server that reaches it, where that is so.
    bound: Option<ReplicaId>,
    /// That server is another.
    elsewhere: bool,
    /// Tended by this server; else what is known of it is what another tells.
    ours: AtomicBool,
    /// Other servers may reach its engine, too: it is marked as this host's.
    marked: bool,
    state: watch::Sender<HostState>,
}

impl Host {
    /// `is_here` when the engine's machine is this one.
    pub fn new(
        id: HostId,
        name: String,
        instance: String,
        engine: Arc<dyn Engine>,
        is_here: bool,
        config: &Config,
    ) -> Arc<Self> {
        let connecting = HostState::Connecting { reason: UNTRIED.into() };
        Arc::new(Self {
            id,
            name,
            region: LOCAL.into(),
            engine,
            instance,
            bridge: Mutex::new(bridge_name(&config.engine.network)),
            network: config.engine.network.clone(),
            pulls: Arc::default(),
            turns: Arc::default(),
            gap: Notify::new(),
            upkeep: Notify::new(),
            pool: PoolDesk::default(),
            images: Arc::default(),
            seen_ms: AtomicI64::new(0),
            round_trip: latency::RoundTrip::default(),
            address: None,
            helpers: helper::LiveJobs::default(),
            trials: Arc::default(),
            fitness: Arc::default(),
            guard: Arc::default(),
            egress: Arc::new(config.egress.clone()),
            nested: config.engine.nested,
            runtime: config.engine.runtime.clone(),
            runtimes: config.engine.runtimes.clone(),
            is_here,
            host_key: Arc::default(),
            dial_root: config.data_dir.join("dial"),
            allow_weaker: config.engine.allow_weaker_isolation,
            extra_labels: config.engine.labels.clone(),
            replicas: Replicas::alone(),
            bound: None,
            elsewhere: false,
            ours: AtomicBool::new(true),
            marked: config.advertise_url.is_some(),
            state: watch::Sender::new(connecting),
        })
    }

    /// One of the fleet, besides the local one.
    pub fn of_row(row: &HostRow, instance: String, engine: DockerEngine, config: &Config) -> Arc<Self> {
        let (address, is_here) = (Some(engine.address().clone()), engine.address().is_local());
        let mut host = Self::new(row.id, row.name.clone(), instance, Arc::new(engine), is_here, config);
        if let Some(host) = Arc::get_mut(&mut host) {
            host.region.clone_from(&row.region);
            host.address = address;
            // Engines that share a machine each have a bridge of their own.
            host.set_bridge(bridge_name(&format!("{}@{}", host.network, row.id)));
        }
        host
    }

    fn bridge(&self) -> String {
        self.bridge.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_bridge(&self, name: String) {
        *self.bridge.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// The same engine under another name or in another region.
    fn renamed(&self, row: &HostRow) -> Arc<Self> {
        let state = self.state.borrow().clone();
        let mut host = self.like(self.engine.clone(), state);
        if let Some(host) = Arc::get_mut(&mut host) {
            host.id = row.id;
            host.name.clone_from(&row.name);
            host.region.clone_from(&row.region);
            host.address.clone_from(&self.address);
            host.seen_ms = AtomicI64::new(self.seen_ms.load(Ordering::Relaxed));
            host.pulls = self.pulls.clone();
            host.turns = self.turns.clone();
            host.images = self.images.clone();
            host.helpers = self.helpers.clone();
            host.trials = self.trials.clone();
            host.fitness = self.fitness.clone();
            host.guard = self.guard.clone();
            host.is_here = self.is_here;
            host.host_key = self.host_key.clone();
            (host.bound, host.elsewhere) = (self.bound, self.elsewhere);
            host.ours = AtomicBool::new(self.is_ours());
            host.allow_weaker = self.allow_weaker;
            host.extra_labels.clone_from(&self.extra_labels);
        }
        host
    }

    /// It is to take the place of that one, if that is the same row's: what goes on there is known to it.
    #[must_use]
    fn in_place_of(mut self: Arc<Self>, before: &Self) -> Arc<Self> {
        let is_reached_as_before = self.is_reached_as(before);
        if let Some(host) = Arc::get_mut(&mut self).filter(|host| host.id == before.id) {
            // At whichever engine they are: no two jobs have one name, and none of these is left over.
            host.helpers = before.helpers.clone();
            if is_reached_as_before {
                host.pulls = before.pulls.clone();
                host.turns = before.turns.clone();
            }
        }
        self
    }

    /// Its engine is reached in the way in which that one's is, so that what is open to the one is as good as if it were
    /// open to the other.
    pub(crate) fn is_reached_as(&self, other: &Self) -> bool {
        let is_same_way = match (&self.address, &other.address) {
            (Some(own), Some(its)) => own.leads_as(its),
            _ => false,
        };
        Arc::ptr_eq(&self.engine, &other.engine) || self.id == other.id && is_same_way
    }

    /// One that is never ready, for rows whose own is not there; of a row, where its own cannot be reached at all.
    fn stand_in(&self, row: Option<&HostRow>, engine: Arc<dyn Engine>, reason: String) -> Arc<Self> {
        let mut host = self.like(engine, HostState::Offline { reason });
        if let (Some(row), Some(host)) = (row, Arc::get_mut(&mut host)) {
            host.id = row.id;
            host.name.clone_from(&row.name);
            host.region.clone_from(&row.region);
        }
        host
    }

    fn like(&self, engine: Arc<dyn Engine>, state: HostState) -> Arc<Self> {
        Arc::new(Self {
            id: HostId::new(),
            name: "unknown".into(),
            region: "unknown".into(),
            engine,
            instance: self.instance.clone(),
            bridge: Mutex::new(self.bridge()),
            network: self.network.clone(),
            pulls: Arc::default(),
            turns: Arc::default(),
            gap: Notify::new(),
            upkeep: Notify::new(),
            pool: PoolDesk::default(),
            images: Arc::default(),
            seen_ms: AtomicI64::new(0),
            round_trip: latency::RoundTrip::default(),
            address: None,
            helpers: helper::LiveJobs::default(),
            trials: Arc::default(),
            fitness: Arc::default(),
            guard: Arc::default(),
            egress: self.egress.clone(),
            nested: self.nested,
            runtime: self.runtime.clone(),
            runtimes: self.runtimes.clone(),
            is_here: false,
            host_key: Arc::default(),
            dial_root: self.dial_root.clone(),
            allow_weaker: false,
            extra_labels: Labels::new(),
            replicas: self.replicas.clone(),
            bound: None,
            elsewhere: false,
            ours: AtomicBool::new(true),
            marked: self.marked,
            state: watch::Sender::new(state),
        })
    }

    pub fn watch(&self) -> watch::Receiver<HostState> {
        self.state.subscribe()
    }

    /// The facts if the host can be used now, else why not.
    pub fn ready(&self) -> Result<Arc<HostFacts>, String> {
        match &*self.state.borrow() {
            HostState::Ready(facts) => Ok(facts.clone()),
            HostState::Connecting { reason } | HostState::Offline { reason } => Err(reason.clone()),
        }
    }

    /// As `ready`, but right after the server's start it waits for the first answer of the engine, which
    /// takes a moment, rather than refuse what a moment later would be done.
    pub async fn ready_or_tried(&self) -> Result<Arc<HostFacts>, String> {
        let mut state = self.state.subscribe();
        let tried = async {
            let untried = |state: &HostState| matches!(state, HostState::Connecting { reason } if reason == UNTRIED);
            // The sender lives as long as this host.
            let _ = state.wait_for(|state| !untried(state)).await;
        };
        let _ = tokio::time::timeout(FIRST_ANSWER_MAX, tried).await;
        self.ready()
    }

    /// By which we know what is ours.
    pub fn labels(&self) -> Labels {
        Labels::from([(LABEL_INSTANCE.into(), self.instance.clone())])
    }

    /// What everything that we make carries: our own labels and the operator's. Things are never looked for by the
    /// latter, which may change.
    pub fn labels_to_give(&self) -> Labels {
        let mut labels = self.extra_labels.clone();
        labels.extend(self.labels());
        labels
    }

    /// Which runtimes workspaces may have here.
    pub(crate) fn runtime_policy<'a>(&'a self, facts: &'a HostFacts) -> RuntimePolicy<'a> {
        let default = self.runtime.as_deref().unwrap_or(&facts.engine.default_runtime);
        RuntimePolicy { default, allowed: self.runtimes.as_deref() }
    }

    /// By which its machine is known, where that is reached through SSH and was.
    pub fn host_key(&self) -> Option<&str> {
        self.host_key.get().map(String::as_str)
    }

    fn show_host_key(&self, fingerprint: String) {
        // There is one to show in a server's life.
        let _ = self.host_key.set(fingerprint);
    }

    /// Where the server listens for this workspace's guest.
    pub fn dial_dir(&self, workspace: WorkspaceId) -> PathBuf {
        self.dial_root.join(workspace.0.simple().to_string())
    }

    /// When it last answered, in milliseconds since 1970.
    pub fn seen_ms(&self) -> Option<i64> {
        Some(self.seen_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0)
    }

    fn is_seen(&self) {
        self.seen_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// Connects and makes it ready, once, for whoever adds it or wants to know.
    pub async fn prove(&self, db: &Db) -> Result<HostFacts, String> {
        let facts = self.prepare(db).await?;
        self.turns.fit(facts.engine.cpus as usize);
        self.is_seen();
        Ok(facts)
    }

    /// Proven a moment ago: usable at once.
    pub fn declare(&self, facts: HostFacts) {
        self.state.send_replace(HostState::Ready(Arc::new(facts)));
    }

    /// Another has its place: whoever watches comes back and finds that one.
    fn retire(&self, reason: &str) {
        self.state.send_replace(HostState::Offline { reason: reason.into() });
    }
}

/// Runtimes known to put workspaces on the host's own kernel. Others may do so, too.
pub fn shares_kernel(runtime: &str) -> bool {
    matches!(runtime, "runc" | "crun" | "youki" | "io.containerd.runc.v2" | "io.containerd.runtime.v1.linux")
}
