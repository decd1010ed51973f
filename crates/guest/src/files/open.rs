//! Opening what a path names, for a user and from inside PID 1.
//!
//! **Why.** The kernel takes "self" of `/proc` for the guest, and lets a process look at itself
//! whatever its rights are: by `/proc/self/fd` and its like a user's path could lead to what only
//! the guest may open. **Invariant.** No path is walked through such a link, and nothing of
//! `/proc` is opened. A kernel without `openat2` (gVisor) leaves the links to its own checks.

use super::error::of_io;
use crate::refusal::refuse;
use rexec_api::error::ErrorCode;
use rexec_api::guest::GuestError;
use rustix::fs::{
    CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstat, fstatfs, mkdirat, openat, openat2,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

/// Directories that are made go by the usual umask.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

/// Of sysfs, which rustix does not name (Linux, `magic.h`).
const SYSFS_MAGIC: u64 = 0x6265_6572;

/// Opens without waiting (a FIFO would) and without becoming a terminal's owner.
pub(super) fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, GuestError> {
    let opened = raw_open(path, flags).map_err(|e| fault(path, e))?;
    not_proc(path, &opened)?;
    Ok(opened)
}

fn raw_open(path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    // With `O_PATH` nothing is really opened, and the kernel takes no other flags.
    let calm = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK | OFlags::NOCTTY };
    let flags = flags | calm | OFlags::CLOEXEC;
    if has_openat2() {
        openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
    } else {
        openat(CWD, path, flags, Mode::empty())
    }
}

/// Old container engines refuse the call rather than say that they do not know it.
fn has_openat2() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN
        .get_or_init(|| openat2(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::empty()).is_ok())
}

fn not_proc(path: &Path, opened: impl AsFd) -> Result<(), GuestError> {
    if is_proc(opened) { Err(refuse_proc(path)) } else { Ok(()) }
}

fn is_proc(opened: impl AsFd) -> bool {
    fstatfs(opened).is_ok_and(|about| about.f_type as u64 == PROC_SUPER_MAGIC as u64)
}

fn refuse_proc(path: &Path) -> GuestError {
    let what = "what the kernel tells of processes is not given as a file; read it with a command";
    refuse(ErrorCode::FileDenied, format!("{}: {what}", path.display()))
}

/// The kernel tells a link that we do not walk through from too many links no more than by where it lies.
fn fault(path: &Path, error: Errno) -> GuestError {
    let is_link_of_proc = |at: &Path| {
        raw_open(at, OFlags::PATH | OFlags::NOFOLLOW).is_ok_and(|link| {
            let is_link = fstat(&link).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
            is_link && is_proc(&link)
        })
    };
    if error == Errno::LOOP && path.ancestors().any(is_link_of_proc) {
        return refuse_proc(path);
    }
    of_io(path, &error.into())
}

/// Whether it lies on a file system that the kernel makes up: then sizes say little.
pub(super) fn is_kernels(opened: impl AsFd) -> bool {
    fstatfs(opened).is_ok_and(|about| [PROC_SUPER_MAGIC as u64, SYSFS_MAGIC].contains(&(about.f_type as u64)))
}

/// The path itself, a link not followed; good for describing it.
pub(super) fn look(path: &Path) -> Result<OwnedFd, GuestError> {
    open(path, OFlags::PATH | OFlags::NOFOLLOW)
}

/// A directory, to be listed or walked.
pub(super) fn directory(path: &Path) -> Result<OwnedFd, GuestError> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// The directory that holds the last name of `path`, and that name.
pub(super) fn parent(path: &Path) -> Result<(OwnedFd, OsString), GuestError> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((open(parent, OFlags::PATH | OFlags::DIRECTORY)?, name.to_owned())),
        _ => Err(of_io(path, &Errno::INVAL.into())),
    }
}

/// As [`parent`], where the directory is made if need be.
pub(super) fn parent_made(path: &Path) -> Result<(OwnedFd, OsString), GuestError> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((make_directory(parent)?, name.to_owned())),
        _ => Err(of_io(path, &Errno::INVAL.into())),
    }
}

/// Opens a directory and makes what is missing of it. Links are followed in the part that is there.
pub(super) fn make_directory(path: &Path) -> Result<OwnedFd, GuestError> {
    make_directory_as(path, DIRECTORY_MODE)
}

/// The same, where what is made gets this mode.
pub(super) fn make_directory_as(path: &Path, mode: Mode) -> Result<OwnedFd, GuestError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let mut missing: Vec<&OsStr> = Vec::new();
    let mut there = path;
    let mut here = loop {
        match raw_open(there, flags) {
            Ok(here) => break here,
            Err(Errno::NOENT) => {
                // A path with `..` in what is missing means nothing.
                let name = there.file_name().ok_or_else(|| of_io(path, &Errno::NOENT.into()))?;
                missing.push(name);
                there = there.parent().unwrap_or(Path::new("/"));
            }
            Err(error) => return Err(fault(there, error)),
        }
    };
    not_proc(path, &here)?;
    for name in missing.into_iter().rev() {
        here = make_within_as(&here, Path::new(name), mode).map_err(|e| of_io(path, &e.into()))?;
    }
    Ok(here)
}

/// A directory of this one, made if need be. A link is not followed.
pub(super) fn make_within(parent: impl AsFd, name: &Path) -> rustix::io::Result<OwnedFd> {
    make_within_as(parent, name, DIRECTORY_MODE)
}

fn make_within_as(parent: impl AsFd, name: &Path, mode: Mode) -> rustix::io::Result<OwnedFd> {
    match mkdirat(&parent, name, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(&parent, name, flags, Mode::empty())
}

/// `path` without `.` and doubled slashes, for telling it again.
pub(super) fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}
