//! The routes of machines' sign-ins.

use crate::app::AppState;
use crate::error::Result;
use crate::http::extract::{Authenticated, Json};
use crate::http::origin::Scene;
use axum::Extension;
use axum::extract::State;
use http::StatusCode;
use rexec_api::device::{
    DeviceAuthorization, DeviceRequestView, DeviceToken, DeviceTokenRequest, NewDeviceLogin, UserCode,
};
use rexec_api::error::ErrorBody;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(begin))
        .routes(routes!(finish))
        .routes(routes!(look_up))
        .routes(routes!(approve))
        .routes(routes!(deny))
}

/// Begin to sign in a machine that has no browser (RFC 8628, in JSON).
///
/// Show the address and the code to a person, and ask `/api/auth/device/token` every `interval` seconds.
#[utoipa::path(post, path = "/api/auth/device", tag = "auth", security(()), request_body = NewDeviceLogin, responses(
    (status = 200, description = "A code for the machine and one for the person.", body = DeviceAuthorization),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn begin(
    State(app): State<AppState>,
    Extension(scene): Extension<Scene>,
    Json(new): Json<NewDeviceLogin>,
) -> Result<Json<DeviceAuthorization>> {
    app.auth.begin_device_login(new, &scene).await.map(Json)
}

/// Ask whether the machine was let in; the token is told once.
///
/// As long as nobody has decided, the answer is 400 with `authorization_pending`, or `slow_down` for who asks too often;
/// then `access_denied`, or `expired_token` once ten minutes have passed or the code was used.
#[utoipa::path(post, path = "/api/auth/device/token", tag = "auth", security(()), request_body = DeviceTokenRequest, responses(
    (status = 200, description = "Approved: the machine's API token, told here and never again.", body = DeviceToken),
    (status = "4XX", description = "Not yet, or no more.", body = ErrorBody)))]
async fn finish(State(app): State<AppState>, Json(asked): Json<DeviceTokenRequest>) -> Result<Json<DeviceToken>> {
    let granted = app.auth.finish_device_login(&asked.device_code).await?;
    let user = app.accounts.view_of(granted.user).await?;
    Ok(Json(DeviceToken {
        access_token: granted.token,
        token_type: "Bearer".into(),
        expires_in: granted.expires_in_s,
        user,
    }))
}

/// What waits under a code that a machine shows.
#[utoipa::path(post, path = "/api/auth/device/lookup", tag = "auth", request_body = UserCode, responses(
    (status = 200, description = "What asks, from where, since when.", body = DeviceRequestView),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn look_up(
    State(app): State<AppState>,
    Extension(scene): Extension<Scene>,
    Authenticated(actor): Authenticated,
    Json(code): Json<UserCode>,
) -> Result<Json<DeviceRequestView>> {
    app.auth.device_request(&actor, &code.user_code, &scene).await.map(Json)
}

/// Let the machine in: it gets an API token with all that you may do, for 90 days at most.
#[utoipa::path(post, path = "/api/auth/device/approve", tag = "auth", request_body = UserCode, responses(
    (status = 204, description = "Approved."),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn approve(
    State(app): State<AppState>,
    Extension(scene): Extension<Scene>,
    Authenticated(actor): Authenticated,
    Json(code): Json<UserCode>,
) -> Result<StatusCode> {
    app.auth.approve_device(&actor, &code.user_code, &scene).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Turn the machine away.
#[utoipa::path(post, path = "/api/auth/device/deny", tag = "auth", request_body = UserCode, responses(
    (status = 204, description = "Denied."),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn deny(
    State(app): State<AppState>,
    Extension(scene): Extension<Scene>,
    Authenticated(actor): Authenticated,
    Json(code): Json<UserCode>,
) -> Result<StatusCode> {
    app.auth.deny_device(&actor, &code.user_code, &scene).await?;
    Ok(StatusCode::NO_CONTENT)
}
