//! Routes of volumes.

use crate::app::AppState;
use crate::error::Result;
use crate::http::extract::{Authenticated, Json, Path, Query};
use crate::workspaces::Outcome;
use axum::extract::State;
use http::StatusCode;
use rexec_api::Page;
use rexec_api::error::ErrorBody;
use rexec_api::ids::VolumeId;
use rexec_api::volumes::{RestoreVolume, VolumeView};
use rexec_api::workspaces::WorkspaceView;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_volumes))
        .routes(routes!(get_volume, purge_volume))
        .routes(routes!(restore))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// The `next` of the page before.
    cursor: Option<VolumeId>,
}

/// List the homes of your workspaces, and those kept of deleted ones, newest first.
#[utoipa::path(
    get, path = "/api/volumes", tag = "volumes",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of them.", body = Page<VolumeView>),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn list_volumes(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<VolumeView>>> {
    Ok(Json(app.volumes.list(&actor, query.cursor).await?))
}

/// One volume.
#[utoipa::path(
    get, path = "/api/volumes/{id}", tag = "volumes",
    params(("id" = VolumeId, Path)),
    responses(
        (status = 200, description = "The volume.", body = VolumeView),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn get_volume(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<VolumeId>,
) -> Result<Json<VolumeView>> {
    Ok(Json(app.volumes.get(&actor, id).await?))
}

/// Make a workspace on a kept home.
#[utoipa::path(
    post, path = "/api/volumes/{id}/restore", tag = "volumes",
    params(("id" = VolumeId, Path)),
    request_body = RestoreVolume,
    responses(
        (status = 201, description = "The workspace is running.", body = WorkspaceView),
        (status = 202, description = "Not yet running after `wait_ms`; it goes on.", body = WorkspaceView),
        (status = "4XX", description = "Refused; the home is kept.", body = ErrorBody),
        (status = "5XX", description = "Refused; the home is kept.", body = ErrorBody),
    )
)]
async fn restore(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<VolumeId>,
    Json(request): Json<RestoreVolume>,
) -> Result<(StatusCode, Json<WorkspaceView>)> {
    let Outcome { view, done } = app.volumes.restore(&actor, id, request).await?;
    Ok((if done { StatusCode::CREATED } else { StatusCode::ACCEPTED }, Json(view)))
}

/// Remove a kept home for good.
#[utoipa::path(
    delete, path = "/api/volumes/{id}", tag = "volumes",
    params(("id" = VolumeId, Path)),
    responses(
        (status = 202, description = "It cannot be restored any more; the host's disk is freed as soon as the engine allows."),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn purge_volume(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<VolumeId>,
) -> Result<StatusCode> {
    app.volumes.purge(&actor, id).await?;
    Ok(StatusCode::ACCEPTED)
}
