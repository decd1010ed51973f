//! Events: what happened, to whom, through whom; the audit log and the activity feed.
//!
//! Append-only. An event is written in the transaction of what it tells, so that neither exists
//! without the other.

use crate::db::execute;
use crate::time::now_ms;
use rexec_api::ids::{EventId, UserId, WorkspaceId};
use sea_orm::{ConnectionTrait, DbErr};

/// An event to be written now.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub user: Option<UserId>,
    pub workspace: Option<WorkspaceId>,
    /// `noun.happened`, such as `workspace.created`.
    pub kind: &'static str,
    pub data: serde_json::Value,
}

impl NewEvent {
    /// Something that a user did.
    pub fn of_user(user: UserId, kind: &'static str) -> Self {
        Self { user: Some(user), workspace: None, kind, data: serde_json::json!({}) }
    }

    /// Something that the server did of itself.
    pub fn of_server(kind: &'static str) -> Self {
        Self { user: None, workspace: None, kind, data: serde_json::json!({}) }
    }

    #[must_use]
    pub fn workspace(mut self, workspace: WorkspaceId) -> Self {
        self.workspace = Some(workspace);
        self
    }

    #[must_use]
    pub fn data(mut self, data: serde_json::Value) -> Self {
        self.data = data;
        self
    }
}

/// Writes an event in the caller's transaction.
pub async fn append<C: ConnectionTrait>(conn: &C, event: &NewEvent) -> Result<(), DbErr> {
    execute(
        conn,
        "INSERT INTO events (id, at_ms, user_id, workspace_id, kind, data_json)
         VALUES ($1, $2, $3, $4, $5, $6)",
        [
            EventId::new().to_string().into(),
            now_ms().into(),
            event.user.map(|u| u.to_string()).into(),
            event.workspace.map(|w| w.to_string()).into(),
            event.kind.into(),
            event.data.to_string().into(),
        ],
    )
    .await
    .map(|_| ())
}
