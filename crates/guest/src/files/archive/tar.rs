//! Writing tar as a stream.

use super::super::PIECE_BYTES;
use super::walk::{Content, Entry, Walk};
use crate::refusal::internal;
use crate::tar::{BLOCK_BYTES, Head, attribute, padding};
use crate::volume::content::{extended, extended_names};
use rexec_api::guest::GuestError;
use std::fs::File;
use std::io::Read;

const MODE_BITS: u32 = 0o7777;
/// Most bytes of a file's attributes that go along; readers have bounds, ours too.
const ATTRIBUTES_BYTES_MAX: usize = 32 * 1024;

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
            let pad = padding(left);
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
    let head = Head {
        name: &name,
        kind,
        mode: entry.stat.st_mode & MODE_BITS,
        uid: entry.stat.st_uid.into(),
        gid: entry.stat.st_gid.into(),
        size,
        mtime: entry.stat.st_mtime,
        target,
    };
    head.write(attributes(entry), out);
}

/// The user's attributes of a file. What cannot be read is not the file's content, and is left out.
fn attributes(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    let Content::File(file) = &entry.content else { return records };
    for name in extended_names(file).unwrap_or_default() {
        if !is_users(&name) {
            continue;
        }
        if let Ok(Some(value)) = extended(file, &name)
            && records.len() + name.len() + value.len() <= ATTRIBUTES_BYTES_MAX
        {
            attribute(&mut records, &name, &value);
        }
    }
    records
}

/// Not the system's, and not what an upload of ours has left.
pub fn is_users(name: &[u8]) -> bool {
    name.starts_with(b"user.") && !name.starts_with(b"user.rexec.")
}
