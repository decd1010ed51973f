//! `rexec.terminal.v1`: the frames of one attachment to one terminal.
//!
//! **Framing.** One frame is one binary WebSocket message, or one length-prefixed unit on a guest
//! stream; the server passes frames through unchanged. The first byte is the kind, integers are
//! big-endian, and what remains is the payload.
//!
//! ```text
//! client -> server  0x00 input bytes | 0x01 u16 cols, u16 rows | 0x02 u64 acknowledged offset | 0x03 JSON
//! server -> client  0x00 u64 offset, output | 0x01 u64 offset, snapshot | 0x02 i32 exit code
//!                   0x03 JSON | 0x04 u64 input bytes accepted
//! ```
//!
//! **Order.** The first server frame is the control message `attached`. Output, sizes, snapshots
//! and exit are one order. An offset counts the output bytes before the frame's first byte. Frames
//! each of which begins where the last ended have lost nothing. A snapshot's offset is where live
//! bytes go on after it; its bytes begin with CAN (0x18) and RIS (ESC c).
//!
//! **Sizes.** `attached` carries the size in force where the stream begins; every later change is
//! a `size` message at its place in the stream. A client resizes its emulator only on these.
//!
//! **Limits.** A frame is at most [`FRAME_BYTES_MAX`]; a longer one is a fault of the sender.
//!
//! **Trust.** The guest belongs to the tenant: the server bounds what it relays. View-only is
//! enforced by the server, which drops input, sizes and JSON of such an attachment.

use serde::{Deserialize, Serialize};

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "rexec.terminal.v1";
/// The subprotocol prefix that carries a token where headers cannot be set.
pub const TOKEN_SUBPROTOCOL_PREFIX: &str = "rexec.token.";
/// The longest frame from the guest: a snapshot of a full scrollback fits.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest frame from a client: input is cut into such pieces.
pub const CLIENT_FRAME_BYTES_MAX: usize = 64 * 1024;
/// The longest piece of output in one frame.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// WebSocket close codes.
pub mod close {
    /// Sign in first, or again.
    pub const SIGN_IN: u16 = 4401;
    pub const FORBIDDEN: u16 = 4403;
    /// The terminal has ended; do not come back.
    pub const ENDED: u16 = 4410;
    /// Come back in a moment (RFC 6455 registry: service restart).
    pub const TRY_AGAIN: u16 = 1012;
    /// Somebody else has taken this place; do not come back.
    pub const REPLACED: u16 = 4409;
    /// The client broke the protocol.
    pub const PROTOCOL: u16 = 1002;
}

/// A frame could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("empty frame")]
    Empty,
    #[error("unknown frame kind {0:#04x}")]
    UnknownKind(u8),
    #[error("frame of kind {0:#04x} is too short")]
    Short(u8),
    #[error("frame of kind {0:#04x} has bytes left over")]
    Long(u8),
    #[error("control frame is not a known JSON message")]
    Json,
}

/// What a client sends; borrows the frame it was read from.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientFrame<'a> {
    Input(&'a [u8]),
    Resize {
        cols: u16,
        rows: u16,
    },
    /// Everything before this offset has been drawn.
    Ack(u64),
    Control(ClientControl),
}

