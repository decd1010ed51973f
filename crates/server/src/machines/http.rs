//! The routes of joined machines: what their owners ask, and what machines ask themselves.

use crate::app::AppState;
use crate::auth;
use crate::error::{Error, Result};
use crate::http::extract::{Authenticated, Json, Path};
use crate::http::origin::Scene;
use crate::http::tunnel;
use crate::http::websocket::Asked;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use rexec_api::Page;
use rexec_api::error::{ErrorBody, ErrorCode};
use rexec_api::ids::JoinTokenId;
use rexec_api::machines::{CreatedJoinToken, JoinMachine, JoinTokenView, JoinedMachine, NewJoinToken};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_join_tokens, create_join_token))
        .routes(routes!(revoke_join_token))
        .routes(routes!(join_machine))
        .routes(routes!(machine_tunnel))
        .routes(routes!(leave_machine))
}

/// The join tokens that wait for a machine, newest first.
#[utoipa::path(get, path = "/api/machines/tokens", tag = "machines", responses(
    (status = 200, description = "All of them, without the tokens themselves.", body = Page<JoinTokenView>),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn list_join_tokens(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
) -> Result<Json<Page<JoinTokenView>>> {
    Ok(Json(Page { items: app.machines.tokens_of(&actor).await?, next: None }))
}

/// Make a token by which one machine may join the account, once.
///
/// On that machine: `rexec join <this server> --token <token>`. Whoever has the token can add a machine to the account
/// and nothing else.
#[utoipa::path(post, path = "/api/machines/tokens", tag = "machines", request_body = NewJoinToken, responses(
    (status = 201, description = "Made; the token is told here and never again.", body = CreatedJoinToken),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn create_join_token(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Json(new): Json<NewJoinToken>,
) -> Result<(StatusCode, Json<CreatedJoinToken>)> {
    Ok((StatusCode::CREATED, Json(app.machines.create_token(&actor, new).await?)))
}

/// Revoke a join token that was not used yet. A machine that has joined by one is removed as a workspace is.
#[utoipa::path(delete, path = "/api/machines/tokens/{id}", tag = "machines", params(("id" = JoinTokenId, Path)), responses(
    (status = 204, description = "Revoked."),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn revoke_join_token(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<JoinTokenId>,
) -> Result<StatusCode> {
    app.machines.revoke_token(&actor, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Join a machine to the account whose join token it has; `rexec join` does.
///
/// The token is used up. The machine is a workspace from then on, with a `machine` in its view.
#[utoipa::path(post, path = "/api/machines/join", tag = "machines", security(()), request_body = JoinMachine, responses(
    (status = 201, description = "Joined; the credential is told here and never again.", body = JoinedMachine),
    (status = "4XX", description = "Refused; `join_token_refused` where the token is not good.", body = ErrorBody)))]
async fn join_machine(
    State(app): State<AppState>,
    Extension(scene): Extension<Scene>,
    Json(asked): Json<JoinMachine>,
) -> Result<(StatusCode, Json<JoinedMachine>)> {
    Ok((StatusCode::CREATED, Json(app.machines.join(asked, scene.address).await?)))
}

/// The connection of a joined machine: a WebSocket of the subprotocol `rexec.tunnel.v1`.
///
/// The machine's credential goes where a token goes. Within the stream the server speaks HTTP/2 and asks, and the
/// machine answers as the guest of a workspace does. Close codes: 4410, the machine was removed; 4409, another
/// connection has taken its place; any other: come back.
#[utoipa::path(get, path = "/api/machines/ws", tag = "machines", security(()), responses(
    (status = 101, description = "Connected."),
    (status = "4XX", description = "Refused; `machine_gone` where the machine was removed.", body = ErrorBody)))]
async fn machine_tunnel(State(app): State<AppState>, headers: HeaderMap, upgrade: Asked) -> Result<Response> {
    let upgrade = tunnel::upgrade(upgrade)?;
    let id = app.machines.identify(&credential(&headers)?).await?;
    let connected = app.machines.connect(id)?;
    let machines = app.machines.clone();
    Ok(upgrade.on_upgrade(async move |socket| machines.carry(connected, socket).await))
}

/// Remove the machine that asks, as its owner does by deleting it; `rexec leave` does.
#[utoipa::path(post, path = "/api/machines/leave", tag = "machines", security(()), responses(
    (status = 204, description = "Removed; its credential is good for nothing any more."),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn leave_machine(State(app): State<AppState>, headers: HeaderMap) -> Result<StatusCode> {
    app.machines.leave(&credential(&headers)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a machine proves itself by. Never of a cookie: no browser is a machine.
fn credential(headers: &HeaderMap) -> Result<String> {
    auth::explicit_token(headers)?
        .ok_or_else(|| Error::new(ErrorCode::Unauthenticated, "Send the machine's credential as a bearer token."))
}
