//! What a command ends with when it fails, for people on standard error and for scripts in the exit code.
//!
//! ```text
//!   1  something else failed          4  there is no such thing, or the name means several
//!   2  wrong arguments                5  the server refused
//!   3  not signed in, or no more      6  the server cannot be reached
//! ```
//!
//! `exec`, and `attach` to a command, end as the command did; 255 is then a failure of ours, 127 that there is no such command.

use rexec_client::ClientError;
use std::error::Error;
use std::process::ExitCode;

/// `exec`'s own failures, which no usual command ends with; ssh(1) has the same.
pub const EXIT_OF_OURS: u8 = 255;
/// The server refused.
pub const EXIT_REFUSED: u8 = 5;

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
    #[error("{what}: {error}")]
    Io { what: String, error: std::io::Error },
}

pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// About a file, or another thing of this machine.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }

    fn exit(&self) -> u8 {
        match self {
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
        match self {
            Self::Client(ClientError::Refused(refused)) => {
                eprintln!("rexec: {}", refused.message);
                if refused.code.http_status() == 401 {
                    eprintln!("       Sign in with `rexec login`.");
                }
                eprintln!("       ({}, request {})", refused.code.as_str(), refused.request_id);
            }
            Self::Client(error) => {
                eprint!("rexec: {error}");
                let mut cause = error.source();
                while let Some(error) = cause {
                    eprint!(": {error}");
                    cause = error.source();
                }
                eprintln!();
            }
            other => eprintln!("rexec: {other}"),
        }
        ExitCode::from(self.exit())
    }
}
