//! What is told of a file, and what of it can be set.

use crate::wire::{Reader, Result, Writer};
use rustix::fs::{self, AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid};
use std::os::fd::BorrowedFd;
use std::path::Path;

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const PERMISSIONS: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

/// Bits of a mode that a client may set.
const MODE_BITS: u32 = 0o7777;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub size: Option<u64>,
    pub owner: Option<(u32, u32)>,
    pub permissions: Option<u32>,
    /// Of the last access and of the last change, in seconds since 1970.
    pub times: Option<(u32, u32)>,
}

impl Attributes {
    pub fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let flags = reader.u32()?;
        let mut given = Self::default();
        if flags & SIZE != 0 {
            given.size = Some(reader.u64()?);
        }
        if flags & OWNER != 0 {
            given.owner = Some((reader.u32()?, reader.u32()?));
        }
        if flags & PERMISSIONS != 0 {
            given.permissions = Some(reader.u32()?);
        }
        if flags & TIMES != 0 {
            given.times = Some((reader.u32()?, reader.u32()?));
        }
        if flags & EXTENDED != 0 {
            for _ in 0..reader.u32()? {
                reader.string()?;
                reader.string()?;
            }
        }
        Ok(given)
    }

    /// The mode that a new file gets, before the process's mask.
    pub fn mode(&self, default: u32) -> Mode {
        Mode::from_raw_mode(self.permissions.unwrap_or(default) & MODE_BITS)
    }

    fn timestamps(&self) -> Option<Timestamps> {
        let at = |seconds: u32| Timespec { tv_sec: seconds.into(), tv_nsec: 0 };
        self.times.map(|(access, change)| Timestamps { last_access: at(access), last_modification: at(change) })
    }

    /// In OpenSSH's order: a size first, an owner last.
    pub fn apply(&self, file: BorrowedFd<'_>) -> Result<()> {
        if let Some(size) = self.size {
            fs::ftruncate(file, size)?;
        }
        if self.permissions.is_some() {
            fs::fchmod(file, self.mode(0))?;
        }
        if let Some(times) = self.timestamps() {
            fs::futimens(file, &times)?;
        }
        if let Some((uid, gid)) = self.owner {
            fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        Ok(())
    }

    /// By its path; `follow` says whether a symbolic link is followed.
    pub fn apply_to(&self, path: &Path, follow: bool) -> Result<()> {
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        if let Some(size) = self.size {
            let file = fs::open(path, fs::OFlags::WRONLY | fs::OFlags::CLOEXEC | fs::OFlags::NONBLOCK, Mode::empty())?;
            fs::ftruncate(file, size)?;
        }
        if self.permissions.is_some() {
            fs::chmodat(fs::CWD, path, self.mode(0), flags)?;
        }
        if let Some(times) = self.timestamps() {
            fs::utimensat(fs::CWD, path, &times, flags)?;
        }
        if let Some((uid, gid)) = self.owner {
            fs::chownat(fs::CWD, path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags)?;
        }
        Ok(())
    }
}

/// All that version 3 can tell. Times beyond 2106 are cut off.
pub fn write(out: &mut Writer, stat: &Stat) {
    let seconds = |value: i64| u32::try_from(value.max(0)).unwrap_or(u32::MAX);
    out.u32(SIZE | OWNER | PERMISSIONS | TIMES);
    out.u64(stat.st_size as u64);
    out.u32(stat.st_uid);
    out.u32(stat.st_gid);
    out.u32(stat.st_mode);
    out.u32(seconds(stat.st_atime));
    out.u32(seconds(stat.st_mtime));
}
