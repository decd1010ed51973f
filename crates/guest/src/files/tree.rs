//! Removing a directory with all that is in it.
//!
//! **Invariant.** Nothing is taken out of a directory that could not be removed itself: the home, a
//! mount, or what lies where the user may not remove it. What changes meanwhile may still end it half-way.
//!
//! Walks by open directories and never follows a link, so that nobody can swap a directory for a
//! link under it; keeps its own stack, because threads here have small ones.

use super::error::of_io;
use super::open::tidy;
use crate::refusal::refuse;
use rexec_api::error::ErrorCode;
use rexec_api::guest::GuestError;
use rustix::fs::{
    Access, AtFlags, Dir, FileType, Mode, OFlags, StatxAttributes, StatxFlags, accessat, fstat, openat, statat, statx,
    unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Open directories at once; a deeper tree is refused.
const DEPTH_MAX: usize = 512;

struct Level {
    directory: Dir,
    name: CString,
}

/// A directory that is to be kept, whoever asks: its device and number.
pub(super) type Kept = Option<(u64, u64)>;

/// Removes what `path` names: `name` in the open directory `parent`.
pub(super) fn remove(path: &Path, parent: &OwnedFd, name: &OsStr, kept: Kept) -> Result<(), GuestError> {
    let mut path = tidy(path);
    let name = CString::new(name.as_encoded_bytes()).map_err(|e| of_io(&path, &e.into()))?;
    let mut levels = vec![Level::open(parent.as_fd(), name, &path, kept)?];
    while let Some(level) = levels.last_mut() {
        let fault = |error: Errno| of_io(&path, &error.into());
        let Some(entry) = level.directory.read() else {
            let done = levels.pop();
            let above = levels.last().map(|l| l.directory.fd()).transpose().map_err(fault)?;
            if let Some(done) = done {
                unlinkat(above.unwrap_or(parent.as_fd()), &done.name, AtFlags::REMOVEDIR).map_err(fault)?;
            }
            path.pop();
            continue;
        };
        let entry = entry.map_err(fault)?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let here = level.directory.fd().map_err(fault)?;
        path.push(OsStr::from_bytes(name.to_bytes()));
        if entry.file_type() != FileType::Directory {
            match unlinkat(here, name, AtFlags::empty()) {
                // A file system that does not tell types, or a swap meanwhile.
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(error) if error != Errno::NOENT => return Err(of_io(&path, &error.into())),
                _ => {
                    path.pop();
                    continue;
                }
            }
        }
        let next = Level::open(here, name.to_owned(), &path, kept)?;
        if levels.len() >= DEPTH_MAX {
            return Err(of_io(&path, &Errno::NAMETOOLONG.into()));
        }
        levels.push(next);
    }
    Ok(())
}

/// Refuses a directory that could not be removed itself, before anything in it is.
fn removable(path: &Path, parent: impl AsFd, name: &CStr, kept: Kept) -> Result<(), GuestError> {
    match hindrance(parent.as_fd(), name, kept) {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(refuse(ErrorCode::FileDenied, format!("{}: {why}", path.display()))),
        Err(error) => Err(of_io(path, &error.into())),
    }
}

fn hindrance(parent: BorrowedFd<'_>, name: &CStr, kept: Kept) -> rustix::io::Result<Option<&'static str>> {
    let above = fstat(parent)?;
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if kept == Some((stat.st_dev, stat.st_ino)) {
        return Ok(Some("it is the workspace's home; remove what is in it instead"));
    }
    let is_mount = match statx(parent, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()) {
        Ok(told) if told.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            told.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
        }
        // An old kernel: a mount of the same file system goes unnoticed.
        _ => stat.st_dev != above.st_dev,
    };
    if is_mount {
        return Ok(Some("something is mounted there; remove what is in it instead, or unmount it first"));
    }
    let access = accessat(parent, c".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
    // Where the kernel does not know the question, removing it will tell.
    if matches!(access, Err(Errno::ACCESS | Errno::ROFS)) {
        return Ok(Some("the workspace's user may not change the directory that it lies in"));
    }
    let user = geteuid();
    let is_sticky = Mode::from_raw_mode(above.st_mode).contains(Mode::SVTX);
    if is_sticky && !user.is_root() && ![above.st_uid, stat.st_uid].contains(&user.as_raw()) {
        return Ok(Some("it is another user's, and only its owner may remove it"));
    }
    Ok(None)
}

impl Level {
    fn open(parent: BorrowedFd<'_>, name: CString, path: &Path, kept: Kept) -> Result<Self, GuestError> {
        removable(path, parent, &name, kept)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(parent, &name, flags, Mode::empty()).and_then(Dir::new);
        let directory = opened.map_err(|e| of_io(path, &e.into()))?;
        Ok(Self { directory, name })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_mount_is_told_from_a_directory() {
        let root = File::open("/").unwrap();
        let why = hindrance(root.as_fd(), c"proc", None).unwrap().unwrap();
        assert!(why.contains("mounted"), "{why}");
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("plain")).unwrap();
        let above = File::open(directory.path()).unwrap();
        assert_eq!(hindrance(above.as_fd(), c"plain", None).unwrap(), None);
    }
}
