//! Describing one path.

use super::error::of_io;
use super::open;
use rexec_api::files::{FileInfo, FileKind};
use rexec_api::guest::GuestError;
use rustix::fs::{AtFlags, FileType, Stat, fstat, readlinkat, statat};
use std::os::fd::AsFd;
use std::path::Path;

const MODE_BITS: u32 = 0o7777;

/// What lies at a path; a link is not followed.
pub(super) fn stat(path: &Path) -> Result<FileInfo, GuestError> {
    let looked = open::look(path)?;
    let stat = fstat(&looked).map_err(|e| of_io(path, &e.into()))?;
    let mut info = describe(path, &stat);
    info.target = target(&looked, Path::new(""), info.kind);
    Ok(info)
}

/// What lies under a name of an open directory, whose path is `directory`.
pub(super) fn stat_within(parent: impl AsFd, directory: &Path, name: &Path) -> rustix::io::Result<FileInfo> {
    let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mut info = describe(&directory.join(name), &stat);
    info.target = target(&parent, name, info.kind);
    Ok(info)
}

fn target(parent: impl AsFd, name: &Path, kind: FileKind) -> Option<String> {
    if kind != FileKind::Symlink {
        return None;
    }
    let target = readlinkat(parent, name, Vec::new()).ok()?;
    Some(target.to_string_lossy().into_owned())
}

/// Everything but where a link points.
pub(super) fn describe(path: &Path, stat: &Stat) -> FileInfo {
    let name = path.file_name().unwrap_or(path.as_os_str());
    FileInfo {
        name: name.to_string_lossy().into_owned(),
        path: path.to_string_lossy().into_owned(),
        path_b64: rexec_api::raw_path::beside(path.as_os_str().as_encoded_bytes()),
        kind: kind_of(stat),
        size: stat.st_size.cast_unsigned(),
        mode: stat.st_mode & MODE_BITS,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified_ms: stat.st_mtime.saturating_mul(1000).saturating_add(stat.st_mtime_nsec.cast_signed() / 1_000_000),
        target: None,
        etag: etag_of(stat),
    }
}

pub(super) fn kind_of(stat: &Stat) -> FileKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

/// Time of the last change of content to the nanosecond, size and number of the file. Two writes
/// of one length within a tick of the kernel's clock (4 ms) give the same.
fn etag_of(stat: &Stat) -> String {
    format!("{:x}.{:x}-{:x}-{:x}", stat.st_mtime, stat.st_mtime_nsec, stat.st_size, stat.st_ino)
}
