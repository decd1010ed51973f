//! What has come in on a connection's channels and nobody has taken yet.
//!
//! russh hands a channel's data over on the connection's own task, which must never wait for a reader: it would stop
//! all other channels, and the output that the reader's program waits to write. So data is queued here without
//! waiting. A queue is bounded by its channel's window: the peer may send no more than it was granted, and is
//! granted as much again as was taken. A channel whose reader is quick is granted more, up to [`WINDOW_MAX`];
//! one that nobody reads never has more than it began with, and holds up nobody.
//!
//! A channel that the peer closes keeps what it had sent before, until that is taken.

use bytes::Bytes;
use russh::ChannelId;
use russh::{client, server};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Bytes that a peer may send on a channel before it hears of more.
pub(crate) const WINDOW_BYTES: u32 = 128 * 1024;
/// The same for a channel that is read as fast as it comes: enough for 40 MB/s at 50 ms.
const WINDOW_MAX: u32 = 2 * 1024 * 1024;
/// A window is granted again when this part of it has been taken.
const GRANT_PART: u32 = 4;
/// Channels that one connection may have open.
pub(crate) const CHANNELS_MAX: usize = 128;
/// Once the connection has said good-bye, the other end has this long to close it.
const LINGER_TIME: Duration = Duration::from_secs(5);

/// By whom the peer is told that it may send more.
pub(crate) enum Granting {
    Server(server::Handle),
    Client(client::Grants),
}

impl Granting {
    fn grow_window(&self, id: ChannelId, bytes: u32) {
        match self {
            Self::Server(handle) => handle.grow_window(id, bytes),
            Self::Client(grants) => grants.grow_window(id, bytes),
        }
    }
}

impl From<server::Handle> for Granting {
    fn from(handle: server::Handle) -> Self {
        Self::Server(handle)
    }
}

impl From<client::Grants> for Granting {
    fn from(grants: client::Grants) -> Self {
        Self::Client(grants)
    }
}

/// One connection's queues. Clones share them.
#[derive(Clone)]
pub(crate) struct Flow {
    inner: Arc<Mutex<Inner>>,
    /// Cancelled when the connection ends, or to end it.
    pub(crate) gone: CancellationToken,
}

#[derive(Default)]
struct Inner {
    lanes: HashMap<ChannelId, Lane>,
    /// Streams that the peer has yet to accept.
    opening: usize,
}

struct Lane {
    pieces: VecDeque<Bytes>,
    /// Nothing more will come.
    ended: bool,
    has_reader: bool,
    news: Arc<Notify>,
    closed: CancellationToken,
}

impl Flow {
    pub(crate) fn new(gone: CancellationToken) -> Self {
        Self { inner: Arc::default(), gone }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_room(&self) -> bool {
        let inner = self.lock();
        inner.lanes.len() + inner.opening < CHANNELS_MAX
    }

    /// Keeps a place for a stream that the peer has yet to accept.
    pub(crate) fn reserve(&self) -> Option<Opening> {
        let mut inner = self.lock();
        let room = inner.lanes.len() + inner.opening < CHANNELS_MAX;
        inner.opening += usize::from(room);
        drop(inner);
        room.then(|| Opening(self.clone()))
    }

    fn lane<T>(&self, id: ChannelId, with: impl FnOnce(&mut Lane) -> T) -> T {
        let mut inner = self.lock();
        with(inner.lanes.entry(id).or_insert_with(|| Lane {
            pieces: VecDeque::new(),
            ended: false,
            has_reader: false,
            news: Arc::new(Notify::new()),
            closed: self.gone.child_token(),
        }))
    }

    /// Begins to queue for a channel whose reader follows.
    pub(crate) fn expect(&self, id: ChannelId) {
        self.lane(id, |_| ());
    }

    /// Channels whose data is queued here.
    pub(crate) fn channels(&self) -> usize {
        self.lock().lanes.len()
    }

    /// The reader of a channel. There is one.
    pub(crate) fn open(&self, id: ChannelId, granting: impl Into<Granting>) -> Inbound {
        let (news, closed) = self.lane(id, |lane| {
            lane.has_reader = true;
            (lane.news.clone(), lane.closed.clone())
        });
        let grants = Mutex::new(Grants { window: WINDOW_BYTES, taken: 0, since_grown: 0 });
        Inbound { flow: self.clone(), id, granting: granting.into(), news, closed, grants }
    }

    /// Never waits. What comes for a channel that is not read any more is dropped.
    pub(crate) fn push(&self, id: ChannelId, piece: Bytes) {
        if let Some(lane) = self.lock().lanes.get_mut(&id) {
            lane.pieces.push_back(piece);
            lane.news.notify_one();
        }
    }

    /// Nothing more will come.
    pub(crate) fn end(&self, id: ChannelId) {
        if let Some(lane) = self.lock().lanes.get_mut(&id) {
            lane.ended = true;
            lane.news.notify_one();
        }
    }

    /// The connection is gone: what has come in can still be taken.
    pub(crate) fn end_all(&self) {
        self.gone.cancel();
        for lane in self.lock().lanes.values_mut() {
            lane.ended = true;
            lane.news.notify_one();
        }
    }

    /// The peer has closed the channel.
    pub(crate) fn close(&self, id: ChannelId) {
        self.end(id);
        let mut inner = self.lock();
        let Some(lane) = inner.lanes.get(&id) else { return };
        lane.closed.cancel();
        if !lane.has_reader {
            inner.lanes.remove(&id);
        }
    }
}

pub(crate) struct Opening(Flow);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.lock().opening -= 1;
    }
}

