//! Writing a file so that it appears whole: a temporary file beside it, renamed at the end.
//!
//! All of it, dropping included, is to run with the user's rights.

use super::error::{of_io, refuse_kind};
use super::info::{describe, kind_of};
use super::open;
use crate::refusal::refuse;
use rexec_api::error::ErrorCode;
use rexec_api::files::{FileInfo, FileKind};
use rexec_api::guest::{GuestError, WriteCondition};
use rustix::fs::{AtFlags, Mode, OFlags, fchmod, fstat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A new file's permission bits, when none are asked for.
const MODE_DEFAULT: u32 = 0o644;
/// Symbolic links followed to the file to be replaced: as many as the kernel follows.
const LINKS_MAX: usize = 40;

/// The name that a file is to have.
pub(super) struct Place {
    /// As it was asked for.
    pub path: PathBuf,
    /// Where it lies, at the end of all links: the directory's path, the directory, the name.
    pub directory: PathBuf,
    pub parent: OwnedFd,
    pub name: OsString,
    mode: u32,
}

impl Place {
    /// Makes parents. Without `mode` an existing file keeps its own.
    pub fn take(path: &Path, mode: Option<u32>) -> Result<Self, GuestError> {
        let target = follow(path)?;
        if target.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(refuse_kind(path, FileKind::Directory));
        }
        let kept = existing_mode(&target)?;
        let (parent, name) = open::parent_made(&target)?;
        let directory = target.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self { path: path.to_owned(), directory, parent, name, mode: mode.or(kept).unwrap_or(MODE_DEFAULT) })
    }

    fn check(&self, condition: Option<&WriteCondition>) -> Result<(), GuestError> {
        let Some(condition) = condition else { return Ok(()) };
        let now = match statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(describe(&self.path, &stat).etag),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(of_io(&self.path, &error.into())),
        };
        let what = match (condition, now) {
            (WriteCondition::Absent, None) | (WriteCondition::Present, Some(_)) => return Ok(()),
            (WriteCondition::Etag(etags), Some(now)) if etags.contains(&now) => return Ok(()),
            (WriteCondition::Absent, Some(_)) => "is there already",
            (_, None) => "is gone",
            (WriteCondition::Etag(_), Some(_)) => "was changed meanwhile",
        };
        let message = format!("{} {what}; read it again, or write it without that condition", self.path.display());
        Err(refuse(ErrorCode::FileChanged, message))
    }

    /// Gives a file that lies beside it, and is open, this name.
    pub fn fill(&self, temporary: &str, file: impl AsFd) -> Result<FileInfo, GuestError> {
        let fill = || {
            fchmod(&file, Mode::from_raw_mode(self.mode))?;
            renameat(&self.parent, temporary, &self.parent, &self.name)?;
            fstat(&file)
        };
        let stat = fill().map_err(|e: Errno| of_io(&self.path, &e.into()))?;
        Ok(describe(&self.path, &stat))
    }
}

pub(super) struct Replacement {
    place: Place,
    temporary: String,
    file: File,
    condition: Option<WriteCondition>,
    committed: bool,
}

/// Between looking at what is to be replaced and replacing it, no other conditional write of this guest
/// does so. What a program of the workspace writes in those microseconds is replaced unseen.
static LOOK_AND_RENAME: Mutex<()> = Mutex::new(());

impl Replacement {
    /// Makes parents and the temporary file.
    pub fn begin(path: &Path, mode: Option<u32>) -> Result<Self, GuestError> {
        let place = Place::take(path, mode)?;
        let temporary = format!(".rexec-{}.tmp", uuid::Uuid::new_v4().simple());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            openat(&place.parent, &temporary, flags, Mode::RUSR | Mode::WUSR).map_err(|e| of_io(path, &e.into()))?;
        Ok(Self { place, temporary, file: file.into(), condition: None, committed: false })
    }

    pub fn write(&mut self, content: &[u8]) -> Result<(), GuestError> {
        self.file.write_all(content).map_err(|e| of_io(&self.place.path, &e))
    }

    /// Refuses now what the condition does not allow, and again when the file takes its name.
    pub fn only_if(mut self, condition: Option<WriteCondition>) -> Result<Self, GuestError> {
        self.condition = condition;
        self.place.check(self.condition.as_ref())?;
        Ok(self)
    }

    pub fn commit(mut self) -> Result<FileInfo, GuestError> {
        // A thread that panicked while it held the lock left nothing half done.
        let _alone = self.condition.is_some().then(|| LOOK_AND_RENAME.lock().unwrap_or_else(PoisonError::into_inner));
        self.place.check(self.condition.as_ref())?;
        let info = self.place.fill(&self.temporary, &self.file)?;
        self.committed = true;
        Ok(info)
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.committed {
            // When this fails too, the user's directory keeps a hidden file: nothing else helps.
            let _ = unlinkat(&self.place.parent, &self.temporary, AtFlags::empty());
        }
    }
}

/// Where writing to `path` would lead: links to what does not exist yet are followed as well.
fn follow(path: &Path) -> Result<PathBuf, GuestError> {
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        match std::fs::read_link(&target) {
            Ok(link) => target = target.parent().unwrap_or(Path::new("/")).join(link),
            // Not a link, or nothing there: what comes next says more.
            Err(_) => return Ok(target),
        }
    }
    Err(of_io(path, &Errno::LOOP.into()))
}

/// Whether the user may write what is there, and its permission bits. `None` when nothing is.
fn existing_mode(target: &Path) -> Result<Option<u32>, GuestError> {
    let Ok(looked) = open::parent(target) else {
        // Nothing is there, or nothing that could be walked: making the parent will tell.
        return Ok(None);
    };
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let stat = match openat(&looked.0, &looked.1, flags, Mode::empty()) {
        Ok(file) => fstat(&file),
        Err(Errno::NOENT) => return Ok(None),
        // A running program may be replaced, though not written to.
        Err(Errno::TXTBSY) => statat(&looked.0, &looked.1, AtFlags::SYMLINK_NOFOLLOW),
        Err(error) => Err(error),
    };
    let stat = stat.map_err(|e| of_io(target, &e.into()))?;
    let info = describe(target, &stat);
    if kind_of(&stat) == FileKind::File { Ok(Some(info.mode)) } else { Err(refuse_kind(target, info.kind)) }
}
