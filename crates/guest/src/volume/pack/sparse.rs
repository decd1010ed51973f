//! Files with holes, as GNU tar's format 1.0 has them: a list of what there is, then that alone.

use super::super::content::used_bytes;
use crate::tar::BLOCK_BYTES;
use rustix::fs::{SeekFrom, Stat, seek};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Pieces of one file; whatever comes after the last of them is one piece.
pub const PIECES_MAX: usize = 16 * 1024;

/// Where content lies in a file, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub at: u64,
    pub bytes: u64,
}

/// What of the file is content, in order.
pub fn pieces(file: &OwnedFd, stat: &Stat) -> Result<Vec<Piece>, Errno> {
    let size = stat.st_size.cast_unsigned();
    if used_bytes(stat) == size {
        return Ok(vec![Piece { at: 0, bytes: size }]);
    }
    let mut found = Vec::new();
    let mut end = 0;
    while end < size {
        let at = match seek(file, SeekFrom::Data(end)) {
            Ok(at) => at.min(size),
            // Nothing but a hole from here.
            Err(Errno::NXIO) => break,
            // The file system knows no holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => end,
            Err(error) => return Err(error),
        };
        end = match seek(file, SeekFrom::Hole(at)) {
            Ok(end) if found.len() + 2 < PIECES_MAX => end.min(size),
            Ok(_) | Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => size,
            Err(error) => return Err(error),
        };
        if end > at {
            found.push(Piece { at, bytes: end - at });
        }
    }
    // A hole at the end is told by where the file ends.
    if found.last().is_none_or(|last| last.at + last.bytes < size) {
        found.push(Piece { at: size, bytes: 0 });
    }
    Ok(found)
}

/// The list as it stands before the content: decimal numbers in lines, filled up to whole blocks.
pub fn list(pieces: &[Piece]) -> Vec<u8> {
    let mut text = format!("{}\n", pieces.len());
    for piece in pieces {
        text.push_str(&format!("{}\n{}\n", piece.at, piece.bytes));
    }
    let mut list = text.into_bytes();
    list.resize(list.len().next_multiple_of(BLOCK_BYTES), 0);
    list
}

/// A list that is being read, number by number.
pub struct Numbers {
    digits: Vec<u8>,
    numbers: Vec<u64>,
}

impl Numbers {
    pub fn new() -> Self {
        Self { digits: Vec::new(), numbers: Vec::new() }
    }

    /// Takes the next block; gives the pieces once the list is whole.
    pub fn take(&mut self, block: &[u8], size: u64) -> Result<Option<Vec<Piece>>, &'static str> {
        const WRONG: &str = "the list of a file's pieces is not as GNU tar has it";
        for &byte in block {
            match byte {
                b'0'..=b'9' if self.digits.len() < 20 => self.digits.push(byte),
                b'\n' => {
                    let number = std::str::from_utf8(&self.digits).ok().and_then(|digits| digits.parse().ok());
                    self.numbers.push(number.ok_or(WRONG)?);
                    self.digits.clear();
                }
                _ => return Err(WRONG),
            }
            let count = *self.numbers.first().unwrap_or(&0);
            if count > PIECES_MAX as u64 {
                return Err("a file has too many pieces");
            }
            if !self.numbers.is_empty() && self.numbers.len() as u64 == 1 + 2 * count {
                return self.pieces(size).map(Some).ok_or(WRONG);
            }
        }
        Ok(None)
    }

    /// In order, apart from each other, and within the file.
    fn pieces(&self, size: u64) -> Option<Vec<Piece>> {
        let mut end = 0;
        let mut pieces = Vec::new();
        for pair in self.numbers[1..].chunks_exact(2) {
            let piece = Piece { at: pair[0], bytes: pair[1] };
            if piece.at < end {
                return None;
            }
            end = piece.at.checked_add(piece.bytes)?;
            pieces.push(piece);
        }
        (end <= size).then_some(pieces)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &[u8], size: u64) -> Result<Option<Vec<Piece>>, &'static str> {
        let mut numbers = Numbers::new();
        for block in text.chunks(BLOCK_BYTES) {
            if let Some(pieces) = numbers.take(block, size)? {
                return Ok(Some(pieces));
            }
        }
        Ok(None)
    }

    #[test]
    fn lists_go_out_and_in() {
        let many: Vec<Piece> = (0..200).map(|n| Piece { at: n * 100, bytes: 50 }).collect();
        for pieces in [Vec::new(), vec![Piece { at: 0, bytes: 1 }], many] {
            assert_eq!(read(&list(&pieces), 100_000).unwrap().unwrap(), pieces);
        }
    }

    #[test]
    fn lists_that_lie_are_refused() {
        for wrong in ["1\n5\n6\n", "2\n0\n5\n4\n1\n", "1\n18446744073709551615\n1\n", "x\n", "-1\n", "99999999\n"] {
            assert!(read(wrong.as_bytes(), 10).is_err(), "{wrong:?}");
        }
        assert_eq!(read(b"3\n0\n", 10), Ok(None));
    }
}
