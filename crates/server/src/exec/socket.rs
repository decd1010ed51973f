//! A command over a WebSocket, its input and output side by side: `rexec.exec.v1`, described in `rexec_api::exec`.
//!
//! Invariant: the command lives no longer than its connection, and the connection no longer than what let it in; a frame
//! of the client's is of a known kind and length before the guest sees it.

use super::{Execs, check};
use crate::actor::Actor;
use crate::app::{App, AppState};
use crate::config::Use;
use crate::error::{Error, Result};
use crate::http::extract::{Authenticated, Path, RequestId, parse_json};
use crate::http::websocket::{self, Asked, pings};
use crate::workspaces::{Reach, Waker};
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use rexec_api::error::{ErrorBody, ErrorCode};
use rexec_api::exec::{ExecControl, ExecStart, PIECE_BYTES_MAX, START_BYTES_MAX, SUBPROTOCOL};
use rexec_api::frames::close;
use rexec_api::guest::{ExecSpec, exec_frame};
use rexec_api::ids::WorkspaceId;
use rexec_api::tokens::Scope;
use rexec_channel::{FrameReceiver, FrameSender, GuestClient};
use std::time::Duration;
use tokio::time::timeout;

/// How long the first message may take to come.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// A kind and an exit code.
const EXIT_FRAME_BYTES: usize = 1 + size_of::<i32>();
/// The largest number of a signal on Linux.
const SIGNAL_MAX: u8 = 64;

/// Why a connection ends: a close code and words, or an error to be told before.
enum End {
    Close(u16, &'static str),
    Error(Error),
}

/// Run a command over a WebSocket of the subprotocol `rexec.exec.v1`, its input and output side by side.
///
/// The first message is JSON: `command`, and if need be `cwd`, `env` and `user`. Binary messages follow, whose first byte says
/// what they are: to the server 0 standard input (32 KiB at most), 1 its end, 2 a signal's number; from it 0 standard output,
/// 1 standard error, 2 the exit code, which is the last. Text from the server is `started` or `error`. A refusal before is an
/// ordinary answer.
#[utoipa::path(
    get, path = "/api/workspaces/{id}/exec/ws", tag = "exec",
    params(("id" = WorkspaceId, Path)),
    responses(
        (status = 101, description = "Connected; the command is to be named."),
        (status = "4XX", description = "Refused.", body = ErrorBody),
        (status = "5XX", description = "The workspace cannot be reached.", body = ErrorBody),
    )
)]
pub(super) async fn exec_socket(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    request_id: RequestId,
    Path(id): Path<WorkspaceId>,
    upgrade: Asked,
) -> Result<Response> {
    let upgrade = websocket::upgrade(upgrade, SUBPROTOCOL, START_BYTES_MAX)?;
    let turn = app.streams.open(&actor)?;
    let reach = app.execs.reach(&actor, id).await?;
    Ok(upgrade.on_upgrade(async move |socket| {
        Connection { app, actor, request_id: request_id.0 }.serve(socket, reach).await;
        drop(turn);
    }))
}

impl Execs {
    async fn reach(&self, actor: &Actor, workspace: WorkspaceId) -> Result<Reach> {
        self.workspaces.reach(actor, Scope::Exec, workspace).await
    }
}

struct Connection {
    app: std::sync::Arc<App>,
    actor: Actor,
    request_id: String,
}

impl Connection {
    async fn serve(self, socket: WebSocket, reach: Reach) {
        let (mut sink, mut source) = socket.split();
        let begun = tokio::select! {
            // First: what may not be any more is not begun.
            biased;
            end = self.over(&reach.guest) => Err(end),
            begun = self.begin(&mut sink, &mut source, &reach.guest) => begun,
        };
        let end = match begun {
            Ok((to_guest, from_guest)) => tokio::select! {
                // What the command has said last goes out before anything ends it.
                biased;
                end = outward(from_guest, &mut sink, reach.waker.clone()) => end,
                end = inward(source, to_guest, reach.waker) => end,
                end = self.over(&reach.guest) => end,
            },
            Err(end) => end,
        };
        let (last, code, reason) = match end {
            End::Close(code, reason) => (None, code, reason),
            End::Error(error) => {
                let error = error.detail(&self.request_id);
                (Some(control(&ExecControl::Error { error })), 1000, "the error is told")
            }
        };
        websocket::close(&mut sink, last, code, reason).await;
    }

