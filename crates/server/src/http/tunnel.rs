//! A WebSocket of `rexec.tunnel.v1` joined to a byte stream.

use super::websocket::{self, Asked, READ_BYTES, pings};
use crate::error::Result;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use rexec_api::frames::close;
use rexec_api::tunnel::{PIECE_BYTES_MAX, SUBPROTOCOL};
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// A close code, and words for it.
pub type End = (u16, &'static str);

/// Both ends have said all they had to.
const DONE: End = (1000, "both directions have ended");

/// What becomes of a request, unless it is none for a tunnel.
pub fn upgrade(asked: Asked) -> Result<WebSocketUpgrade> {
    websocket::upgrade(asked, SUBPROTOCOL, PIECE_BYTES_MAX)
}

/// Carries bytes both ways until both directions have ended, or `until` says why not longer.
pub async fn carry(socket: WebSocket, stream: impl AsyncRead + AsyncWrite, until: impl Future<Output = End>) {
    let (mut sink, source) = socket.split();
    let (reader, writer) = tokio::io::split(stream);
    let one_has_ended = AtomicBool::new(false);
    let is_last = || one_has_ended.swap(true, Ordering::Relaxed);
    let end = tokio::select! {
        end = inward(source, writer, &is_last) => end,
        end = outward(reader, &mut sink, &is_last) => end,
        end = until => end,
    };
    websocket::close(&mut sink, None, end.0, end.1).await;
}

/// From the socket to the stream. Read on after its end, because that is how a close is noticed.
async fn inward(
    mut source: SplitStream<WebSocket>,
    mut writer: impl AsyncWrite + Unpin,
    is_last: &impl Fn() -> bool,
) -> End {
    let mut has_ended = false;
    while let Some(Ok(message)) = source.next().await {
        let written = match message {
            Message::Binary(_) if has_ended => return (close::PROTOCOL, "bytes behind the end"),
            Message::Binary(piece) if piece.is_empty() => {
                has_ended = true;
                writer.shutdown().await
            }
            Message::Binary(piece) => match writer.write_all(&piece).await {
                Ok(()) => writer.flush().await,
                failed => failed,
            },
            Message::Text(_) => return (close::PROTOCOL, "pieces are binary messages"),
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => break,
        };
        if let Err(error) = written {
            return broken(&error);
        }
        if has_ended && is_last() {
            break;
        }
    }
    DONE
}

/// From the stream to the socket.
async fn outward(
    mut reader: impl AsyncRead + Unpin,
    sink: &mut SplitSink<WebSocket, Message>,
    is_last: &impl Fn() -> bool,
) -> End {
    let mut pings = pings();
    let mut bytes = BytesMut::new();
    let mut has_ended = false;
    loop {
        bytes.reserve(READ_BYTES);
        let message = tokio::select! {
            read = reader.read_buf(&mut bytes), if !has_ended => match read {
                Ok(0) => {
                    has_ended = true;
                    Message::Binary(Bytes::new())
                }
                Ok(_) => Message::Binary(bytes.split().freeze()),
                Err(error) => return broken(&error),
            },
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        let is_end = matches!(&message, Message::Binary(piece) if piece.is_empty());
        if sink.send(message).await.is_err() || is_end && is_last() {
            return DONE;
        }
    }
}

fn broken(error: &io::Error) -> End {
    tracing::debug!(%error, "a tunnel broke");
    (close::ENDED, "the connection inside has broken")
}
