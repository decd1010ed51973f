//! Reading zip (PKWARE APPNOTE 6.3): kept until its end is there, then read by its directory.

use super::super::PIECE_BYTES;
use super::check::ENTRIES_MAX;
use super::maker::{Maker, too_many};
use super::{damaged, refused};
use crate::refusal::internal;
use flate2::{Crc, Decompress, FlushDecompress, Status};
use rexec_api::guest::GuestError;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

/// How far from the end the last record can begin: its own length and the longest comment.
const TAIL_BYTES_MAX: u64 = 22 + 65_535;
/// Content written in one turn at most, beyond which the next one goes on.
const TURN_BYTES: u64 = 1024 * 1024;
const U32_MAX: u64 = 0xFFFF_FFFF;
const STORED: u64 = 0;
const DEFLATED: u64 = 8;
const ENCRYPTED: u64 = 1;
const UNIX: u64 = 3;
const KIND_BITS: u32 = 0o170_000;
const KIND_LINK: u32 = 0o120_000;
const KIND_DIRECTORY: u32 = 0o040_000;
const KIND_FILE: u32 = 0o100_000;
const MODE_DEFAULT: u32 = 0o644;
const TARGET_BYTES_MAX: u64 = 4096;

/// A zip that is still arriving.
pub struct Spool {
    file: Option<File>,
    bytes: u64,
}

impl Spool {
    pub fn begin(maker: &Maker) -> Result<Self, GuestError> {
        Ok(Self { file: Some(maker.nameless()?), bytes: 0 })
    }

    pub fn write(&mut self, piece: &[u8], maker: &Maker) -> Result<(), GuestError> {
        self.bytes += piece.len() as u64;
        maker.fits(piece.len() as u64)?;
        match &mut self.file {
            Some(file) => file.write_all(piece).map_err(|e| super::super::error::of_io(".".as_ref(), &e)),
            None => Ok(()),
        }
    }

    /// All of it has come. What it says of its sizes is judged here.
    pub fn read(&mut self, maker: &Maker) -> Result<ZipReader, GuestError> {
        let file = self.file.take().ok_or_else(|| internal("a zip was read twice", "spool"))?;
        let zip = ZipReader::begin(Bytes { file, size: self.bytes })?;
        maker.fits(zip.content_bytes()?)?;
        Ok(zip)
    }
}

/// The archive's bytes, at any place.
struct Bytes {
    file: File,
    size: u64,
}

impl Bytes {
    /// `count` bytes at a place, all of them or none.
    fn at(&self, place: u64, count: usize) -> Result<Vec<u8>, GuestError> {
        if place.checked_add(count as u64).is_none_or(|end| end > self.size) {
            return Err(damaged("it points beyond its end"));
        }
        let mut bytes = vec![0; count];
        self.file.read_exact_at(&mut bytes, place).map_err(|e| internal("a zip could not be read back", e))?;
        Ok(bytes)
    }
}

pub struct ZipReader {
    bytes: Bytes,
    /// Where the directory's next entry begins, and how many are left.
    next: u64,
    left: u64,
    current: Option<Content>,
    inflate: Decompress,
}

/// The content of a file that is being written.
struct Content {
    place: u64,
    packed_left: u64,
    deflated: bool,
    crc: Crc,
    /// Bytes of plain content so far.
    made: u64,
    entry: Entry,
}

struct Entry {
    name: Vec<u8>,
    mode: Option<u32>,
    flags: u64,
    method: u64,
    crc: u64,
    packed: u64,
    size: u64,
    place: u64,
    mtime: Option<i64>,
}

impl ZipReader {
    fn begin(bytes: Bytes) -> Result<Self, GuestError> {
        let (next, left) = find_directory(&bytes)?;
        Ok(Self { bytes, next, left, current: None, inflate: Decompress::new(false) })
    }

    /// Bytes that the directory says its files have together, however often they share them.
    fn content_bytes(&self) -> Result<u64, GuestError> {
        if self.left > ENTRIES_MAX {
            return Err(too_many());
        }
        let (mut next, mut bytes) = (self.next, 0u64);
        for _ in 0..self.left {
            bytes = bytes.saturating_add(self.entry(&mut next)?.size);
        }
        Ok(bytes)
    }

