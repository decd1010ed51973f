//! Byte streams over a WebSocket: `rexec.tunnel.v1`.

use crate::socket::{self, Socket};
use crate::{Client, Result};
use bytes::BytesMut;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use rexec_api::ids::WorkspaceId;
use rexec_api::tunnel::{PIECE_BYTES_MAX, SUBPROTOCOL};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};

/// Memory for one read.
const READ_BYTES: usize = 16 * 1024;

/// A stream to something behind the server.
pub struct Tunnel {
    socket: Socket,
}

impl Client {
    /// Connects to what listens on a port of a workspace, which wakes for it.
    pub async fn tunnel(&self, workspace: WorkspaceId, port: u16) -> Result<Tunnel> {
        self.tunnel_to(&format!("/api/workspaces/{workspace}/ports/{port}/ws")).await
    }

    /// Connects to the SSH gateway, at which one proves oneself by SSH alone.
    pub async fn ssh_tunnel(&self) -> Result<Tunnel> {
        self.tunnel_to("/api/ssh/ws").await
    }

    pub(crate) async fn tunnel_to(&self, path: &str) -> Result<Tunnel> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .max_message_size(Some(PIECE_BYTES_MAX))
            .max_frame_size(Some(PIECE_BYTES_MAX));
        Ok(Tunnel { socket: socket::open(self, path, SUBPROTOCOL, config).await? })
    }
}

/// Why the server has closed a tunnel: what is in the error of [`Tunnel::carry`] then.
#[derive(Debug, Clone, Default, thiserror::Error)]
#[error("{reason}")]
pub struct Closed {
    /// Of `rexec_api::frames::close`, or RFC 6455's; 0: none was given.
    pub code: u16,
    pub reason: String,
}

impl Closed {
    /// Of an error of [`Tunnel::carry`].
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl Tunnel {
    /// Carries bytes both ways until both directions have ended; a cut is an error.
    pub async fn carry(self, from: impl AsyncRead + Unpin, to: impl AsyncWrite + Unpin) -> io::Result<()> {
        let (sink, source) = self.socket.split();
        let sent = async {
            match outward(from, sink).await {
                // The server closes when both directions have ended.
                Ok(()) => std::future::pending().await,
                failed => failed,
            }
        };
        tokio::select! {
            failed = sent => failed,
            ended = inward(source, to) => ended,
        }
    }
}

async fn outward(mut from: impl AsyncRead + Unpin, mut sink: SplitSink<Socket, Message>) -> io::Result<()> {
    let mut bytes = BytesMut::new();
    loop {
        bytes.reserve(READ_BYTES);
        let count = from.read_buf(&mut bytes).await?;
        sink.send(Message::Binary(bytes.split().freeze())).await.map_err(broken)?;
        if count == 0 {
            return Ok(());
        }
    }
}

/// Reads on after the end of its direction, because that is how a close is noticed.
async fn inward(mut source: SplitStream<Socket>, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut has_ended = false;
    while let Some(message) = source.next().await {
        match message.map_err(broken)? {
            Message::Binary(piece) if piece.is_empty() => {
                has_ended = true;
                to.shutdown().await?;
            }
            Message::Binary(piece) => {
                to.write_all(&piece).await?;
                to.flush().await?;
            }
            Message::Close(_) if has_ended => return Ok(()),
            Message::Close(frame) => {
                let closed = frame.map_or_else(Closed::default, |frame| Closed {
                    code: frame.code.into(),
                    reason: frame.reason.as_str().to_owned(),
                });
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, closed));
            }
            _ => {}
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn broken(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error => io::Error::other(error),
    }
}
