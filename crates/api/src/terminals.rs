//! Terminals over REST: what may be asked for, and what is seen of one.

use crate::ids::TerminalId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bounds of a terminal's width and height, in cells.
pub const COLS_MAX: u16 = 1000;
pub const ROWS_MAX: u16 = 500;
/// Terminals alive in one workspace at most.
pub const TERMINALS_MAX: usize = 256;
/// Most arguments of a command, and most bytes of all of them.
pub const COMMAND_ARGS_MAX: usize = 1024;
pub const COMMAND_BYTES_MAX: usize = 128 * 1024;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewTerminal {
    /// 1 to 1000.
    pub cols: u16,
    /// 1 to 500.
    pub rows: u16,
    /// The user's login shell when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// An account of the workspace, by name or as `#` and a number; the workspace's user when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TerminalView {
    pub id: TerminalId,
    pub title: Option<String>,
    pub command: Vec<String>,
    pub cols: u16,
    pub rows: u16,
    /// Attachments at the moment.
    pub viewers: u32,
    /// Output bytes so far: the offset at which the live stream stands.
    pub end: u64,
    /// RFC 3339.
    pub created_at: String,
    /// Set once the process has ended; the terminal is then listed until it is deleted or its
    /// place is needed.
    pub exit_code: Option<i32>,
}
