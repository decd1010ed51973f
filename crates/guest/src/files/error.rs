//! What the kernel says about a path, in stable codes and plain words.

use crate::refusal::refuse;
use rexec_api::error::ErrorCode;
use rexec_api::files::FileKind;
use rexec_api::guest::GuestError;
use rustix::io::Errno;
use std::io;
use std::path::Path;

pub(super) fn of_io(path: &Path, error: &io::Error) -> GuestError {
    use ErrorCode::*;
    let errno = Errno::from_io_error(error);
    let (code, what) = match errno {
        Some(Errno::NOENT) => (FileNotFound, "there is no such file or directory"),
        Some(Errno::EXIST) => (FileExists, "there is something of that name already"),
        Some(Errno::ISDIR) => (NotAFile, "it is a directory"),
        Some(Errno::NOTDIR) => (NotADirectory, "a part of the path is not a directory"),
        Some(Errno::ACCESS | Errno::PERM) => (FileDenied, "the workspace's user may not do that here"),
        Some(Errno::ROFS) => (FileDenied, "the file system is read-only"),
        Some(Errno::NOSPC | Errno::DQUOT) => (DiskFull, "no space is left; remove something and try again"),
        Some(Errno::NOTEMPTY) => (FileError, "the directory is not empty; ask for recursive"),
        Some(Errno::LOOP) => {
            (FileError, "there are too many symbolic links on the way, or one into a process of /proc")
        }
        Some(Errno::NAMETOOLONG) => (FileError, "a name is too long"),
        Some(Errno::XDEV) => (FileError, "it lies on another volume; copy it there and remove it here"),
        Some(Errno::BUSY) => (FileError, "it is in use"),
        Some(Errno::NXIO | Errno::NODEV) => (NotAFile, "it is not a regular file"),
        Some(Errno::INVAL) => (FileError, "that cannot be done to this path"),
        _ => return refuse(FileError, format!("{}: {error}", path.display())),
    };
    refuse(code, format!("{}: {what}", path.display()))
}

/// The path is there, but not what was asked for.
pub(super) fn refuse_kind(path: &Path, kind: FileKind) -> GuestError {
    let (code, what) = match kind {
        FileKind::Directory => (ErrorCode::NotAFile, "it is a directory"),
        FileKind::File => (ErrorCode::NotADirectory, "it is a file"),
        FileKind::Symlink | FileKind::Other => (ErrorCode::NotAFile, "it is neither a file nor a directory"),
    };
    refuse(code, format!("{}: {what}", path.display()))
}
