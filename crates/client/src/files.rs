//! Files of a workspace: single ones, directories as archives, uploads in pieces, and watches.

use crate::{Client, Method, Result, STREAM_TIMEOUT, ServerEvents, accepted, json, percent};
use bytes::Bytes;
use http::StatusCode;
use http::header::{IF_MATCH, IF_NONE_MATCH, RANGE};
use reqwest::RequestBuilder;
use rexec_api::Page;
use rexec_api::files::{ArchiveFormat, ExtractSummary, FileEvent, FileInfo, MakeDirectory, MoveFile, UploadState};
use rexec_api::ids::WorkspaceId;
use rexec_api::raw_path;
use std::ops::Range;
use uuid::Uuid;

/// Where a piece of an upload lies.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// An id that the client makes up, one for each upload.
    pub upload: Uuid,
    pub offset: u64,
    /// Bytes of the whole.
    pub total: u64,
}

impl Client {
    /// The bytes of a file, whole in memory.
    pub async fn read_file(&self, workspace: WorkspaceId, path: impl AsRef<[u8]>) -> Result<Bytes> {
        Ok(self.open_file(workspace, path).await?.bytes().await?)
    }

    /// A file as it comes; `bytes_stream` and `chunk` of the answer give its content.
    pub async fn open_file(&self, workspace: WorkspaceId, path: impl AsRef<[u8]>) -> Result<reqwest::Response> {
        let request = self.files(Method::GET, workspace, "", path).timeout(STREAM_TIMEOUT);
        accepted(request.send().await?).await
    }

    /// A part of a file, shorter where the file ends before it.
    pub async fn read_part(&self, workspace: WorkspaceId, path: impl AsRef<[u8]>, part: Range<u64>) -> Result<Bytes> {
        let range = format!("bytes={}-{}", part.start, part.end.saturating_sub(1));
        let request = self.files(Method::GET, workspace, "", path).header(RANGE, range);
        Ok(accepted(request.send().await?).await?.bytes().await?)
    }

    pub async fn write_file(
        &self,
        workspace: WorkspaceId,
        path: impl AsRef<[u8]>,
        content: impl Into<reqwest::Body>,
    ) -> Result<FileInfo> {
        let request = self.files(Method::PUT, workspace, "", path).timeout(STREAM_TIMEOUT);
        json(request.body(content).send().await?).await
    }

    /// Writes a file that is still as this etag says, or, without one, is not there yet.
    pub async fn write_file_if(
        &self,
        workspace: WorkspaceId,
        path: impl AsRef<[u8]>,
        etag: Option<&str>,
        content: impl Into<reqwest::Body>,
    ) -> Result<FileInfo> {
        let request = self.files(Method::PUT, workspace, "", path).timeout(STREAM_TIMEOUT);
        let request = match etag {
            Some(etag) => request.header(IF_MATCH, format!("\"{etag}\"")),
            None => request.header(IF_NONE_MATCH, "*"),
        };
        json(request.body(content).send().await?).await
    }

    /// Sends a piece of an upload; the file once it is whole.
    pub async fn upload_piece(
        &self,
        workspace: WorkspaceId,
        path: impl AsRef<[u8]>,
        piece: Piece,
        content: impl Into<reqwest::Body>,
    ) -> Result<Option<FileInfo>> {
        let Piece { upload, offset, total } = piece;
        let [upload, offset, total] = [upload.to_string(), offset.to_string(), total.to_string()];
        let place = [("upload", upload.as_str()), ("offset", offset.as_str()), ("total", total.as_str())];
        let request = self.files_with(Method::PUT, workspace, "", path, &place).timeout(STREAM_TIMEOUT);
        let response = request.body(content).send().await?;
        if response.status() == StatusCode::ACCEPTED {
            return Ok(None);
        }
        json(response).await.map(Some)
    }

    /// How far an upload has come.
    pub async fn upload_state(
        &self,
        workspace: WorkspaceId,
        path: impl AsRef<[u8]>,
        upload: Uuid,
    ) -> Result<UploadState> {
        let upload = upload.to_string();
        let request = self.files_with(Method::GET, workspace, "/upload", path, &[("upload", &upload)]);
        json(request.send().await?).await
    }

    /// Drops what has come of an upload.
    pub async fn drop_upload(&self, workspace: WorkspaceId, path: impl AsRef<[u8]>, upload: Uuid) -> Result<()> {
        let upload = upload.to_string();
        let request = self.files_with(Method::DELETE, workspace, "/upload", path, &[("upload", &upload)]);
        accepted(request.send().await?).await.map(drop)
    }

