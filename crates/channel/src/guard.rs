//! What a guest may send besides data: one head for each stream.
//!
//! HTTP/2 lets an answer be preceded by any number of informational ones (1xx). Flow control does
//! not count them, and the library keeps them until somebody reads the answer; while a file is
//! being sent nobody does, so a hostile guest could fill the server's memory with them. Our guest
//! sends neither informational answers nor trailers, so a second head on a stream ends the
//! connection.
//!
//! Invariant: what is kept is bounded by [`STREAMS_REMEMBERED_MAX`]; bytes pass unchanged.

use std::collections::HashSet;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Streams whose head has come; forgotten all at once beyond that, which gives each one head more.
const STREAMS_REMEMBERED_MAX: usize = 16 * 1024;
/// A frame's header (RFC 9113, section 4.1): length, type, flags, stream.
const HEADER_BYTES: usize = 9;
const TYPE_DATA: u8 = 0x0;
const TYPE_HEADERS: u8 = 0x1;
const TYPE_RESET: u8 = 0x3;
const FLAG_END_STREAM: u8 = 0x1;

/// A guest's byte stream, watched as it is read.
pub(crate) struct Guard<IO> {
    io: IO,
    heads: Heads,
}

impl<IO> Guard<IO> {
    pub fn new(io: IO) -> Self {
        Self { io, heads: Heads::default() }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        Poll::Ready(self.heads.watch(&buf.filled()[before..]))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guard<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Follows the frames of one direction, however the bytes are cut.
#[derive(Default)]
struct Heads {
    header: [u8; HEADER_BYTES],
    have: usize,
    /// Bytes of the current frame that are still to come.
    left: usize,
    seen: HashSet<u32>,
}

impl Heads {
    fn watch(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let passed = self.left.min(bytes.len());
                self.left -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            let taken = (HEADER_BYTES - self.have).min(bytes.len());
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEADER_BYTES {
                self.have = 0;
                self.frame()?;
            }
        }
        Ok(())
    }

    /// A header is whole.
    fn frame(&mut self) -> io::Result<()> {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.header;
        self.left = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        let ends = flags & FLAG_END_STREAM != 0;
        match kind {
            TYPE_HEADERS => {
                if self.seen.len() >= STREAMS_REMEMBERED_MAX {
                    self.seen.clear();
                }
                if !self.seen.insert(stream) {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a second head on a stream"));
                }
                // What follows on a stream that has ended, the library refuses.
                if ends {
                    self.seen.remove(&stream);
                }
            }
            TYPE_DATA if ends => drop(self.seen.remove(&stream)),
            TYPE_RESET => drop(self.seen.remove(&stream)),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, length: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, stream];
        bytes.resize(HEADER_BYTES + length as usize, TYPE_HEADERS);
        bytes
    }

    #[test]
    fn one_head_for_each_stream_however_the_bytes_are_cut() {
        let answer =
            |stream| [frame(TYPE_HEADERS, 4, stream, 20), frame(TYPE_DATA, FLAG_END_STREAM, stream, 30)].concat();
        let good = [frame(0x4, 0, 0, 0), answer(1), answer(3), frame(TYPE_HEADERS, 4, 5, 1), answer(7)].concat();
        for cut in 1..good.len() {
            let mut heads = Heads::default();
            good.chunks(cut).try_for_each(|piece| heads.watch(piece)).unwrap();
            assert_eq!(heads.seen, HashSet::from([5]));
            assert!(heads.watch(&frame(TYPE_HEADERS, 4, 5, 0)).is_err());
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut heads = Heads::default();
        for stream in 0..3 * STREAMS_REMEMBERED_MAX as u32 {
            let [s0, s1, s2, s3] = stream.to_be_bytes();
            heads.watch(&[0, 0, 0, TYPE_HEADERS, 4, s0, s1, s2, s3]).unwrap();
            assert!(heads.seen.len() <= STREAMS_REMEMBERED_MAX);
        }
    }
}
