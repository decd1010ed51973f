//! What changes in a directory, as server-sent events.

use super::query_path;
use crate::app::AppState;
use crate::error::Result;
use crate::http::extract::{Authenticated, Path, Query, RequestId};
use crate::http::sse;
use axum::extract::State;
use axum::response::Response;
use futures_util::stream;
use rexec_api::error::ErrorBody;
use rexec_api::files::FileEvent;
use rexec_api::ids::WorkspaceId;
use serde::Deserialize;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WatchQuery {
    /// Absolute; a directory, or a file.
    #[serde(default)]
    path: String,
    /// Instead of `path` where that is not UTF-8: its bytes in base64.
    path_b64: Option<String>,
    /// Watch the directories below as well.
    #[serde(default)]
    recursive: bool,
}

/// Watch a directory from now on: each change is an event. Ends when what is watched is no more.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/files/watch", tag = "files", operation_id = "watch_files",
    params(("id" = WorkspaceId, Path), WatchQuery),
    responses(
        (status = 200, description = "Events as they come.", body = FileEvent, content_type = "text/event-stream"),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
pub(super) async fn watch(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    request_id: RequestId,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<WatchQuery>,
) -> Result<Response> {
    let path = query_path(&query.path, query.path_b64.as_deref())?;
    let turn = app.streams.open(&actor)?;
    let changes = app.files.watch(&actor, id, &path, query.recursive).await?;
    let events = stream::unfold(changes, |mut changes| async move {
        match changes.next().await {
            Ok(Some(event)) => Some((sse::Event::new(event.name(), &event), changes)),
            // The guest ended it, or cannot be reached any more: the client asks again.
            Ok(None) | Err(_) => None,
        }
    });
    Ok(sse::answer(&app, actor, request_id.0, turn, events))
}
