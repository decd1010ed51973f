//! Routes of files: what is known of them, and what is done to them in one call. Content, archives,
//! uploads in pieces and watches have files of their own.

pub(crate) mod archive;
mod content;
mod upload;
mod watch;

use crate::app::AppState;
use crate::error::Result;
use crate::files::RawPath;
use crate::http::extract::{Authenticated, Json, Path, Query};
use crate::turns::Turn;
use crate::workspaces::InUse;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use rexec_api::Page;
use rexec_api::error::ErrorBody;
use rexec_api::files::{FileInfo, MakeDirectory, MoveFile};
use rexec_api::ids::WorkspaceId;
use rexec_channel::{BodyReceiver, ChannelError};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    // Files and archives have no limit but the disk's.
    let unbounded = OpenApiRouter::new()
        .routes(routes!(content::read, upload::write, remove))
        .routes(routes!(archive::extract))
        .layer(DefaultBodyLimit::disable());
    OpenApiRouter::new()
        .merge(unbounded)
        .routes(routes!(list))
        .routes(routes!(stat))
        .routes(routes!(mkdir))
        .routes(routes!(rename))
        .routes(routes!(archive::archive))
        .routes(routes!(upload::state, upload::forget))
        .routes(routes!(watch::watch))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct PathQuery {
    /// Absolute.
    #[serde(default)]
    path: String,
    /// Instead of `path` where that is not UTF-8: its bytes in base64.
    path_b64: Option<String>,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Absolute.
    #[serde(default)]
    path: String,
    /// Instead of `path` where that is not UTF-8: its bytes in base64.
    path_b64: Option<String>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// Entries of a page, 10,000 at most.
    limit: Option<usize>,
}

/// List a directory by name.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/files/list", tag = "files", operation_id = "list_files",
    params(("id" = WorkspaceId, Path), ListQuery),
    responses(
        (status = 200, description = "A page of its entries.", body = Page<FileInfo>),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn list(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<FileInfo>>> {
    let path = query_path(&query.path, query.path_b64.as_deref())?;
    Ok(Json(app.files.list(&actor, id, &path, query.cursor.as_deref(), query.limit).await?))
}

/// Describe a path; a symbolic link is not followed.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/files/stat", tag = "files", operation_id = "stat_file",
    params(("id" = WorkspaceId, Path), PathQuery),
    responses(
        (status = 200, description = "What is there.", body = FileInfo),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn stat(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<PathQuery>,
) -> Result<Json<FileInfo>> {
    Ok(Json(app.files.stat(&actor, id, &query_path(&query.path, query.path_b64.as_deref())?).await?))
}

/// Make a directory; one that is there is success.
#[utoipa::path(
    post, path = "/api/workspaces/{id}/files/mkdir", tag = "files", operation_id = "make_directory",
    params(("id" = WorkspaceId, Path)),
    request_body = MakeDirectory,
    responses(
        (status = 200, description = "The directory is there.", body = FileInfo),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn mkdir(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Json(new): Json<MakeDirectory>,
) -> Result<Json<FileInfo>> {
    Ok(Json(app.files.mkdir(&actor, id, &new).await?))
}

/// Move or rename a file or directory.
#[utoipa::path(
    post, path = "/api/workspaces/{id}/files/move", tag = "files", operation_id = "move_file",
    params(("id" = WorkspaceId, Path)),
    request_body = MoveFile,
    responses(
        (status = 200, description = "It has its new name.", body = FileInfo),
        (status = "4XX", description = "Refused; it has its old name.", body = ErrorBody),
    )
)]
async fn rename(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Json(change): Json<MoveFile>,
) -> Result<Json<FileInfo>> {
    Ok(Json(app.files.rename(&actor, id, &change).await?))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct RemoveQuery {
    /// Absolute.
    #[serde(default)]
    path: String,
    /// Instead of `path` where that is not UTF-8: its bytes in base64.
    path_b64: Option<String>,
    /// Remove a directory with all that is in it.
    #[serde(default)]
    recursive: bool,
}

/// Remove a file.
#[utoipa::path(
    delete, path = "/api/workspaces/{id}/files", tag = "files",
    params(("id" = WorkspaceId, Path), RemoveQuery),
    responses(
        (status = 204, description = "It is gone."),
        (
            status = "4XX",
            description = "Refused; a directory that cannot itself be removed, such as the home or a mount, before anything in it is.",
            body = ErrorBody
        ),
    )
)]
async fn remove(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<RemoveQuery>,
) -> Result<StatusCode> {
    let path = query_path(&query.path, query.path_b64.as_deref())?;
    app.files.remove(&actor, id, &path, query.recursive).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The path that a query asks for.
fn query_path(path: &str, base64: Option<&str>) -> Result<RawPath> {
    RawPath::new("path", path, base64)
}

/// A guest's body as one of ours: at most `bytes` of it if that many were promised, and cut, not
/// ended, where it broke off, which is all that can be said after the head. The workspace is in use until then,
/// and a turn of its reader is taken.
fn outgoing(body: BodyReceiver, bytes: Option<u64>, held: (InUse, Turn)) -> Body {
    Body::from_stream(stream::try_unfold((body, bytes, held), |(mut body, left, held)| async move {
        if left == Some(0) {
            return Ok(None);
        }
        let chunk: Option<Bytes> = body.recv().await?;
        let Some(mut chunk) = chunk else {
            return if left.is_none() { Ok(None) } else { Err(ChannelError::Closed) };
        };
        let left = left.map(|left| {
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left - chunk.len() as u64
        });
        Ok(Some((chunk, (body, left, held))))
    }))
}
