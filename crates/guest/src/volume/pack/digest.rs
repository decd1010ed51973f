//! What two trees come to in one SHA-256: names, owners, modes, times, attributes, links and content, in the archive's order.
//!
//! Packing takes it from what it reads of the disk, unpacking from what it makes of the archive: neither from the bytes in
//! between. So where both come to the same, what was made is what was packed, whatever carried it. Each field goes in
//! with its length before it, so that no two trees look alike.

use super::sparse::Piece;
use sha2::{Digest as _, Sha256};

pub const DIGEST_BYTES: usize = 32;

/// One that nobody asks for costs nothing.
pub struct Digest(Option<Sha256>);

/// An entry but for its content.
pub struct Line<'a> {
    pub tree: &'a str,
    /// As tar has it.
    pub kind: u8,
    /// From the tree's root.
    pub path: &'a [u8],
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    pub target: &'a [u8],
    pub attributes: &'a [(Vec<u8>, Vec<u8>)],
}

impl Digest {
    pub fn wanted(is_wanted: bool) -> Self {
        Self(is_wanted.then(Sha256::new))
    }

    pub fn entry(&mut self, line: &Line<'_>) {
        self.field(line.tree.as_bytes());
        self.field(&[line.kind]);
        self.field(line.path);
        self.field(line.target);
        // Another name of a file has nothing of its own.
        if line.kind == b'1' {
            return;
        }
        let numbers = [line.mode.into(), line.uid.into(), line.gid.into(), line.mtime.0, line.mtime.1];
        numbers.iter().for_each(|number: &i64| self.number(*number));
        self.number(line.attributes.len() as i64);
        for (name, value) in line.attributes {
            self.field(name);
            self.field(value);
        }
    }

    /// Of the file whose entry was just told; `pieces` where it has holes.
    pub fn file(&mut self, size: u64, pieces: Option<&[Piece]>) {
        self.number(size.cast_signed());
        for piece in pieces.unwrap_or_default() {
            self.number(piece.at.cast_signed());
            self.number(piece.bytes.cast_signed());
        }
    }

    /// What is content of it, in order.
    pub fn content(&mut self, bytes: &[u8]) {
        if let Some(sha) = &mut self.0 {
            sha.update(bytes);
        }
    }

    /// `None`: nobody has asked for it.
    pub fn finish(self) -> Option<[u8; DIGEST_BYTES]> {
        self.0.map(|sha| sha.finalize().into())
    }

    fn field(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as i64);
        self.content(bytes);
    }

    fn number(&mut self, number: i64) {
        self.content(&number.to_le_bytes());
    }
}
