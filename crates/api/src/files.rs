//! Files of a workspace: one at a time, whole directories as archives, and what changes in them.

use serde::{Deserialize, Serialize};

/// Most bytes of a path.
pub const PATH_BYTES_MAX: usize = 4096;
/// Most entries of a directory in one page of its listing.
pub const LIST_ENTRIES_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    File,
    Directory,
    Symlink,
    Other,
}

/// What is known of one path. A name that is not UTF-8 is shown with U+FFFD in its place.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileInfo {
    pub name: String,
    pub path: String,
    /// The path's bytes in base64 (see [`crate::raw_path`]) when it is not UTF-8: ask by `path_b64` then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_b64: Option<String>,
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// Permission bits, such as 0o644 (420).
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Milliseconds since 1970.
    pub modified_ms: i64,
    /// Where a symbolic link points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Another one whenever the content was written; what `ETag` says of a file, without quotes.
    /// Empty from a guest that is too old to tell.
    #[serde(default)]
    pub etag: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MakeDirectory {
    /// Absolute; missing parents are made too.
    #[serde(default)]
    pub path: String,
    /// Instead of `path` where that is not UTF-8: its bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_b64: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MoveFile {
    /// Absolute.
    #[serde(default)]
    pub from: String,
    /// Absolute, the new name itself; missing parents are made.
    #[serde(default)]
    pub to: String,
    /// Instead of `from` where that is not UTF-8: its bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_b64: Option<String>,
    /// The same for `to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_b64: Option<String>,
    /// Replace a file that has the new name; without it such a move is refused.
    #[serde(default)]
    pub overwrite: bool,
}

/// How a directory travels in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ArchiveFormat {
    /// A tar, compressed by Zstandard.
    #[default]
    #[serde(rename = "tar.zst")]
    TarZst,
    #[serde(rename = "tar")]
    Tar,
    #[serde(rename = "zip")]
    Zip,
}

impl ArchiveFormat {
    /// As a parameter, and as the ending of a file's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TarZst => "tar.zst",
            Self::Tar => "tar",
            Self::Zip => "zip",
        }
    }
}

impl std::str::FromStr for ArchiveFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::TarZst, Self::Tar, Self::Zip].into_iter().find(|format| format.as_str() == text).ok_or(())
    }
}

/// What an extraction has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExtractSummary {
    /// Files and links; directories are not counted.
    pub files: u64,
    /// Bytes of the files' content.
    pub bytes: u64,
}

/// How far an upload in pieces has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UploadState {
    /// Bytes that have been kept: the next piece begins here.
    pub offset: u64,
    /// The file is whole and has its name.
    pub done: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Created,
    /// Its content or its permissions.
    Modified,
    Removed,
    /// From `path` to `to`.
    Moved,
}

/// One event of a watched directory; the SSE event's name is `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FileEvent {
    Change {
        kind: ChangeKind,
        path: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
    },
    /// More changed than could be told: list again.
    Overflow,
}

impl FileEvent {
    /// What `type` says.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Change { .. } => "change",
            Self::Overflow => "overflow",
        }
    }
}
