//! A file on its way in: in one request, or in pieces that survive a cut.
//!
//! In pieces: the client makes up an id, sends each piece with where it begins and how long the
//! whole will be, and after a cut asks how far the upload has come. All state is in the workspace,
//! so any server can take the next piece.

use super::content::{condition_of, etag_of, put};
use super::query_path;
use crate::app::AppState;
use crate::error::{Error, Result};
use crate::files::Target;
use crate::http::extract::{Authenticated, Json, Path, Query};
use crate::http::incoming::Incoming;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use rexec_api::error::ErrorBody;
use rexec_api::files::{FileInfo, UploadState};
use rexec_api::ids::WorkspaceId;
use rexec_channel::PieceSpec;
use serde::Deserialize;
use uuid::Uuid;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WriteQuery {
    /// Absolute; missing parents are made.
    #[serde(default)]
    path: String,
    /// Instead of `path` where that is not UTF-8: its bytes in base64.
    path_b64: Option<String>,
    /// Permission bits in octal, such as `755`; an existing file keeps its own.
    mode: Option<String>,
    /// The body is a piece of this upload, an id that the client makes up. Needs `offset` and `total`.
    upload: Option<Uuid>,
    /// Where the piece begins, in bytes.
    offset: Option<u64>,
    /// Bytes of the whole file, the same with every piece.
    total: Option<u64>,
}

/// Write a file, whole or not at all; or send a piece of an upload. With `If-Match` (an etag that GET told) what
/// was changed meanwhile is not overwritten; with `If-None-Match: *` nothing that is there is.
#[utoipa::path(
    put, path = "/api/workspaces/{id}/files", tag = "files",
    params(("id" = WorkspaceId, Path), WriteQuery),
    request_body(content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "The file is in its place.", body = FileInfo),
        (status = 202, description = "The piece is kept; more are to come.", body = UploadState),
        (status = 412, description = "The file is not as `If-Match` or `If-None-Match` wants it.", body = ErrorBody),
        (status = "4XX", description = "Refused; what was there is untouched.", body = ErrorBody),
        (status = 507, description = "The workspace's disk is full; what was there is untouched.", body = ErrorBody),
    )
)]
pub(super) async fn write(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<WriteQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let mode = query.mode.as_deref().map(|text| u32::from_str_radix(text, 8)).transpose();
    let mode = mode.map_err(|_| Error::field("mode", "`mode` must be permission bits in octal, such as `755`."))?;
    let path = query_path(&query.path, query.path_b64.as_deref())?;
    let (condition, piece) = (condition_of(&headers)?, piece_of(&query)?);
    if condition.is_some() && piece.is_some() {
        return Err(Error::field(
            "upload",
            "A file that is written under a condition goes in one request, not in pieces.",
        ));
    }
    let target = Target { path: &path, mode, condition };
    let mut body = Incoming::new(body);
    let Some(piece) = piece else {
        let mut file = app.files.write(&actor, id, target).await?;
        let _using = app.workspaces.in_use(id);
        while let Some(bytes) = body.next("Send the file again; what was there is untouched.").await? {
            file.send(bytes).await?;
        }
        let written = file.finish().await?;
        let etag = etag_of(&written);
        let mut response = Json(written).into_response();
        put(response.headers_mut(), header::ETAG, etag);
        return Ok(response);
    };
    let mut file = app.files.upload_piece(&actor, id, target, piece).await?;
    let _using = app.workspaces.in_use(id);
    while let Some(bytes) = body.next("Ask how far the upload has come and go on from there.").await? {
        file.send(bytes).await?;
    }
    let answer = file.finish().await?;
    Ok(match answer.file {
        Some(file) => Json(file).into_response(),
        None => (StatusCode::ACCEPTED, Json(answer.state)).into_response(),
    })
}

fn piece_of(query: &WriteQuery) -> Result<Option<PieceSpec>> {
    let missing = |field: &str| Error::field(field, "A piece needs `upload`, `offset` and `total`.");
    match (query.upload, query.offset, query.total) {
        (None, None, None) => Ok(None),
        (Some(upload), Some(offset), Some(total)) => Ok(Some(PieceSpec { upload, offset, total })),
        (None, ..) => Err(missing("upload")),
        (_, None, _) => Err(missing("offset")),
        _ => Err(missing("total")),
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct UploadQuery {
    /// Absolute.
    #[serde(default)]
    path: String,
    /// Instead of `path` where that is not UTF-8: its bytes in base64.
    path_b64: Option<String>,
    /// The id that the client made up.
    upload: Uuid,
}

/// How far an upload in pieces has come.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/files/upload", tag = "files", operation_id = "upload_state",
    params(("id" = WorkspaceId, Path), UploadQuery),
    responses(
        (status = 200, description = "Where to go on; 0 when nothing has come.", body = UploadState),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
pub(super) async fn state(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<UploadQuery>,
) -> Result<Json<UploadState>> {
    Ok(Json(
        app.files.upload_state(&actor, id, &query_path(&query.path, query.path_b64.as_deref())?, query.upload).await?,
    ))
}

/// Drop what has come of an upload in pieces.
#[utoipa::path(
    delete, path = "/api/workspaces/{id}/files/upload", tag = "files", operation_id = "drop_upload",
    params(("id" = WorkspaceId, Path), UploadQuery),
    responses(
        (status = 204, description = "Nothing of it is left."),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
pub(super) async fn forget(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<UploadQuery>,
) -> Result<StatusCode> {
    let path = query_path(&query.path, query.path_b64.as_deref())?;
    app.files.drop_upload(&actor, id, &path, query.upload).await?;
    Ok(StatusCode::NO_CONTENT)
}
