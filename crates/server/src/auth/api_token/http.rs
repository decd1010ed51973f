//! The routes of API tokens.

use crate::app::AppState;
use crate::error::Result;
use crate::http::extract::{Authenticated, Json, Path};
use axum::extract::State;
use http::StatusCode;
use rexec_api::Page;
use rexec_api::error::ErrorBody;
use rexec_api::ids::TokenId;
use rexec_api::tokens::{CreatedToken, NewToken, TokenView};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_tokens, create_token)).routes(routes!(revoke_token))
}

/// The account's API tokens, newest first; those that have run out stay for 30 days.
#[utoipa::path(get, path = "/api/tokens", tag = "tokens", responses(
    (status = 200, description = "All of them, without the tokens themselves.", body = Page<TokenView>),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn list_tokens(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
) -> Result<Json<Page<TokenView>>> {
    Ok(Json(Page { items: app.auth.tokens_of(&actor).await?, next: None }))
}

/// Make an API token.
///
/// It goes where a sign-in's token goes: `Authorization: Bearer <token>`, or the WebSocket subprotocol
/// `rexec.token.<token>`. It cannot have more than who makes it.
#[utoipa::path(post, path = "/api/tokens", tag = "tokens", request_body = NewToken, responses(
    (status = 201, description = "Made; the token is told here and never again.", body = CreatedToken),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn create_token(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, Json<CreatedToken>)> {
    Ok((StatusCode::CREATED, Json(app.auth.create_token(&actor, new).await?)))
}

/// Revoke an API token. What it opened ends within a second.
#[utoipa::path(delete, path = "/api/tokens/{id}", tag = "tokens", params(("id" = TokenId, Path)), responses(
    (status = 204, description = "Revoked."),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn revoke_token(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<TokenId>,
) -> Result<StatusCode> {
    app.auth.revoke_token(&actor, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
