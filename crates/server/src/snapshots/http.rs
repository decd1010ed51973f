//! Routes of snapshots.

use super::archive::Piece;
use crate::app::AppState;
use crate::error::Result;
use crate::files::http::archive::disposition;
use crate::http::extract::{Authenticated, Json, Path, Query};
use crate::http::incoming::Incoming;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{StatusCode, header};
use rexec_api::Page;
use rexec_api::error::ErrorBody;
use rexec_api::files::ArchiveFormat;
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
        .routes(routes!(export_snapshot))
        // An archive has no limit but its owner's quota.
        .merge(OpenApiRouter::new().routes(routes!(import_snapshot)).layer(DefaultBodyLimit::disable()))
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

/// Download a snapshot as one archive (`tar.zst`): a manifest, its root file system in full, and its home.
///
/// It can be imported on any server with hosts of the same architecture. The manifest holds the workspace's
/// environment with its values.
#[utoipa::path(
    get, path = "/api/snapshots/{id}/export", tag = "snapshots",
    params(("id" = SnapshotId, Path)),
    responses(
        (status = 200, description = "The archive; one that is cut is not whole.", content_type = "application/zstd"),
        (status = "4XX", description = "Refused.", body = ErrorBody),
        (status = "5XX", description = "The host could not read it.", body = ErrorBody),
    )
)]
async fn export_snapshot(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<SnapshotId>,
) -> Result<Response> {
    let turn = app.streams.open(&actor)?;
    let export = app.snapshots.export(&actor, id).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/zstd".to_owned()),
        (header::CONTENT_DISPOSITION, disposition(export.name.as_bytes(), ArchiveFormat::TarZst)),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    let pieces = stream::try_unfold((export, turn), async |(mut export, turn)| {
        let piece = export.next().await?;
        Ok::<_, std::io::Error>(piece.map(|piece| (piece, (export, turn))))
    });
    Ok((headers, Body::from_stream(pieces)).into_response())
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ImportQuery {
    /// What it is to be called; as the archive says when absent.
    name: Option<String>,
}

/// Import a snapshot from an archive that an export has made, on this server or another.
///
/// It is listed as being taken until all of it has come; its `workspace_id` is that of no workspace here.
#[utoipa::path(
    post, path = "/api/snapshots/import", tag = "snapshots",
    params(ImportQuery),
    request_body(content_type = "application/zstd"),
    responses(
        (status = 201, description = "It is ready: workspaces can be made from it.", body = SnapshotView),
        (status = "4XX", description = "Refused; nothing of it is left.", body = ErrorBody),
        (status = "5XX", description = "The host could not take it in; nothing of it is left.", body = ErrorBody),
    )
)]
async fn import_snapshot(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Query(query): Query<ImportQuery>,
    body: Body,
) -> Result<(StatusCode, Json<SnapshotView>)> {
    let import = app.snapshots.import(&actor, query.name).await?;
    let mut body = Incoming::new(body);
    while let Some(bytes) = body.next("Send the archive again; nothing of it is kept.").await? {
        if !import.send(Piece::Bytes(bytes)).await {
            break;
        }
    }
    import.send(Piece::End).await;
    Ok((StatusCode::CREATED, Json(app.snapshots.imported(&actor, import).await?)))
}
