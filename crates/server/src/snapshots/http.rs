//! Routes of snapshots.

use crate::app::AppState;
use crate::error::Result;
use crate::http::extract::{Authenticated, Json, Path, Query};
use axum::extract::State;
use http::StatusCode;
use rexec_api::Page;
use rexec_api::error::ErrorBody;
use rexec_api::ids::{SnapshotId, WorkspaceId};
use rexec_api::snapshots::{NewSnapshot, SnapshotState, SnapshotView};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(take_snapshot))
        .routes(routes!(list_snapshots))
        .routes(routes!(get_snapshot, delete_snapshot))
}

/// Take a snapshot of a workspace: its root file system and its home.
///
/// A workspace that runs stands still for a moment; its processes are not part of the snapshot.
#[utoipa::path(
    post, path = "/api/workspaces/{id}/snapshots", tag = "snapshots",
    params(("id" = WorkspaceId, Path)),
    request_body = NewSnapshot,
    responses(
        (status = 201, description = "It is ready.", body = SnapshotView),
        (status = 202, description = "Still being taken after `wait_ms`.", body = SnapshotView),
        (status = "4XX", description = "Refused.", body = ErrorBody),
        (status = "5XX", description = "It could not be taken; nothing of it is left.", body = ErrorBody),
    )
)]
async fn take_snapshot(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Json(new): Json<NewSnapshot>,
) -> Result<(StatusCode, Json<SnapshotView>)> {
    let view = app.snapshots.take(&actor, id, new).await?;
    let status = if view.state == SnapshotState::Taking { StatusCode::ACCEPTED } else { StatusCode::CREATED };
    Ok((status, Json(view)))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// The `next` of the page before.
    cursor: Option<SnapshotId>,
}

/// List your snapshots, newest first.
#[utoipa::path(
    get, path = "/api/snapshots", tag = "snapshots",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of them.", body = Page<SnapshotView>),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn list_snapshots(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<SnapshotView>>> {
    Ok(Json(app.snapshots.list(&actor, query.cursor).await?))
}

/// One snapshot.
#[utoipa::path(
    get, path = "/api/snapshots/{id}", tag = "snapshots",
    params(("id" = SnapshotId, Path)),
    responses(
        (status = 200, description = "The snapshot.", body = SnapshotView),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn get_snapshot(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<SnapshotId>,
) -> Result<Json<SnapshotView>> {
    Ok(Json(app.snapshots.get(&actor, id).await?))
}

/// Delete a snapshot. Workspaces that were made from it lose nothing.
#[utoipa::path(
    delete, path = "/api/snapshots/{id}", tag = "snapshots",
    params(("id" = SnapshotId, Path)),
    responses(
        (status = 202, description = "It is gone for you; the host's disk is freed as soon as nothing needs it."),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn delete_snapshot(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<SnapshotId>,
) -> Result<StatusCode> {
    app.snapshots.delete(&actor, id).await?;
    Ok(StatusCode::ACCEPTED)
}
