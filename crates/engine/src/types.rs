//! What is said to engines and what they answer: plain values, the same for every engine.

use crate::Subnet;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

pub type Labels = BTreeMap<String, String>;

/// What an engine is, and which limits it can enforce.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct EngineInfo {
    /// Such as `docker`.
    pub kind: Cow<'static, str>,
    pub version: String,
    pub api_version: String,
    /// Of its machine, such as `amd64`, in the words of the OCI image specification.
    pub architecture: String,
    /// The release of the kernel that it runs on, as `uname -r` says it.
    pub kernel: String,
    pub cpus: u32,
    pub memory_bytes: u64,
    /// OCI runtimes by name.
    pub runtimes: Vec<String>,
    pub default_runtime: String,
    pub rootless: bool,
    /// Root inside a container is somebody else outside, for every container.
    pub user_remapped: bool,
    /// How the engine keeps file systems, such as `overlay2`.
    pub storage_driver: String,
    /// Where the engine keeps its data, on its own machine.
    pub root_dir: String,
    /// Which limits hold (a rootless engine without cgroup delegation enforces none).
    pub memory_limit: bool,
    pub cpu_limit: bool,
    pub pids_limit: bool,
    /// Whether containers have control groups of their own: without, none can be paused or measured.
    pub control_groups: bool,
    /// Whether the engine keeps the containers of a network apart; else the rules of its machine must
    /// ([`crate::firewall`]).
    pub networks_apart: bool,
    /// Whether the default seccomp profile is applied.
    pub seccomp: bool,
}

#[derive(Debug, Clone)]
pub struct ImageInfo {
    pub id: String,
    pub references: Vec<String>,
    pub size_bytes: u64,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub user: String,
    pub working_dir: String,
    /// Such as `amd64`, in the words of the OCI image specification.
    pub architecture: String,
    pub os: String,
    pub labels: Labels,
}

/// Who we are to a registry.
#[derive(Clone)]
pub struct RegistryAuth {
    /// The registry's host and port, without a scheme.
    pub server: String,
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RegistryAuth({} at {})", self.username, self.server)
    }
}

/// Progress of one layer of a pull.
#[derive(Debug, Clone)]
pub struct PullProgress {
    pub layer: String,
    pub status: String,
    pub current_bytes: u64,
    /// 0 when not known.
    pub total_bytes: u64,
}

#[derive(Debug, Clone)]
pub struct VolumeInfo {
    pub name: String,
    pub labels: Labels,
}

#[derive(Debug, Clone)]
pub struct NetworkSpec {
    pub name: String,
    /// The bridge interface's name, at most 15 bytes, so that host rules can name it.
    pub bridge: String,
    /// No route to the outside at all.
    pub internal: bool,
    pub addresses: Addresses,
    pub labels: Labels,
}

/// Who says which address a container of a network has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Addresses {
    #[default]
    Engine,
    /// We do, for every one of them ([`ContainerSpec::address`]); so an address means one container for as long as we say.
    Ours,
}

/// A network that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkInfo {
    /// Where it has one that the engine tells.
    pub bridge: Option<String>,
    /// `None` where it has none or several.
    pub subnet: Option<Subnet>,
}

/// Resource limits of a container. There is never swap beyond memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Cores.
    pub cpu: f64,
    pub memory_bytes: u64,
    pub pids: u32,
}

/// What the names of images begin with that [`crate::Engine::without_volumes`] makes. One that no container is of can be
/// removed.
pub const PLAIN_IMAGES: &str = "rexec/plain:";

/// Which of the engine's security profiles a container has. All forbid new privileges and cover the same paths of `/proc`
/// and `/sys`; those of workspaces drop the same capabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Profile {
    #[default]
    Usual,
    /// User namespaces, mounts within them and `/dev/net/tun` besides: what a rootless engine inside needs. More of
    /// the host's kernel can be reached then, where the runtime has none of its own.
    Nesting,
    /// Never a workspace's: for a program of ours that sets its host's firewall rules. The host's own network, the one
    /// capability over it, and nothing that can be written.
    Firewall,
    /// Never a workspace's: for the gateway, which looks after what workspaces reach outside. The host's own network, the one
    /// capability to listen where names are asked for, and nothing that can be written.
    Gateway,
    /// Never a workspace's: for a program of ours that ends what an engine that died has left of a container. The host's
    /// processes, the one capability to signal them, no network, and nothing that can be written.
    Orphans,
}

