//! What a guest may send besides data: one head for each stream, and so many frames that carry nothing.
//!
//! HTTP/2 lets an answer be preceded by any number of informational ones (1xx). Flow control does
//! not count them, and the library keeps them until somebody reads the answer; while a file is
//! being sent nobody does, so a hostile guest could fill the server's memory with them. Our guest
//! sends neither informational answers nor trailers, so a second head on a stream ends the
//! connection.
//!
//! Frames without data (pings, settings, window updates, empty DATA) cost the guest nothing and no
//! window holds them, so a guest that sends nothing else would keep a thread of the server busy
//! without end. They come from a budget that fills again with time. Ordinary ones are few: a guest
//! gives room back for every [`STREAM_WINDOW_BYTES`](crate::STREAM_WINDOW_BYTES) / 2 that it has
//! read of a stream, 4 times for each MiB, which is 4,000 a second at 1 GiB/s.
//!
//! Invariant: what is kept is bounded by [`STREAMS_REMEMBERED_MAX`]; bytes pass unchanged.

use std::collections::HashSet;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Streams whose head has come; forgotten all at once beyond that, which gives each one head more.
const STREAMS_REMEMBERED_MAX: usize = 16 * 1024;
/// Frames without data that a guest may send in one second; after a pause, twice as many at once.
const BARE_FRAMES_PER_SECOND: u32 = 20_000;
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
        Self { io, heads: Heads::new(Instant::now()) }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        Poll::Ready(self.heads.watch(&buf.filled()[before..], Instant::now()))
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

/// A token bucket that is filled when it is found empty.
struct Budget {
    left: u32,
    /// When it was last filled.
    filled: Instant,
}

impl Budget {
    /// Takes one; false when there is none.
    fn spend(&mut self, now: Instant) -> bool {
        if self.left == 0 {
            let earned = now.duration_since(self.filled).as_secs_f64() * f64::from(BARE_FRAMES_PER_SECOND);
            self.left = earned.min(f64::from(BARE_FRAMES_PER_SECOND)) as u32;
            self.filled = now;
        }
        let spent = self.left > 0;
        self.left = self.left.saturating_sub(1);
        spent
    }
}

/// Follows the frames of one direction, however the bytes are cut.
struct Heads {
    header: [u8; HEADER_BYTES],
    have: usize,
    /// Bytes of the current frame that are still to come.
    left: usize,
    seen: HashSet<u32>,
    bare: Budget,
}

impl Heads {
    fn new(now: Instant) -> Self {
        let bare = Budget { left: BARE_FRAMES_PER_SECOND, filled: now };
        Self { header: [0; HEADER_BYTES], have: 0, left: 0, seen: HashSet::new(), bare }
    }

    fn watch(&mut self, mut bytes: &[u8], now: Instant) -> io::Result<()> {
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
                self.frame(now)?;
            }
        }
        Ok(())
    }

    /// A header is whole.
    fn frame(&mut self, now: Instant) -> io::Result<()> {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.header;
        self.left = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        let ends = flags & FLAG_END_STREAM != 0;
        let bare = kind != TYPE_HEADERS && (kind != TYPE_DATA || self.left == 0);
        if bare && !self.bare.spend(now) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a flood of frames without data"));
        }
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
    use std::time::Duration;

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
            let now = Instant::now();
            let mut heads = Heads::new(now);
            good.chunks(cut).try_for_each(|piece| heads.watch(piece, now)).unwrap();
            assert_eq!(heads.seen, HashSet::from([5]));
            assert!(heads.watch(&frame(TYPE_HEADERS, 4, 5, 0), now).is_err());
        }
    }

    #[test]
    fn memory_is_bounded() {
        let now = Instant::now();
        let mut heads = Heads::new(now);
        for stream in 0..3 * STREAMS_REMEMBERED_MAX as u32 {
            let [s0, s1, s2, s3] = stream.to_be_bytes();
            heads.watch(&[0, 0, 0, TYPE_HEADERS, 4, s0, s1, s2, s3], now).unwrap();
            assert!(heads.seen.len() <= STREAMS_REMEMBERED_MAX);
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_flood_of_frames_without_data_ends_the_connection() {
        const PING: u8 = 0x6;
        const SETTINGS: u8 = 0x4;
        const WINDOW_UPDATE: u8 = 0x8;
        const UNKNOWN: u8 = 0x7f;
        let now = Instant::now();
        for (kind, length) in [(PING, 8), (SETTINGS, 0), (WINDOW_UPDATE, 4), (UNKNOWN, 9), (TYPE_DATA, 0)] {
            let mut heads = Heads::new(now);
            let one = frame(kind, 0, 0, length);
            for _ in 0..BARE_FRAMES_PER_SECOND {
                heads.watch(&one, now).unwrap();
            }
            assert!(heads.watch(&one, now).is_err(), "type {kind}");
        }
        // However long a connection was quiet, no more than twice as many come at once.
        let (mut heads, later) = (Heads::new(now), now + 3600 * SECOND);
        for _ in 0..2 * BARE_FRAMES_PER_SECOND {
            heads.watch(&frame(PING, 0, 0, 8), later).unwrap();
        }
        assert!(heads.watch(&frame(PING, 0, 0, 8), later).is_err());
    }

    #[test]
    fn a_flood_that_is_spread_out_is_found_too() {
        let now = Instant::now();
        let one = frame(0x6, 0, 0, 8);
        for (per_second, borne) in [(BARE_FRAMES_PER_SECOND * 9 / 10, true), (BARE_FRAMES_PER_SECOND * 11 / 10, false)]
        {
            let mut heads = Heads::new(now);
            let all = (0..60 * per_second).all(|n| heads.watch(&one, now + SECOND * n / per_second).is_ok());
            assert_eq!(all, borne, "{per_second} a second");
        }
    }

    #[test]
    fn data_and_the_room_that_a_fast_upload_gets_back_are_no_flood() {
        let now = Instant::now();
        let mut heads = Heads::new(now);
        let (update, data) = (frame(0x8, 0, 1, 4), frame(TYPE_DATA, 0, 1, 1));
        const UPDATES_PER_GIB: u32 = (1 << 30) / (crate::STREAM_WINDOW_BYTES / 2);
        // 60 GiB at 2 GiB/s, and much data in small pieces besides.
        for n in 0..60 * UPDATES_PER_GIB {
            let at = now + SECOND * n / (2 * UPDATES_PER_GIB);
            heads.watch(&update, at).unwrap();
            heads.watch(&data, at).unwrap();
        }
        for _ in 0..3 * BARE_FRAMES_PER_SECOND {
            heads.watch(&data, now + 30 * SECOND).unwrap();
        }
    }
}
