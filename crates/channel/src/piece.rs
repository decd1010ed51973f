//! The buffer that is handed to HTTP/2: a frame's length prefix and its bytes, without a copy.

use bytes::{Buf, Bytes};
use std::io::IoSlice;

/// Bytes of a frame's length prefix.
pub(crate) const PREFIX_BYTES: usize = 4;

/// A prefix, of which `head_at..` is left to send, and the bytes after it.
#[derive(Debug)]
pub(crate) struct Piece {
    head: [u8; PREFIX_BYTES],
    head_at: usize,
    body: Bytes,
}

impl Piece {
    /// Bytes without a prefix.
    pub fn plain(body: Bytes) -> Self {
        Self { head: [0; PREFIX_BYTES], head_at: PREFIX_BYTES, body }
    }

    /// A frame; the caller has checked that its length fits the prefix.
    pub fn framed(body: Bytes) -> Self {
        Self { head: (body.len() as u32).to_be_bytes(), head_at: 0, body }
    }

    fn head(&self) -> &[u8] {
        &self.head[self.head_at..]
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        PREFIX_BYTES - self.head_at + self.body.len()
    }

    fn chunk(&self) -> &[u8] {
        if self.head_at < PREFIX_BYTES { self.head() } else { &self.body }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = [self.head(), &self.body];
        let mut used = 0;
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let Some(slot) = slices.get_mut(used) else {
                break;
            };
            *slot = IoSlice::new(part);
            used += 1;
        }
        used
    }

    fn advance(&mut self, count: usize) {
        let of_head = count.min(PREFIX_BYTES - self.head_at);
        self.head_at += of_head;
        self.body.advance(count - of_head);
    }
}
