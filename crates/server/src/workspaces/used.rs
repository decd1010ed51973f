//! A byte stream into a workspace, whose traffic counts as use of it.

use super::Waker;
use crate::config::Use;
use rexec_channel::Tunnel;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub struct Used {
    tunnel: Tunnel,
    waker: Waker,
    using: Use,
}

impl Used {
    pub fn new(tunnel: Tunnel, waker: Waker, using: Use) -> Self {
        Self { tunnel, waker, using }
    }
}

impl AsyncRead for Used {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.tunnel).poll_read(cx, buf);
        if read.is_ready() {
            let using = self.using;
            self.waker.used_soon(using);
        }
        read
    }
}

impl AsyncWrite for Used {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let using = self.using;
        self.waker.used_soon(using);
        Pin::new(&mut self.tunnel).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tunnel).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tunnel).poll_shutdown(cx)
    }
}