    /// Reads what is to be run, and has the guest run it.
    async fn begin(
        &self,
        sink: &mut SplitSink<WebSocket, Message>,
        source: &mut SplitStream<WebSocket>,
        guest: &GuestClient,
    ) -> std::result::Result<(FrameSender, FrameReceiver), End> {
        let first = timeout(START_PATIENCE, first(source)).await;
        let text = first.map_err(|_| End::Close(close::PROTOCOL, "the command was not named in time"))??;
        let start: ExecStart = parse_json(text.as_bytes()).map_err(End::Error)?;
        check(&start.command, start.cwd.as_deref(), &start.env, start.user.as_deref()).map_err(End::Error)?;
        let spec = ExecSpec { command: start.command, cwd: start.cwd, env: start.env, user: start.user };
        let running = guest.exec(&spec).await.map_err(|error| End::Error(error.into()))?;
        let started = sink.send(control(&ExecControl::Started)).await;
        started.map_err(|_| End::Close(1000, "the client has gone"))?;
        Ok(running)
    }

    /// Resolves when it has to end although neither side has.
    async fn over(&self, guest: &GuestClient) -> End {
        tokio::select! {
            error = self.app.auth.ended(&self.actor) => End::Error(error),
            () = guest.closed() => End::Error(lost()),
            () = self.app.tasks.stopping() => End::Error(Error::new(
                ErrorCode::ShuttingDown, "The server is restarting, which ends the command. Try again in a moment.",
            )),
        }
    }
}

fn lost() -> Error {
    Error::new(
        ErrorCode::WorkspaceUnreachable,
        "The link to the workspace broke, and the command with it. Run it again.",
    )
}

fn control(what: &ExecControl) -> Message {
    Message::Text(serde_json::to_string(what).unwrap_or_default().into())
}

async fn first(source: &mut SplitStream<WebSocket>) -> std::result::Result<Utf8Bytes, End> {
    loop {
        match source.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Binary(_))) => {
                return Err(End::Close(close::PROTOCOL, "the command is named first, in text"));
            }
            _ => return Err(End::Close(1000, "the client has gone")),
        }
    }
}

/// From the client to the guest, until the client goes. Kept to the end: without it the guest would end the command.
async fn inward(mut source: SplitStream<WebSocket>, mut to_guest: FrameSender, mut waker: Waker) -> End {
    let mut takes_more = true;
    while let Some(Ok(message)) = source.next().await {
        match message {
            Message::Binary(frame) if !is_sound(&frame) => {
                return End::Close(close::PROTOCOL, "a frame of another kind, or too long");
            }
            Message::Binary(frame) => {
                waker.used(Use::Exec).await;
                // A command that has ended takes no more; what it said is still to be read.
                takes_more = takes_more && to_guest.send(frame).await.is_ok();
            }
            Message::Text(_) => return End::Close(close::PROTOCOL, "frames are binary messages"),
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(_) => break,
        }
    }
    End::Close(1000, "the client has gone")
}

/// Whether the guest may see it.
fn is_sound(frame: &[u8]) -> bool {
    match frame {
        [exec_frame::STDIN, piece @ ..] => piece.len() <= PIECE_BYTES_MAX,
        [exec_frame::STDIN_END] => true,
        [exec_frame::SIGNAL, number] => (1..=SIGNAL_MAX).contains(number),
        _ => false,
    }
}

/// From the guest to the client, until the command has ended.
async fn outward(mut from_guest: FrameReceiver, sink: &mut SplitSink<WebSocket, Message>, mut waker: Waker) -> End {
    let mut pings = pings();
    loop {
        let message = tokio::select! {
            frame = from_guest.recv() => match frame {
                Ok(Some(frame)) if !frame.is_empty() => {
                    waker.used_soon(Use::Exec);
                    Message::Binary(told(frame))
                }
                _ => return End::Error(lost()),
            },
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        let is_last = matches!(&message, Message::Binary(frame) if frame[0] == exec_frame::EXIT);
        if sink.send(message).await.is_err() || is_last {
            return End::Close(1000, "the command has ended");
        }
    }
}

/// What the client is told of a frame: of an end its code alone, which has the signal in it.
fn told(frame: Bytes) -> Bytes {
    let ends = frame.first() == Some(&exec_frame::EXIT);
    if ends { frame.slice(..frame.len().min(EXIT_FRAME_BYTES)) } else { frame }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frames_that_are_known_reach_the_guest() {
        for sound in [&[0][..], &[0, 1, 2], &[1], &[2, 15]] {
            assert!(is_sound(sound), "{sound:?}");
        }
        let long = vec![0; PIECE_BYTES_MAX + 2];
        for bad in [&[][..], &[1, 0], &[2], &[2, 0], &[2, 65], &[2, 1, 1], &[3], long.as_slice()] {
            assert!(!is_sound(bad), "{:?}", &bad[..bad.len().min(4)]);
        }
    }
}
