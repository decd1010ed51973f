//! What `sudo` and PID 1 say to each other.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;

/// Longest message: a command line and its environment fit.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
pub const LENGTH_BYTES: usize = 4;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub what: What,
    /// A name or `#` and a number; root when absent.
    pub user: Option<String>,
    pub cwd: String,
    /// What the program keeps of the caller's environment, and what the command line sets.
    pub env: BTreeMap<String, String>,
    /// Columns and rows of the terminal that the program is to have.
    pub terminal: Option<(u16, u16)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Only whether it is allowed.
    Validate,
    Run {
        command: Vec<String>,
    },
    /// A shell, or a command by way of it. `program` is the caller's own choice.
    Shell {
        command: Vec<String>,
        program: Option<String>,
    },
    /// The target user's login shell.
    Login {
        command: Vec<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Refused { message: String },
    Started,
    Exited { code: i32 },
}

pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    if json.len() > MESSAGE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the command and its environment are too long"));
    }
    Ok([&length.to_be_bytes(), json.as_slice()].concat())
}

/// The length of the message that follows, when it is within bounds.
pub fn length(prefix: [u8; LENGTH_BYTES]) -> io::Result<usize> {
    let length = u32::from_be_bytes(prefix) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(length)
}
