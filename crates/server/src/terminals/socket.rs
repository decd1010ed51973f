//! One WebSocket joined to one attachment.
//!
//! ```text
//!   viewer --judge--> guest      both directions run at once in one task, each with its own
//!   viewer <--------- guest      back-pressure: a viewer that does not read stops only itself
//! ```
//!
//! One task, because a WebSocket that has news wakes both its halves: two tasks would each be woken
//! for every key, on two processors. What else may end an attachment is watched by another, so that
//! a keystroke does not have to look at it.
//!
//! Between the guest's frames the server says what it alone knows: the workspace's status. It
//! closes with 4410 when the terminal has ended, 1012 when the link to the guest broke (come
//! back), 4401 within a second of the login session's end.

use super::relay::{Ruling, judge};
use super::{Attachment, error_frame};
use crate::actor::Actor;
use crate::auth::Auth;
use crate::config::Use;
use crate::http::websocket::{self, pings};
use crate::tasks::Tasks;
use crate::workspaces::{Report, Waker};
use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use rexec_api::error::ErrorCode;
use rexec_api::frames::{ServerControl, ServerFrame, close};
use rexec_api::guest::AttachMode;
use rexec_channel::{FrameReceiver, FrameSender, GuestClient};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// A longer frame is part of a stream, after which others get their turn.
const BULK_BYTES: usize = 4096;
/// First byte of what is typed.
const KIND_INPUT: u8 = 0x00;
/// First byte of an exit frame, after which nothing follows.
const KIND_EXIT: u8 = 0x02;

/// Why an attachment ended.
enum End {
    /// The viewer has gone.
    ViewerGone,
    Close(u16, &'static str),
    /// The viewer broke the protocol.
    BadFrame(String),
}

/// What a relay needs besides its two ends.
pub struct Watchful {
    pub actor: Actor,
    pub auth: Auth,
    pub tasks: Tasks,
    pub mode: AttachMode,
}

/// Relays until either side ends.
pub async fn relay(socket: WebSocket, attachment: Attachment, watchful: Watchful) {
    let (mut to_viewer, from_viewer) = socket.split();
    let Attachment { to_guest, from_guest, reach } = attachment;
    let mode = watchful.mode;
    let watch = AbortOnDropHandle::new(tokio::spawn(watch(watchful, reach.guest)));
    let end = tokio::select! {
        biased;
        // First, because what is typed waits for nobody.
        end = upward(from_viewer, to_guest, mode, reach.waker) => end,
        end = downward(&mut to_viewer, from_guest, reach.reports) => end,
        end = watch => end.unwrap_or(End::ViewerGone),
    };
    say_farewell(to_viewer, end).await;
}

/// Waits for what ends an attachment from outside.
async fn watch(watchful: Watchful, guest: GuestClient) -> End {
    tokio::select! {
        error = watchful.auth.ended(&watchful.actor) => {
            tracing::debug!(code = error.code.as_str(), "a viewer's login session has ended");
            End::Close(close::SIGN_IN, "the login session has ended")
        }
        // A lane may outlive the link; its viewer is to come back over the next one.
        () = guest.closed() => End::Close(close::TRY_AGAIN, "the link to the workspace broke"),
        () = watchful.tasks.stopping() => End::Close(close::TRY_AGAIN, "the server is restarting"),
    }
}

async fn say_farewell(mut to_viewer: SplitSink<WebSocket, Message>, end: End) {
    let (last, code, reason) = match end {
        End::ViewerGone => return,
        End::Close(code, reason) => (None, code, reason),
        End::BadFrame(reason) => {
            let frame = error_frame(ErrorCode::BadFrame, &reason);
            (Some(Message::Binary(frame.into())), close::PROTOCOL, "bad frame")
        }
    };
    websocket::close(&mut to_viewer, last, code, reason).await;
}

async fn upward(
    mut from_viewer: SplitStream<WebSocket>,
    mut to_guest: FrameSender,
    mode: AttachMode,
    mut waker: Waker,
) -> End {
    while let Some(message) = from_viewer.next().await {
        match message {
            Ok(Message::Binary(frame)) => match judge(&frame, mode) {
                Ruling::Pass => {
                    if frame.first() == Some(&KIND_INPUT) {
                        waker.used(Use::Input).await;
                    }
                    if to_guest.send(frame).await.is_err() {
                        // The guest has said why, or the link broke: downward knows which.
                        return std::future::pending().await;
                    }
                }
                Ruling::Drop => {}
                Ruling::Refuse(reason) => return End::BadFrame(reason),
            },
            Ok(Message::Text(_)) => return End::BadFrame("frames are binary messages".into()),
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Close(_)) | Err(_) => break,
        }
    }
    End::ViewerGone
}

async fn downward(
    to_viewer: &mut SplitSink<WebSocket, Message>,
    mut from_guest: FrameReceiver,
    mut reports: watch::Receiver<Report>,
) -> End {
    let mut pings = pings();
    let mut told = reports.borrow_and_update().status;
    let mut exited = false;
    loop {
        let message = tokio::select! {
            biased;
            frame = from_guest.recv() => match frame {
                Ok(Some(frame)) => {
                    exited = frame.first() == Some(&KIND_EXIT);
                    Message::Binary(frame)
                }
                Ok(None) if exited => return End::Close(close::ENDED, "the terminal has ended"),
                // The guest ends an attachment in good order only after it has said why.
                Ok(None) => return End::Close(close::ENDED, "the attachment has ended"),
                Err(_) => return End::Close(close::TRY_AGAIN, "the link to the workspace broke"),
            },
            changed = reports.changed() => {
                let report = reports.borrow_and_update().clone();
                if changed.is_err() {
                    return End::Close(close::ENDED, "the workspace is gone");
                }
                if report.status == told {
                    continue;
                }
                told = report.status;
                Message::Binary(status_frame(report))
            }
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        let is_bulk = matches!(&message, Message::Binary(frame) if frame.len() > BULK_BYTES);
        if to_viewer.send(message).await.is_err() {
            return End::ViewerGone;
        }
        if is_bulk {
            // A stream that both sides keep ready would run on for its whole budget, and with it this thread,
            // which may be the one that looks for news of all the others.
            tokio::task::yield_now().await;
        }
    }
}

fn status_frame(report: Report) -> Bytes {
    let control = ServerControl::Status { status: report.status, reason: report.reason };
    ServerFrame::Control(control).to_vec().into()
}
