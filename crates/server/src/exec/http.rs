//! The route of exec: a plain answer, or events as they come.

use super::budget::json_bytes;
use super::{Answer, Happening, Running};
use crate::app::AppState;
use crate::error::{Error, Result};
use crate::http::extract::{Authenticated, Json, Path, RequestId};
use crate::http::sse;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::stream;
use http::HeaderMap;
use rexec_api::error::ErrorBody;
use rexec_api::exec::{ExecEvent, ExecRequest, ExecResult, STDIN_BYTES_MAX};
use rexec_api::ids::WorkspaceId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What an answer has around its outputs, at most.
const FRAME_BYTES: usize = 256;
/// An answer that takes a while to be written as JSON.
const LONG_BYTES: usize = 256 * 1024;
/// Standard input in base64, and all else besides.
const BODY_BYTES_MAX: usize = STDIN_BYTES_MAX / 3 * 4 + crate::http::BODY_BYTES_MAX;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(exec))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .routes(routes!(super::socket::exec_socket))
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
    if !sse::wanted(&headers) {
        return whole(app.execs.run(&actor, id, request).await?).await;
    }
    let turn = app.streams.open(&actor)?;
    let running = app.execs.start(&actor, id, request).await?;
    let events = events(running, request_id.0.clone());
    Ok(sse::answer(&app, actor, request_id.0, turn, events))
}

/// The whole answer. A long one is written as JSON where nobody else waits.
async fn whole(answer: Answer) -> Result<Response> {
    let Answer { result, mut share } = answer;
    let bytes = json_bytes(&result.stdout) + json_bytes(&result.stderr) + FRAME_BYTES;
    // Counted before it is written, because nine at once would be too many.
    share.grow(bytes)?;
    let write = move || {
        let mut written = Vec::with_capacity(bytes);
        serde_json::to_writer(&mut written, &result).map(|()| written)
    };
    let written =
        if bytes > LONG_BYTES { tokio::task::spawn_blocking(write).await.map_err(Error::internal)? } else { write() };
    let body = share.with(written.map_err(Error::internal)?);
    Ok(([(http::header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// The command's happenings as server-sent events; the last is its exit or an error.
fn events(running: Running, request_id: String) -> impl stream::Stream<Item = sse::Event> {
    stream::unfold(Some(running), move |running| {
        let request_id = request_id.clone();
        async move {
            let mut running = running?;
            let (name, event) = match running.next().await {
                Ok(Happening::Stdout(bytes)) => ("stdout", ExecEvent::Stdout { data: BASE64_STANDARD.encode(&bytes) }),
                Ok(Happening::Stderr(bytes)) => ("stderr", ExecEvent::Stderr { data: BASE64_STANDARD.encode(&bytes) }),
                Ok(Happening::Exit { code, duration }) => {
                    let exit = ExecEvent::Exit { exit_code: code, duration_ms: duration.as_millis() as u64 };
                    return Some((sse::Event::new("exit", &exit), None));
                }
                Err(error) => return Some((sse::Event::error(&error, &request_id), None)),
            };
            Some((sse::Event::new(name, &event), Some(running)))
        }
    })
}