/// What the peer may send, as far as this side has to remember.
struct Grants {
    window: u32,
    /// Taken since the last grant.
    taken: u32,
    /// Taken since the window last grew.
    since_grown: u32,
}

impl Grants {
    /// What to grant once `bytes` more were taken; `waits` says whether the reader waits for more.
    fn take(&mut self, bytes: u32, waits: bool) -> Option<u32> {
        self.taken = self.taken.saturating_add(bytes);
        self.since_grown = self.since_grown.saturating_add(bytes);
        if self.taken < self.window / GRANT_PART {
            return None;
        }
        let mut grant = std::mem::take(&mut self.taken);
        if waits && self.since_grown >= self.window && self.window < WINDOW_MAX {
            let more = self.window.min(WINDOW_MAX - self.window);
            (self.window, self.since_grown) = (self.window + more, 0);
            grant += more;
        }
        Some(grant)
    }
}

/// The one reader of a channel's data. The channel's queue ends with it.
pub(crate) struct Inbound {
    flow: Flow,
    id: ChannelId,
    granting: Granting,
    news: Arc<Notify>,
    /// Cancelled when the peer has closed the channel, or the connection is gone.
    pub(crate) closed: CancellationToken,
    grants: Mutex<Grants>,
}

impl Inbound {
    /// The next piece; nothing after the end. Cancelling it loses nothing.
    pub(crate) async fn next(&self) -> Option<Bytes> {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            self.news.notified().await;
        }
    }

    fn try_next(&self) -> Option<Option<Bytes>> {
        let mut inner = self.flow.lock();
        let Some(lane) = inner.lanes.get_mut(&self.id) else { return Some(None) };
        let Some(piece) = lane.pieces.pop_front() else { return lane.ended.then_some(None) };
        let (waits, ended) = (lane.pieces.is_empty(), lane.ended);
        drop(inner);
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(grant) = grants.take(piece.len() as u32, waits).filter(|_| !ended) {
            self.granting.grow_window(self.id, grant);
        }
        Some(Some(piece))
    }

    /// Resolves when the connection itself is gone.
    pub(crate) fn connection_gone(&self) -> CancellationToken {
        self.flow.gone.clone()
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.closed.cancel();
        self.flow.lock().lanes.remove(&self.id);
    }
}

/// A connection's byte stream, ended by its token, and soon after its good-bye.
pub(crate) struct Ended<IO> {
    io: IO,
    gone: Pin<Box<WaitForCancellationFutureOwned>>,
    linger: Option<Pin<Box<Sleep>>>,
}

impl<IO> Ended<IO> {
    /// `gone` ends it.
    pub(crate) fn by(gone: CancellationToken, io: IO) -> Self {
        Self { io, gone: Box::pin(gone.cancelled_owned()), linger: None }
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let ended = self.gone.as_mut().poll(cx).is_ready()
            || self.linger.as_mut().is_some_and(|linger| linger.as_mut().poll(cx).is_ready());
        if ended { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Ended<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_ended(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Ended<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_ended(cx)?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ended(cx)?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.linger.get_or_insert_with(|| Box::pin(sleep(LINGER_TIME)));
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::{Grants, WINDOW_BYTES, WINDOW_MAX};

    #[test]
    fn a_quick_reader_is_granted_more_and_a_slow_one_what_it_took() {
        let mut quick = Grants { window: WINDOW_BYTES, taken: 0, since_grown: 0 };
        let (mut took, mut granted) = (0_u64, u64::from(WINDOW_BYTES));
        for _ in 0..10_000 {
            took += 1000;
            granted += u64::from(quick.take(1000, true).unwrap_or(0));
            assert!(granted >= took, "it would stand still");
            assert!(granted - took <= u64::from(WINDOW_MAX));
        }
        assert_eq!(quick.window, WINDOW_MAX);
        let mut slow = Grants { window: WINDOW_BYTES, taken: 0, since_grown: 0 };
        let granted: u32 = (0..1000).filter_map(|_| slow.take(1000, false)).sum();
        assert!(granted <= 1_000_000 && granted > 1_000_000 - WINDOW_BYTES / 4);
        assert_eq!(slow.window, WINDOW_BYTES);
    }
}
