//! Describing one path.

use rexec_api::files::{FileInfo, FileKind};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const MODE_BITS: u32 = 0o7777;

pub(super) fn describe(path: &Path, metadata: &Metadata) -> FileInfo {
    let kind = if metadata.is_file() {
        FileKind::File
    } else if metadata.is_dir() {
        FileKind::Directory
    } else if metadata.is_symlink() {
        FileKind::Symlink
    } else {
        FileKind::Other
    };
    let target = (kind == FileKind::Symlink)
        .then(|| std::fs::read_link(path).ok())
        .flatten()
        .map(|target| target.to_string_lossy().into_owned());
    let name = path.file_name().unwrap_or(path.as_os_str());
    FileInfo {
        name: name.to_string_lossy().into_owned(),
        path: path.to_string_lossy().into_owned(),
        kind,
        size: metadata.size(),
        mode: metadata.mode() & MODE_BITS,
        uid: metadata.uid(),
        gid: metadata.gid(),
        modified_ms: metadata.mtime().saturating_mul(1000).saturating_add(metadata.mtime_nsec() / 1_000_000),
        target,
    }
}
