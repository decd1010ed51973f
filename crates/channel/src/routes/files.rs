//! What a guest can be asked about files.

use super::{FILE_HEADER, READ_HEADER, get, post, request};
use crate::body::BodyReceiver;
use crate::client::{FileSender, GuestClient, Sending};
use crate::error::{ChannelError, Result};
use crate::frames::FrameReceiver;
use crate::json::{self, encode};
use crate::{EXTRACT_TIMEOUT, FILE_CALL_TIMEOUT, WATCH_FRAME_BYTES_MAX};
use http::Method;
use rexec_api::files::{ArchiveFormat, ExtractSummary, FileEvent, FileInfo, UploadState};
use rexec_api::guest::{FileContent, FilePage, ReadSpec, UploadAnswer, WriteCondition};
use uuid::Uuid;

/// One piece of an upload: where it begins, and how long the whole will be.
#[derive(Debug, Clone, Copy)]
pub struct PieceSpec {
    pub upload: Uuid,
    pub offset: u64,
    pub total: u64,
}

/// What changes in a watched directory. Dropping it ends the watch.
pub struct Changes(FrameReceiver);

impl Changes {
    /// The next event; `None` when what was watched is no more.
    pub async fn next(&mut self) -> Result<Option<FileEvent>> {
        match self.0.recv().await? {
            Some(frame) => Ok(Some(json::parse(&frame)?)),
            None => Ok(None),
        }
    }
}

impl GuestClient {
    /// A file's description, and its content or the part of it that `spec` asks for.
    pub async fn read_file(&self, path: impl AsRef<[u8]>, spec: &ReadSpec) -> Result<(FileContent, BodyReceiver)> {
        let mut head = get(format!("/files?path={}", encode(path)));
        head.headers.push((READ_HEADER, json::header(spec)?));
        let (headers, body) = self.download(head).await?;
        let content =
            headers.get(FILE_HEADER).ok_or_else(|| ChannelError::protocol("a file without its description"))?;
        Ok((json::parse(content.as_bytes())?, body))
    }

    /// Writes a file, its parents made, `mode` being its permission bits. Without `mode` an
    /// existing file keeps its own.
    pub async fn write_file(&self, path: impl AsRef<[u8]>, mode: Option<u32>) -> Result<FileSender> {
        let uri = format!("/files?path={}{}", encode(path), mode_parameter(mode));
        self.upload(request(Method::PUT, uri), FILE_CALL_TIMEOUT).await
    }

    /// As [`Self::write_file`], while the file is as the condition says when it takes its name.
    pub async fn write_file_if(
        &self,
        path: impl AsRef<[u8]>,
        mode: Option<u32>,
        condition: &WriteCondition,
    ) -> Result<FileSender> {
        let condition = match condition {
            WriteCondition::Absent => "absent".to_owned(),
            WriteCondition::Present => "present".to_owned(),
            WriteCondition::Etag(etags) => format!("etag&etags={}", encode(etags.join(","))),
        };
        // A route of its own, because a guest of before would know nothing of a condition.
        let uri = format!("/files/conditional?path={}{}&if={condition}", encode(path), mode_parameter(mode));
        self.upload(request(Method::PUT, uri), FILE_CALL_TIMEOUT).await
    }

    /// Adds a piece to an upload; with the last one the file appears under its name.
    pub async fn upload_piece(
        &self,
        path: impl AsRef<[u8]>,
        mode: Option<u32>,
        piece: PieceSpec,
    ) -> Result<Sending<UploadAnswer>> {
        let PieceSpec { upload, offset, total } = piece;
        let parameters = format!("&upload={upload}&offset={offset}&total={total}{}", mode_parameter(mode));
        let uri = format!("/files/upload?path={}{parameters}", encode(path));
        self.upload(request(Method::PUT, uri), FILE_CALL_TIMEOUT).await
    }