    /// Makes some of what is left; `false` when that was all.
    pub fn step(&mut self, maker: &mut Maker) -> Result<bool, GuestError> {
        let until = maker.summary().bytes + TURN_BYTES;
        while maker.summary().bytes < until {
            if let Some(content) = self.current.take() {
                self.write(content, maker)?;
                continue;
            }
            if self.left == 0 {
                return Ok(false);
            }
            self.left -= 1;
            let mut next = self.next;
            let entry = self.entry(&mut next)?;
            self.next = next;
            self.make(entry, maker)?;
        }
        Ok(true)
    }

    /// The directory's entry at a place, which then is that of the one after it.
    fn entry(&self, next: &mut u64) -> Result<Entry, GuestError> {
        let head = self.bytes.at(*next, 46)?;
        if &head[..4] != b"PK\x01\x02" {
            return Err(damaged("its directory cannot be read"));
        }
        let (name, extra, comment) = (little(&head[28..30]), little(&head[30..32]), little(&head[32..34]));
        let tail = self.bytes.at(*next + 46, (name + extra) as usize)?;
        *next += 46 + name + extra + comment;
        let (name, extra) = tail.split_at(name as usize);
        // The upper half of the attributes is the mode, where the archive was made on Unix.
        let mode = (little(&head[5..6]) == UNIX).then(|| little(&head[40..42]) as u32).filter(|&mode| mode != 0);
        let mut entry = Entry {
            name: name.to_vec(),
            mode,
            flags: little(&head[8..10]),
            method: little(&head[10..12]),
            crc: little(&head[16..20]),
            packed: little(&head[20..24]),
            size: little(&head[24..28]),
            place: little(&head[42..46]),
            mtime: None,
        };
        entry.read_extra(extra)?;
        Ok(entry)
    }

    fn make(&mut self, entry: Entry, maker: &mut Maker) -> Result<(), GuestError> {
        if entry.flags & ENCRYPTED != 0 {
            return Err(refused(&entry.name, "is encrypted"));
        }
        if !matches!(entry.method, STORED | DEFLATED) {
            return Err(refused(&entry.name, "is compressed in a way other than deflate"));
        }
        let kind = entry.mode.unwrap_or(0) & KIND_BITS;
        if entry.name.ends_with(b"/") || kind == KIND_DIRECTORY {
            return maker.directory(&entry.name);
        }
        match kind {
            0 | KIND_FILE | KIND_LINK => {}
            _ => return Err(refused(&entry.name, "is a device or the like")),
        }
        let head = self.bytes.at(entry.place, 30)?;
        if &head[..4] != b"PK\x03\x04" {
            return Err(refused(&entry.name, "is not where the directory says"));
        }
        let place = entry.place + 30 + little(&head[26..28]) + little(&head[28..30]);
        let (packed_left, deflated) = (entry.packed, entry.method == DEFLATED);
        let content = Content { place, packed_left, deflated, crc: Crc::new(), made: 0, entry };
        self.inflate.reset(false);
        if kind == KIND_LINK {
            return self.link(content, maker);
        }
        maker.fits(content.entry.size)?;
        let mode = content.entry.mode.unwrap_or(MODE_DEFAULT);
        maker.open(&content.entry.name, mode, content.entry.mtime)?;
        self.current = Some(content);
        Ok(())
    }

    fn link(&mut self, mut content: Content, maker: &mut Maker) -> Result<(), GuestError> {
        if content.entry.size > TARGET_BYTES_MAX || content.entry.packed > 2 * TARGET_BYTES_MAX {
            return Err(refused(&content.entry.name, "is a link to what is no path"));
        }
        let mut target = Vec::new();
        while self.unpack(&mut content, &mut target)? {
            if target.len() as u64 > TARGET_BYTES_MAX {
                return Err(refused(&content.entry.name, "is a link to what is no path"));
            }
        }
        maker.link(&content.entry.name, &target)
    }

