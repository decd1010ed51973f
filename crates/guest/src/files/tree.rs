//! Removing a directory with all that is in it.
//!
//! Walks by open directories and never follows a link, so that nobody can swap a directory for a
//! link under it; keeps its own stack, because threads here have small ones.

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Open directories at once; a deeper tree is refused.
const DEPTH_MAX: usize = 512;

struct Level {
    directory: Dir,
    name: CString,
}

pub(super) fn remove(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let name = CString::new(name.as_encoded_bytes())?;
    let mut levels = vec![Level::open(parent.as_fd(), name)?];
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.directory.read() else {
            let done = levels.pop();
            let above = levels.last().map(|l| l.directory.fd()).transpose()?;
            if let Some(done) = done {
                unlinkat(above.unwrap_or(parent.as_fd()), &done.name, AtFlags::REMOVEDIR)?;
            }
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let here = level.directory.fd()?;
        if entry.file_type() != FileType::Directory {
            match unlinkat(here, name, AtFlags::empty()) {
                // A file system that does not tell types, or a swap meanwhile.
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(Errno::NOENT) => continue,
                removed => {
                    removed?;
                    continue;
                }
            }
        }
        let next = Level::open(here.as_fd(), name.to_owned())?;
        if levels.len() >= DEPTH_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        levels.push(next);
    }
    Ok(())
}

impl Level {
    fn open(parent: BorrowedFd<'_>, name: CString) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(parent, &name, flags, Mode::empty())?;
        Ok(Self { directory: Dir::new(fd)?, name })
    }
}
