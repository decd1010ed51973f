//! The two halves of one HTTP/2 stream, with flow control and an orderly or a hard end.
//!
//! **Invariant.** A stream is closed when both halves are gone. An [`Outlet`] that is dropped
//! before it finished resets the stream and forgets what it had not sent yet. After it finished,
//! what was sent still goes out; if the [`Inlet`] is gone too by then, a reset follows (h2 does
//! that when the last handle goes). An inlet alone never cuts what the outlet is sending.

use crate::error::{ChannelError, Result};
use crate::piece::Piece;
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

/// The half that sends.
pub(crate) struct Outlet {
    stream: SendStream<Piece>,
    finished: bool,
}

impl Outlet {
    pub fn new(stream: SendStream<Piece>) -> Self {
        Self { stream, finished: false }
    }

    /// For a request whose head was its end.
    pub fn ended(stream: SendStream<Piece>) -> Self {
        Self { stream, finished: true }
    }

    /// Ready when at least one byte may be sent; the piece sent then may be longer, which is the
    /// only overshoot there is.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.stream.capacity() > 0 {
            return Poll::Ready(Ok(()));
        }
        self.stream.reserve_capacity(1);
        match ready!(self.stream.poll_capacity(cx)) {
            Some(Ok(_)) => Poll::Ready(Ok(())),
            Some(Err(error)) => Poll::Ready(Err(error.into())),
            None => Poll::Ready(Err(ChannelError::Closed)),
        }
    }

    /// Sends without waiting; call when [`Self::poll_ready`] said so.
    pub fn start_send(&mut self, piece: Piece) -> Result<()> {
        Ok(self.stream.send_data(piece, false)?)
    }

    pub async fn send(&mut self, piece: Piece) -> Result<()> {
        poll_fn(|cx| self.poll_ready(cx)).await?;
        self.start_send(piece)
    }

    /// Ends this direction after what was sent.
    pub fn finish(&mut self) -> Result<()> {
        self.finished = true;
        Ok(self.stream.send_data(Piece::plain(Bytes::new()), true)?)
    }

    /// Ready when the peer has reset the stream or the connection has ended.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(|_| ())
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        if !self.finished {
            self.stream.send_reset(Reason::CANCEL);
        }
    }
}

/// The half that receives. Taking bytes gives the peer room for as many.
pub(crate) struct Inlet {
    stream: RecvStream,
    ended: bool,
}

impl Inlet {
    pub fn new(stream: RecvStream) -> Self {
        Self { stream, ended: false }
    }

    /// The next bytes, never empty; `None` at the orderly end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        while !self.ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(bytes)) => {
                    // Fails only for a stream that is closed, whose window nobody needs.
                    let _ = self.stream.flow_control().release_capacity(bytes.len());
                    if !bytes.is_empty() {
                        return Poll::Ready(Ok(Some(bytes)));
                    }
                }
                // A guest that has answered in full and wants no more from us ends like this.
                Some(Err(error)) if error.is_reset() && error.reason() == Some(Reason::NO_ERROR) => {
                    self.ended = true;
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Err(error.into()));
                }
                None => self.ended = true,
            }
        }
        Poll::Ready(Ok(None))
    }

    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }
}
