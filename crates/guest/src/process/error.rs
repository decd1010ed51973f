//! Why a program could not be started, in words for the person who asked for it.
//!
//! The code is the wire's; the operating system's number is kept only where it names the cause.

use rexec_api::error::ErrorCode;
use rexec_api::guest::GuestError;
use rustix::io::Errno;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    #[error("command not found: {0}; name a program on the PATH or give its full path")]
    NotFound(String),
    #[error("permission denied: {0} is not executable by the workspace's user")]
    Denied(String),
    #[error("cannot enter the working directory {path}: {reason}")]
    WorkingDirectory { path: String, reason: &'static str },
    #[error("{0}")]
    Invalid(String),
    #[error("the workspace has no room for another process; end some, or raise its memory or process limit")]
    NoRoom,
    #[error("could not start {name}: {source}")]
    System { name: String, source: Errno },
}

impl LaunchError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound(_) => ErrorCode::CommandNotFound,
            Self::Denied(_) => ErrorCode::FileDenied,
            Self::WorkingDirectory { .. } => ErrorCode::NotADirectory,
            Self::Invalid(_) => ErrorCode::InvalidRequest,
            Self::NoRoom => ErrorCode::HostFull,
            Self::System { .. } => ErrorCode::Internal,
        }
    }

    /// What a failed `exec` of `name` means.
    pub(super) fn of_exec(name: &str, errno: Errno) -> Self {
        let name = name.to_owned();
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::NotFound(name),
            Errno::ACCESS | Errno::PERM | Errno::ISDIR => Self::Denied(name),
            Errno::NOEXEC => Self::Invalid(format!(
                "{name} is not a program that this machine can run; check its architecture or its first line"
            )),
            Errno::TOOBIG => {
                Self::Invalid("the command and its environment are too long for the operating system".into())
            }
            Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE => Self::NoRoom,
            source => Self::System { name, source },
        }
    }

    pub(super) fn of_directory(path: &str, errno: Errno) -> Self {
        let reason = match errno {
            Errno::NOENT => "it does not exist",
            Errno::NOTDIR => "it is not a directory",
            Errno::ACCESS | Errno::PERM => "permission denied",
            _ => "the operating system refused",
        };
        Self::WorkingDirectory { path: path.to_owned(), reason }
    }
}

impl From<LaunchError> for GuestError {
    fn from(error: LaunchError) -> Self {
        Self { code: error.code(), message: error.to_string(), number: None }
    }
}
