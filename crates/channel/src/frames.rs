//! Frame streams: a big-endian `u32` length, then that many bytes.

use crate::error::{ChannelError, Result};
use crate::piece::{PREFIX_BYTES, Piece};
use crate::stream::{Inlet, Outlet};
use bytes::{Buf, Bytes, BytesMut};
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

/// Memory taken ahead for a frame whose bytes have not come yet.
const AHEAD_BYTES_MAX: usize = 256 * 1024;

/// Sends frames. Dropped before [`FrameSender::finish`], it resets the stream.
pub struct FrameSender {
    outlet: Outlet,
    bytes_max: usize,
}

impl FrameSender {
    pub(crate) fn new(outlet: Outlet, bytes_max: usize) -> Self {
        Self { outlet, bytes_max }
    }

    /// Waits for room, then sends one frame. Dropping the future before it is done sends nothing.
    pub async fn send(&mut self, frame: Bytes) -> Result<()> {
        poll_fn(|cx| self.poll_ready(cx)).await?;
        self.start_send(frame)
    }

    /// Ready when a frame may be sent.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.outlet.poll_ready(cx)
    }

    /// Sends one frame without waiting, after [`FrameSender::poll_ready`].
    pub fn start_send(&mut self, frame: Bytes) -> Result<()> {
        if frame.len() > self.bytes_max {
            return Err(ChannelError::protocol(format!(
                "a frame of {} bytes is over the limit of {}",
                frame.len(),
                self.bytes_max
            )));
        }
        self.outlet.start_send(Piece::framed(frame))
    }

    /// Ends this direction; what was sent still arrives.
    pub fn finish(mut self) -> Result<()> {
        self.outlet.finish()
    }

    /// Waits until the peer has reset the stream or the connection has ended.
    pub async fn closed(&mut self) {
        poll_fn(|cx| self.outlet.poll_closed(cx)).await
    }
}

/// Receives frames. Dropped before the end, it takes no more; the stream is reset when its sender
/// goes too.
pub struct FrameReceiver {
    inlet: Inlet,
    bytes_max: usize,
    /// Arrived and not yet handed out: less than one frame, or several small ones in one piece.
    ready: Bytes,
    /// A frame that spans pieces, with its prefix.
    partial: BytesMut,
}

impl FrameReceiver {
    pub(crate) fn new(inlet: Inlet, bytes_max: usize) -> Self {
        Self { inlet, bytes_max, ready: Bytes::new(), partial: BytesMut::new() }
    }

    /// The next frame; `None` at the orderly end. Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Poll::Ready(Ok(Some(frame)));
            }
            match ready!(self.inlet.poll_chunk(cx))? {
                Some(bytes) => self.ready = bytes,
                None if self.partial.is_empty() => return Poll::Ready(Ok(None)),
                None => {
                    self.partial.clear();
                    return Poll::Ready(Err(ChannelError::protocol("a frame is cut short")));
                }
            }
        }
    }

    /// A whole frame out of what has arrived. `None` leaves `ready` empty.
    fn take_frame(&mut self) -> Result<Option<Bytes>> {
        if self.partial.is_empty()
            && let Some(head) = self.ready.first_chunk::<PREFIX_BYTES>()
        {
            let length = self.checked(*head)?;
            if self.ready.len() - PREFIX_BYTES >= length {
                self.ready.advance(PREFIX_BYTES);
                return Ok(Some(self.ready.split_to(length)));
            }
        }
        self.gather()
    }

    fn gather(&mut self) -> Result<Option<Bytes>> {
        self.move_to_partial(PREFIX_BYTES);
        let Some(head) = self.partial.first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let whole = PREFIX_BYTES + self.checked(*head)?;
        if self.partial.capacity() < whole {
            let missing = whole - self.partial.len();
            self.partial.reserve(missing.min(AHEAD_BYTES_MAX));
        }
        self.move_to_partial(whole);
        if self.partial.len() < whole {
            return Ok(None);
        }
        let mut frame = std::mem::take(&mut self.partial).freeze();
        frame.advance(PREFIX_BYTES);
        Ok(Some(frame))
    }

    /// Moves bytes until `partial` has `wanted` of them or none are left.
    fn move_to_partial(&mut self, wanted: usize) {
        let count = wanted.saturating_sub(self.partial.len()).min(self.ready.len());
        self.partial.extend_from_slice(&self.ready[..count]);
        self.ready.advance(count);
    }

    fn checked(&self, head: [u8; PREFIX_BYTES]) -> Result<usize> {
        let length = u32::from_be_bytes(head) as usize;
        if length > self.bytes_max {
            return Err(ChannelError::protocol(format!(
                "a frame of {length} bytes is over the limit of {}",
                self.bytes_max
            )));
        }
        Ok(length)
    }
}
