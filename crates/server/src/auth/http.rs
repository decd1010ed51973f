//! The routes of login sessions.

use crate::app::AppState;
use crate::auth::{cookie_gone, cookie_with};
use crate::error::{Error, Result};
use crate::http::extract::{Authenticated, Json, Path};
use crate::http::origin::Scene;
use axum::Extension;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use rexec_api::Page;
use rexec_api::accounts::{SessionView, SignedIn};
use rexec_api::error::ErrorBody;
use rexec_api::ids::SessionId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(log_out))
        .routes(routes!(refresh))
        .routes(routes!(list_sessions))
        .routes(routes!(revoke_session))
}

/// Sign out: ends the session that asks.
#[utoipa::path(post, path = "/api/auth/logout", tag = "auth", responses(
    (status = 204, description = "signed out"),
    (status = "4XX", body = ErrorBody)))]
async fn log_out(
    State(app): State<AppState>,
    Extension(scene): Extension<Scene>,
    Authenticated(actor): Authenticated,
) -> Result<Response> {
    app.auth.log_out(&actor).await?;
    let cookie = cookie_gone(&scene)?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// A fresh token for the same session; the old one may have run out.
#[utoipa::path(post, path = "/api/auth/refresh", tag = "auth", responses(
    (status = 200, body = SignedIn),
    (status = "4XX", body = ErrorBody)))]
async fn refresh(
    State(app): State<AppState>,
    Extension(scene): Extension<Scene>,
    request: Request,
) -> Result<Response> {
    let (parts, _) = request.into_parts();
    let actor = app.auth.authenticate_to_refresh(&parts, &scene).await?;
    app.auth.limits.request_of_user(actor.user)?;
    let user = app.accounts.me(&actor).await?;
    let token = app.auth.refreshed_token(&actor)?;
    let cookie = cookie_with(&token, &scene)?;
    Ok(([(header::SET_COOKIE, cookie)], Json(SignedIn { token, user })).into_response())
}

/// The account's live login sessions, newest first.
#[utoipa::path(get, path = "/api/auth/sessions", tag = "auth", responses(
    (status = 200, body = Page<SessionView>),
    (status = "4XX", body = ErrorBody)))]
async fn list_sessions(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
) -> Result<Json<Page<SessionView>>, Error> {
    let items = app.auth.sessions_of(&actor).await?;
    Ok(Json(Page { items, next: None }))
}

/// End a login session, this one or another.
#[utoipa::path(delete, path = "/api/auth/sessions/{id}", tag = "auth",
    params(("id" = SessionId, Path)), responses(
    (status = 204, description = "ended"),
    (status = "4XX", body = ErrorBody)))]
async fn revoke_session(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<SessionId>,
) -> Result<StatusCode> {
    app.auth.revoke(&actor, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
