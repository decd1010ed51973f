//! A terminal's WebSocket, spoken with as little as can be, as the peer's stream is.
//!
//! The handshake by hand (RFC 6455, section 4.1), one binary message each way per frame of
//! `rexec_api::frames`, no fragments and no extensions, which the server does not use. A library's
//! work in the reader would otherwise be counted as the server's.

use anyhow::{Context, Result, bail, ensure};
use rexec_api::frames::{SUBPROTOCOL, TOKEN_SUBPROTOCOL_PREFIX};
use rexec_api::ids::{TerminalId, WorkspaceId};
use rexec_client::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BUFFER_BYTES: usize = 256 * 1024;
/// A key of the client's own choosing; what the server answers to it is not looked at.
const KEY: &str = "cmV4ZWMtYmVuY2gtMDAwMA==";
const MASK: [u8; 4] = [0x5a, 0xc3, 0x96, 0x0f];
const FIN_BINARY: u8 = 0x82;
const FIN_PONG: u8 = 0x8a;
const OPCODE_BINARY: u8 = 2;
const OPCODE_CLOSE: u8 = 8;
const OPCODE_PING: u8 = 9;

pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What has arrived and was not handed out.
    start: usize,
    end: usize,
}

impl Wire {
    pub async fn attach(client: &Client, workspace: WorkspaceId, terminal: TerminalId) -> Result<Self> {
        let address = client.base().strip_prefix("http://").context("a plain address")?;
        let token = client.token().context("a token")?;
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET /api/workspaces/{workspace}/terminals/{terminal}/ws?mode=control HTTP/1.1\r\nHost: {address}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\
             Sec-WebSocket-Protocol: {SUBPROTOCOL}, {TOKEN_SUBPROTOCOL_PREFIX}{token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut wire = Self { stream, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0 };
        let head = loop {
            let arrived = &wire.buffer[..wire.end];
            if let Some(at) = arrived.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            wire.fill().await?;
        };
        ensure!(wire.buffer.starts_with(b"HTTP/1.1 101"), "the server refused the upgrade");
        wire.start = head;
        Ok(wire)
    }

    /// Sends one short frame.
    pub async fn send(&mut self, kind: u8, payload: &[u8]) -> Result<()> {
        let length = 1 + payload.len();
        ensure!(length < 126, "a frame that is not short");
        let mut message = vec![FIN_BINARY, 0x80 | length as u8];
        message.extend(MASK);
        message.extend(std::iter::once(&kind).chain(payload).zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        Ok(self.stream.write_all(&message).await?)
    }

    /// The next frame: its kind, and what follows it.
    pub async fn next(&mut self) -> Result<(u8, &[u8])> {
        let (from, to) = loop {
            match self.message() {
                Some((OPCODE_BINARY, from, to)) => break (from, to),
                Some((OPCODE_PING, ..)) => {
                    self.stream.write_all(&[&[FIN_PONG, 0x80], MASK.as_slice()].concat()).await?
                }
                Some((OPCODE_CLOSE, ..)) => bail!("the server closed the terminal"),
                Some(_) => {}
                None => self.fill().await?,
            }
        };
        let (kind, rest) = self.buffer[from..to].split_first().context("an empty frame")?;
        Ok((*kind, rest))
    }

    /// The last bytes of the frame that came last.
    pub fn last(&self, length: usize) -> &[u8] {
        &self.buffer[self.start - length..self.start]
    }

    /// A whole message, taken out: its opcode, and where its payload lies.
    fn message(&mut self) -> Option<(u8, usize, usize)> {
        let arrived = &self.buffer[self.start..self.end];
        let (&opcode, &length) = (arrived.first()?, arrived.get(1)?);
        let (head, length) = match length {
            126 => (4, u16::from_be_bytes(arrived.get(2..4)?.try_into().ok()?) as usize),
            127 => (10, u64::from_be_bytes(arrived.get(2..10)?.try_into().ok()?) as usize),
            length => (2, length as usize),
        };
        let from = self.start + head;
        if self.end < from + length {
            return None;
        }
        self.start = from + length;
        Some((opcode & 0x0f, from, from + length))
    }

    async fn fill(&mut self) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            ensure!(self.start > 0, "a message that is longer than any of the server's");
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let count = self.stream.read(&mut self.buffer[self.end..]).await?;
        ensure!(count > 0, "the server hung up");
        self.end += count;
        Ok(())
    }
}
