//! The multiplexed stream between the server and a workspace's guest, and both ends of it.
//!
//! **Framing.** HTTP/2 over one byte stream that the caller brings: the server is the client, the
//! guest answers. Routes and messages are those of `rexec_api::guest`. A *call* has a JSON body
//! and a JSON answer. A *frame stream* carries units of a big-endian `u32` length and that many
//! bytes; one frame is one DATA frame whenever the peer's frame size allows. A *body* is plain
//! bytes until the end of the stream. What a stream needs to know at its start is JSON in a
//! header, all ASCII because everything else is escaped.
//!
//! A terminal's frames go over a connection of their own where the guest can dial one (`lane`).
//!
//! **Order.** Within one stream, bytes arrive as they were sent. Between streams there is none:
//! the connection window is as large as it goes and each stream has [`STREAM_WINDOW_BYTES`], so a
//! stream that nobody reads stops no other.
//!
//! **Trust.** Both ends treat the other as hostile: lengths are checked before memory is taken,
//! memory is taken as bytes arrive and not as lengths promise, answers and headers are bounded,
//! calls have time-outs, a guest's heads are counted, and pings find a peer that has gone silent.
//!
//! **Left to others:** what the routes do (`guest`), and how a byte stream comes to be (`server`
//! and `engine`). This is the only home of `h2`.

mod body;
mod budget;
mod client;
mod connection;
mod error;
mod frames;
mod guard;
mod json;
mod keepalive;
mod lane;
mod piece;
mod relay;
mod routes;
mod serve;
mod stream;
mod tunnel;
mod vigil;

pub use body::{BodyReceiver, BodySender};
pub use budget::Budget;
pub use client::{FileSender, GuestClient, Sending};
pub use error::{ChannelError, Result};
pub use frames::{FrameReceiver, FrameSender};
pub use lane::Lanes;
pub use relay::relay;
pub use routes::{Arrivals, Changes, EgressNews, PieceSpec, PortNews};
pub use serve::{Call, serve};
pub use tunnel::Tunnel;
pub use vigil::keep_vigil;

use std::time::Duration;

/// Bytes of one stream that may be on their way unread.
pub const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// The connection never limits: its window is the largest that HTTP/2 has.
const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;
/// Bytes of one stream that wait in this process for the peer or the socket; then senders wait.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// The largest DATA frame the server takes: a full piece of terminal output with its headers.
const SERVER_DATA_BYTES_MAX: u32 = 72 * 1024;
/// The largest DATA frame the guest takes: HTTP/2's smallest maximum, for a small guest.
const GUEST_DATA_BYTES_MAX: u32 = 16 * 1024;
/// Overhead of small unread DATA frames, in bytes, at which a connection is taken for an attack.
const SMALL_FRAME_BUDGET_BYTES: usize = 64 * 1024 * 1024;
/// Streams open at once on one connection; further calls wait for their turn.
const STREAMS_MAX: u32 = 1024;
/// Longest list of headers that a guest sends: one file's description.
const SERVER_HEADER_BYTES_MAX: u32 = 128 * 1024;
/// Longest list of headers that a guest takes: a command with its environment, escaped.
const GUEST_HEADER_BYTES_MAX: u32 = 2 * 1024 * 1024;
/// Longest JSON in a header; a longer one is refused before it is sent.
const HEADER_JSON_BYTES_MAX: usize = 1024 * 1024;
/// Longest JSON answer of a guest.
pub const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest JSON body that a guest takes.
pub const REQUEST_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Longest frame that a guest takes.
pub const GUEST_FRAME_BYTES_MAX: usize = rexec_api::frames::CLIENT_FRAME_BYTES_MAX + 64;
/// Longest frame that the server takes.
pub const SERVER_FRAME_BYTES_MAX: usize = rexec_api::frames::FRAME_BYTES_MAX;
/// Longest frame of a command's output to the server: nothing of it is larger than one read.
pub const EXEC_FRAME_BYTES_MAX: usize = 256 * 1024;
/// Longest frame of a watch: two paths, escaped.
pub const WATCH_FRAME_BYTES_MAX: usize = 64 * 1024;
/// Longest list of ports: 512 of them, each with a name of the kernel's 15 bytes, escaped.
pub const PORTS_FRAME_BYTES_MAX: usize = 256 * 1024;
/// The longest news of a listener: a path and some.
pub const LISTEN_FRAME_BYTES_MAX: usize = 16 * 1024;
/// Records of a gateway.
pub const RECORDS_FRAME_BYTES_MAX: usize = 256 * 1024;
/// Both ends have said hello in HTTP/2, or the byte stream is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A call is answered within this, or fails.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// A call that may walk a directory tree or wait for a disk.
pub const FILE_CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// An archive that has arrived in full is extracted within this.
pub const EXTRACT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// How often each end asks whether the other is alive.
const PING_PERIOD: Duration = Duration::from_secs(10);
/// How long a ping may stay unanswered; two such in a row end the connection.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
