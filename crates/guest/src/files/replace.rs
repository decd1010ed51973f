//! Writing a file so that it appears whole: a temporary file beside it, renamed at the end.
//!
//! All of it, dropping included, is to run with the user's rights.

use super::error::{of_io, refuse_kind};
use super::info::describe;
use super::mkdir;
use rexec_api::files::{FileInfo, FileKind};
use rexec_api::guest::GuestError;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A new file's permission bits, when none are asked for.
const MODE_DEFAULT: u32 = 0o644;
/// Symbolic links followed to the file to be replaced: as many as the kernel follows.
const LINKS_MAX: usize = 40;

pub(super) struct Replacement {
    /// As it was asked for.
    path: PathBuf,
    /// The file to replace, at the end of all links.
    target: PathBuf,
    temporary: PathBuf,
    file: File,
    mode: u32,
    committed: bool,
}

impl Replacement {
    /// Makes parents and the temporary file. Without `mode` an existing file keeps its own.
    pub fn begin(path: &Path, mode: Option<u32>) -> Result<Self, GuestError> {
        let target = follow(path)?;
        if target.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(refuse_kind(path, FileKind::Directory));
        }
        let kept = existing_mode(&target)?;
        let parent = target.parent().unwrap_or(Path::new("/"));
        mkdir(parent)?;
        let name = format!(".rexec-{}.tmp", uuid::Uuid::new_v4().simple());
        let temporary = parent.join(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(|e| of_io(path, &e))?;
        Ok(Self {
            path: path.to_owned(),
            target,
            temporary,
            file,
            mode: mode.or(kept).unwrap_or(MODE_DEFAULT),
            committed: false,
        })
    }

    pub fn write(&mut self, content: &[u8]) -> Result<(), GuestError> {
        self.file.write_all(content).map_err(|e| of_io(&self.path, &e))
    }

    pub fn commit(mut self) -> Result<FileInfo, GuestError> {
        let commit = || -> io::Result<_> {
            self.file.set_permissions(Permissions::from_mode(self.mode))?;
            std::fs::rename(&self.temporary, &self.target)?;
            self.file.metadata()
        };
        let metadata = commit().map_err(|e| of_io(&self.path, &e))?;
        self.committed = true;
        Ok(describe(&self.path, &metadata))
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.committed {
            // When this fails too, the user's directory keeps a hidden file: nothing else helps.
            let _ = std::fs::remove_file(&self.temporary);
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
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let opened = OpenOptions::new().write(true).custom_flags(flags).open(target);
    let metadata = match opened {
        Ok(file) => file.metadata(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        // A running program may be replaced, though not written to.
        Err(e) if Errno::from_io_error(&e) == Some(Errno::TXTBSY) => std::fs::metadata(target),
        Err(e) => Err(e),
    };
    let metadata = metadata.map_err(|e| of_io(target, &e))?;
    let info = describe(target, &metadata);
    if info.kind == FileKind::File { Ok(Some(info.mode)) } else { Err(refuse_kind(target, info.kind)) }
}
