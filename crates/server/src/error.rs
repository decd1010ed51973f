//! The error of every service: a stable code, a public sentence, and a private source.
//!
//! Invariant: nothing of `source` ever reaches a client; it is logged once, where the request is
//! answered. `http/error.rs` is the only place that turns this into a response.

use rexec_api::error::{ErrorCode, ErrorDetail};
use sea_orm::DbErr;
use std::borrow::Cow;
use std::time::Duration;

pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// A failure that a client may see.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct Error {
    pub code: ErrorCode,
    /// What went wrong and what to do next.
    pub message: Cow<'static, str>,
    /// Machine-readable particulars; an object.
    pub details: serde_json::Value,
    /// When to try again, told as `Retry-After`.
    pub retry_after: Option<Duration>,
    #[source]
    pub source: Option<Source>,
}

impl Error {
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), details: serde_json::json!({}), retry_after: None, source: None }
    }

    /// A field that is missing, of the wrong type or out of range.
    pub fn field(field: &str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message).details(serde_json::json!({ "field": field }))
    }

    /// Nothing there that the actor may see; `what` is such as "workspace".
    pub fn not_found(what: &str) -> Self {
        Self::new(ErrorCode::NotFound, format!("There is no such {what}."))
    }

    /// A fault of ours.
    pub fn internal(source: impl Into<Source>) -> Self {
        Self::new(
            ErrorCode::Internal,
            "Something went wrong on the server. Try again; if it stays, give the administrator the request id.",
        )
        .source(source)
    }

    #[must_use]
    pub fn details(mut self, details: serde_json::Value) -> Self {
        self.details = details;
        self
    }

    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    #[must_use]
    pub fn source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The public part, as it goes over the wire.
    pub fn detail(&self, request_id: &str) -> ErrorDetail {
        ErrorDetail {
            code: self.code,
            message: self.message.clone().into_owned(),
            request_id: request_id.to_owned(),
            details: self.details.clone(),
        }
    }

    /// The private part with its causes, for the log.
    pub fn causes(&self) -> String {
        let mut text = String::new();
        let mut next = self.source.as_deref().map(|s| s as &dyn std::error::Error);
        while let Some(cause) = next {
            let line = cause.to_string();
            // Many libraries repeat the cause in their own words.
            if !text.ends_with(&line) {
                if !text.is_empty() {
                    text.push_str(": ");
                }
                text.push_str(&line);
            }
            next = cause.source();
        }
        text
    }
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        if crate::db::is_disk_full(&error) {
            return Self::new(ErrorCode::DiskFull, "The server's disk is full. Ask the administrator to free space.")
                .source(error);
        }
        match error {
            DbErr::Conn(_) | DbErr::ConnectionAcquire(_) => Self::new(
                ErrorCode::DatabaseUnavailable,
                "The database does not answer at the moment. Try again shortly.",
            )
            .retry_after(Duration::from_secs(1))
            .source(error),
            other => Self::internal(other),
        }
    }
}
