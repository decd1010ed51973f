//! Makes what an archive's entries say, within bounds, and counts it.

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

pub struct Maker {
    directory: Directory,
    /// Bytes that the file system has room for.
    bytes_max: u64,
    /// Bytes of the archive so far.
    taken: u64,
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
        let space = directory.space()?;
        let unit = space.f_frsize;
        let bytes_max = check::bytes_max(space.f_blocks.saturating_mul(unit), space.f_bavail.saturating_mul(unit));
        Ok(Self { directory, bytes_max, taken: 0, entries: 0, made: ExtractSummary::default(), file: None })
    }

    pub fn summary(&self) -> ExtractSummary {
        self.made
    }

    /// Counts bytes of the archive itself.
    pub fn took(&mut self, bytes: usize) {
        self.taken += bytes as u64;
    }

    /// A place to keep an archive in that cannot be read from its beginning.
    pub fn nameless(&self) -> Result<File, GuestError> {
        self.directory.nameless()
    }

    /// Whether so many bytes fit at all.
    pub fn fits(&self, bytes: u64) -> Result<(), GuestError> {
        if bytes > self.bytes_max {
            return Err(too_large("it has more bytes than the disk has room for"));
        }
        Ok(())
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
        self.fits(self.made.bytes)?;
        if check::is_bomb(self.taken, self.made.bytes) {
            return Err(too_large("it grows beyond measure"));
        }
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
            return Err(too_large(&format!("it has more than {ENTRIES_MAX} entries")));
        }
        check::parts(name).map_err(|what| refused(name, what))
    }
}

pub fn too_large(what: &str) -> GuestError {
    refuse(ErrorCode::ArchiveTooLarge, format!("The archive is not extracted any further: {what}."))
}
