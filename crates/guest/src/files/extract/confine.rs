//! A directory that nothing made through it leaves.
//!
//! Every name is opened relative to the open directory above it, one at a time, and no link is
//! followed: neither one that an archive has made nor one that somebody puts in place of a
//! directory at that moment. No name has a slash, `.` or `..` in it (`check::parts`). A file gets its
//! name when it is whole, and goes when it is given up; all of it, dropping included, is to run with
//! the user's rights.

use super::super::error::of_io;
use super::super::open::{self, make_within};
use super::refused;
use rexec_api::guest::GuestError;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, StatVfs, fstatvfs, linkat, openat, renameat, renameat_with, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub struct Directory {
    path: PathBuf,
    root: OwnedFd,
    /// The directories that lead to the last entry: the next one is often beside it.
    way: Vec<(Vec<u8>, OwnedFd)>,
}

impl Directory {
    /// Opens the directory and makes it if need be.
    pub fn open(path: &Path) -> Result<Self, GuestError> {
        Ok(Self { path: path.to_owned(), root: open::make_directory(path)?, way: Vec::new() })
    }

    pub fn space(&self) -> Result<StatVfs, GuestError> {
        fstatvfs(&self.root).map_err(|e| of_io(&self.path, &e.into()))
    }

    /// A file without a name, or without one for long, that goes when it is closed.
    pub fn nameless(&self) -> Result<File, GuestError> {
        let fault = |error: Errno| of_io(&self.path, &error.into());
        let (flags, mode) = (OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
        match openat(&self.root, ".", flags | OFlags::TMPFILE, mode) {
            Ok(file) => Ok(file.into()),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let name = format!(".rexec-{}.tmp", uuid::Uuid::new_v4().simple());
                let created = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let file = openat(&self.root, &name, created, mode).map_err(fault)?;
                unlinkat(&self.root, &name, AtFlags::empty()).map_err(fault)?;
                Ok(file.into())
            }
            Err(error) => Err(fault(error)),
        }
    }

    /// Makes the directories of these names, one in the other.
    pub fn directory(&mut self, parts: &[&[u8]]) -> Result<(), GuestError> {
        self.reach(parts, parts).map(|_| ())
    }

    /// Opens the directories on the way to an entry, and makes those that are missing.
    fn reach(&mut self, way: &[&[u8]], entry: &[&[u8]]) -> Result<BorrowedFd<'_>, GuestError> {
        let common = self.way.iter().zip(way).take_while(|((name, _), part)| name == *part).count();
        self.way.truncate(common);
        for (depth, part) in way.iter().enumerate().skip(common) {
            let above = self.way.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd());
            let fd = make_within(above, name_of(part)).map_err(|e| match e {
                Errno::LOOP | Errno::NOTDIR if depth + 1 == entry.len() => {
                    refused(&entry.join(&b'/'), "is a directory in the place of a link or a file")
                }
                e => fault(entry, e),
            })?;
            self.way.push((part.to_vec(), fd));
        }
        Ok(self.way.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd()))
    }

    /// A new file, which is to take the place of whatever but a directory has its name.
    pub fn file(&mut self, parts: &[&[u8]]) -> Result<Unplaced, GuestError> {
        let (name, way) = split(parts)?;
        let parent = self.reach(way, parts)?;
        let is_directory = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        if is_directory {
            return Err(fault(parts, Errno::ISDIR));
        }
        let parent = parent.try_clone_to_owned().map_err(|e| of_io(name, &e))?;
        let temporary = format!(".rexec-{}.tmp", uuid::Uuid::new_v4().simple());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&parent, &temporary, flags, Mode::RUSR | Mode::WUSR).map_err(|e| fault(parts, e))?;
        let name = parts.join(&b'/');
        Ok(Unplaced { file: file.into(), parent, temporary, name, placed: false })
    }

    /// A symbolic link, its target kept as it is.
    pub fn link(&mut self, parts: &[&[u8]], target: &[u8]) -> Result<(), GuestError> {
        self.replace(parts, |parent, name| symlinkat(OsStr::from_bytes(target), parent, name))
    }

    /// Another name for a file that lies in the directory.
    pub fn hard_link(&mut self, parts: &[&[u8]], to: &[&[u8]]) -> Result<(), GuestError> {
        let Some((to_name, to_way)) = to.split_last() else {
            return Err(refused(&parts.join(&b'/'), "is a link to the directory itself"));
        };
        let mut above = self.root.as_fd().try_clone_to_owned().map_err(|e| of_io(&self.path, &e))?;
        for part in to_way {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            above = openat(&above, name_of(part), flags, Mode::empty()).map_err(|e| fault(parts, e))?;
        }
        self.replace(parts, |parent, name| linkat(&above, name_of(to_name), parent, name, AtFlags::empty()))
    }

    fn replace<T>(
        &mut self,
        parts: &[&[u8]],
        make: impl Fn(BorrowedFd<'_>, &Path) -> rustix::io::Result<T>,
    ) -> Result<T, GuestError> {
        let (name, way) = split(parts)?;
        let parent = self.reach(way, parts)?;
        let made = match make(parent, name) {
            Err(Errno::EXIST) => unlinkat(parent, name, AtFlags::empty()).and_then(|()| make(parent, name)),
            made => made,
        };
        made.map_err(|e| fault(parts, e))
    }
}