    /// Writes a piece of a file, and closes it after the last.
    fn write(&mut self, mut content: Content, maker: &mut Maker) -> Result<(), GuestError> {
        let mut plain = Vec::with_capacity(PIECE_BYTES);
        let more = self.unpack(&mut content, &mut plain)?;
        content.crc.update(&plain);
        content.made += plain.len() as u64;
        if content.made > content.entry.size {
            return Err(refused(&content.entry.name, "holds more than it says"));
        }
        maker.write(&plain)?;
        if more {
            self.current = Some(content);
            return Ok(());
        }
        let Content { crc, made, entry, .. } = content;
        if u64::from(crc.sum()) != entry.crc || made != entry.size {
            return Err(refused(&entry.name, "is damaged"));
        }
        maker.close()
    }

    /// Adds a piece of plain content; `false` when that was the last.
    fn unpack(&mut self, content: &mut Content, plain: &mut Vec<u8>) -> Result<bool, GuestError> {
        let count = content.packed_left.min(PIECE_BYTES as u64 / 2) as usize;
        let packed = self.bytes.at(content.place, count)?;
        if !content.deflated {
            plain.extend_from_slice(&packed);
            content.place += count as u64;
            content.packed_left -= count as u64;
            return Ok(content.packed_left > 0);
        }
        plain.reserve(PIECE_BYTES);
        let (taken_before, made_before) = (self.inflate.total_in(), plain.len());
        let status = self.inflate.decompress_vec(&packed, plain, FlushDecompress::None);
        let status = status.map_err(|_| refused(&content.entry.name, "is damaged"))?;
        let taken = self.inflate.total_in() - taken_before;
        content.place += taken;
        content.packed_left -= taken;
        if status != Status::StreamEnd && taken == 0 && plain.len() == made_before {
            return Err(refused(&content.entry.name, "ends too early"));
        }
        Ok(status != Status::StreamEnd)
    }
}

impl Entry {
    /// Sizes of 64 bits and the time of change, where there are any.
    fn read_extra(&mut self, mut extra: &[u8]) -> Result<(), GuestError> {
        while extra.len() >= 4 {
            let (id, count) = (little(&extra[..2]), little(&extra[2..4]) as usize);
            let Some(field) = extra.get(4..4 + count) else {
                // Some writers fill up with what is no field.
                return Ok(());
            };
            extra = &extra[4 + count..];
            match id {
                1 => {
                    let mut wide = field.chunks_exact(8);
                    for value in [&mut self.size, &mut self.packed, &mut self.place] {
                        if *value == U32_MAX {
                            *value =
                                wide.next().map(little).ok_or_else(|| damaged("an entry's size cannot be read"))?;
                        }
                    }
                }
                0x5455 if field.len() >= 5 && field[0] & 1 != 0 => {
                    self.mtime = Some(i64::from(little(&field[1..5]) as u32 as i32));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Where the directory begins, and how many entries it has.
fn find_directory(bytes: &Bytes) -> Result<(u64, u64), GuestError> {
    let tail_at = bytes.size.saturating_sub(TAIL_BYTES_MAX);
    let tail = bytes.at(tail_at, (bytes.size - tail_at) as usize)?;
    let fits = |at: &usize| {
        let record = &tail[*at..];
        record.starts_with(b"PK\x05\x06") && record.len() as u64 == 22 + little(&record[20..22])
    };
    let last = tail.len().checked_sub(22).ok_or_else(|| damaged("it is no zip"))?;
    let at = (0..=last).rev().find(fits).ok_or_else(|| damaged("it is no zip, or its end is missing"))?;
    let record = &tail[at..];
    let (entries, begins) = (little(&record[10..12]), little(&record[16..20]));
    let locator_at = (tail_at + at as u64).checked_sub(20);
    let locator = locator_at.map(|at| bytes.at(at, 20)).transpose()?;
    let Some(locator) = locator.filter(|locator| locator.starts_with(b"PK\x06\x07")) else {
        return Ok((begins, entries));
    };
    let wide = bytes.at(little(&locator[8..16]), 56)?;
    if !wide.starts_with(b"PK\x06\x06") {
        return Err(damaged("its directory cannot be found"));
    }
    Ok((little(&wide[48..56]), little(&wide[32..40])))
}

/// A number of up to eight bytes, the lowest first.
fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}
