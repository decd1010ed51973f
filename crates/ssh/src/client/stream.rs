//! One channel of a client as a byte stream.
//!
//! Shutting it down tells the peer that no more will come, and leaves the other way open. Dropping it closes the channel.

use super::link::Ask;
use super::{DialError, tame};
use crate::flow::Inbound;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use russh::client::{Grants, Msg};
use russh::{ChannelId, ChannelWriteHalf};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// What a command says to its standard error, to be told when it says nothing else.
pub(super) type Complaint = Arc<std::sync::Mutex<Vec<u8>>>;

/// What leads to the socket in its stead.
pub(super) struct Command {
    pub line: String,
    pub socket: String,
    pub complaint: Complaint,
}

pub struct Stream {
    id: ChannelId,
    half: ChannelWriteHalf<Msg>,
    write: Pin<Box<dyn AsyncWrite + Send>>,
    inbound: Arc<Inbound>,
    reading: Option<BoxFuture<'static, Option<Bytes>>>,
    piece: Bytes,
    /// The peer has closed the channel, or the connection is gone.
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    connection: CancellationToken,
    grants: Grants,
    command: Option<Command>,
    has_read: bool,
    has_ended: bool,
    /// The connection stays while there is a stream of it.
    _link: Option<mpsc::Sender<Ask>>,
}

impl Stream {
    pub(super) fn new(half: ChannelWriteHalf<Msg>, inbound: Inbound, grants: Grants, command: Option<Command>) -> Self {
        Self {
            id: half.id(),
            write: Box::pin(half.make_writer()),
            half,
            closed: Box::pin(inbound.closed.clone().cancelled_owned()),
            connection: inbound.connection_gone(),
            inbound: Arc::new(inbound),
            reading: None,
            piece: Bytes::new(),
            grants,
            command,
            has_read: false,
            has_ended: false,
            _link: None,
        }
    }

    pub(super) fn keeping(mut self, link: mpsc::Sender<Ask>) -> Self {
        self._link = Some(link);
        self
    }

    /// The end of what the peer sends; an error if it is not one that the peer meant.
    fn end(&mut self) -> io::Result<()> {
        if self.has_ended {
            return Ok(());
        }
        self.has_ended = true;
        if self.connection.is_cancelled() {
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the SSH connection is gone"));
        }
        self.ended_at_once().map_or(Ok(()), Err)
    }

    /// A command that ends without a word led nowhere.
    fn ended_at_once(&mut self) -> Option<io::Error> {
        let command = self.command.take().filter(|_| !self.has_read)?;
        let said = tame(&command.complaint.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        Some(io::Error::other(DialError::Ended {
            socket: command.socket,
            command: command.line,
            said: if said.is_empty() { said } else { format!(": {said}") },
        }))
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.closed.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the SSH channel is closed")),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.piece.is_empty() {
            let mut reading = match self.reading.take() {
                Some(reading) => reading,
                None => {
                    let inbound = self.inbound.clone();
                    async move { inbound.next().await }.boxed()
                }
            };
            match reading.as_mut().poll(cx) {
                Poll::Ready(Some(piece)) => self.piece = piece,
                Poll::Ready(None) => return Poll::Ready(self.end()),
                Poll::Pending => {
                    self.reading = Some(reading);
                    return Poll::Pending;
                }
            }
        }
        self.has_read = true;
        let count = out.remaining().min(self.piece.len());
        out.put_slice(&self.piece.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if let Err(error) = self.poll_closed(cx) {
            return Poll::Ready(Err(self.ended_at_once().unwrap_or(error)));
        }
        self.write.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whoever has closed the channel needs no end of it.
        if self.poll_closed(cx).is_err() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.write.as_mut().poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Behind what is still on its way out, unless that is so much that it would have to wait.
        if !matches!(self.half.close().now_or_never(), Some(Ok(()))) {
            self.grants.close(self.id);
        }
    }
}