    pub async fn remove_file(&self, workspace: WorkspaceId, path: impl AsRef<[u8]>) -> Result<()> {
        accepted(self.files(Method::DELETE, workspace, "", path).send().await?).await.map(drop)
    }

    /// Removes a directory with all that is in it.
    pub async fn remove_directory(&self, workspace: WorkspaceId, path: impl AsRef<[u8]>) -> Result<()> {
        let request = self.files_with(Method::DELETE, workspace, "", path, &[("recursive", "true")]);
        accepted(request.send().await?).await.map(drop)
    }

    /// A page of a directory's entries, `cursor` being the `next` of the page before.
    pub async fn list_files(
        &self,
        workspace: WorkspaceId,
        path: impl AsRef<[u8]>,
        cursor: Option<&str>,
    ) -> Result<Page<FileInfo>> {
        let cursor: Vec<_> = cursor.map(|cursor| ("cursor", cursor)).into_iter().collect();
        json(self.files_with(Method::GET, workspace, "/list", path, &cursor).send().await?).await
    }

    pub async fn stat_file(&self, workspace: WorkspaceId, path: impl AsRef<[u8]>) -> Result<FileInfo> {
        json(self.files(Method::GET, workspace, "/stat", path).send().await?).await
    }

    pub async fn make_directory(&self, workspace: WorkspaceId, path: impl AsRef<[u8]>) -> Result<FileInfo> {
        let body = match std::str::from_utf8(path.as_ref()) {
            Ok(path) => MakeDirectory { path: path.into(), ..Default::default() },
            Err(_) => MakeDirectory { path_b64: Some(raw_path::encode(path.as_ref())), ..Default::default() },
        };
        self.send(Method::POST, &format!("/api/workspaces/{workspace}/files/mkdir"), &body).await
    }

    pub async fn move_file(&self, workspace: WorkspaceId, change: &MoveFile) -> Result<FileInfo> {
        self.send(Method::POST, &format!("/api/workspaces/{workspace}/files/move"), change).await
    }

    /// A directory as an archive, as it comes.
    pub async fn archive(
        &self,
        workspace: WorkspaceId,
        path: impl AsRef<[u8]>,
        format: ArchiveFormat,
    ) -> Result<reqwest::Response> {
        let request = self.files_with(Method::GET, workspace, "/archive", path, &[("format", format.as_str())]);
        accepted(request.timeout(STREAM_TIMEOUT).send().await?).await
    }

    /// Extracts an archive into a directory.
    pub async fn extract(
        &self,
        workspace: WorkspaceId,
        path: impl AsRef<[u8]>,
        format: ArchiveFormat,
        archive: impl Into<reqwest::Body>,
    ) -> Result<ExtractSummary> {
        let request = self.files_with(Method::POST, workspace, "/extract", path, &[("format", format.as_str())]);
        json(request.timeout(STREAM_TIMEOUT).body(archive).send().await?).await
    }

    /// What changes in a directory from now on.
    pub async fn watch_files(
        &self,
        workspace: WorkspaceId,
        path: impl AsRef<[u8]>,
        recursive: bool,
    ) -> Result<ServerEvents<FileEvent>> {
        let recursive = [("recursive", if recursive { "true" } else { "false" })];
        let request = self.files_with(Method::GET, workspace, "/watch", path, &recursive).timeout(STREAM_TIMEOUT);
        Ok(ServerEvents::of(accepted(request.send().await?).await?))
    }

    fn files(&self, method: Method, workspace: WorkspaceId, route: &str, path: impl AsRef<[u8]>) -> RequestBuilder {
        self.files_with(method, workspace, route, path, &[])
    }

    /// A request to a route of files, with parameters besides the path.
    fn files_with(
        &self,
        method: Method,
        workspace: WorkspaceId,
        route: &str,
        path: impl AsRef<[u8]>,
        parameters: &[(&str, &str)],
    ) -> RequestBuilder {
        let path = match std::str::from_utf8(path.as_ref()) {
            Ok(path) => format!("path={}", percent(path)),
            Err(_) => format!("path_b64={}", raw_path::encode(path.as_ref())),
        };
        let mut url = format!("/api/workspaces/{workspace}/files{route}?{path}");
        for (name, value) in parameters {
            url.push_str(&format!("&{name}={}", percent(value)));
        }
        self.request(method, &url)
    }
}