    pub async fn upload_state(&self, path: impl AsRef<[u8]>, upload: Uuid) -> Result<UploadState> {
        let head = get(format!("/files/upload?path={}&upload={upload}", encode(path)));
        self.call(head, None, FILE_CALL_TIMEOUT).await
    }

    /// Drops what has come of an upload; one that is not there is success.
    pub async fn drop_upload(&self, path: impl AsRef<[u8]>, upload: Uuid) -> Result<()> {
        let head = request(Method::DELETE, format!("/files/upload?path={}&upload={upload}", encode(path)));
        self.done(self.call(head, None, FILE_CALL_TIMEOUT).await)
    }

    pub async fn remove_file(&self, path: impl AsRef<[u8]>, recursive: bool) -> Result<()> {
        let uri = format!("/files?path={}&recursive={recursive}", encode(path));
        let head = request(Method::DELETE, uri);
        self.done(self.call(head, None, FILE_CALL_TIMEOUT).await)
    }

    /// Describes the path itself: a symbolic link is not followed.
    pub async fn stat(&self, path: impl AsRef<[u8]>) -> Result<FileInfo> {
        let head = get(format!("/files/stat?path={}", encode(path)));
        self.call(head, None, FILE_CALL_TIMEOUT).await
    }

    /// A directory's entries by name, at most `limit` after the place that `after` names.
    pub async fn list(&self, path: impl AsRef<[u8]>, after: Option<&str>, limit: usize) -> Result<FilePage> {
        let after = after.map(|after| format!("&after={}", encode(after))).unwrap_or_default();
        let head = get(format!("/files/list?path={}&limit={limit}{after}", encode(path)));
        self.call(head, None, FILE_CALL_TIMEOUT).await
    }

    /// Makes a directory and its parents; one that is there is success.
    pub async fn mkdir(&self, path: impl AsRef<[u8]>) -> Result<FileInfo> {
        let head = post(format!("/files/mkdir?path={}", encode(path)));
        self.call(head, None, FILE_CALL_TIMEOUT).await
    }

    /// The same, where what is made gets this mode; a guest of an older version makes it of the usual one.
    pub async fn mkdir_as(&self, path: impl AsRef<[u8]>, mode: u32) -> Result<FileInfo> {
        let head = post(format!("/files/mkdir?path={}&mode={mode}", encode(path)));
        self.call(head, None, FILE_CALL_TIMEOUT).await
    }

    /// Moves a file or directory; what is at `to` is replaced only with `overwrite`.
    pub async fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>, overwrite: bool) -> Result<FileInfo> {
        let (from, to) = (encode(from), encode(to));
        let head = post(format!("/files/move?from={from}&to={to}&overwrite={overwrite}"));
        self.call(head, None, FILE_CALL_TIMEOUT).await
    }

    /// A directory, or a file, as an archive. A body that is cut is no whole archive.
    pub async fn archive(&self, path: impl AsRef<[u8]>, format: ArchiveFormat) -> Result<BodyReceiver> {
        let head = get(format!("/files/archive?path={}&format={}", encode(path), format.as_str()));
        Ok(self.download(head).await?.1)
    }

    /// Extracts an archive into a directory, which is made if need be.
    pub async fn extract(&self, path: impl AsRef<[u8]>, format: ArchiveFormat) -> Result<Sending<ExtractSummary>> {
        let head = post(format!("/files/extract?path={}&format={}", encode(path), format.as_str()));
        self.upload(head, EXTRACT_TIMEOUT).await
    }

    /// What changes in a directory from now on, or in a file.
    pub async fn watch(&self, path: impl AsRef<[u8]>, recursive: bool) -> Result<Changes> {
        let head = get(format!("/files/watch?path={}&recursive={recursive}", encode(path)));
        Ok(Changes(self.listen(head, WATCH_FRAME_BYTES_MAX).await?))
    }
}

fn mode_parameter(mode: Option<u32>) -> String {
    mode.map(|mode| format!("&mode={mode}")).unwrap_or_default()
}
