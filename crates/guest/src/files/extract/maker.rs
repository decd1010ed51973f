//! Makes what an archive's entries say, within bounds, and counts it.
//!
//! **The measure** of what is too large is the disk's room, and not how well it was compressed: a log that repeats
//! itself and a file of holes shrink as far as anything that is made to do harm. What an archive says of its sizes
//! is held against the room before anything of it is made, and no entry may hold more than it said. Others write to
//! the disk meanwhile, so the room is measured again and again.

use super::check::{self, ENTRIES_MAX};
use super::confine::{Directory, Unplaced};
use super::refused;
use crate::refusal::refuse;
use crate::volume::content::set_extended;
use rexec_api::error::ErrorCode;
use rexec_api::files::ExtractSummary;
use rexec_api::guest::GuestError;
use rustix::fs::{Mode, Timespec, Timestamps, UTIME_OMIT, fchmod, futimens};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// What is kept of permissions: never to become somebody else.
const MODE_BITS: u32 = 0o777;

/// What is written, and made, until the room is measured again.
const MEASURE_BYTES: u64 = 16 * 1024 * 1024;
const MEASURE_ENTRIES: u64 = 1024;

pub struct Maker {
    directory: Directory,
    /// Bytes that may be written before the room is measured again.
    room: u64,
    entries: u64,
    made: ExtractSummary,
    file: Option<Open>,
}

/// The file that is being written.
struct Open {
    file: Unplaced,
    mode: u32,
    mtime: Option<i64>,
}

impl Maker {
    pub fn begin(path: &Path) -> Result<Self, GuestError> {
        let directory = Directory::open(path)?;
        Ok(Self { directory, room: 0, entries: 0, made: ExtractSummary::default(), file: None })
    }

    pub fn summary(&self) -> ExtractSummary {
        self.made
    }

    /// A place to keep an archive in that cannot be read from its beginning.
    pub fn nameless(&self) -> Result<File, GuestError> {
        self.directory.nameless()
    }

    /// Whether so many bytes fit that are to be written next.
    pub fn fits(&self, bytes: u64) -> Result<(), GuestError> {
        let room = self.measure()?;
        if bytes <= room {
            return Ok(());
        }
        Err(too_large(&format!(
            "the next {bytes} bytes of content do not fit on the disk, which has room for {room} (a twentieth of it, \
             1 GiB at most, stays free); make room, or extract a smaller archive"
        )))
    }

    /// Bytes that the file system has room for.
    fn measure(&self) -> Result<u64, GuestError> {
        let space = self.directory.space()?;
        let unit = space.f_frsize;
        Ok(check::bytes_max(space.f_blocks.saturating_mul(unit), space.f_bavail.saturating_mul(unit)))
    }

    pub fn directory(&mut self, name: &[u8]) -> Result<(), GuestError> {
        let parts = self.count(name)?;
        self.directory.directory(&parts)
    }

    pub fn link(&mut self, name: &[u8], target: &[u8]) -> Result<(), GuestError> {
        let parts = self.count(name)?;
        check::target(target).map_err(|what| refused(name, what))?;
        self.made.files += 1;
        self.directory.link(&parts, target)
    }

    pub fn hard_link(&mut self, name: &[u8], to: &[u8]) -> Result<(), GuestError> {
        let parts = self.count(name)?;
        let to = check::parts(to).map_err(|what| refused(to, what))?;
        self.made.files += 1;
        self.directory.hard_link(&parts, &to)
    }

    /// Begins a file; its content follows by [`Maker::write`], its end by [`Maker::close`].
    pub fn open(&mut self, name: &[u8], mode: u32, mtime: Option<i64>) -> Result<(), GuestError> {
        let parts = self.count(name)?;
        self.made.files += 1;
        let file = self.directory.file(&parts)?;
        self.file = Some(Open { file, mode: mode & MODE_BITS, mtime });
        Ok(())
    }

    /// Gives the file that was begun these extended attributes; a file system without them does without.
    pub fn attributes(&self, attributes: &[(Vec<u8>, Vec<u8>)]) {
        let Some(open) = &self.file else { return };
        for (name, value) in attributes {
            // What does not fit or is not allowed is not the content.
            let _ = set_extended(&open.file.file, name, value);
        }
    }

    pub fn write(&mut self, content: &[u8]) -> Result<(), GuestError> {
        self.made.bytes += content.len() as u64;
        let bytes = content.len() as u64;
        if bytes > self.room {
            self.fits(bytes)?;
            self.room = self.measure()?.min(MEASURE_BYTES.max(bytes));
        }
        self.room = self.room.saturating_sub(bytes);
        match &mut self.file {
            Some(Open { file, .. }) => file.file.write_all(content).map_err(|e| file.fault(&e)),
            None => Ok(()),
        }
    }

    pub fn close(&mut self) -> Result<(), GuestError> {
        let Some(Open { file, mode, mtime }) = self.file.take() else {
            return Ok(());
        };
        fchmod(&file.file, Mode::from_raw_mode(mode)).map_err(|e| file.fault(&e.into()))?;
        if let Some(seconds) = mtime {
            let times = Timestamps {
                last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
                last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
            };
            // A time that the file system cannot keep is no reason to lose the file.
            let _ = futimens(&file.file, &times);
        }
        file.place()
    }

    /// Counts an entry and judges its name.
    fn count<'a>(&mut self, name: &'a [u8]) -> Result<Vec<&'a [u8]>, GuestError> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(too_many());
        }
        if self.entries.is_multiple_of(MEASURE_ENTRIES) {
            // Names take room too.
            self.fits(1)?;
        }
        check::parts(name).map_err(|what| refused(name, what))
    }
}

pub fn too_many() -> GuestError {
    too_large(&format!("it has more than {ENTRIES_MAX} entries"))
}

pub fn too_large(what: &str) -> GuestError {
    refuse(ErrorCode::ArchiveTooLarge, format!("The archive is not extracted any further: {what}."))
}
