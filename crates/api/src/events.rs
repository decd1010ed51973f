//! Events: what happens to workspaces, as those who follow them hear it.

use crate::ids::{EventId, WorkspaceId};
use serde::{Deserialize, Serialize};

/// One event of `GET /api/events`; the SSE event's name is `kind`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventView {
    /// Absent for news that is not kept, such as `workspace.status`, or `workspace.unmade`: its making was refused after
    /// all, and what told of it is out of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<EventId>,
    /// `noun.happened`, such as `workspace.created`. New ones come with new capabilities.
    pub kind: String,
    pub workspace_id: WorkspaceId,
    /// RFC 3339.
    pub at: String,
    /// Particulars of the kind; of `workspace.status`: `status`, `reason` and `error`; of `workspace.ports`: `items`, the
    /// ports as their list has them, without addresses.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub data: serde_json::Value,
}
