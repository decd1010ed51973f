//! A command over a WebSocket, its input and output side by side: `rexec.exec.v1`.

use crate::socket::{self, Socket};
use crate::{Client, ClientError, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use rexec_api::exec::{ExecControl, ExecStart, PIECE_BYTES_MAX, SUBPROTOCOL};
use rexec_api::guest::exec_frame;
use rexec_api::ids::WorkspaceId;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};

/// Longest message of a server's: no piece of output is as long.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandOutput {
    Stdout(Bytes),
    Stderr(Bytes),
    /// It has ended: nothing follows.
    Exit(i32),
}

/// The input of a command that runs. The command ends when both halves are dropped.
pub struct CommandInput(SplitSink<Socket, Message>);

/// The output of a command that runs.
pub struct CommandEvents(SplitStream<Socket>);

impl Client {
    /// Starts a command.
    pub async fn run_command(
        &self,
        workspace: WorkspaceId,
        start: &ExecStart,
    ) -> Result<(CommandInput, CommandEvents)> {
        let config = WebSocketConfig::default()
            .read_buffer_size(16 * 1024)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let path = format!("/api/workspaces/{workspace}/exec/ws");
        let (mut sink, mut source) = socket::open(self, &path, SUBPROTOCOL, config).await?.split();
        let text = serde_json::to_string(start).map_err(|_| strange())?;
        sink.send(Message::Text(text.into())).await.map_err(Box::new)?;
        loop {
            match source.next().await.unwrap_or(Err(Error::ConnectionClosed)).map_err(Box::new)? {
                Message::Text(text) => match control(&text)? {
                    ExecControl::Started => return Ok((CommandInput(sink), CommandEvents(source))),
                    ExecControl::Error { error } => return Err(ClientError::Refused(Box::new(error))),
                },
                Message::Ping(_) | Message::Pong(_) => {}
                _ => return Err(strange()),
            }
        }
    }
}

impl CommandInput {
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(PIECE_BYTES_MAX) {
            self.send(exec_frame::STDIN, piece).await?;
        }
        Ok(())
    }

    /// Closes the command's standard input.
    pub async fn end(&mut self) -> Result<()> {
        self.send(exec_frame::STDIN_END, &[]).await
    }

    /// Sends a signal, by its number on Linux, to the command's process group.
    pub async fn signal(&mut self, number: u8) -> Result<()> {
        self.send(exec_frame::SIGNAL, &[number]).await
    }

    async fn send(&mut self, kind: u8, bytes: &[u8]) -> Result<()> {
        let mut frame = BytesMut::with_capacity(1 + bytes.len());
        frame.put_u8(kind);
        frame.put_slice(bytes);
        Ok(self.0.send(Message::Binary(frame.freeze())).await.map_err(Box::new)?)
    }
}

impl CommandEvents {
    /// What comes next. A connection that is cut before the exit is an error.
    pub async fn next(&mut self) -> Result<CommandOutput> {
        loop {
            match self.0.next().await.unwrap_or(Err(Error::ConnectionClosed)).map_err(Box::new)? {
                Message::Binary(frame) => return output(frame).ok_or_else(strange),
                Message::Text(text) => {
                    if let ExecControl::Error { error } = control(&text)? {
                        return Err(ClientError::Refused(Box::new(error)));
                    }
                }
                Message::Close(_) => return Err(Box::new(Error::ConnectionClosed).into()),
                _ => {}
            }
        }
    }
}

fn output(frame: Bytes) -> Option<CommandOutput> {
    match *frame.first()? {
        exec_frame::STDOUT => Some(CommandOutput::Stdout(frame.slice(1..))),
        exec_frame::STDERR => Some(CommandOutput::Stderr(frame.slice(1..))),
        exec_frame::EXIT => Some(CommandOutput::Exit(i32::from_be_bytes(frame.get(1..)?.try_into().ok()?))),
        _ => None,
    }
}

fn control(text: &str) -> Result<ExecControl> {
    serde_json::from_str(text).map_err(|_| strange())
}

fn strange() -> ClientError {
    ClientError::Strange(StatusCode::SWITCHING_PROTOCOLS)
}
