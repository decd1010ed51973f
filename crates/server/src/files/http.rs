//! Routes of single files: bodies are the raw content.

use crate::app::AppState;
use crate::error::{Error, Result};
use crate::http::extract::{Authenticated, Json, Path, Query};
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use http::{HeaderName, StatusCode, header};
use rexec_api::error::{ErrorBody, ErrorCode};
use rexec_api::files::FileInfo;
use rexec_api::ids::WorkspaceId;
use serde::Deserialize;
use std::time::Duration;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How long an upload may pause between two pieces.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(60);
const FILE_MODE: HeaderName = HeaderName::from_static("x-rexec-file-mode");

pub fn routes() -> OpenApiRouter<AppState> {
    // A file has no limit but the disk's.
    OpenApiRouter::new().routes(routes!(read, write, remove)).layer(DefaultBodyLimit::disable())
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct PathQuery {
    /// Absolute.
    path: String,
}

/// Read a file.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/files", tag = "files",
    params(("id" = WorkspaceId, Path), PathQuery),
    responses(
        (status = 200, description = "The content.", content_type = "application/octet-stream"),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn read(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<PathQuery>,
) -> Result<Response> {
    let (info, body) = app.files.read(&actor, id, &query.path).await?;
    let chunks = stream::unfold(Some(body), |body| async move {
        let mut body = body?;
        match body.recv().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(body))),
            Ok(None) => None,
            // Cutting the connection is all that can be said after the head.
            Err(error) => Some((Err(error), None)),
        }
    });
    let headers = [
        // Never a type that a browser would run on our origin.
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, "attachment".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (FILE_MODE, format!("{:o}", info.mode & 0o7777)),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct WriteQuery {
    /// Absolute; missing parents are made.
    path: String,
    /// Permission bits in octal, such as `755`; an existing file keeps its own.
    mode: Option<String>,
}

/// Write a file, whole or not at all.
#[utoipa::path(
    put, path = "/api/workspaces/{id}/files", tag = "files",
    params(("id" = WorkspaceId, Path), WriteQuery),
    request_body(content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "The file is in its place.", body = FileInfo),
        (status = "4XX", description = "Refused; what was there is untouched.", body = ErrorBody),
        (status = 507, description = "The workspace's disk is full; what was there is untouched.", body = ErrorBody),
    )
)]
async fn write(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<WriteQuery>,
    body: Body,
) -> Result<Json<FileInfo>> {
    let mode = query.mode.as_deref().map(|text| u32::from_str_radix(text, 8)).transpose();
    let mode = mode.map_err(|_| Error::field("mode", "`mode` must be permission bits in octal, such as `755`."))?;
    let mut file = app.files.write(&actor, id, &query.path, mode).await?;
    let mut chunks = body.into_data_stream();
    loop {
        let chunk = tokio::time::timeout(UPLOAD_PATIENCE, chunks.next()).await.map_err(|_| {
            Error::new(
                ErrorCode::RequestTimeout,
                "The upload paused for too long. Send the file again; what was there is untouched.",
            )
        })?;
        match chunk {
            Some(Ok(bytes)) => file.send(bytes).await?,
            Some(Err(error)) => {
                let message = "The upload broke off. Send the file again; what was there is untouched.";
                return Err(Error::new(ErrorCode::InvalidRequest, message).source(error));
            }
            None => return Ok(Json(file.finish().await?)),
        }
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct RemoveQuery {
    /// Absolute.
    path: String,
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
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
async fn remove(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<RemoveQuery>,
) -> Result<StatusCode> {
    app.files.remove(&actor, id, &query.path, query.recursive).await?;
    Ok(StatusCode::NO_CONTENT)
}
