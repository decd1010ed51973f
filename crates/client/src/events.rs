//! What happens to workspaces: as the log has it, and as it comes.

use crate::{Client, Result, STREAM_TIMEOUT, ServerEvents, accepted};
use http::Method;
use rexec_api::Page;
use rexec_api::error::ErrorDetail;
use rexec_api::events::EventView;
use rexec_api::ids::{EventId, WorkspaceId};
use serde::Deserialize;

/// Something that comes over the stream of events.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Heard {
    News(EventView),
    /// The server ends the stream, and says why.
    Ended {
        error: ErrorDetail,
    },
    /// From here on nothing is missed.
    Resync {},
}

impl Client {
    /// What has happened to a workspace, the newest first; `cursor` is the `next` of the page before.
    pub async fn events_of(&self, workspace: WorkspaceId, cursor: Option<&str>) -> Result<Page<EventView>> {
        let cursor = cursor.map(|cursor| format!("?cursor={cursor}")).unwrap_or_default();
        self.get(&format!("/api/workspaces/{workspace}/events{cursor}")).await
    }

    /// What happens to all of the account's workspaces, after what the log has since `after`.
    pub async fn follow_events(&self, after: Option<EventId>) -> Result<ServerEvents<Heard>> {
        let mut request = self.request(Method::GET, "/api/events").timeout(STREAM_TIMEOUT);
        if let Some(after) = after {
            request = request.header("last-event-id", after.to_string());
        }
        Ok(ServerEvents::of(accepted(request.send().await?).await?))
    }
}
