//! A dialled connection as a byte stream, for what reads and writes sockets.
//!
//! Shutting it down ends our direction in good order. Dropped before that, the stream is reset, and
//! whatever was dialled sees its connection end.

use crate::body::{BodyReceiver, BodySender};
use crate::error::ChannelError;
use bytes::{Buf, Bytes};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Both directions of a dialled connection.
pub struct Tunnel {
    /// `None` once our direction has ended.
    sender: Option<BodySender>,
    receiver: BodyReceiver,
    /// Received and not yet read.
    unread: Bytes,
}

impl Tunnel {
    pub fn new(sender: BodySender, receiver: BodyReceiver) -> Self {
        Self { sender: Some(sender), receiver, unread: Bytes::new() }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            match ready!(self.receiver.poll_recv(cx)) {
                Ok(Some(bytes)) => self.unread = bytes,
                Ok(None) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(broken(error))),
            }
        }
        let count = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..count]);
        self.unread.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some(sender) = &mut self.sender else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        sender.poll_write(cx, buf).map_err(broken)
    }

    /// What was written is with the connection, which sends it without being asked.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.sender.take() {
            Some(sender) => Poll::Ready(sender.finish().map_err(broken)),
            None => Poll::Ready(Ok(())),
        }
    }
}

fn broken(error: ChannelError) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}
