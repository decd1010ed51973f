//! One attachment to a terminal: `rexec.terminal.v1` over a WebSocket.

use crate::socket::Socket;
use crate::{Client, ClientError, Result};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rexec_api::frames::{ClientControl, ClientFrame, FRAME_BYTES_MAX, SUBPROTOCOL, ServerControl, ServerFrame};
use rexec_api::guest::AttachMode;
use rexec_api::ids::{TerminalId, WorkspaceId};
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};

/// How to attach.
#[derive(Debug, Clone, Copy)]
pub struct AttachOptions {
    /// Go on from here, if it is still kept.
    pub offset: Option<u64>,
    pub mode: AttachMode,
    /// Names this client across reconnects.
    pub client: Option<uuid::Uuid>,
}

impl Default for AttachOptions {
    fn default() -> Self {
        Self { offset: None, mode: AttachMode::Control, client: None }
    }
}

/// What came from the server.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    Output {
        offset: u64,
        bytes: Bytes,
    },
    Snapshot {
        offset: u64,
        bytes: Bytes,
    },
    Exit(i32),
    Control(ServerControl),
    InputAccepted(u64),
    /// The server closed, with this code.
    Closed(u16),
}

pub struct Attachment {
    socket: Socket,
}

impl Client {
    pub async fn attach(
        &self,
        workspace: WorkspaceId,
        terminal: TerminalId,
        options: AttachOptions,
    ) -> Result<Attachment> {
        let mode = if options.mode == AttachMode::View { "view" } else { "control" };
        let mut url = format!("/api/workspaces/{workspace}/terminals/{terminal}/ws?mode={mode}");
        if let Some(offset) = options.offset {
            url.push_str(&format!("&offset={offset}"));
        }
        if let Some(client) = options.client {
            url.push_str(&format!("&client={client}"));
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(16 * 1024)
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        Ok(Attachment { socket: crate::socket::open(self, &url, SUBPROTOCOL, config).await? })
    }
}

impl Attachment {
    pub async fn input(&mut self, bytes: &[u8]) -> Result<()> {
        self.send(ClientFrame::Input(bytes)).await
    }

    pub async fn resize(&mut self, cols: u16, rows: u16) -> Result<()> {
        self.send(ClientFrame::Resize { cols, rows }).await
    }

    /// Everything before `offset` has been drawn.
    pub async fn acknowledge(&mut self, offset: u64) -> Result<()> {
        self.send(ClientFrame::Ack(offset)).await
    }

    pub async fn visibility(&mut self, hidden: bool) -> Result<()> {
        self.send(ClientFrame::Control(ClientControl::Visibility { hidden })).await
    }

    async fn send(&mut self, frame: ClientFrame<'_>) -> Result<()> {
        self.send_raw(frame.to_vec()).await
    }

    /// Any bytes as one message.
    pub async fn send_raw(&mut self, frame: Vec<u8>) -> Result<()> {
        Ok(self.socket.send(Message::Binary(frame.into())).await.map_err(Box::new)?)
    }

    /// What comes next. A cut connection is an error; a close of the server's is [`Received::Closed`].
    pub async fn next(&mut self) -> Result<Received> {
        loop {
            let message = self.socket.next().await;
            let message = message.unwrap_or(Err(tokio_tungstenite::tungstenite::Error::ConnectionClosed));
            match message.map_err(Box::new)? {
                Message::Binary(frame) => return received(frame),
                Message::Close(frame) => {
                    return Ok(Received::Closed(frame.map_or(1005, |f| f.code.into())));
                }
                _ => {}
            }
        }
    }

    /// Says goodbye.
    pub async fn close(mut self) -> Result<()> {
        Ok(self.socket.close(None).await.map_err(Box::new)?)
    }
}

fn received(frame: Bytes) -> Result<Received> {
    /// The kind and the offset of output and snapshots.
    const HEAD_BYTES: usize = 9;
    Ok(match ServerFrame::parse(&frame).map_err(ClientError::Frame)? {
        ServerFrame::Output { offset, .. } => Received::Output { offset, bytes: frame.slice(HEAD_BYTES..) },
        ServerFrame::Snapshot { offset, .. } => Received::Snapshot { offset, bytes: frame.slice(HEAD_BYTES..) },
        ServerFrame::Exit(code) => Received::Exit(code),
        ServerFrame::Control(control) => Received::Control(control),
        ServerFrame::InputAccepted(count) => Received::InputAccepted(count),
    })
}
