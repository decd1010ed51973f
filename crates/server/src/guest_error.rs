//! A guest's failure as an error of ours. The guest is the tenant's: its codes are taken from a
//! short list, its sentences are shortened and kept to one line.

use crate::error::Error;
use crate::text::misleads;
use rexec_api::error::ErrorCode;
use rexec_api::guest::GuestError;
use rexec_channel::ChannelError;
use std::time::Duration;

/// The longest sentence of a guest that is passed on.
const MESSAGE_CHARS_MAX: usize = 500;

impl From<ChannelError> for Error {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Guest(GuestError { code, message, number }) if may_say(code) => {
                Self::new(code, tame(&message)).details(details(code, number))
            }
            ChannelError::Guest(GuestError { code: ErrorCode::NoSuchRoute, .. }) => Self::new(
                ErrorCode::WorkspaceState,
                "The workspace was started by an older version, which cannot do that. Restart the workspace.",
            ),
            other => Self::new(
                ErrorCode::WorkspaceUnreachable,
                "The workspace does not answer at the moment. Try again shortly; if it stays so, restart the workspace.",
            )
            .retry_after(Duration::from_secs(1))
            .source(other),
        }
    }
}

/// The codes that are a guest's to say; it cannot sign anyone out or blame the server.
const fn may_say(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::InvalidRequest
            | ErrorCode::NotFound
            | ErrorCode::TerminalLimit
            | ErrorCode::TerminalMemory
            | ErrorCode::TerminalGone
            | ErrorCode::OffsetAhead
            | ErrorCode::CommandNotFound
            | ErrorCode::DiskFull
            | ErrorCode::FileNotFound
            | ErrorCode::FileExists
            | ErrorCode::FileChanged
            | ErrorCode::NotAFile
            | ErrorCode::NotADirectory
            | ErrorCode::FileDenied
            | ErrorCode::FileError
            | ErrorCode::RangeNotSatisfiable
            | ErrorCode::ArchiveInvalid
            | ErrorCode::ArchiveTooLarge
            | ErrorCode::UploadConflict
            | ErrorCode::PortClosed
            | ErrorCode::Forbidden
            | ErrorCode::WorkspaceUnreachable
    )
}

/// What the number of a refusal is called.
fn details(code: ErrorCode, number: Option<u64>) -> serde_json::Value {
    match (code, number) {
        (ErrorCode::RangeNotSatisfiable, Some(size)) => serde_json::json!({ "size": size }),
        (ErrorCode::UploadConflict, Some(offset)) => serde_json::json!({ "offset": offset }),
        _ => serde_json::json!({}),
    }
}

/// A guest's sentence, shortened and kept to one line.
pub(crate) fn tame(message: &str) -> String {
    message.chars().take(MESSAGE_CHARS_MAX).map(|c| if misleads(c) { ' ' } else { c }).collect()
}
