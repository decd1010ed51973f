//! How far a workspace is on its way to being usable.

use crate::setups::SetupProgress;
use crate::workspaces::WorkspaceStatus;
use serde::{Deserialize, Serialize};

/// All that is known at one time; each event of `GET /api/workspaces/{id}/progress` is one of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProgressView {
    pub status: WorkspaceStatus,
    /// Why it stands there, in a sentence, when that is not plain.
    pub reason: Option<String>,
    /// Its place, from 1, among those that wait for their host to make or start them; people come before what is
    /// kept warm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<u32>,
    /// The image that is being fetched.
    pub pull: Option<PullView>,
    /// The step of the set-up that runs.
    pub setup: Option<SetupProgress>,
    /// Compressed bytes that have come to the server that it is moved to.
    #[serde(default)]
    pub moved_bytes: Option<u64>,
}

/// A pull, layer by layer, in the order in which the engine first told of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PullView {
    pub image: String,
    pub layers: Vec<LayerView>,
    pub layers_done: u32,
    /// Downloaded, of all layers whose size is known.
    pub bytes: u64,
    /// 0 while no size is known.
    pub total_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LayerView {
    pub id: String,
    /// In the engine's words, such as `Downloading` or `Pull complete`.
    pub status: String,
    /// Of the step that `status` names.
    pub bytes: u64,
    /// 0 when not known.
    pub total_bytes: u64,
}
