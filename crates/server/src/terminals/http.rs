//! Routes of terminals.

use super::socket::{Watchful, relay};
use crate::app::AppState;
use crate::error::{Error, Result};
use crate::http::extract::{Authenticated, Json, Path, Query};
use crate::http::websocket;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use http::StatusCode;
use rexec_api::Page;
use rexec_api::error::{ErrorBody, ErrorCode};
use rexec_api::frames::{CLIENT_FRAME_BYTES_MAX, SUBPROTOCOL, close};
use rexec_api::guest::{AttachMode, AttachSpec};
use rexec_api::ids::{TerminalId, WorkspaceId};
use rexec_api::terminals::{NewTerminal, TerminalView};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What a WebSocket keeps for reading and writing: an idle terminal costs little.
const READ_BUFFER_BYTES: usize = 4 * 1024;
const WRITE_BUFFER_BYTES: usize = 0;
/// What may wait to be written before sending waits: one output frame with room to spare.
const WRITE_BUFFER_BYTES_MAX: usize = 32 * 1024 * 1024;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(remove)).routes(routes!(attach))
}

/// Open a terminal.
#[utoipa::path(
    post, path = "/api/workspaces/{id}/terminals", tag = "terminals",
    operation_id = "create_terminal",
    params(("id" = WorkspaceId, Path)),
    request_body = NewTerminal,
    responses(
        (status = 201, description = "The terminal is open.", body = TerminalView),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn create(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Json(new): Json<NewTerminal>,
) -> Result<(StatusCode, Json<TerminalView>)> {
    Ok((StatusCode::CREATED, Json(app.terminals.create(&actor, id, new).await?)))
}

/// List the terminals of a workspace, those that have ended included.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/terminals", tag = "terminals",
    operation_id = "list_terminals",
    params(("id" = WorkspaceId, Path)),
    responses(
        (status = 200, description = "The terminals.", body = Page<TerminalView>),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn list(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
) -> Result<Json<Page<TerminalView>>> {
    Ok(Json(app.terminals.list(&actor, id).await?))
}

/// Close a terminal: its processes are hung up on.
#[utoipa::path(
    delete, path = "/api/workspaces/{id}/terminals/{tid}", tag = "terminals",
    operation_id = "remove_terminal",
    params(("id" = WorkspaceId, Path), ("tid" = TerminalId, Path)),
    responses(
        (status = 204, description = "The terminal is closed."),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn remove(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path((id, terminal)): Path<(WorkspaceId, TerminalId)>,
) -> Result<StatusCode> {
    app.terminals.remove(&actor, id, terminal).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How to attach.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct AttachQuery {
    /// Go on from here; without it, or when it is no longer kept, a snapshot comes first.
    offset: Option<u64>,
    /// `control` (the default) or `view`.
    #[param(value_type = Option<String>)]
    mode: Option<AttachMode>,
    /// Names this client across reconnects, so that its input is taken once.
    client: Option<uuid::Uuid>,
}

/// Attach to a terminal over a WebSocket of the subprotocol `rexec.terminal.v1`.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/terminals/{tid}/ws", tag = "terminals",
    params(("id" = WorkspaceId, Path), ("tid" = TerminalId, Path), AttachQuery),
    responses(
        (status = 101, description = "Attached; frames follow, and a refusal is a close code."),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn attach(
    State(app): State<AppState>,
    authenticated: Result<Authenticated>,
    Path((id, terminal)): Path<(WorkspaceId, TerminalId)>,
    Query(query): Query<AttachQuery>,
    upgrade: websocket::Asked,
) -> Result<Response> {
    let Ok(upgrade) = upgrade else {
        // Whoever is not signed in is told that first, as on every route.
        authenticated?;
        return Err(websocket::not_one(SUBPROTOCOL));
    };
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(2 * CLIENT_FRAME_BYTES_MAX)
        .max_frame_size(2 * CLIENT_FRAME_BYTES_MAX);
    // A browser cannot read the body of a refused upgrade: refusals of this kind are close codes.
    let Authenticated(actor) = match authenticated {
        Ok(authenticated) => authenticated,
        Err(error) if error.code.http_status() == 401 => return Ok(refuse(upgrade, error)),
        Err(error) => return Err(error),
    };
    let mode = query.mode.unwrap_or(AttachMode::Control);
    let spec = AttachSpec { offset: query.offset, mode, client: query.client };
    let attachment = match app.terminals.attach(&actor, id, terminal, &spec).await {
        Ok(attachment) => attachment,
        Err(error) => return Ok(refuse(upgrade, error)),
    };
    let watchful = Watchful { actor, auth: app.auth.clone(), tasks: app.tasks.clone(), mode };
    Ok(upgrade.on_upgrade(move |socket| relay(socket, attachment, watchful)))
}

/// Accepts, says why not, and closes.
fn refuse(upgrade: WebSocketUpgrade, error: Error) -> Response {
    let code = match error.code {
        code if code.http_status() == 401 => close::SIGN_IN,
        ErrorCode::NotFound | ErrorCode::TerminalGone | ErrorCode::OffsetAhead => close::ENDED,
        code if code.http_status() == 403 => close::FORBIDDEN,
        _ => close::TRY_AGAIN,
    };
    upgrade.on_upgrade(move |mut socket: WebSocket| async move {
        let frame = super::error_frame(error.code, &error.message);
        // Whoever has gone already needs no reason.
        let _ = socket.send(axum::extract::ws::Message::Binary(frame.into())).await;
        let frame = CloseFrame { code, reason: error.code.as_str().into() };
        let _ = socket.send(axum::extract::ws::Message::Close(Some(frame))).await;
    })
}
