//! The route of exec: a plain answer, or events as they come.

use super::{Happening, Running};
use crate::app::AppState;
use crate::error::Result;
use crate::http::extract::{Authenticated, Json, Path, RequestId};
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, header};
use rexec_api::error::ErrorBody;
use rexec_api::exec::{ExecEvent, ExecRequest, ExecResult};
use rexec_api::ids::WorkspaceId;
use std::convert::Infallible;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(exec))
}

/// Run a command. With `Accept: text/event-stream` its output comes as events.
#[utoipa::path(
    post, path = "/api/workspaces/{id}/exec", tag = "exec",
    params(("id" = WorkspaceId, Path)),
    request_body = ExecRequest,
    responses(
        (status = 200, description = "The command has ended, whatever its exit code.", content(
            (ExecResult = "application/json"), (ExecEvent = "text/event-stream")
        )),
        (status = "4XX", description = "Refused.", body = ErrorBody),
        (status = 504, description = "Ended after `timeout_ms`; `details` has the output so far.", body = ErrorBody),
    )
)]
async fn exec(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    request_id: RequestId,
    Path(id): Path<WorkspaceId>,
    headers: HeaderMap,
    Json(request): Json<ExecRequest>,
) -> Result<Response> {
    let wants_events =
        headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("text/event-stream"));
    if !wants_events {
        return Ok(Json(app.execs.run(&actor, id, request).await?).into_response());
    }
    let running = app.execs.start(&actor, id, request).await?;
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(events(running, request_id.0))).into_response())
}

/// The command's happenings as server-sent events; the last is its exit or an error.
fn events(running: Running, request_id: String) -> impl stream::Stream<Item = std::result::Result<Bytes, Infallible>> {
    stream::unfold(Some(running), move |running| {
        let request_id = request_id.clone();
        async move {
            let mut running = running?;
            let (event, rest) = match running.next().await {
                Ok(Happening::Stdout(bytes)) => {
                    (ExecEvent::Stdout { data: BASE64_STANDARD.encode(&bytes) }, Some(running))
                }
                Ok(Happening::Stderr(bytes)) => {
                    (ExecEvent::Stderr { data: BASE64_STANDARD.encode(&bytes) }, Some(running))
                }
                Ok(Happening::Exit { code, duration }) => {
                    (ExecEvent::Exit { exit_code: code, duration_ms: duration.as_millis() as u64 }, None)
                }
                Err(error) => (ExecEvent::Error { error: error.detail(&request_id) }, None),
            };
            Some((Ok(sse(&event)), rest))
        }
    })
}

/// `event: <type>` and one `data:` line (WHATWG HTML, section 9.2).
fn sse(event: &ExecEvent) -> Bytes {
    let name = match event {
        ExecEvent::Stdout { .. } => "stdout",
        ExecEvent::Stderr { .. } => "stderr",
        ExecEvent::Exit { .. } => "exit",
        ExecEvent::Error { .. } => "error",
    };
    let data = serde_json::to_string(event).unwrap_or_default();
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}