/// A file that has not its name yet. Unless it gets it, it goes when this is dropped.
pub struct Unplaced {
    pub file: File,
    parent: OwnedFd,
    temporary: String,
    /// The entry's.
    name: Vec<u8>,
    placed: bool,
}

impl Unplaced {
    /// Gives the file its name, and takes it from what had it.
    pub fn place(mut self) -> Result<(), GuestError> {
        let parts: Vec<&[u8]> = self.name.split(|&byte| byte == b'/').collect();
        let (name, _) = split(&parts)?;
        match self.rename(name, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => self.replace(name),
            // Not every file system knows the flags.
            Err(Errno::INVAL) => renameat(&self.parent, &self.temporary, &self.parent, name),
            renamed => renamed,
        }
        .map_err(|e| fault(&parts, e))?;
        self.placed = true;
        Ok(())
    }

    /// Changes names with what is there, which then goes. Some file systems write a file to the disk before it may replace
    /// another by being renamed, and ten thousand of them wait for that. So a power cut may leave such a file empty, as it
    /// may after `tar`.
    fn replace(&self, name: &Path) -> rustix::io::Result<()> {
        match statat(&self.parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) if FileType::from_raw_mode(there.st_mode) == FileType::Directory => return Err(Errno::ISDIR),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
        match self.rename(name, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            // Not every file system can, and what was there may have gone.
            Err(Errno::INVAL | Errno::NOENT) => return renameat(&self.parent, &self.temporary, &self.parent, name),
            Err(error) => return Err(error),
        }
        unlinkat(&self.parent, &self.temporary, AtFlags::empty()).inspect_err(|_| {
            // A directory came there meanwhile: it gets its name back.
            let _ = self.rename(name, RenameFlags::EXCHANGE);
        })
    }

    fn rename(&self, name: &Path, flags: RenameFlags) -> rustix::io::Result<()> {
        renameat_with(&self.parent, &self.temporary, &self.parent, name, flags)
    }

    pub fn fault(&self, error: &std::io::Error) -> GuestError {
        of_io(name_of(&self.name), error)
    }
}

impl Drop for Unplaced {
    fn drop(&mut self) {
        if !self.placed {
            // When this fails too, the user's directory keeps a hidden file: nothing else helps.
            let _ = unlinkat(&self.parent, &self.temporary, AtFlags::empty());
        }
    }
}

/// An entry's own name, and those on the way to it.
fn split<'a, 'b>(parts: &'b [&'a [u8]]) -> Result<(&'a Path, &'b [&'a [u8]]), GuestError> {
    match parts.split_last() {
        Some((name, way)) => Ok((name_of(name), way)),
        None => Err(refused(b".", "is the directory itself and no directory")),
    }
}

fn name_of(part: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(part))
}

fn fault(parts: &[&[u8]], error: Errno) -> GuestError {
    let name = parts.join(&b'/');
    match error {
        Errno::LOOP | Errno::NOTDIR => refused(&name, "lies below a link or a file"),
        Errno::ISDIR => refused(&name, "has the name of a directory that is there"),
        Errno::XDEV => refused(&name, "is a link to another file system"),
        _ => of_io(Path::new(OsStr::from_bytes(&name)), &error.into()),
    }
}
