//! Snapshots: a workspace's root file system and home as they were at one time.

use crate::error::ErrorCode;
use crate::ids::{SnapshotId, WorkspaceId};
use serde::{Deserialize, Serialize};

/// A request for a snapshot.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct NewSnapshot {
    /// Made from the workspace's name when absent. Need not be unique.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How long to wait for `ready` before answering 202, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SnapshotState {
    Taking,
    Ready,
    /// `reason` says why; nothing of it is left but this.
    Failed,
}

impl SnapshotState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Taking => "taking",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SnapshotView {
    pub id: SnapshotId,
    pub name: String,
    /// The workspace it was taken of, which may be gone.
    pub workspace_id: WorkspaceId,
    pub workspace_name: String,
    pub state: SnapshotState,
    /// Why it failed, or what it does not hold.
    pub reason: Option<String>,
    /// The stable code of that failure.
    #[serde(default)]
    pub error_code: Option<ErrorCode>,
    /// Home and root file system together. Files and directories count as 4 KiB each at the least.
    pub size_bytes: u64,
    pub home_bytes: u64,
    /// What the root file system has besides its base image.
    pub image_bytes: u64,
    /// For how long the workspace stood still, in milliseconds; absent when it did not run.
    pub pause_ms: Option<u64>,
    /// Workspaces that began as this snapshot and still are.
    pub clones: u64,
    /// RFC 3339.
    pub created_at: String,
}
