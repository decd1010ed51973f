//! Refusals: a stable code, and a sentence that says what went wrong and what to do next.

use rexec_api::error::ErrorCode;
use rexec_api::guest::GuestError;

pub fn refuse(code: ErrorCode, message: impl Into<String>) -> GuestError {
    GuestError { code, message: message.into(), number: None }
}

/// A refusal with the number that helps to go on.
pub fn refuse_with(code: ErrorCode, message: impl Into<String>, number: u64) -> GuestError {
    GuestError { number: Some(number), ..refuse(code, message) }
}

pub fn invalid(message: impl Into<String>) -> GuestError {
    refuse(ErrorCode::InvalidRequest, message)
}

/// Before the server has said who the user is, nothing runs.
pub fn not_configured() -> GuestError {
    refuse(
        ErrorCode::WorkspaceUnreachable,
        "The workspace has started but is not configured yet; try again in a moment.",
    )
}

/// A fault of the guest itself. The error's text is ours and names no secret.
pub fn internal(what: &str, error: impl std::fmt::Display) -> GuestError {
    refuse(ErrorCode::Internal, format!("{what}: {error}"))
}
