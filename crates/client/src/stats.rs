//! What a workspace uses, as it comes.

use crate::{Client, Result, STREAM_TIMEOUT, ServerEvents, accepted};
use http::Method;
use rexec_api::error::ErrorDetail;
use rexec_api::ids::WorkspaceId;
use rexec_api::stats::StatsSample;
use serde::Deserialize;

/// Something that comes over a stream of statistics.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum StatsHeard {
    Sample(StatsSample),
    /// The server ends the stream, and says why.
    Ended {
        error: ErrorDetail,
    },
}

impl Client {
    /// A sample every two seconds while the workspace runs.
    pub async fn watch_stats(&self, workspace: WorkspaceId) -> Result<ServerEvents<StatsHeard>> {
        let request = self.request(Method::GET, &format!("/api/workspaces/{workspace}/stats"));
        Ok(ServerEvents::of(accepted(request.timeout(STREAM_TIMEOUT).send().await?).await?))
    }
}
