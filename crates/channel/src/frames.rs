//! Frame streams: a big-endian `u32` length, then that many bytes; over HTTP/2 or over a lane.

use crate::budget::{Budget, FREE_BYTES, Share};
use crate::error::{ChannelError, Result};
use crate::lane::{END_LENGTH, LaneInlet, LaneOutlet};
use crate::piece::{PREFIX_BYTES, Piece};
use crate::stream::{Inlet, Outlet};
use bytes::{Buf, Bytes, BytesMut};
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

/// Sends frames. Dropped before [`FrameSender::finish`], it resets the stream.
pub struct FrameSender {
    way: WayOut,
    bytes_max: usize,
}

enum WayOut {
    Stream(Outlet),
    Lane(LaneOutlet),
}

impl FrameSender {
    pub(crate) fn new(outlet: Outlet, bytes_max: usize) -> Self {
        Self { way: WayOut::Stream(outlet), bytes_max }
    }

    pub(crate) fn over_lane(lane: LaneOutlet, bytes_max: usize) -> Self {
        Self { way: WayOut::Lane(lane), bytes_max }
    }

    /// Waits for room, then sends one frame. Dropping the future before it is done sends nothing,
    /// or the whole frame with whatever is done with this sender next.
    pub async fn send(&mut self, frame: Bytes) -> Result<()> {
        poll_fn(|cx| self.poll_ready(cx)).await?;
        self.start_send(frame)?;
        match &mut self.way {
            // The connection's own task writes it.
            WayOut::Stream(_) => Ok(()),
            WayOut::Lane(lane) => poll_fn(|cx| lane.poll_ready(cx)).await,
        }
    }

    /// Ready when a frame may be sent.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.way {
            WayOut::Stream(outlet) => outlet.poll_ready(cx),
            WayOut::Lane(lane) => lane.poll_ready(cx),
        }
    }

    /// Sends one frame without waiting, after [`FrameSender::poll_ready`]. Over a lane, what the
    /// socket has no room for goes out with the next [`FrameSender::poll_ready`].
    pub fn start_send(&mut self, frame: Bytes) -> Result<()> {
        if frame.len() > self.bytes_max {
            return Err(ChannelError::protocol(format!(
                "a frame of {} bytes is over the limit of {}",
                frame.len(),
                self.bytes_max
            )));
        }
        let piece = Piece::framed(frame);
        match &mut self.way {
            WayOut::Stream(outlet) => outlet.start_send(piece),
            WayOut::Lane(lane) => lane.start_send(piece),
        }
    }

    /// Ends this direction; what was sent still arrives.
    pub fn finish(mut self) -> Result<()> {
        match &mut self.way {
            WayOut::Stream(outlet) => outlet.finish(),
            WayOut::Lane(lane) => lane.finish(),
        }
    }

    /// Waits until the peer has reset the stream or the connection has ended. A lane's end is for
    /// its receiver to tell: here it never is.
    pub async fn closed(&mut self) {
        match &mut self.way {
            WayOut::Stream(outlet) => poll_fn(|cx| outlet.poll_closed(cx)).await,
            WayOut::Lane(_) => std::future::pending().await,
        }
    }
}

/// Receives frames. Dropped before the end, it takes no more; the stream is reset when its sender
/// goes too.
pub struct FrameReceiver {
    way: WayIn,
    bytes_max: usize,
    /// Arrived and not yet handed out: less than one frame, or several small ones in one piece.
    ready: Bytes,
    /// A frame that spans pieces, with its prefix.
    partial: BytesMut,
    budget: Budget,
    /// What `partial` has of it, if that is a long frame.
    share: Option<Share>,
}

enum WayIn {
    Stream(Inlet),
    Lane(LaneInlet),
    /// A lane whose end has come.
    Ended,
}

impl WayIn {
    /// The next bytes, never empty; `None` at the orderly end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        match self {
            Self::Stream(inlet) => inlet.poll_chunk(cx),
            Self::Lane(lane) => lane.poll_chunk(cx).map_ok(Some),
            Self::Ended => Poll::Ready(Ok(None)),
        }
    }
}

impl FrameReceiver {
    pub(crate) fn new(inlet: Inlet, bytes_max: usize) -> Self {
        Self::over(WayIn::Stream(inlet), bytes_max)
    }

    pub(crate) fn over_lane(lane: LaneInlet, bytes_max: usize) -> Self {
        Self::over(WayIn::Lane(lane), bytes_max)
    }

    fn over(way: WayIn, bytes_max: usize) -> Self {
        Self { way, bytes_max, ready: Bytes::new(), partial: BytesMut::new(), budget: Budget::default(), share: None }
    }

    /// Counts its long frames together with those of others.
    pub(crate) fn within(self, budget: &Budget) -> Self {
        Self { budget: budget.clone(), ..self }
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
            match ready!(self.way.poll_chunk(cx))? {
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
            let Some(length) = self.length(*head)? else { return Ok(None) };
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
        let Some(length) = self.length(*head)? else { return Ok(None) };
        let whole = PREFIX_BYTES + length;
        if length > FREE_BYTES && self.share.is_none() {
            self.share = Some(self.budget.take(length)?);
        }
        if self.partial.capacity() < whole {
            let missing = whole - self.partial.len();
            self.partial.reserve(missing.min(FREE_BYTES));
        }
        self.move_to_partial(whole);
        if self.partial.len() < whole {
            return Ok(None);
        }
        let mut frame = std::mem::take(&mut self.partial).freeze();
        frame.advance(PREFIX_BYTES);
        Ok(Some(match self.share.take() {
            Some(share) => share.with(frame),
            None => frame,
        }))
    }

    /// Moves bytes until `partial` has `wanted` of them or none are left.
    fn move_to_partial(&mut self, wanted: usize) {
        let count = wanted.saturating_sub(self.partial.len()).min(self.ready.len());
        self.partial.extend_from_slice(&self.ready[..count]);
        self.ready.advance(count);
    }

    /// A frame's length; `None` at a lane's end, behind which nothing counts.
    fn length(&mut self, head: [u8; PREFIX_BYTES]) -> Result<Option<usize>> {
        let length = u32::from_be_bytes(head);
        if length == END_LENGTH && matches!(self.way, WayIn::Lane(_)) {
            self.way = WayIn::Ended;
            self.ready.clear();
            self.partial.clear();
            return Ok(None);
        }
        let length = length as usize;
        if length > self.bytes_max {
            return Err(ChannelError::protocol(format!(
                "a frame of {length} bytes is over the limit of {}",
                self.bytes_max
            )));
        }
        Ok(Some(length))
    }
}
