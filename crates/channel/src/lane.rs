//! A lane: one frame stream on a connection of its own, for a guest on the same machine.
//!
//! HTTP/2 costs each frame a second task and a second look at every byte on both sides, and puts a
//! keystroke behind a neighbour's bulk output in one socket. Where the guest dialled us it can dial
//! again, so the streams that people type on get a socket each: what is sent is written at once, in
//! the sender's own task, and nothing is between two terminals but the kernel.
//!
//! **Wire.** Frames as on any stream (`u32` length, bytes). [`END_LENGTH`] instead of a length is the
//! orderly end; a connection that ends without it was cut.
//!
//! **Order of events.** [`Lanes::expect`] names a lane, the attach call carries the name, the guest
//! dials and says it, [`Lanes::deliver`] hands the connection to whoever waits for that name.
//!
//! **Invariants.** Reading takes memory only when there is something to read. Waiting for the socket
//! to take more is asked of the kernel only when it was full: a unix socket otherwise reports room
//! after every read of the peer, which would wake us for nothing.

use crate::error::{ChannelError, Result};
use crate::piece::Piece;
use bytes::{Buf, Bytes};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use uuid::Uuid;

/// Stands for a length where there will be no more frames.
pub(crate) const END_LENGTH: u32 = u32::MAX;
const END: [u8; 4] = END_LENGTH.to_be_bytes();
/// Memory for one read: doubled while reads fill it, as little as that for keystrokes.
const READ_BYTES_MIN: usize = 1024;
const READ_BYTES_MAX: usize = 128 * 1024;
/// A piece is a length and a body.
const SLICES: usize = 2;
/// How long a guest that said that it dials may take to be there.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(2);

/// The lanes that one workspace's guest is expected to dial.
#[derive(Clone, Default)]
pub struct Lanes(Arc<Mutex<HashMap<Uuid, oneshot::Sender<UnixStream>>>>);

impl Lanes {
    /// A connection whose dialler proved the workspace's key and named `lane`; it does not block.
    /// One that nobody waits for is dropped.
    pub fn deliver(&self, lane: Uuid, stream: UnixStream) {
        if let Some(waiting) = self.lock().remove(&lane) {
            // Whoever waited may just have given up.
            let _ = waiting.send(stream);
        }
    }

    pub(crate) fn expect(&self) -> Expected {
        let (sender, delivered) = oneshot::channel();
        let id = Uuid::new_v4();
        self.lock().insert(id, sender);
        Expected { id, delivered, lanes: self.clone() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, oneshot::Sender<UnixStream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane that was announced; no longer expected when this is dropped.
pub(crate) struct Expected {
    pub id: Uuid,
    delivered: oneshot::Receiver<UnixStream>,
    lanes: Lanes,
}

impl Expected {
    pub async fn delivered(mut self) -> Result<UnixStream> {
        let delivered = tokio::time::timeout(DELIVERY_TIMEOUT, &mut self.delivered).await;
        delivered.map_err(|_| ChannelError::TimedOut)?.map_err(|_| ChannelError::Closed)
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.lanes.lock().remove(&self.id);
    }
}

/// The two halves of a lane.
pub(crate) fn halves(stream: UnixStream) -> io::Result<(LaneOutlet, LaneInlet)> {
    stream.set_nonblocking(true)?;
    let stream = Arc::new(stream);
    let readable = watched(stream.clone(), Interest::READABLE)?;
    let outlet = LaneOutlet { stream, unsent: None, room: None };
    Ok((outlet, LaneInlet { readable, want: READ_BYTES_MIN }))
}

fn watched<T: AsRawFd>(stream: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: both kinds of `T` here own an open socket, alone or together with others, and keep
    // the same descriptor for as long as they live, which the `AsyncFd` does not outlive.
    Ok(unsafe { AsyncFd::register_with_interest(stream, interest) }?)
}

/// The half that sends.
pub(crate) struct LaneOutlet {
    stream: Arc<UnixStream>,
    /// What the socket had no room for.
    unsent: Option<Piece>,
    /// Present once the socket was full.
    room: Option<AsyncFd<UnixStream>>,
}

impl LaneOutlet {
    /// Ready when everything sent is with the kernel, so that a further piece may be sent.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while let Some(mut piece) = self.unsent.take() {
            match write(&self.stream, &mut piece) {
                Ok(()) => {}
                Err(Errno::AGAIN) => {
                    self.unsent = Some(piece);
                    ready!(self.poll_room(cx))?;
                }
                Err(_) => return Poll::Ready(Err(ChannelError::Closed)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let closed = |_| ChannelError::Closed;
        let room = match &mut self.room {
            Some(room) => room,
            // A descriptor of its own: one cannot be watched twice.
            none => {
                let stream = self.stream.try_clone().map_err(closed)?;
                none.insert(watched(stream, Interest::WRITABLE).map_err(closed)?)
            }
        };
        ready!(room.poll_write_ready(cx)).map_err(closed)?.clear_ready();
        Poll::Ready(Ok(()))
    }

    /// Writes what the socket takes; call when [`Self::poll_ready`] said so.
    pub fn start_send(&mut self, mut piece: Piece) -> Result<()> {
        match write(&self.stream, &mut piece) {
            Ok(()) => Ok(()),
            Err(Errno::AGAIN) => {
                self.unsent = Some(piece);
                Ok(())
            }
            Err(_) => Err(ChannelError::Closed),
        }
    }

    /// Ends this direction in good order, if all was sent; the drop that follows shuts it down.
    pub fn finish(&mut self) -> Result<()> {
        let mut end = Piece::plain(Bytes::from_static(&END));
        if self.unsent.is_some() || write(&self.stream, &mut end).is_err() {
            return Err(ChannelError::Closed);
        }
        Ok(())
    }
}

impl Drop for LaneOutlet {
    fn drop(&mut self) {
        // Fails when the peer has gone, which is what this tells it.
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

/// Writes until nothing is left or the socket is full (`EAGAIN`).
fn write(stream: &UnixStream, piece: &mut Piece) -> rustix::io::Result<()> {
    while piece.has_remaining() {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let used = piece.chunks_vectored(&mut slices);
        let nothing = &mut SendAncillaryBuffer::default();
        match rustix::net::sendmsg(stream, &slices[..used], nothing, SendFlags::NOSIGNAL) {
            Ok(count) => piece.advance(count),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The half that receives.
pub(crate) struct LaneInlet {
    readable: AsyncFd<Arc<UnixStream>>,
    /// Memory for the next read.
    want: usize,
}

impl LaneInlet {
    /// The next bytes, never empty. There is no orderly end here: a frame says it.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes>> {
        loop {
            let mut ready = ready!(self.readable.poll_read_ready(cx)).map_err(|_| ChannelError::Closed)?;
            let mut bytes = Vec::with_capacity(self.want);
            let stream = ready.get_inner();
            match rustix::net::recv(stream, spare_capacity(&mut bytes), RecvFlags::empty()) {
                Ok(_) if bytes.is_empty() => return Poll::Ready(Err(ChannelError::Closed)),
                Ok(_) => {
                    // A short read has emptied the socket; news since then is told anew.
                    if bytes.len() < self.want {
                        ready.clear_ready();
                        self.want = (self.want / 2).max(READ_BYTES_MIN);
                    } else {
                        self.want = (self.want * 2).min(READ_BYTES_MAX);
                    }
                    return Poll::Ready(Ok(bytes.into()));
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(_) => return Poll::Ready(Err(ChannelError::Closed)),
            }
        }
    }
}
