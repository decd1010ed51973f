//! Workspaces: what may be asked for, and what is seen of one.

use crate::egress::EgressSettings;
use crate::error::ErrorCode;
use crate::idle::{IdleSettings, IdleView, null_is_said};
use crate::ids::{SnapshotId, UserId, WorkspaceId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most characters of a workspace name.
pub const NAME_CHARS_MAX: usize = 63;
/// Bounds of CPU, in cores.
pub const CPU_MIN: f64 = 0.1;
pub const CPU_MAX: f64 = 256.0;
/// Bounds of memory, in MiB. Docker itself refuses less than 6 MiB; a shell wants more.
pub const MEMORY_MB_MIN: u32 = 32;
pub const MEMORY_MB_MAX: u32 = 4 * 1024 * 1024;
/// Bounds of processes and threads; the most is also what a workspace has that does not say.
pub const PIDS_MIN: u32 = 64;
pub const PIDS_MAX: u32 = 4096;
/// Bounds of disk, in GiB.
pub const DISK_GB_MIN: u32 = 1;
pub const DISK_GB_MAX: u32 = 64 * 1024;
/// Most variables in `env`, and most bytes of one name with its value.
pub const ENV_VARIABLES_MAX: usize = 256;
pub const ENV_BYTES_MAX: usize = 32 * 1024;
/// How long a request waits for a workspace when it does not say: some proxies cut at 30 s.
pub const WAIT_MS_DEFAULT: u64 = 25_000;
/// The longest such wait.
pub const WAIT_MS_MAX: u64 = 120_000;

/// The longest address of a repository, and the longest name of a branch.
pub const GIT_URL_BYTES_MAX: usize = 2048;
pub const GIT_BRANCH_BYTES_MAX: usize = 255;

/// A request for a workspace. Fields that it does not know are refused by name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct NewWorkspace {
    /// Shown to people; made up when absent. Need not be unique.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A template of `GET /api/templates`, instead of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// A repository to clone into the home once the workspace runs: `https://`, `http://`, `ssh://`, `git://` or
    /// `git@host:path`, without a password. Its `devcontainer.json` is honoured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_url: Option<String>,
    /// The branch or tag of it; the repository's own default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// A container image reference; the server's default when absent. What it declares as volumes is part of the root
    /// file system: kept, measured and taken in snapshots like the rest of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// One of your snapshots that it begins as, with what that workspace had unless this says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotId>,
    /// Cores, such as 1.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    /// Processes and threads at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// GiB that its root file system and home may grow to together; without a limit when absent. Where the host
    /// holds the size by a quota, each of the two may. Files and directories count as 4 KiB each at the least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_gb: Option<u32>,
    /// An OCI runtime by name, such as `runc` or `runsc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Where it is to be, of the regions that servers are in; any of them when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// A server by name: administrators only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Of the server's processor, such as `amd64` or `arm64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Labels that the server must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub host_labels: BTreeMap<String, String>,
    /// Environment of every terminal and exec.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// When it is paused, stopped and deleted, where that is to differ from the server's settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<IdleSettings>,
    /// What it may reach: a preset's name, or the preset with rules; as the server's settings say when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<EgressSettings>,
    /// How long to wait for `running` before answering 202, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// Changes to a workspace.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PatchWorkspace {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Cores. This and the next two take effect at once, without a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// MiB; not below what it uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    /// Processes and threads at once; not below what it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// GiB; not below what it uses. Null: without a limit.
    #[serde(deserialize_with = "null_is_said", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u32>))]
    pub disk_gb: Option<Option<u32>>,
    /// What is named changes, what is absent stays; null: all as the server's settings say.
    #[serde(deserialize_with = "null_is_said", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<IdleSettings>))]
    pub idle: Option<Option<IdleSettings>>,
}

/// What a workspace may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LimitsView {
    /// Cores.
    pub cpu: f64,
    pub memory_mb: u32,
    /// Processes and threads at once.
    pub pids: u32,
}

