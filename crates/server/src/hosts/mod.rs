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

pub mod delivery;
pub mod dial;
mod fleet;
pub mod helper;
pub mod nesting;
pub mod pulls;
pub mod remote;
pub mod store;

pub use fleet::Fleet;

use crate::config::{Config, NestedPolicy};
use futures_util::StreamExt;
use rexec_api::ids::{HostId, WorkspaceId};
use rexec_engine::{DiskLimits, Engine, EngineError, EngineInfo, Labels, NetworkSpec, firewall};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
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

/// The engine's word for a process that was ended because its container's memory was full.
const OUT_OF_MEMORY: &str = "oom";
const PING_EVERY: Duration = Duration::from_secs(5);
const PINGS_LOST_MAX: u32 = 2;
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// What is said of a host until the first attempt to prepare it has ended, and how long a request waits for that.
const UNTRIED: &str = "The container engine has not answered yet. Try again in a moment.";
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(5);
/// Why the rules of this machine do not hold there.
const ROOTLESS: &str = "the engine is rootless, and its network is none that this machine's rules see";
/// Why there are no rules of ours on another machine.
const ELSEWHERE: &str = "the engine is on another machine, whose firewall cannot be set from here";
/// How often the host's rules are looked at: a firewall reload can take them away.
const RULES_EVERY: Duration = Duration::from_secs(60);