/// A container to make. The security profile (capabilities, no-new-privileges, seccomp, restart
/// policy `no`, no host mounts but `dial_dir`) is the engine's own and cannot be asked for otherwise.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    pub name: String,
    pub hostname: String,
    pub image: String,
    /// PID 1 and its arguments; replaces the image's entrypoint and command.
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub labels: Labels,
    pub network: String,
    /// On a network whose addresses are ours.
    pub address: Option<Ipv4Addr>,
    pub runtime: Option<String>,
    pub profile: Profile,
    pub limits: Limits,
    pub mounts: Vec<Mount>,
    /// How much its root file system may grow. Only where [`DiskLimits::root`] says that it holds;
    /// elsewhere the container is refused.
    pub root_bytes: Option<u64>,
    /// A directory of the engine's machine, mounted read-only at the second path: the only host
    /// mount there is.
    pub dial_dir: Option<(String, String)>,
}

/// A named volume at a path.
#[derive(Debug, Clone)]
pub struct Mount {
    pub volume: String,
    pub path: String,
    pub read_only: bool,
    /// Given to the volume when this makes it.
    pub labels: Labels,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    Created,
    Running,
    Paused,
    /// Being started again or removed.
    Changing,
    Exited {
        code: i32,
        oom_killed: bool,
        error: String,
    },
}

#[derive(Debug, Clone)]
pub struct ContainerInfo {
    pub id: String,
    pub name: String,
    pub image: String,
    pub labels: Labels,
    pub state: ContainerState,
    /// RFC 3339, empty when it never started.
    pub started_at: String,
    /// PID 1 on the engine's machine, 0 when not running.
    pub pid: u32,
    /// Where volumes lie that nobody has named: its image asked for them. They go with the container.
    pub unnamed_volumes: Vec<String>,
    /// Those that have a name, by where they lie.
    pub named_volumes: BTreeMap<String, String>,
}

/// A container's state as a listing tells it: how it ended takes a look at the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SummaryState {
    Created,
    Running,
    Paused,
    /// Being started again or removed.
    Changing,
    Exited,
}

/// A container as a listing tells of it.
#[derive(Debug, Clone)]
pub struct Summary {
    pub id: String,
    pub name: String,
    /// As it was asked for; the image's id when that name now means another image.
    pub image: String,
    pub labels: Labels,
    pub state: SummaryState,
}

#[derive(Debug, Clone)]
pub struct ExecStart {
    pub command: Vec<String>,
    /// `uid:gid`.
    pub user: String,
    pub env: Vec<String>,
}

/// What an image made of a container says besides its file system.
#[derive(Debug, Clone, Default)]
pub struct CommitConfig {
    /// Added to the container's own, which go into the image, too: an empty value hides one of those.
    pub labels: Labels,
    /// `NAME=value`, stronger than the container's own, which go into the image, too: whoever gave
    /// the container a secret this way must name it here.
    pub env: Vec<String>,
    /// Whether to freeze the container meanwhile.
    pub pause: bool,
}

/// Which sizes an engine can enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DiskLimits {
    pub volumes: bool,
    pub root: bool,
}

/// The file system that an engine keeps its data on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    pub total_bytes: u64,
    /// For those who are not root.
    pub free_bytes: u64,
    /// How many files more it can have; `None` where that has no bound of its own.
    pub free_files: Option<u64>,
}

/// Bytes on the engine's disk, by name.
#[derive(Debug, Clone, Default)]
pub struct DiskUsage {
    /// What each container has written to its root file system, and to volumes that nobody has named. Those with a
    /// name are not in it.
    pub containers: BTreeMap<String, u64>,
    pub volumes: BTreeMap<String, u64>,
}

/// How a program of an exec stream ended, when not with 0: the inner error of the `io::Error` that
/// its stream ends with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the program ended with code {exit_code}: {stderr}")]
pub struct ExecFailure {
    /// 126 and 127 when it could not be started.
    pub exit_code: i32,
    /// The last 4 KiB of what it wrote there.
    pub stderr: String,
}

#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// CPU time used since start, in nanoseconds.
    pub cpu_total_ns: u64,
    pub memory_bytes: u64,
    pub memory_limit_bytes: u64,
    pub network_rx_bytes: u64,
    pub network_tx_bytes: u64,
    pub block_read_bytes: u64,
    pub block_write_bytes: u64,
    /// For how long the CPU limit has held it back since start, in nanoseconds.
    pub throttled_ns: u64,
    pub pids: u64,
}

#[derive(Debug, Clone)]
pub struct EngineEvent {
    pub container_id: String,
    /// Docker's word: `create`, `start`, `die`, `oom`, `pause`, `unpause`, `stop`, `update`, `destroy`.
    pub action: String,
    /// The container's labels, and the event's own attributes such as `exitCode`.
    pub labels: Labels,
}
