//! What every WebSocket of ours has in common: how it begins, how it is kept alive, how it is taken leave of.

use crate::error::{Error, Result};
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval_at};

/// Memory for one read of the socket.
pub const READ_BYTES: usize = 16 * 1024;
/// Proxies end a connection that says nothing.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long a peer that does not read may hold up our farewell.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// What an upgrade was asked with.
pub type Asked = std::result::Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// Takes the request for a connection of this subprotocol, whose messages are written as they come.
pub fn upgrade(asked: Asked, subprotocol: &'static str, message_bytes_max: usize) -> Result<WebSocketUpgrade> {
    let asked = asked.map_err(|_| not_one(subprotocol))?;
    Ok(asked
        .protocols([subprotocol])
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_message_size(message_bytes_max)
        .max_frame_size(message_bytes_max))
}

/// The request was not for a WebSocket.
pub fn not_one(subprotocol: &str) -> Error {
    let message = format!("This route is a WebSocket: connect with the subprotocol {subprotocol}.");
    Error::field("upgrade", message)
}

/// Ticks when a ping is due, the first time after a pause.
pub fn pings() -> Interval {
    let mut pings = interval_at(tokio::time::Instant::now() + PING_EVERY, PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings
}

/// Says what is still to be said, if anything, then why it ends.
pub async fn close(sink: &mut SplitSink<WebSocket, Message>, last: Option<Message>, code: u16, reason: &'static str) {
    let farewell = async {
        if let Some(last) = last {
            sink.send(last).await?;
        }
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        sink.send(Message::Close(Some(frame))).await
    };
    // Whoever has gone needs no farewell.
    let _ = tokio::time::timeout(CLOSE_PATIENCE, farewell).await;
}
