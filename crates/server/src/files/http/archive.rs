//! Directories in one piece: out as an archive, and in.

use super::{outgoing, query_path};
use crate::app::AppState;
use crate::error::{Error, Result};
use crate::http::extract::{Authenticated, Json, Path, Query};
use crate::http::incoming::Incoming;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use rexec_api::error::ErrorBody;
use rexec_api::files::{ArchiveFormat, ExtractSummary};
use rexec_api::ids::WorkspaceId;
use serde::Deserialize;
use std::fmt::Write as _;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ArchiveQuery {
    /// Absolute.
    #[serde(default)]
    path: String,
    /// Instead of `path` where that is not UTF-8: its bytes in base64.
    path_b64: Option<String>,
    /// `tar.zst` (the default), `tar` or `zip`.
    format: Option<String>,
}

impl ArchiveQuery {
    fn format(&self) -> Result<ArchiveFormat> {
        let wrong = |()| Error::field("format", "`format` must be `tar.zst`, `tar` or `zip`.");
        self.format.as_deref().map_or(Ok(ArchiveFormat::default()), |text| text.parse().map_err(wrong))
    }
}

/// Download a directory, or a file, as an archive. What the workspace's user may not read, and what
/// is neither file, directory nor link, is left out.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/files/archive", tag = "files", operation_id = "archive_files",
    params(("id" = WorkspaceId, Path), ArchiveQuery),
    responses(
        (status = 200, description = "The archive; one that is cut is not whole.", content(
            ("application/zstd"), ("application/x-tar"), ("application/zip")
        )),
        (status = "4XX", description = "Refused.", body = ErrorBody),
    )
)]
pub(super) async fn archive(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<ArchiveQuery>,
) -> Result<Response> {
    let format = query.format()?;
    let path = query_path(&query.path, query.path_b64.as_deref())?;
    let turn = app.streams.open(&actor)?;
    let body = app.files.archive(&actor, id, &path, format).await?;
    let kind = match format {
        ArchiveFormat::TarZst => "application/zstd",
        ArchiveFormat::Tar => "application/x-tar",
        ArchiveFormat::Zip => "application/zip",
    };
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_DISPOSITION, disposition(path.name(), format)),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, outgoing(body, None, (app.workspaces.in_use(id), turn))).into_response())
}

/// Extract an archive into a directory, which is made if need be. Entries that would lie outside
/// of it and devices are refused, and so is what the disk has no room for: what the archive says of its sizes is held
/// against the free space, of which a twentieth (1 GiB at most) stays, and no entry may hold more than it says. How
/// well it is compressed does not matter. Set-user-id bits are dropped.
#[utoipa::path(
    post, path = "/api/workspaces/{id}/files/extract", tag = "files", operation_id = "extract_files",
    params(("id" = WorkspaceId, Path), ArchiveQuery),
    request_body(content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "All of it is there.", body = ExtractSummary),
        (status = "4XX", description = "Refused; entries before the refused one may be there, of that one nothing is.", body = ErrorBody),
        (status = 507, description = "The workspace's disk is full.", body = ErrorBody),
    )
)]
pub(super) async fn extract(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<ArchiveQuery>,
    body: Body,
) -> Result<Json<ExtractSummary>> {
    let path = query_path(&query.path, query.path_b64.as_deref())?;
    let mut archive = app.files.extract(&actor, id, &path, query.format()?).await?;
    let _using = app.workspaces.in_use(id);
    let mut body = Incoming::new(body);
    while let Some(bytes) = body.next("Send the archive again; a part of it may be there.").await? {
        archive.send(bytes).await?;
    }
    Ok(Json(archive.finish().await?))
}

/// The name under which a browser keeps the archive (RFC 6266; RFC 8187 for what is not ASCII).
pub(crate) fn disposition(name: &[u8], format: ArchiveFormat) -> String {
    let mut value = "attachment; filename*=UTF-8''".to_owned();
    for &byte in name {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
            value.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(value, "%{byte:02X}");
        }
    }
    value.push('.');
    value.push_str(format.as_str());
    value
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::files::RawPath;

    #[test]
    fn names_are_encoded() {
        let named = |path| disposition(RawPath::new("path", path, None).unwrap().name(), ArchiveFormat::Zip);
        assert_eq!(named("/home/user/a b\"\r\n/"), "attachment; filename*=UTF-8''a%20b%22%0D%0A.zip");
        assert_eq!(named("/"), "attachment; filename*=UTF-8''root.zip");
    }
}
