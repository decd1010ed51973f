//! What the requests do, as system calls.

use crate::attributes::Attributes;
use crate::wire::{Fault, HANDLES_MAX, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, CWD, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

const READ: u32 = 0x01;
const WRITE: u32 = 0x02;
const APPEND: u32 = 0x04;
const CREATE: u32 = 0x08;
const TRUNCATE: u32 = 0x10;
const EXCLUSIVE: u32 = 0x20;

const FILE_MODE: u32 = 0o666;

pub enum Open {
    File(OwnedFd),
    /// And the directory again, to look at its entries by.
    Directory(Dir, OwnedFd),
}

/// What is open, by numbers that are never used twice.
#[derive(Default)]
pub struct Handles {
    open: HashMap<u32, Open>,
    next: u32,
}

impl Handles {
    pub fn add(&mut self, open: Open) -> Result<[u8; 4]> {
        self.room()?;
        let number = self.next;
        self.next = self.next.checked_add(1).ok_or(Fault::TooManyHandles)?;
        self.open.insert(number, open);
        Ok(number.to_be_bytes())
    }

    /// Fails when one more would be too many.
    pub fn room(&self) -> Result<()> {
        if self.open.len() < HANDLES_MAX { Ok(()) } else { Err(Fault::TooManyHandles) }
    }

    fn number(handle: &[u8]) -> Result<u32> {
        Ok(u32::from_be_bytes(handle.try_into().map_err(|_| Fault::NoSuchHandle)?))
    }

    pub fn get(&mut self, handle: &[u8]) -> Result<&mut Open> {
        self.open.get_mut(&Self::number(handle)?).ok_or(Fault::NoSuchHandle)
    }

    pub fn file(&mut self, handle: &[u8]) -> Result<BorrowedFd<'_>> {
        match self.get(handle)? {
            Open::File(file) => Ok((*file).as_fd()),
            Open::Directory(..) => Err(Fault::NoSuchHandle),
        }
    }

    pub fn any(&mut self, handle: &[u8]) -> Result<BorrowedFd<'_>> {
        match self.get(handle)? {
            Open::File(file) | Open::Directory(_, file) => Ok((*file).as_fd()),
        }
    }

    pub fn close(&mut self, handle: &[u8]) -> Result<()> {
        self.open.remove(&Self::number(handle)?).map(drop).ok_or(Fault::NoSuchHandle)
    }
}

pub fn open_file(path: &Path, wanted: u32, attributes: &Attributes) -> Result<Open> {
    let mut flags = match (wanted & READ != 0, wanted & WRITE != 0) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        _ => OFlags::RDONLY,
    };
    for (bit, flag) in
        [(APPEND, OFlags::APPEND), (CREATE, OFlags::CREATE), (TRUNCATE, OFlags::TRUNC), (EXCLUSIVE, OFlags::EXCL)]
    {
        if wanted & bit != 0 {
            flags |= flag;
        }
    }
    let file = fs::open(path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, attributes.mode(FILE_MODE))?;
    Ok(Open::File(file))
}

pub fn open_directory(path: &Path) -> Result<Open> {
    let directory = fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Open::Directory(Dir::read_from(&directory)?, directory))
}

/// Without replacing anything, as version 3 has it.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    match fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot: a name that appears in between is replaced.
        Err(Errno::INVAL | Errno::NOSYS) => match fs::statat(CWD, to, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Errno::EXIST.into()),
            Err(_) => Ok(fs::rename(from, to)?),
        },
        renamed => Ok(renamed?),
    }
}

/// The path without links and dots. Its last part need not exist.
pub fn real_path(path: &Path) -> Result<Vec<u8>> {
    match path.canonicalize() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(error.into());
            };
            Ok(parent.canonicalize()?.join(name).into_os_string().into_vec())
        }
        real => Ok(real?.into_os_string().into_vec()),
    }
}

/// `~` and `~/...` are the home; other users' homes are not looked for.
pub fn expand_path(home: &Path, path: &[u8]) -> Result<Vec<u8>> {
    let path = match path {
        b"~" => b".",
        [b'~', b'/', rest @ ..] => rest,
        [b'~', ..] => return Err(Fault::Unsupported),
        path => path,
    };
    real_path(&home.join(OsStr::from_bytes(path)))
}
