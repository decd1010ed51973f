//! A directory that nothing made through it leaves.
//!
//! Every name is opened relative to the open directory above it, one at a time, and no link is
//! followed: neither one that an archive has made nor one that somebody puts in place of a
//! directory at that moment. No name has a slash, `.` or `..` in it (`check::parts`).

use super::super::error::of_io;
use super::super::open::{self, make_within};
use super::refused;
use rexec_api::guest::GuestError;
use rustix::fs::{AtFlags, Mode, OFlags, StatVfs, fstatvfs, linkat, openat, symlinkat, unlinkat};
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
    pub fn directory(&mut self, parts: &[&[u8]]) -> Result<BorrowedFd<'_>, GuestError> {
        let common = self.way.iter().zip(parts).take_while(|((name, _), part)| name == *part).count();
        self.way.truncate(common);
        for part in &parts[common..] {
            let above = self.way.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd());
            let fd = make_within(above, name_of(part)).map_err(|e| fault(parts, e))?;
            self.way.push((part.to_vec(), fd));
        }
        Ok(self.way.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd()))
    }

    /// A new file in place of whatever but a directory has its name.
    pub fn file(&mut self, parts: &[&[u8]]) -> Result<File, GuestError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = self.replace(parts, |parent, name| openat(parent, name, flags, Mode::RUSR | Mode::WUSR));
        Ok(made?.into())
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
        let Some((name, way)) = parts.split_last() else {
            return Err(refused(b".", "is the directory itself and no directory"));
        };
        let name = name_of(name);
        let parent = self.directory(way)?;
        let made = match make(parent, name) {
            Err(Errno::EXIST) => unlinkat(parent, name, AtFlags::empty()).and_then(|()| make(parent, name)),
            made => made,
        };
        made.map_err(|e| fault(parts, e))
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
