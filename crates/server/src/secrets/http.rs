//! Routes of secrets.

use crate::app::AppState;
use crate::error::Result;
use crate::http::extract::{Authenticated, Json, Path};
use axum::extract::State;
use http::StatusCode;
use rexec_api::Page;
use rexec_api::error::ErrorBody;
use rexec_api::secrets::{PutSecret, SecretView};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_secrets)).routes(routes!(put_secret, delete_secret))
}

/// List your secrets.
///
/// Which of them a workspace uses, its `egress.secrets` says.
#[utoipa::path(
    get, path = "/api/secrets", tag = "secrets",
    responses(
        (status = 200, description = "All of them, without their values.", body = Page<SecretView>),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn list_secrets(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
) -> Result<Json<Page<SecretView>>> {
    Ok(Json(app.secrets.list(&actor).await?))
}

/// Store a secret, or change one.
///
/// What is absent stays as it is. Workspaces that have it use a new value at once, also programs that run there, where it
/// begins as the one before did (`ghp_`) and is as long.
#[utoipa::path(
    put, path = "/api/secrets/{name}", tag = "secrets",
    params(("name" = String, Path, description = "The name of the variable inside, such as `OPENAI_API_KEY`.")),
    request_body = PutSecret,
    responses(
        (status = 200, description = "Changed.", body = SecretView),
        (status = 201, description = "Stored.", body = SecretView),
        (status = "4XX", description = "Refused, and as before: `invalid_request`, `quota_exceeded`.", body = ErrorBody),
    )
)]
async fn put_secret(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(name): Path<String>,
    Json(put): Json<PutSecret>,
) -> Result<(StatusCode, Json<SecretView>)> {
    let (view, is_new) = app.secrets.put(&actor, &name, put).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(view)))
}

/// Forget a secret. No workspace can use it from now on.
#[utoipa::path(
    delete, path = "/api/secrets/{name}", tag = "secrets",
    params(("name" = String, Path)),
    responses(
        (status = 204, description = "Forgotten."),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn delete_secret(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(name): Path<String>,
) -> Result<StatusCode> {
    app.secrets.remove(&actor, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