/// What a server (and guest) sends; borrows the frame it was read from.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerFrame<'a> {
    Output {
        offset: u64,
        bytes: &'a [u8],
    },
    Snapshot {
        offset: u64,
        bytes: &'a [u8],
    },
    Exit(i32),
    Control(ServerControl),
    /// Input bytes taken so far from this client id.
    InputAccepted(u64),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientControl {
    /// Whether the terminal is out of sight: a hidden controller does not hold the PTY.
    Visibility { hidden: bool },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerControl {
    /// First message of every attachment.
    Attached {
        /// Where the terminal's output stands now.
        end: u64,
        /// The size in force where this stream begins.
        cols: u16,
        rows: u16,
        controller: bool,
    },
    /// The terminal changed size at `offset`.
    Size {
        offset: u64,
        cols: u16,
        rows: u16,
    },
    Title {
        title: String,
    },
    /// Who is attached, and whether this attachment is the controller.
    Viewers {
        count: u32,
        controller: bool,
    },
    /// The workspace's state changed.
    Status {
        status: crate::workspaces::WorkspaceStatus,
        reason: Option<String>,
    },
    Error {
        code: crate::error::ErrorCode,
        message: String,
    },
}

impl<'a> ClientFrame<'a> {
    pub fn parse(frame: &'a [u8]) -> Result<Self, FrameError> {
        let (&kind, rest) = frame.split_first().ok_or(FrameError::Empty)?;
        match kind {
            0x00 => Ok(Self::Input(rest)),
            0x01 => {
                let [a, b, c, d] = exact(kind, rest)?;
                Ok(Self::Resize { cols: u16::from_be_bytes([a, b]), rows: u16::from_be_bytes([c, d]) })
            }
            0x02 => Ok(Self::Ack(u64::from_be_bytes(exact(kind, rest)?))),
            0x03 => serde_json::from_slice(rest).map(Self::Control).map_err(|_| FrameError::Json),
            _ => Err(FrameError::UnknownKind(kind)),
        }
    }

    pub fn to_vec(&self) -> Vec<u8> {
        match self {
            Self::Input(bytes) => prefixed(0x00, &[bytes]),
            Self::Resize { cols, rows } => prefixed(0x01, &[&cols.to_be_bytes(), &rows.to_be_bytes()]),
            Self::Ack(offset) => prefixed(0x02, &[&offset.to_be_bytes()]),
            Self::Control(control) => prefixed(0x03, &[&json(control)]),
        }
    }
}

impl<'a> ServerFrame<'a> {
    pub fn parse(frame: &'a [u8]) -> Result<Self, FrameError> {
        let (&kind, rest) = frame.split_first().ok_or(FrameError::Empty)?;
        match kind {
            0x00 | 0x01 => {
                let (head, bytes) = rest.split_first_chunk::<8>().ok_or(FrameError::Short(kind))?;
                let offset = u64::from_be_bytes(*head);
                Ok(if kind == 0 { Self::Output { offset, bytes } } else { Self::Snapshot { offset, bytes } })
            }
            0x02 => Ok(Self::Exit(i32::from_be_bytes(exact(kind, rest)?))),
            0x03 => serde_json::from_slice(rest).map(Self::Control).map_err(|_| FrameError::Json),
            0x04 => Ok(Self::InputAccepted(u64::from_be_bytes(exact(kind, rest)?))),
            _ => Err(FrameError::UnknownKind(kind)),
        }
    }

    pub fn to_vec(&self) -> Vec<u8> {
        match self {
            Self::Output { offset, bytes } => prefixed(0x00, &[&offset.to_be_bytes(), bytes]),
            Self::Snapshot { offset, bytes } => prefixed(0x01, &[&offset.to_be_bytes(), bytes]),
            Self::Exit(code) => prefixed(0x02, &[&code.to_be_bytes()]),
            Self::Control(control) => prefixed(0x03, &[&json(control)]),
            Self::InputAccepted(count) => prefixed(0x04, &[&count.to_be_bytes()]),
        }
    }
}

fn exact<const N: usize>(kind: u8, rest: &[u8]) -> Result<[u8; N], FrameError> {
    rest.try_into().map_err(|_| if rest.len() < N { FrameError::Short(kind) } else { FrameError::Long(kind) })
}

fn prefixed(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(1 + parts.iter().map(|p| p.len()).sum::<usize>());
    frame.push(kind);
    for part in parts {
        frame.extend_from_slice(part);
    }
    frame
}

/// These messages are plain trees of strings and numbers, which always have a JSON form.
fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Any bytes either are refused or mean exactly what they say again.
        #[test]
        fn client_frames_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(frame) = ClientFrame::parse(&bytes) {
                let again = frame.to_vec();
                prop_assert_eq!(ClientFrame::parse(&again).unwrap(), frame);
            }
        }

        #[test]
        fn server_frames_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(frame) = ServerFrame::parse(&bytes) {
                let again = frame.to_vec();
                prop_assert_eq!(ServerFrame::parse(&again).unwrap(), frame);
            }
        }
    }

    #[test]
    fn the_wire_is_as_documented() {
        assert_eq!(ClientFrame::Resize { cols: 80, rows: 24 }.to_vec(), [1, 0, 80, 0, 24]);
        assert_eq!(ClientFrame::Ack(1).to_vec(), [2, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(ServerFrame::Output { offset: 2, bytes: b"x" }.to_vec(), [0, 0, 0, 0, 0, 0, 0, 0, 2, b'x']);
        assert_eq!(ServerFrame::Exit(-1).to_vec(), [2, 255, 255, 255, 255]);
        let attached = ServerControl::Attached { end: 5, cols: 80, rows: 24, controller: true };
        assert_eq!(
            ServerFrame::Control(attached).to_vec(),
            [b"\x03".as_slice(), br#"{"type":"attached","end":5,"cols":80,"rows":24,"controller":true}"#].concat()
        );
    }
}
