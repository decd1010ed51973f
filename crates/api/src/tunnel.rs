//! A byte stream over a WebSocket, for what reaches a workspace's port where only HTTP gets through.
//!
//! Each binary message is a piece of the stream, however it is cut; an empty one is the end of its direction, after which
//! the other may go on. Text has no meaning. Closing ends both directions; an end that no empty message announced is a cut.

/// The subprotocol.
pub const SUBPROTOCOL: &str = "rexec.tunnel.v1";
/// Longest message either way.
pub const PIECE_BYTES_MAX: usize = 64 * 1024;
