//! Files of a workspace, streamed between the caller and the guest.
//!
//! The guest does every access with the workspace user's rights; here a path is only checked for
//! shape. Nothing of a file is kept in memory beyond what is on its way.

pub mod http;
mod raw_path;

pub use raw_path::RawPath;

use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::page;
use crate::workspaces::Workspaces;
use rexec_api::Page;
use rexec_api::files::{
    ArchiveFormat, ExtractSummary, FileInfo, LIST_ENTRIES_MAX, MakeDirectory, MoveFile, UploadState,
};
use rexec_api::guest::{FileContent, ReadSpec, UploadAnswer, WriteCondition};
use rexec_api::ids::WorkspaceId;
use rexec_api::tokens::Scope;
use rexec_channel::{BodyReceiver, Changes, FileSender, GuestClient, PieceSpec, Sending};
use uuid::Uuid;

/// Entries of a page that does not say how many.
const LIST_ENTRIES_DEFAULT: usize = 1000;
/// Longest cursor: two digits for each byte of a name.
const CURSOR_BYTES_MAX: usize = 1024;

#[derive(Clone)]
pub struct Files {
    workspaces: Workspaces,
}

/// Where a file is to be written, and how.
pub struct Target<'a> {
    pub path: &'a RawPath,
    pub mode: Option<u32>,
    /// Refused unless this holds when the file takes its name.
    pub condition: Option<WriteCondition>,
}

impl Files {
    pub fn new(workspaces: Workspaces) -> Self {
        Self { workspaces }
    }

    /// The guest of a workspace that is the actor's.
    async fn guest(&self, actor: &Actor, workspace: WorkspaceId) -> Result<GuestClient> {
        Ok(self.workspaces.reach(actor, Scope::Files, workspace).await?.guest)
    }

    pub async fn read(
        &self,
        actor: &Actor,
        workspace: WorkspaceId,
        path: &RawPath,
        spec: &ReadSpec,
    ) -> Result<(FileContent, BodyReceiver)> {
        Ok(self.guest(actor, workspace).await?.read_file(path, spec).await?)
    }

    /// Opens a file for writing; it takes its name once [`FileSender::finish`] succeeds.
    pub async fn write(&self, actor: &Actor, workspace: WorkspaceId, target: Target<'_>) -> Result<FileSender> {
        actor.authorise_in(Scope::Files, workspace)?;
        check_mode(target.mode)?;
        let guest = self.guest(actor, workspace).await?;
        Ok(match &target.condition {
            Some(condition) => guest.write_file_if(target.path, target.mode, condition).await?,
            None => guest.write_file(target.path, target.mode).await?,
        })
    }

    /// Goes on with an upload in pieces; the last one gives the file its name.
    pub async fn upload_piece(
        &self,
        actor: &Actor,
        workspace: WorkspaceId,
        target: Target<'_>,
        piece: PieceSpec,
    ) -> Result<Sending<UploadAnswer>> {
        actor.authorise_in(Scope::Files, workspace)?;
        check_mode(target.mode)?;
        if piece.offset > piece.total {
            return Err(Error::field("offset", "`offset` must not be greater than `total`."));
        }
        let guest = self.guest(actor, workspace).await?;
        Ok(guest.upload_piece(target.path, target.mode, piece).await?)
    }

    pub async fn upload_state(
        &self,
        actor: &Actor,
        workspace: WorkspaceId,
        path: &RawPath,
        upload: Uuid,
    ) -> Result<UploadState> {
        Ok(self.guest(actor, workspace).await?.upload_state(path, upload).await?)
    }

    pub async fn drop_upload(&self, actor: &Actor, workspace: WorkspaceId, path: &RawPath, upload: Uuid) -> Result<()> {
        Ok(self.guest(actor, workspace).await?.drop_upload(path, upload).await?)
    }

    pub async fn remove(&self, actor: &Actor, workspace: WorkspaceId, path: &RawPath, recursive: bool) -> Result<()> {
        Ok(self.guest(actor, workspace).await?.remove_file(path, recursive).await?)
    }

    pub async fn list(
        &self,
        actor: &Actor,
        workspace: WorkspaceId,
        path: &RawPath,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Page<FileInfo>> {
        let limit = limit.unwrap_or(LIST_ENTRIES_DEFAULT);
        if !(1..=LIST_ENTRIES_MAX).contains(&limit) {
            return Err(Error::field("limit", format!("`limit` must be from 1 to {LIST_ENTRIES_MAX}.")));
        }
        if !cursor.is_none_or(is_cursor) {
            return Err(page::bad_cursor());
        }
        let guest = self.guest(actor, workspace).await?;
        let page = guest.list(path, cursor, limit).await?;
        Ok(Page { items: page.items, next: page.next })
    }

    pub async fn stat(&self, actor: &Actor, workspace: WorkspaceId, path: &RawPath) -> Result<FileInfo> {
        Ok(self.guest(actor, workspace).await?.stat(path).await?)
    }

    pub async fn mkdir(&self, actor: &Actor, workspace: WorkspaceId, new: &MakeDirectory) -> Result<FileInfo> {
        let path = RawPath::new("path", &new.path, new.path_b64.as_deref())?;
        Ok(self.guest(actor, workspace).await?.mkdir(&path).await?)
    }

    pub async fn rename(&self, actor: &Actor, workspace: WorkspaceId, change: &MoveFile) -> Result<FileInfo> {
        let from = RawPath::new("from", &change.from, change.from_b64.as_deref())?;
        let to = RawPath::new("to", &change.to, change.to_b64.as_deref())?;
        Ok(self.guest(actor, workspace).await?.rename(&from, &to, change.overwrite).await?)
    }

    pub async fn archive(
        &self,
        actor: &Actor,
        workspace: WorkspaceId,
        path: &RawPath,
        format: ArchiveFormat,
    ) -> Result<BodyReceiver> {
        Ok(self.guest(actor, workspace).await?.archive(path, format).await?)
    }

    /// Begins an extraction; what the archive holds appears while it is sent.
    pub async fn extract(
        &self,
        actor: &Actor,
        workspace: WorkspaceId,
        path: &RawPath,
        format: ArchiveFormat,
    ) -> Result<Sending<ExtractSummary>> {
        Ok(self.guest(actor, workspace).await?.extract(path, format).await?)
    }

    pub async fn watch(
        &self,
        actor: &Actor,
        workspace: WorkspaceId,
        path: &RawPath,
        recursive: bool,
    ) -> Result<Changes> {
        Ok(self.guest(actor, workspace).await?.watch(path, recursive).await?)
    }
}

/// The guest would take what is none for the beginning.
fn is_cursor(text: &str) -> bool {
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (2..=CURSOR_BYTES_MAX).contains(&text.len()) && text.len().is_multiple_of(2) && digits
}

fn check_mode(mode: Option<u32>) -> Result<()> {
    match mode {
        Some(mode) if mode > 0o777 => {
            Err(Error::field("mode", "`mode` must be permission bits from 0 to 511 (0o777)."))
        }
        _ => Ok(()),
    }
}