/// Where a workspace stands. The state machine is drawn in the server's `workspaces/lifecycle.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceStatus {
    Pending,
    Pulling,
    Creating,
    Running,
    Paused,
    Stopping,
    Stopped,
    Unreachable,
    Error,
    Deleted,
}

impl WorkspaceStatus {
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Pulling,
        Self::Creating,
        Self::Running,
        Self::Paused,
        Self::Stopping,
        Self::Stopped,
        Self::Unreachable,
        Self::Error,
        Self::Deleted,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Pulling => "pulling",
            Self::Creating => "creating",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Unreachable => "unreachable",
            Self::Error => "error",
            Self::Deleted => "deleted",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// How a disk limit is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DiskEnforced {
    /// The host's file system refuses what is too much.
    Quota,
    /// It is measured now and then, files by their length; a workspace that has too much is warned and then stopped.
    Measured,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkspaceView {
    pub id: WorkspaceId,
    pub name: String,
    pub owner_id: UserId,
    pub status: WorkspaceStatus,
    /// Why it stands there, in a sentence, when that is not plain.
    pub status_reason: Option<String>,
    pub image: String,
    /// The template that it was made from.
    #[serde(default)]
    pub template: Option<String>,
    /// The repository that it was made for, and its branch.
    #[serde(default)]
    pub git_url: Option<String>,
    #[serde(default)]
    pub branch: Option<String>,
    /// Ports that its repository says are of interest.
    #[serde(default)]
    pub forward_ports: Vec<u16>,
    /// The snapshot that it began as, which may be gone.
    #[serde(default)]
    pub snapshot: Option<SnapshotId>,
    pub region: String,
    /// The host's name, for administrators only.
    pub host: Option<String>,
    pub runtime: String,
    pub cpu: f64,
    pub memory_mb: u32,
    /// Processes and threads at once.
    #[serde(default)]
    pub pids: u32,
    /// GiB of disk that it may use; absent: no limit.
    #[serde(default)]
    pub disk_gb: Option<u32>,
    /// How that limit is held; absent where there is none.
    #[serde(default)]
    pub disk_enforced: Option<DiskEnforced>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339; absent while it has never run.
    pub started_at: Option<String>,
    /// The limits that it is to have; absent while those above are in force.
    #[serde(default)]
    pub limits_wanted: Option<LimitsView>,
    /// What becomes of it if nobody uses it.
    #[serde(default)]
    pub idle: IdleView,
    /// Set where this is a machine that was joined, which is `running` while it is connected and `unreachable`
    /// while it is not: `image` is empty then, and CPU and memory are what it says that it has.
    #[serde(default)]
    pub machine: Option<MachineView>,
    /// Its last move to another server, until it has run there.
    #[serde(default)]
    pub moving: Option<MoveView>,
}

/// Where a stopped workspace is to be moved: without either, to another server of the same region.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MoveWorkspace {
    /// To some other server of this region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// To the server of this name; for administrators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// How long to wait before answering 202, in milliseconds: 25000 unless told, 120000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum MoveState {
    /// Its files are on their way; it lies where it lay.
    Moving,
    /// It lies there, verified. What it was made of is kept where it was until it has run at the new place.
    Unproven,
    /// It lies where it lay; `reason` says why.
    Failed,
}

/// A move to another server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MoveView {
    pub state: MoveState,
    /// That of the server that it goes to.
    pub region: String,
    /// That server's name, for administrators only.
    #[serde(default)]
    pub host: Option<String>,
    /// Compressed bytes that are there.
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub error_code: Option<ErrorCode>,
    /// RFC 3339; when it was asked for.
    pub asked_at: String,
}

/// A joined machine in its own words; empty before it was connected for the first time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MachineView {
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    pub os: String,
    /// Such as `x86_64`.
    pub arch: String,
    pub hostname: String,
    /// The account that everything runs as.
    pub user: String,
    /// Where terminals and commands begin.
    pub home: String,
    /// The version of the `rexec` that joined it.
    pub version: String,
}
