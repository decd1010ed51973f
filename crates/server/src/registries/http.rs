//! Routes of credentials: for registries, and for hosts of repositories.

use super::Purpose;
use crate::app::AppState;
use crate::error::Result;
use crate::http::extract::{Authenticated, Json, Path};
use axum::extract::State;
use http::StatusCode;
use rexec_api::Page;
use rexec_api::error::ErrorBody;
use rexec_api::ids::RegistryId;
use rexec_api::registries::{NewRegistry, RegistryView};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_registries, store_registry))
        .routes(routes!(delete_registry))
        .routes(routes!(list_git_credentials, store_git_credentials))
        .routes(routes!(delete_git_credentials))
}

/// List the registries for which there are credentials: yours, and those for everyone.
#[utoipa::path(
    get, path = "/api/registries", tag = "registries",
    responses(
        (status = 200, description = "All of them, without their passwords.", body = Page<RegistryView>),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn list_registries(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
) -> Result<Json<Page<RegistryView>>> {
    Ok(Json(app.registries.list(&actor, Purpose::Images).await?))
}

/// Store credentials for a registry. Images from there are fetched with them from now on.
#[utoipa::path(
    post, path = "/api/registries", tag = "registries",
    request_body = NewRegistry,
    responses(
        (status = 201, description = "Stored; they are tried when an image is fetched.", body = RegistryView),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn store_registry(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Json(new): Json<NewRegistry>,
) -> Result<(StatusCode, Json<RegistryView>)> {
    Ok((StatusCode::CREATED, Json(app.registries.put(&actor, Purpose::Images, new).await?)))
}

/// Forget the credentials for a registry.
#[utoipa::path(
    delete, path = "/api/registries/{id}", tag = "registries",
    params(("id" = RegistryId, Path)),
    responses(
        (status = 204, description = "Forgotten. Images that were fetched stay on the host."),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn delete_registry(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<RegistryId>,
) -> Result<StatusCode> {
    app.registries.remove(&actor, Purpose::Images, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the hosts of repositories for which you have credentials.
#[utoipa::path(
    get, path = "/api/git/credentials", tag = "registries",
    responses(
        (status = 200, description = "All of them, without their passwords.", body = Page<RegistryView>),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn list_git_credentials(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
) -> Result<Json<Page<RegistryView>>> {
    Ok(Json(app.registries.list(&actor, Purpose::Git).await?))
}

/// Store credentials for a host of repositories, such as `github.com`. Workspaces that are created from an
/// `https://` address there are cloned with them; the workspace does not keep them.
#[utoipa::path(
    post, path = "/api/git/credentials", tag = "registries",
    request_body = NewRegistry,
    responses(
        (status = 201, description = "Stored; they are tried when a repository is cloned.", body = RegistryView),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn store_git_credentials(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Json(new): Json<NewRegistry>,
) -> Result<(StatusCode, Json<RegistryView>)> {
    Ok((StatusCode::CREATED, Json(app.registries.put(&actor, Purpose::Git, new).await?)))
}

/// Forget the credentials for a host of repositories.
#[utoipa::path(
    delete, path = "/api/git/credentials/{id}", tag = "registries",
    params(("id" = RegistryId, Path)),
    responses(
        (status = 204, description = "Forgotten. What was cloned stays."),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn delete_git_credentials(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<RegistryId>,
) -> Result<StatusCode> {
    app.registries.remove(&actor, Purpose::Git, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
