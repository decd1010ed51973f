//! What runs workspaces, seen from the server: the [`Engine`] trait and its Docker implementation.
//!
//! An engine is told what to do and says what it sees; it decides nothing, keeps no state of its
//! own and knows nothing of users or workspaces. Every engine passes the suite in `contract`.
//! Raw byte streams (exec, archives) are ours from the socket up: no third-party decoder stands
//! between an untrusted container and the server.

#[cfg(feature = "contract")]
pub mod contract;
pub mod docker;
mod error;
pub mod firewall;

pub use error::{EngineError, Result};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::collections::BTreeMap;
use tokio::io::{AsyncRead, AsyncWrite};

/// A container engine. All methods may be repeated; "already so" is success.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Whether the engine answers. Cheap: for health checks.
    async fn ping(&self) -> Result<()>;
    /// What the engine is and can enforce.
    async fn info(&self) -> Result<EngineInfo>;

    /// `None` when the image is not there.
    async fn image(&self, reference: &str) -> Result<Option<ImageInfo>>;
    /// Images by reference.
    async fn images(&self) -> Result<Vec<ImageInfo>>;
    /// Pulls an image; the stream ends after the last layer, or with the error.
    fn pull(&self, reference: &str) -> BoxStream<'static, Result<PullProgress>>;
    /// Makes an image of one tar archive; with no entries, an empty image.
    async fn import_image(&self, tag: &str, tar: Bytes) -> Result<()>;
    async fn remove_image(&self, reference: &str) -> Result<()>;

    async fn ensure_volume(&self, name: &str, labels: &Labels) -> Result<()>;
    async fn volumes(&self, labels: &Labels) -> Result<Vec<VolumeInfo>>;
    async fn remove_volume(&self, name: &str) -> Result<()>;

    /// A bridge network whose containers cannot reach each other.
    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<()>;
    async fn remove_network(&self, name: &str) -> Result<()>;

    /// Makes a container, not started. A taken name is [`EngineError::Conflict`].
    async fn create(&self, spec: &ContainerSpec) -> Result<String>;
    async fn start(&self, id: &str) -> Result<()>;
    /// Asks PID 1 to end, then kills after `grace_seconds`.
    async fn stop(&self, id: &str, grace_seconds: u32) -> Result<()>;
    async fn pause(&self, id: &str) -> Result<()>;
    async fn unpause(&self, id: &str) -> Result<()>;
    async fn update(&self, id: &str, limits: &Limits) -> Result<()>;
    /// Removes a container, running or not. Named volumes stay.
    async fn remove(&self, id: &str) -> Result<()>;
    /// By id or name; `None` when there is no such container.
    async fn inspect(&self, id: &str) -> Result<Option<ContainerInfo>>;
    /// Containers that carry all of the labels, in any state.
    async fn containers(&self, labels: &Labels) -> Result<Vec<ContainerInfo>>;

    /// Runs a program in a running container as a given user, and gives its stdin and stdout as
    /// one byte stream; no TTY. Shutting down the stream closes stdin. The stream ends well when
    /// the program ends with 0, else with an error that holds [`ExecFailure`]. Dropping the stream
    /// closes both ends: the program is expected to end with its stdin.
    async fn exec_stream(&self, id: &str, exec: &ExecStart) -> Result<Box<dyn ByteStream>>;

    /// Unpacks a tar archive at a path of a container, running or not.
    async fn archive_put(&self, id: &str, path: &str, tar: Bytes) -> Result<()>;
    /// A path of a container as a tar archive; [`EngineError::NotFound`] when it is not there.
    async fn archive_get(&self, id: &str, path: &str) -> Result<BoxStream<'static, Result<Bytes>>>;

    /// Makes an image of a container's file system.
    async fn commit(&self, id: &str, tag: &str, labels: &Labels) -> Result<String>;
    /// Resource use about once a second, until dropped.
    fn stats(&self, id: &str) -> BoxStream<'static, Result<Stats>>;
    /// Container events with these labels, until dropped or the engine goes.
    fn events(&self, labels: &Labels) -> BoxStream<'static, Result<EngineEvent>>;
}

pub type Labels = BTreeMap<String, String>;

/// A full-duplex byte stream to a process.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// What an engine is, and which limits it can enforce.
#[derive(Debug, Clone)]
pub struct EngineInfo {
    /// Such as `docker`.
    pub kind: &'static str,
    pub version: String,
    pub api_version: String,
    pub architecture: String,
    pub cpus: u32,
    pub memory_bytes: u64,
    /// OCI runtimes by name.
    pub runtimes: Vec<String>,
    pub default_runtime: String,
    pub rootless: bool,
    /// Where the engine keeps its data, on its own machine.
    pub root_dir: String,
    /// Which limits hold (a rootless engine without cgroup delegation enforces none).
    pub memory_limit: bool,
    pub cpu_limit: bool,
    pub pids_limit: bool,
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
    pub labels: Labels,
}

/// Resource limits of a container. There is never swap beyond memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Cores.
    pub cpu: f64,
    pub memory_bytes: u64,
    pub pids: u32,
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
    pub runtime: Option<String>,
    pub limits: Limits,
    pub mounts: Vec<Mount>,
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
}

#[derive(Debug, Clone)]
pub struct ExecStart {
    pub command: Vec<String>,
    /// `uid:gid`.
    pub user: String,
    pub env: Vec<String>,
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
