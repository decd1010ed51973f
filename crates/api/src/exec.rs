//! Running one command in a workspace and taking its output.
//!
//! Over a WebSocket (`rexec.exec.v1`) input and output go on together, as long as it takes:
//!
//! ```text
//!   client -> server   first: text, an ExecStart in JSON
//!                      then binary, first byte is the kind: 0x00 standard input | 0x01 its end | 0x02 u8 signal number
//!   server -> client   text, an ExecControl in JSON: `started`, or `error`, after which nothing comes
//!                      binary: 0x00 standard output | 0x01 standard error | 0x02 i32 exit code, big-endian, the last
//! ```
//!
//! The command ends with its connection: its process group is killed. The server passes frames on as they are; of the exit it
//! leaves the code alone.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most bytes of `stdin` in a request.
pub const STDIN_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most bytes of each of `stdout` and `stderr` in a plain answer; the event stream has no limit.
pub const OUTPUT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a command may run when the request does not say, and at most.
pub const TIMEOUT_MS_DEFAULT: u64 = 60_000;
pub const TIMEOUT_MS_MAX: u64 = 24 * 3600 * 1000;

/// The subprotocol of a command over a WebSocket.
pub const SUBPROTOCOL: &str = "rexec.exec.v1";
/// Most bytes of standard input in one frame.
pub const PIECE_BYTES_MAX: usize = 32 * 1024;
/// Most bytes of the first message.
pub const START_BYTES_MAX: usize = 256 * 1024;

/// The first message of a command over a WebSocket.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecStart {
    /// Program and arguments; no shell is involved unless you name one.
    pub command: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// As in [`ExecRequest::user`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// What the server says of a command over a WebSocket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExecControl {
    /// The command runs.
    Started,
    /// It does not, or no more.
    Error { error: crate::error::ErrorDetail },
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// Program and arguments; no shell is involved unless you name one.
    pub command: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// An account of the workspace, by name or as `#` and a number; the workspace's user when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Text given to standard input, which is then closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Bytes given to standard input, in base64, instead of `stdin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin_base64: Option<String>,
    /// How a plain answer tells the output.
    #[serde(default, skip_serializing_if = "is_default")]
    pub encoding: OutputEncoding,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// How bytes become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OutputEncoding {
    /// As they are; what is not UTF-8 is replaced by U+FFFD.
    #[default]
    Utf8,
    Base64,
}

fn is_default(encoding: &OutputEncoding) -> bool {
    *encoding == OutputEncoding::default()
}

/// The result of a command, its output in the encoding that was asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExecResult {
    /// As a shell reports it: 128 + n when signal n ended it.
    pub exit_code: i32,
    pub stdout: String,
    pub stderr: String,
    pub duration_ms: u64,
}

/// One event of `Accept: text/event-stream`; the SSE event's name is `type`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExecEvent {
    /// Bytes of standard output, in base64.
    Stdout {
        data: String,
    },
    /// Bytes of standard error, in base64.
    Stderr {
        data: String,
    },
    Exit {
        exit_code: i32,
        duration_ms: u64,
    },
    Error {
        error: crate::error::ErrorDetail,
    },
}