/// What is known of a usable host.
#[derive(Debug, Clone)]
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
    pub pulls: pulls::Pulls,
    /// Asks for a sweep at once: the engine's events were interrupted, anything may have happened.
    pub gap: Notify,
    /// Asks for a round of removing what is to go from here.
    pub upkeep: Notify,
    /// The jobs that have a helper container here.
    helpers: helper::LiveJobs,
    /// Which runtimes were tried for containers inside of workspaces.
    trials: nesting::Trials,
    nested: NestedPolicy,
    /// Of workspaces that do not name one; the engine's own when absent.
    runtime: Option<String>,
    bridge: String,
    /// Whether paths and firewall rules of this machine are the engine's.
    is_here: bool,
    /// Fingerprint of the machine's SSH key, once it was shown.
    host_key: OnceLock<String>,
    dial_root: PathBuf,
    allow_weaker: bool,
    /// Given to what we make, besides our own.
    extra_labels: Labels,
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
            bridge: bridge_name(&config.engine.network),
            network: config.engine.network.clone(),
            pulls: pulls::Pulls::default(),
            gap: Notify::new(),
            upkeep: Notify::new(),
            helpers: helper::LiveJobs::default(),
            trials: nesting::Trials::default(),
            nested: config.engine.nested,
            runtime: config.engine.runtime.clone(),
            is_here,
            host_key: OnceLock::new(),
            dial_root: config.data_dir.join("dial"),
            allow_weaker: config.engine.allow_weaker_isolation,
            extra_labels: config.engine.labels.clone(),
            state: watch::Sender::new(connecting),
        })
    }

    /// One that is never ready, for rows whose own is not there.
    fn stand_in(&self, engine: Arc<dyn Engine>, reason: String) -> Arc<Self> {
        Arc::new(Self {
            id: HostId::new(),
            name: "unknown".into(),
            region: "unknown".into(),
            engine,
            instance: self.instance.clone(),
            bridge: self.bridge.clone(),
            network: self.network.clone(),
            pulls: pulls::Pulls::default(),
            gap: Notify::new(),
            upkeep: Notify::new(),
            helpers: helper::LiveJobs::default(),
            trials: nesting::Trials::default(),
            nested: self.nested,
            runtime: self.runtime.clone(),
            is_here: false,
            host_key: OnceLock::new(),
            dial_root: self.dial_root.clone(),
            allow_weaker: false,
            extra_labels: Labels::new(),
            state: watch::Sender::new(HostState::Offline { reason }),
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

    /// Whether there is a volume of ours of this name: an engine makes one that is missing, empty.
    pub async fn has_volume(&self, name: &str) -> Result<bool, EngineError> {
        Ok(self.engine.volumes(&self.labels()).await?.iter().any(|volume| volume.name == name))
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

    /// Tends the host until dropped. `on_event` hears of every change to a workspace's container.
    pub async fn tend(&self, on_event: impl Fn(Heard)) {
        let mut retry = RETRY_FIRST;
        loop {
            match self.prepare().await {
                Ok(facts) => {
                    retry = RETRY_FIRST;
                    // At the start the server's own last line says enough; news is a host that comes back.
                    if matches!(*self.state.borrow(), HostState::Offline { .. }) {
                        tracing::info!(host = self.name, "host is back");
                    }
                    tracing::debug!(
                        host = self.name, engine = facts.engine.version, dials = facts.dials,
                        runtimes = ?facts.engine.runtimes, "host is ready"
                    );
                    for what in &facts.weaker {
                        tracing::warn!(
                            host = self.name,
                            what,
                            "workspaces are less isolated here, as the operator allows"
                        );
                    }
                    let facts = Arc::new(facts);
                    self.state.send_replace(HostState::Ready(facts.clone()));
                    let reason = self.watch_over(&facts.engine, &on_event).await;
                    tracing::warn!(host = self.name, reason, "host went offline");
                    self.state.send_replace(HostState::Offline { reason });
                }
                Err(reason) => {
                    self.say_why_not(reason);
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// Declares the host usable without asking an engine.
    #[cfg(test)]
    pub fn declare_ready(&self, facts: HostFacts) {
        self.state.send_replace(HostState::Ready(Arc::new(facts)));
    }

    fn say_why_not(&self, reason: String) {
        self.state.send_if_modified(|state| match state {
            HostState::Connecting { reason: before } | HostState::Offline { reason: before } if *before == reason => {
                false
            }
            HostState::Connecting { .. } => {
                tracing::warn!(host = self.name, reason, "host is not ready");
                *state = HostState::Connecting { reason };
                true
            }
            _ => {
                *state = HostState::Offline { reason };
                true
            }
        });
    }

    async fn prepare(&self) -> Result<HostFacts, String> {
        let info = self.engine.info().await.map_err(|e| explain(&e))?;
        let dial_root = self.make_dial_root();
        let delivered = delivery::deliver(self, dial_root).await.map_err(|e| explain(&e))?;
        helper::Helper::leftovers(self).await.map_err(|e| explain(&e))?;
        let network = NetworkSpec {
            name: self.network.clone(),
            bridge: self.bridge.clone(),
            internal: false,
            labels: Labels::from([("rexec.network".into(), "1".into())]),
        };
        self.engine.ensure_network(&network).await.map_err(|e| explain(&e))?;
        let weaker = self.shortfalls(&info).await;
        if !weaker.is_empty() && !self.allow_weaker {
            return Err(format!(
                "{} Mend that, or set REXEC_ALLOW_WEAKER_ISOLATION=true to run workspaces all the same.",
                weaker.join(" ")
            ));
        }
        self.trials.forget();
        let disk = self.disk_limits().await.map_err(|e| explain(&e))?;
        Ok(HostFacts { engine: info, dials: delivered.sees_dial_dir, disk, weaker })
    }

    /// Found by trying, once for each time that the host comes: its file system may be another then.
    async fn disk_limits(&self) -> Result<DiskLimits, EngineError> {
        let name = format!("rexec-disk-probe-{}", self.instance);
        self.engine.disk_limits(&name, delivery::EMPTY_IMAGE, &self.labels_to_give()).await
    }

    /// Not for another machine: it may have a directory of that name.
    fn make_dial_root(&self) -> Option<&Path> {
        if !self.is_here {
            return None;
        }
        match std::fs::create_dir_all(&self.dial_root) {
            Ok(()) => Some(&self.dial_root),
            Err(error) => {
                tracing::warn!(%error, path = %self.dial_root.display(), "no dial directory; using exec streams");
                None
            }
        }
    }

    /// What the profile promises and this host does not keep, in sentences.
    async fn shortfalls(&self, info: &EngineInfo) -> Vec<String> {
        let mut weaker = self.close_network(info).await;
        for (holds, what) in [
            (info.memory_limit, "memory limits"),
            (info.cpu_limit, "CPU limits"),
            (info.pids_limit, "process limits"),
            (info.seccomp, "the default seccomp profile"),
        ] {
            if !holds {
                weaker.push(format!("The engine does not enforce {what}."));
            }
        }
        weaker
    }

    /// Sets this machine's rules on what workspaces send; what stays open, in sentences.
    async fn close_network(&self, info: &EngineInfo) -> Vec<String> {
        let is_open = |whom: &str, why: &str| format!("Workspaces could reach {whom}: {why}.");
        let shut = match self.beyond_reach(info) {
            Some(why) => Err(why.to_owned()),
            None => firewall::close_host(&self.bridge).await.map_err(|error| error.to_string()),
        };
        let apart = match (&shut, info.networks_apart) {
            (_, true) => Ok(()),
            (Ok(()), false) => firewall::filter_bridges().await.map_err(|error| error.to_string()),
            (Err(why), false) => Err(why.clone()),
        };
        let ports_of = if self.is_here { "this machine's ports" } else { "its machine's ports and networks" };
        let ports = shut.err().map(|why| is_open(ports_of, &why));
        ports.into_iter().chain(apart.err().map(|why| is_open("each other", &why))).collect()
    }

    /// Why this machine's rules cannot close the engine's network.
    fn beyond_reach(&self, info: &EngineInfo) -> Option<&'static str> {
        match (self.is_here, info.rootless) {
            (false, _) => Some(ELSEWHERE),
            (true, true) => Some(ROOTLESS),
            (true, false) => None,
        }
    }

    /// Pings, passes events on, keeps the rules; returns why the host counts as lost.
    async fn watch_over(&self, info: &EngineInfo, on_event: &impl Fn(Heard)) -> String {
        let mut events = self.engine.events(&self.labels());
        let mut ping = tokio::time::interval(PING_EVERY);
        let mut rules = tokio::time::interval(RULES_EVERY);
        rules.tick().await;
        let mut lost = 0;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        if let Some(id) = event.labels.get(LABEL_WORKSPACE).and_then(|id| id.parse().ok()) {
                            on_event(if event.action == OUT_OF_MEMORY {
                                Heard::OutOfMemory(id)
                            } else {
                                Heard::Container(id)
                            });
                        }
                    }
                    // The stream ends with the daemon: ask it at once.
                    Some(Err(_)) | None => match self.engine.ping().await {
                        Ok(()) => {
                            tokio::time::sleep(RETRY_FIRST).await;
                            events = self.engine.events(&self.labels());
                            self.gap.notify_one();
                        }
                        Err(error) => return explain(&error),
                    },
                },
                _ = ping.tick() => match self.engine.ping().await {
                    Ok(()) => lost = 0,
                    Err(error) => {
                        lost += 1;
                        if lost >= PINGS_LOST_MAX {
                            return explain(&error);
                        }
                    }
                },
                _ = rules.tick() => {
                    let open = self.close_network(info).await;
                    if !open.is_empty() && !self.allow_weaker {
                        return open.join(" ");
                    }
                }
            }
        }
    }
}

/// Runtimes known to put workspaces on the host's own kernel. Others may do so, too.
pub fn shares_kernel(runtime: &str) -> bool {
    matches!(runtime, "runc" | "crun" | "youki" | "io.containerd.runc.v2" | "io.containerd.runtime.v1.linux")
}

/// The first socket of those where an engine usually listens that takes connections, else the first that is there:
/// an engine that was ended leaves its own behind.
pub fn usual_socket() -> PathBuf {
    let own = format!("/run/user/{}", rustix::process::getuid().as_raw());
    let usual = [
        "/var/run/docker.sock".into(),
        format!("{own}/docker.sock"),
        "/run/podman/podman.sock".into(),
        format!("{own}/podman/podman.sock"),
    ];
    let listens = |path: &&String| std::os::unix::net::UnixStream::connect(path).is_ok();
    let found = usual.iter().find(listens).or_else(|| usual.iter().find(|path| Path::new(path).exists()));
    PathBuf::from(found.unwrap_or(&usual[0]))
}

/// The bridge of a network: a name that host rules can hold to, 15 bytes at most (IFNAMSIZ - 1).
fn bridge_name(network: &str) -> String {
    if network == "rexec" {
        return "rexec0".into();
    }
    use sha2::Digest as _;
    format!("rexec-{}", hex::encode(&sha2::Sha256::digest(network)[..4]))
}

/// An engine's failure as a sentence for people; the particulars go to the log.
pub fn explain(error: &EngineError) -> String {
    tracing::debug!(error = error as &dyn std::error::Error, "engine error");
    if let Some(why) = error.unreachable() {
        return remote::explain(&why);
    }
    match error {
        EngineError::Unavailable(_) => {
            "The container engine does not answer. Start it, or point DOCKER_HOST at one that runs.".into()
        }
        EngineError::DiskFull(_) => "The engine's disk is full. Free some space on the host.".into(),
        other => format!("The container engine refused: {other}."),
    }
}
