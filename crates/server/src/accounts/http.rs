//! The routes of accounts: register, sign in, and one's own view.

use crate::app::AppState;
use crate::auth::cookie_with;
use crate::error::Result;
use crate::http::extract::{Authenticated, Json};
use crate::http::origin::Scene;
use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use rexec_api::accounts::{AuthStatus, LoginRequest, RegisterRequest, SignedIn, UserView};
use rexec_api::error::ErrorBody;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(status)).routes(routes!(register)).routes(routes!(log_in)).routes(routes!(me))
}

/// What a page needs to know before anyone has signed in.
#[utoipa::path(get, path = "/api/auth/status", tag = "auth", security(()), responses(
    (status = 200, body = AuthStatus)))]
async fn status(State(app): State<AppState>) -> Result<Json<AuthStatus>> {
    app.accounts.status().await.map(Json)
}

/// Make an account and sign in. The first account becomes administrator.
#[utoipa::path(post, path = "/api/auth/register", tag = "auth", security(()), responses(
    (status = 201, body = SignedIn),
    (status = "4XX", body = ErrorBody)))]
async fn register(
    State(app): State<AppState>,
    Extension(scene): Extension<Scene>,
    headers: HeaderMap,
    Json(request): Json<RegisterRequest>,
) -> Result<Response> {
    let signed_in = app.accounts.register(request, &scene, user_agent(&headers)).await?;
    with_cookie(StatusCode::CREATED, signed_in, &scene)
}

/// Sign in. The answer's token is also set as a cookie for the page.
#[utoipa::path(post, path = "/api/auth/login", tag = "auth", security(()), responses(
    (status = 200, body = SignedIn),
    (status = "4XX", body = ErrorBody)))]
async fn log_in(
    State(app): State<AppState>,
    Extension(scene): Extension<Scene>,
    headers: HeaderMap,
    Json(request): Json<LoginRequest>,
) -> Result<Response> {
    let signed_in = app.accounts.log_in(request, &scene, user_agent(&headers)).await?;
    with_cookie(StatusCode::OK, signed_in, &scene)
}

/// The account that asks.
#[utoipa::path(get, path = "/api/me", tag = "auth", responses(
    (status = 200, body = UserView),
    (status = "4XX", body = ErrorBody)))]
async fn me(State(app): State<AppState>, Authenticated(actor): Authenticated) -> Result<Json<UserView>> {
    app.accounts.me(&actor).await.map(Json)
}

fn with_cookie(status: StatusCode, signed_in: SignedIn, scene: &Scene) -> Result<Response> {
    let cookie = cookie_with(&signed_in.token, scene)?;
    Ok((status, [(header::SET_COOKIE, cookie)], Json(signed_in)).into_response())
}

fn user_agent(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::USER_AGENT)?.to_str().ok()
}
