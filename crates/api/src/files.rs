//! Files of a workspace, one at a time.

use serde::{Deserialize, Serialize};

/// Most bytes of a path.
pub const PATH_BYTES_MAX: usize = 4096;
/// Most entries of a directory in one listing.
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
}
