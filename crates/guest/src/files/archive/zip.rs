//! Writing zip (PKWARE APPNOTE 6.3) as a stream: sizes follow the content, the directory comes last.

use super::super::PIECE_BYTES;
use super::walk::{Content, Entry, Walk};
use crate::refusal::{internal, refuse};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use rexec_api::error::ErrorCode;
use rexec_api::guest::GuestError;
use std::fs::File;
use std::io::Read;

/// The directory is kept until the end; a larger one is refused.
const DIRECTORY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Between speed and size.
const DEFLATE_LEVEL: u32 = 4;
/// From here on sizes are told in 64 bits; what was compressed may have grown a little.
const LARGE_BYTES: u64 = 0xF000_0000;
const U32_MAX: u64 = 0xFFFF_FFFF;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// Names are UTF-8; sizes come after the content.
const FLAG_UTF8: u16 = 1 << 11;
const FLAG_SIZES_FOLLOW: u16 = 1 << 3;
/// Needs version 4.5 for 64 bits; made on Unix, so that permissions are told.
const VERSION: u16 = 45;
const MADE_BY: u16 = 3 << 8 | VERSION;
const MODE_BITS: u32 = 0o170_777;

pub struct ZipWriter {
    walk: Walk,
    compress: Compress,
    current: Option<Current>,
    directory: Vec<u8>,
    entries: u64,
    /// Bytes of the archive so far.
    written: u64,
}

/// The file whose content is being written.
struct Current {
    file: File,
    left: u64,
    crc: Crc,
    packed: u64,
    about: About,
}

/// What head, tail and directory say of an entry.
struct About {
    name: Vec<u8>,
    mode: u32,
    mtime: i64,
    method: u16,
    flags: u16,
    large: bool,
    offset: u64,
}

impl ZipWriter {
    pub fn new(walk: Walk) -> Self {
        let compress = Compress::new(Compression::new(DEFLATE_LEVEL), false);
        Self { walk, compress, current: None, directory: Vec::new(), entries: 0, written: 0 }
    }

    /// Adds a head or a piece of content; `false` when the end was written.
    pub fn add(&mut self, out: &mut Vec<u8>) -> Result<bool, GuestError> {
        let before = out.len();
        let more = self.add_next(out);
        self.written += (out.len() - before) as u64;
        more
    }

