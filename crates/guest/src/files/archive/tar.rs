//! Writing tar (POSIX.1-2001, `pax`): what does not fit the old header goes into a record before it.

use super::super::PIECE_BYTES;
use super::walk::{Content, Entry, Walk};
use crate::refusal::internal;
use rexec_api::guest::GuestError;
use std::fs::File;
use std::io::Read;

pub const BLOCK_BYTES: usize = 512;
const MODE_BITS: u32 = 0o7777;
/// The largest numbers of a field of 12 bytes, and of one of 8.
const LONG_MAX: u64 = 0o77_777_777_777;
const SHORT_MAX: u64 = 0o7_777_777;
/// Bytes of the fields for a name and for a link's target.
const NAME_BYTES: usize = 100;

pub struct TarWriter {
    walk: Walk,
    current: Option<Current>,
}

/// The file whose content is being written.
struct Current {
    file: File,
    /// Still owed of it.
    left: u64,
    /// Zeroes after it, to the end of its last block.
    pad: usize,
}

impl TarWriter {
    pub fn new(walk: Walk) -> Self {
        Self { walk, current: None }
    }

    /// Adds a head or a piece of content; `false` when the end was written.
    pub fn add(&mut self, out: &mut Vec<u8>) -> Result<bool, GuestError> {
        if let Some(Current { file, left, pad }) = &mut self.current {
            let (before, want) = (out.len(), (*left).min(PIECE_BYTES as u64));
            file.take(want).read_to_end(out).map_err(|e| internal("a file could not be read", e))?;
            let got = (out.len() - before) as u64;
            // A file that became shorter is filled up: its length has been told.
            let fill = if got == 0 { want } else { 0 };
            out.resize(out.len() + fill as usize, 0);
            *left -= got + fill;
            if *left == 0 {
                out.resize(out.len() + *pad, 0);
                self.current = None;
            }
            return Ok(true);
        }
        let Some(entry) = self.walk.next()? else {
            out.resize(out.len() + 2 * BLOCK_BYTES, 0);
            return Ok(false);
        };
        head(&entry, out);
        if let Content::File(file) = entry.content {
            let left = entry.stat.st_size.cast_unsigned();
            let pad = (left.next_multiple_of(BLOCK_BYTES as u64) - left) as usize;
            self.current = (left > 0).then_some(Current { file, left, pad });
        }
        Ok(true)
    }
}

fn head(entry: &Entry, out: &mut Vec<u8>) {
    let (kind, size, target) = match &entry.content {
        Content::Directory => (b'5', 0, b"".as_slice()),
        Content::File(_) => (b'0', entry.stat.st_size.cast_unsigned(), b"".as_slice()),
        Content::Link(target) => (b'2', 0, target.as_slice()),
    };
    let mut name = entry.name.clone();
    if kind == b'5' {
        name.push(b'/');
    }
    let (uid, gid) = (u64::from(entry.stat.st_uid), u64::from(entry.stat.st_gid));
    let mut records = Vec::new();
    for (key, value) in [("path", name.as_slice()), ("linkpath", target)] {
        if value.len() > NAME_BYTES {
            if std::str::from_utf8(value).is_err() {
                record(&mut records, "hdrcharset", b"BINARY");
            }
            record(&mut records, key, value);
        }
    }
    for (key, value, most) in [("size", size, LONG_MAX), ("uid", uid, SHORT_MAX), ("gid", gid, SHORT_MAX)] {
        if value > most {
            record(&mut records, key, value.to_string().as_bytes());
        }
    }
    if !records.is_empty() {
        let fields = Fields {
            name: b"PaxHeader",
            kind: b'x',
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: records.len() as u64,
            mtime: 0,
            target: b"",
        };
        out.extend_from_slice(&fields.block());
        out.extend_from_slice(&records);
        out.resize(out.len() + records.len().next_multiple_of(BLOCK_BYTES) - records.len(), 0);
    }
    let mtime = u64::try_from(entry.stat.st_mtime).unwrap_or(0);
    let fields = Fields { name: &name, kind, mode: entry.stat.st_mode & MODE_BITS, uid, gid, size, mtime, target };
    out.extend_from_slice(&fields.block());
}

/// `length key=value\n`, where the length counts itself.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut digits = rest.to_string().len();
    if (rest + digits).to_string().len() > digits {
        digits += 1;
    }
    records.extend_from_slice(format!("{} {key}=", rest + digits).as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// The old header's fields; what is too large for one is told by a record and here cut off.
struct Fields<'a> {
    name: &'a [u8],
    kind: u8,
    mode: u32,
    uid: u64,
    gid: u64,
    size: u64,
    mtime: u64,
    target: &'a [u8],
}

impl Fields<'_> {
    fn block(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        let mut text = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        text(0, &self.name[..self.name.len().min(NAME_BYTES)]);
        text(100, format!("{:07o}", self.mode).as_bytes());
        text(108, format!("{:07o}", self.uid.min(SHORT_MAX)).as_bytes());
        text(116, format!("{:07o}", self.gid.min(SHORT_MAX)).as_bytes());
        text(124, format!("{:011o}", self.size.min(LONG_MAX)).as_bytes());
        text(136, format!("{:011o}", self.mtime.min(LONG_MAX)).as_bytes());
        text(148, b"        ");
        text(156, &[self.kind]);
        text(157, &self.target[..self.target.len().min(NAME_BYTES)]);
        text(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}
