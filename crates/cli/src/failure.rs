//! What a command ends with when it fails, for people on standard error and for scripts in the exit code.
//!
//! ```text
//!   1  something else failed          4  there is no such thing, or the name means several
//!   2  wrong arguments                5  the server refused
//!   3  not signed in, or no more      6  the server cannot be reached
//!   130, 141  interrupted, and nobody reads the output: as a shell says of such signals
//! ```
//!
//! `exec`, and `attach` to a command, end as the command did; 255 is then a failure of ours, 127 that there is no such command.

use crate::show::plain;
use rexec_client::ClientError;
use std::error::Error;
use std::process::ExitCode;

/// `exec`'s own failures, which no usual command ends with; ssh(1) has the same.
pub const EXIT_OF_OURS: u8 = 255;
/// The server refused.
pub const EXIT_REFUSED: u8 = 5;

/// For people, below the help.
pub const EXIT_CODES: &str = "\
Exit codes:
  1  something failed           4  there is no such thing, or the name means several
  2  wrong arguments            5  the server refused
  3  not signed in, or no more  6  the server cannot be reached
exec, ssh and attach end as the command did; 255 is a failure of rexec's own.";

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    SignedOut(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Other(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    /// By Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    #[error("{what}: {error}")]
    Io { what: String, error: std::io::Error },
}

pub type Result<T> = std::result::Result<T, Failure>;

/// Why a server did not take a workspace, as those may know who ask.
fn of_server(said: &serde_json::Value) -> Option<String> {
    let reason = said["message"].as_str().or(said["reason"].as_str())?;
    Some(match said["host"].as_str() {
        Some(host) => format!("{host}: {reason}"),
        None => reason.replace('_', " "),
    })
}

impl Failure {
    /// About a file, or another thing of this machine.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }

    /// Whether what reads our output takes no more.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    fn exit(&self) -> u8 {
        match self {
            Self::Interrupted => 130,
            broken if broken.is_broken_pipe() => 141,
            Self::Usage(_) => 2,
            Self::SignedOut(_) => 3,
            Self::NotFound(_) => 4,
            Self::Client(ClientError::Refused(refused)) => match refused.code.http_status() {
                401 => 3,
                404 | 410 => 4,
                _ => EXIT_REFUSED,
            },
            Self::Client(ClientError::Transport(_) | ClientError::WebSocket(_)) => 6,
            Self::Client(_) | Self::Other(_) | Self::Io { .. } => 1,
        }
    }

    /// Says it on standard error, with what to do about it.
    pub fn tell(&self) -> ExitCode {
        // Much of it is the words of servers, workspaces and files.
        let say = |text: &str| eprintln!("{}", text.lines().map(plain).collect::<Vec<_>>().join("\n"));
        match self {
            Self::Client(ClientError::Refused(refused)) => {
                // What the details say stands below.
                say(&format!("rexec: {}", refused.message.replace("; `details.hosts` says of each why", "")));
                for line in refused.details["hosts"].as_array().into_iter().flatten().filter_map(of_server) {
                    say(&format!("       {line}"));
                }
                say(&format!("       ({}, request {})", refused.code.as_str(), refused.request_id));
            }
            Self::Client(error) => {
                let mut causes = vec![error.to_string()];
                let mut cause = error.source();
                while let Some(error) = cause {
                    causes.push(error.to_string());
                    cause = error.source();
                }
                // Between what failed and why are the layers of a library.
                if matches!(error, ClientError::Transport(_)) && causes.len() > 2 {
                    causes.drain(1..causes.len() - 1);
                }
                say(&format!("rexec: {}", causes.join(": ")));
            }
            Self::Interrupted => {}
            // Whoever read has gone: no news to them.
            other if other.is_broken_pipe() => {}
            other => say(&format!("rexec: {other}")),
        }
        ExitCode::from(self.exit())
    }
}
