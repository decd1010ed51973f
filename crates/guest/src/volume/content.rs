//! What a file holds and carries, from one open file to another: content without filling its holes,
//! owner, mode, extended attributes and times.

use rustix::fs::{
    FileType, Gid, Mode, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags, copy_file_range, fchmod, fchown,
    fgetxattr, flistxattr, fremovexattr, fsetxattr, ftruncate, futimens, mknodat, seek,
};
use rustix::io::{Errno, pread, pwrite};
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Read and written at once where the kernel does not copy by itself.
const PIECE_BYTES: usize = 128 * 1024;
/// What the kernel is asked to copy at once; it may do less.
const RANGE_BYTES_MAX: u64 = 1 << 30;
/// The kernel's own limits of an attribute and of all names (xattr(7)).
const ATTRIBUTE_BYTES_MAX: usize = 64 * 1024;
/// Most files have no attribute, or few.
const NAMES_BYTES_USUAL: usize = 256;
/// `st_blocks` counts in these, whatever the file system's own are (stat(2)).
const BLOCK_BYTES: u64 = 512;
/// What users may set, and access control lists. The rest is the kernel's, or needs more rights than we have.
const ATTRIBUTES: [&[u8]; 2] = [b"user.", b"system.posix_acl_"];

/// By what an upper layer of a nested container's overlay says that a file of a lower one is gone. It stands for no
/// device, and making one needs no right (Linux 5.8; mknod(2) knows it by the number 0, 0).
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Makes one.
pub fn make_whiteout(parent: impl AsFd, name: &OsStr, mode: Mode) -> Result<(), Errno> {
    mknodat(parent, name, FileType::CharacterDevice, mode, 0)
}

/// Bytes on the disk, as far as they are content.
pub fn used_bytes(stat: &Stat) -> u64 {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    size.min(u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK_BYTES)
}

/// Copies the content as far as it went when `stat` was taken: a file that is always added to must end.
pub fn copy(from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> Result<(), Errno> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if used_bytes(stat) == size {
        return copy_range(from, to, 0, size);
    }
    ftruncate(to, size)?;
    let mut end = 0;
    while end < size {
        let start = match seek(from, SeekFrom::Data(end)) {
            Ok(start) => start,
            // Nothing but a hole from here.
            Err(Errno::NXIO) => return Ok(()),
            // The file system knows no holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return copy_range(from, to, end, size),
            Err(error) => return Err(error),
        };
        end = seek(from, SeekFrom::Hole(start))?;
        copy_range(from, to, start, end.min(size))?;
    }
    Ok(())
}

fn copy_range(from: &OwnedFd, to: &OwnedFd, start: u64, end: u64) -> Result<(), Errno> {
    let (mut read, mut written) = (start, start);
    if end.saturating_sub(start) > PIECE_BYTES as u64 {
        while read < end {
            let length = (end - read).min(RANGE_BYTES_MAX) as usize;
            match copy_file_range(from, Some(&mut read), to, Some(&mut written), length) {
                // It has become shorter meanwhile.
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                // Not between these two; what has been copied stays.
                Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM) => break,
                Err(error) => return Err(error),
            }
        }
    }
    copy_pieces(from, to, read, end)
}

fn copy_pieces(from: &OwnedFd, to: &OwnedFd, mut at: u64, end: u64) -> Result<(), Errno> {
    let mut piece = vec![0; (end.saturating_sub(at)).min(PIECE_BYTES as u64) as usize];
    while at < end {
        let wanted = (end - at).min(piece.len() as u64) as usize;
        let count = rustix::io::retry_on_intr(|| pread(from, &mut piece[..wanted], at))?;
        if count == 0 {
            return Ok(());
        }
        let mut rest = &piece[..count];
        while !rest.is_empty() {
            let written = rustix::io::retry_on_intr(|| pwrite(to, rest, at))?;
            rest = &rest[written..];
            at += written as u64;
        }
    }
    Ok(())
}

/// Owner, mode, attributes and times, in the order in which none undoes another.
pub fn copy_attributes(from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> Result<(), Errno> {
    fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    copy_extended(from, to)?;
    futimens(to, &times(stat))
}

pub fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime as _, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ },
    }
}

fn copy_extended(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let wanted = extended_names(from)?;
    for stale in extended_names(to)?.iter().filter(|name| !wanted.contains(name)) {
        fremovexattr(to, stale.as_slice())?;
    }
    for name in wanted {
        if let Some(value) = extended(from, &name)? {
            set_extended(to, &name, &value)?;
        }
    }
    Ok(())
}

/// An attribute's value; `None` when it was taken away since it was listed.
pub fn extended(file: impl AsFd, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = vec![0; ATTRIBUTE_BYTES_MAX];
    match fgetxattr(file, name, &mut value) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA) => Ok(None),
        Err(error) => Err(error),
    }
}

pub fn set_extended(file: impl AsFd, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    match fsetxattr(file, name, value, XattrFlags::empty()) {
        // The target's file system has none of these; content matters more.
        Err(Errno::OPNOTSUPP) => Ok(()),
        set => set,
    }
}

/// Whether it is an attribute that goes along.
pub fn is_ours(name: &[u8]) -> bool {
    ATTRIBUTES.iter().any(|prefix| name.starts_with(prefix))
}

pub fn extended_names(file: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = vec![0; NAMES_BYTES_USUAL];
    let mut listed = flistxattr(&file, &mut names);
    if listed == Err(Errno::RANGE) {
        names.resize(ATTRIBUTE_BYTES_MAX, 0);
        listed = flistxattr(&file, &mut names);
    }
    let length = match listed {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error),
    };
    Ok(names[..length].split(|&byte| byte == 0).filter(|name| is_ours(name)).map(<[u8]>::to_vec).collect())
}

/// Has what was written through memory maps counted: from here on, the first write to each page of
/// the file gives it a new change time. Without this, a page that is dirty already is written to in
/// silence. It is enough to have the writing begin, which takes the pages' write access away; only what
/// is being written already, and may be dirty again, is waited for.
pub fn settle(file: impl AsFd) {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE;
    // SAFETY: a plain system call on an open descriptor. Where it is not to be had, nothing is lost but this.
    let _ = unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, flags) };
}
