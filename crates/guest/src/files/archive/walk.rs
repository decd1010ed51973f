//! What an archive holds, one entry after the other, a directory before what is in it.
//!
//! Walks by open directories and never follows a link below the path itself.

use super::super::error::of_io;
use super::super::open;
use crate::refusal::refuse;
use rexec_api::error::ErrorCode;
use rexec_api::guest::GuestError;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Open directories at once; a deeper tree is refused.
const DEPTH_MAX: usize = 512;

pub struct Entry {
    /// From the archive's root, without a slash at either end.
    pub name: Vec<u8>,
    pub stat: Stat,
    pub content: Content,
}

pub enum Content {
    Directory,
    File(File),
    /// A symbolic link and where it points.
    Link(Vec<u8>),
}

pub struct Walk {
    path: PathBuf,
    /// What the path itself is, until it has been told.
    first: Option<Entry>,
    levels: Vec<Level>,
}

struct Level {
    directory: Dir,
    /// Of every entry in it, ending in a slash unless empty.
    prefix: Vec<u8>,
    device: u64,
}

impl Walk {
    pub fn begin(path: &Path) -> Result<Self, GuestError> {
        let fault = |error: Errno| of_io(path, &error.into());
        let opened = open::open(path, OFlags::RDONLY)?;
        let stat = fstat(&opened).map_err(fault)?;
        let name = path.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default();
        let mut walk = Self { path: path.to_owned(), first: None, levels: Vec::new() };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let prefix = if name.is_empty() { Vec::new() } else { [&name, b"/".as_slice()].concat() };
                walk.levels.push(Level { directory: Dir::new(opened).map_err(fault)?, prefix, device: stat.st_dev });
                walk.first = (!name.is_empty()).then_some(Entry { name, stat, content: Content::Directory });
            }
            FileType::RegularFile => walk.first = Some(Entry { name, stat, content: Content::File(opened.into()) }),
            _ => {
                return Err(refuse(
                    ErrorCode::NotAFile,
                    format!("{}: it is neither a file nor a directory", path.display()),
                ));
            }
        }
        Ok(walk)
    }

    /// The next entry; what the user may not see and what has vanished is passed over.
    pub fn next(&mut self) -> Result<Option<Entry>, GuestError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        loop {
            let Some(level) = self.levels.last_mut() else {
                return Ok(None);
            };
            let Some(entry) = level.directory.read() else {
                self.levels.pop();
                continue;
            };
            let fault = |error: Errno| of_io(&self.path, &error.into());
            let entry = entry.map_err(fault)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            match level.entry(name) {
                Ok(Some((entry, None))) => return Ok(Some(entry)),
                Ok(Some((entry, Some(below)))) => {
                    if self.levels.len() >= DEPTH_MAX {
                        return Err(fault(Errno::NAMETOOLONG));
                    }
                    self.levels.push(below);
                    return Ok(Some(entry));
                }
                Ok(None)
                | Err(Errno::ACCESS | Errno::PERM | Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => {}
                Err(error) => return Err(fault(error)),
            }
        }
    }
}

impl Level {
    /// An entry of this directory, and the level below if it is one. `None` for what no archive holds.
    fn entry(&self, name: &CStr) -> rustix::io::Result<Option<(Entry, Option<Self>)>> {
        let here = self.directory.fd()?;
        let stat = statat(here, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let full = [&self.prefix, name.to_bytes()].concat();
        let entry = |stat, content| Entry { name: full.clone(), stat, content };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let below = open_within(here, name, OFlags::DIRECTORY)?;
                let stat = fstat(&below)?;
                if stat.st_dev != self.device && open::is_kernels(&below) {
                    return Ok(None);
                }
                let prefix = [&full, b"/".as_slice()].concat();
                let level = Self { directory: Dir::new(below)?, prefix, device: stat.st_dev };
                Ok(Some((entry(stat, Content::Directory), Some(level))))
            }
            FileType::RegularFile => {
                let file = open_within(here, name, OFlags::NONBLOCK | OFlags::NOCTTY)?;
                let stat = fstat(&file)?;
                // It may have become something else meanwhile.
                let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
                Ok(is_file.then(|| (entry(stat, Content::File(file.into())), None)))
            }
            FileType::Symlink => {
                let target = readlinkat(here, name, Vec::new())?.into_bytes();
                Ok(Some((entry(stat, Content::Link(target)), None)))
            }
            _ => Ok(None),
        }
    }
}

fn open_within(parent: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    openat(parent, name, flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}
