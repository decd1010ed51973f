//! Homes of workspaces: those in use, and those kept for a while after their workspace was deleted.

use crate::ids::{VolumeId, WorkspaceId};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum VolumeState {
    /// The home of a workspace that there is.
    InUse,
    /// Its workspace is deleted; it can be restored until `purge_after`.
    Kept,
}

impl VolumeState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InUse => "in_use",
            Self::Kept => "kept",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VolumeView {
    pub id: VolumeId,
    /// The workspace whose home it is, or was.
    pub workspace_id: WorkspaceId,
    pub workspace_name: String,
    pub state: VolumeState,
    /// Absent until it was measured.
    pub size_bytes: Option<u64>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339; since when it is kept.
    pub kept_at: Option<String>,
    /// RFC 3339; when it is removed for good unless it is restored before.
    pub purge_after: Option<String>,
}

/// A request for a workspace on a kept home.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RestoreVolume {
    /// The workspace's name; that of before when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How long to wait for `running` before answering 202, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}
