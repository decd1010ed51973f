//! Plain byte bodies.

use crate::error::Result;
use crate::piece::Piece;
use crate::stream::{Inlet, Outlet};
use bytes::Bytes;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

/// Bytes given to the connection at once; longer chunks are cut, so that one does not fill memory.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Sends bytes. Dropped before [`BodySender::finish`], it resets the stream.
pub struct BodySender {
    outlet: Outlet,
}

impl BodySender {
    pub(crate) fn new(outlet: Outlet) -> Self {
        Self { outlet }
    }

    /// Sends all of it, waiting for room as often as needed. A future that is dropped may have
    /// sent a part.
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(CHUNK_BYTES_MAX));
            self.outlet.send(Piece::plain(part)).await?;
        }
        Ok(())
    }

    /// Sends as much as one chunk takes, and says how much that was.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.outlet.poll_ready(cx))?;
        let part = &bytes[..bytes.len().min(CHUNK_BYTES_MAX)];
        self.outlet.start_send(Piece::plain(Bytes::copy_from_slice(part)))?;
        Poll::Ready(Ok(part.len()))
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

/// Receives bytes. Dropped before the end, it takes no more; the stream is reset when its sender
/// has gone too.
pub struct BodyReceiver {
    inlet: Inlet,
}

impl BodyReceiver {
    pub(crate) fn new(inlet: Inlet) -> Self {
        Self { inlet }
    }

    /// The next bytes, never empty; `None` at the orderly end. An end that is not orderly is an
    /// error, so that a cut body is not taken for a whole one.
    pub async fn recv(&mut self) -> Result<Option<Bytes>> {
        self.inlet.chunk().await
    }

    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        self.inlet.poll_chunk(cx)
    }
}
