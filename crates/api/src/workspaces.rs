//! Workspaces: what may be asked for, and what is seen of one.

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
/// Most variables in `env`, and most bytes of one name with its value.
pub const ENV_VARIABLES_MAX: usize = 256;
pub const ENV_BYTES_MAX: usize = 32 * 1024;
/// How long a request waits for a workspace when it does not say: some proxies cut at 30 s.
pub const WAIT_MS_DEFAULT: u64 = 25_000;
/// The longest such wait.
pub const WAIT_MS_MAX: u64 = 120_000;

/// A request for a workspace. Fields that later capabilities bring (`template`,
/// `git_url`, `region`, `host`, `disk_gb`, `egress`) are refused by name until they are there.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct NewWorkspace {
    /// Shown to people; made up when absent. Need not be unique.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A container image reference; the server's default when absent.
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
    /// An OCI runtime by name, such as `runc` or `runsc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Environment of every terminal and exec.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// How long to wait for `running` before answering 202, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// Changes to a workspace.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PatchWorkspace {
    pub name: Option<String>,
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
    pub region: String,
    /// The host's name, for administrators only.
    pub host: Option<String>,
    pub runtime: String,
    pub cpu: f64,
    pub memory_mb: u32,
    /// Processes and threads at once.
    #[serde(default)]
    pub pids: u32,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339; absent while it has never run.
    pub started_at: Option<String>,
}