    fn add_next(&mut self, out: &mut Vec<u8>) -> Result<bool, GuestError> {
        if let Some(current) = self.current.take() {
            self.add_content(current, out)?;
            return Ok(true);
        }
        match self.walk.next()? {
            Some(entry) => self.begin(entry, out)?,
            None => {
                self.end(out);
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn begin(&mut self, entry: Entry, out: &mut Vec<u8>) -> Result<(), GuestError> {
        let Entry { mut name, stat, content } = entry;
        if matches!(content, Content::Directory) {
            name.push(b'/');
        }
        if self.directory.len() > DIRECTORY_BYTES_MAX {
            return Err(refuse(ErrorCode::ArchiveTooLarge, "There are too many files for a zip; take tar.zst."));
        }
        let is_file = matches!(content, Content::File(_));
        let utf8 = if std::str::from_utf8(&name).is_ok() { FLAG_UTF8 } else { 0 };
        let about = About {
            name,
            mode: stat.st_mode & MODE_BITS,
            mtime: stat.st_mtime,
            method: if is_file { DEFLATED } else { STORED },
            flags: if is_file { utf8 | FLAG_SIZES_FOLLOW } else { utf8 },
            large: stat.st_size.cast_unsigned() >= LARGE_BYTES,
            offset: self.written,
        };
        match content {
            Content::File(file) => {
                about.head(out, 0, 0);
                self.compress.reset();
                let left = stat.st_size.cast_unsigned();
                self.current = Some(Current { file, left, crc: Crc::new(), packed: 0, about });
            }
            Content::Link(target) => {
                let mut crc = Crc::new();
                crc.update(&target);
                about.head(out, crc.sum(), target.len() as u64);
                out.extend_from_slice(&target);
                self.note(&about, crc.sum(), target.len() as u64, target.len() as u64);
            }
            Content::Directory => {
                about.head(out, 0, 0);
                self.note(&about, 0, 0, 0);
            }
        }
        Ok(())
    }

    fn add_content(&mut self, mut current: Current, out: &mut Vec<u8>) -> Result<(), GuestError> {
        let mut plain = Vec::new();
        let want = current.left.min(PIECE_BYTES as u64);
        (&current.file).take(want).read_to_end(&mut plain).map_err(|e| internal("a file could not be read", e))?;
        current.left -= plain.len() as u64;
        current.crc.update(&plain);
        // A file that became shorter ends early: its length is told afterwards.
        let last = current.left == 0 || plain.is_empty();
        let before = out.len();
        deflate(&mut self.compress, &plain, last, out)?;
        current.packed += (out.len() - before) as u64;
        if !last {
            self.current = Some(current);
            return Ok(());
        }
        let (sum, size) = (current.crc.sum(), self.compress.total_in());
        current.about.tail(out, sum, current.packed, size);
        self.note(&current.about, sum, current.packed, size);
        Ok(())
    }

    /// Adds an entry to the directory.
    fn note(&mut self, about: &About, crc: u32, packed: u64, size: u64) {
        let mut wide = Vec::new();
        for value in [size, packed, about.offset] {
            if value >= U32_MAX {
                wide.extend_from_slice(&value.to_le_bytes());
            }
        }
        let mut extra = about.time();
        if !wide.is_empty() {
            extra.extend_from_slice(&1u16.to_le_bytes());
            extra.extend_from_slice(&(wide.len() as u16).to_le_bytes());
            extra.extend_from_slice(&wide);
        }
        let directory = &mut self.directory;
        directory.extend_from_slice(b"PK\x01\x02");
        directory.extend_from_slice(&MADE_BY.to_le_bytes());
        about.common(directory, crc, packed, size, extra.len());
        // No comment, first disk, no internal attributes.
        directory.extend_from_slice(&[0; 6]);
        directory.extend_from_slice(&(about.mode << 16).to_le_bytes());
        directory.extend_from_slice(&narrow(about.offset));
        directory.extend_from_slice(&about.name);
        directory.extend_from_slice(&extra);
        self.entries += 1;
    }

    /// The directory and the records that find it, of 64 bits always: every reader of today knows them.
    fn end(&mut self, out: &mut Vec<u8>) {
        let (begins, bytes) = (self.written, self.directory.len() as u64);
        out.append(&mut self.directory);
        out.extend_from_slice(b"PK\x06\x06");
        out.extend_from_slice(&44u64.to_le_bytes());
        out.extend_from_slice(&MADE_BY.to_le_bytes());
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        for value in [self.entries, self.entries, bytes, begins] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(b"PK\x06\x07\0\0\0\0");
        out.extend_from_slice(&(begins + bytes).to_le_bytes());
        out.extend_from_slice(&1u32.to_le_bytes());
        out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        let entries = u16::try_from(self.entries).unwrap_or(u16::MAX).to_le_bytes();
        out.extend_from_slice(&[entries, entries].concat());
        out.extend_from_slice(&narrow(bytes));
        out.extend_from_slice(&narrow(begins));
        out.extend_from_slice(&[0; 2]);
    }
}

impl About {
    fn head(&self, out: &mut Vec<u8>, crc: u32, size: u64) {
        let mut extra = self.time();
        if self.large {
            // Its presence says that the sizes after the content have 64 bits.
            extra.extend_from_slice(&[1, 0, 16, 0]);
            extra.extend_from_slice(&[0; 16]);
        }
        out.extend_from_slice(b"PK\x03\x04");
        self.common(out, crc, size, size, extra.len());
        out.extend_from_slice(&self.name);
        out.extend_from_slice(&extra);
    }

    /// What both heads have, from the version to the extra field's length.
    fn common(&self, out: &mut Vec<u8>, crc: u32, packed: u64, size: u64, extra: usize) {
        for value in [VERSION, self.flags, self.method] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(&dos_time(self.mtime).to_le_bytes());
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&narrow(packed));
        out.extend_from_slice(&narrow(size));
        // Names are paths of the kernel, far below 64 KiB.
        out.extend_from_slice(&(self.name.len() as u16).to_le_bytes());
        out.extend_from_slice(&(extra as u16).to_le_bytes());
    }

    fn tail(&self, out: &mut Vec<u8>, crc: u32, packed: u64, size: u64) {
        out.extend_from_slice(b"PK\x07\x08");
        out.extend_from_slice(&crc.to_le_bytes());
        for value in [packed, size] {
            if self.large {
                out.extend_from_slice(&value.to_le_bytes());
            } else {
                out.extend_from_slice(&narrow(value));
            }
        }
    }

    /// The extra field that tells the time of change in seconds since 1970 (Info-ZIP's 0x5455).
    fn time(&self) -> Vec<u8> {
        match i32::try_from(self.mtime) {
            Ok(mtime) => [b"UT\x05\x00\x01".as_slice(), &mtime.to_le_bytes()].concat(),
            Err(_) => Vec::new(),
        }
    }
}

fn narrow(value: u64) -> [u8; 4] {
    (value.min(U32_MAX) as u32).to_le_bytes()
}

fn deflate(compress: &mut Compress, plain: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), GuestError> {
    let began = compress.total_in();
    let flush = if last { FlushCompress::Finish } else { FlushCompress::None };
    loop {
        out.reserve(PIECE_BYTES / 2);
        let at = (compress.total_in() - began) as usize;
        let status = compress.compress_vec(&plain[at..], out, flush).map_err(|e| internal("deflate", e))?;
        let taken = (compress.total_in() - began) as usize == plain.len();
        if status == Status::StreamEnd || (!last && taken) {
            return Ok(());
        }
    }
}

/// Date and time of MS-DOS, two seconds fine, in UTC; what it cannot tell is its nearest.
/// The days are counted as in "chrono-Compatible Low-Level Date Algorithms" (Hinnant).
fn dos_time(seconds: i64) -> u32 {
    const FIRST: i64 = 315_532_800;
    const LAST: i64 = 4_354_819_198;
    let seconds = seconds.clamp(FIRST, LAST);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let date = (year - 1980) << 9 | month << 5 | day;
    let time = (second / 3600) << 11 | (second / 60 % 60) << 5 | (second % 60 / 2);
    (date << 16 | time) as u32
}

#[cfg(test)]
mod tests {
    use super::dos_time;

    #[test]
    fn times_of_dos() {
        let told = |year: u32, month: u32, day: u32, hour: u32, minute: u32, second: u32| {
            let date = ((year - 1980) << 9) | (month << 5) | day;
            (date << 16) | (hour << 11) | (minute << 5) | (second / 2)
        };
        assert_eq!(dos_time(0), told(1980, 1, 1, 0, 0, 0));
        assert_eq!(dos_time(951_782_400), told(2000, 2, 29, 0, 0, 0));
        assert_eq!(dos_time(1_700_000_000), told(2023, 11, 14, 22, 13, 20));
        assert_eq!(dos_time(i64::MAX), told(2107, 12, 31, 23, 59, 58));
    }
}
