//! What can go wrong at an engine, in the kinds that callers act upon.

pub type Result<T> = std::result::Result<T, EngineError>;

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No connection, or it broke before an answer: try again.
    #[error("the container engine does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The thing named is not there.
    #[error("not found: {0}")]
    NotFound(String),
    /// A name is taken or the state does not allow it.
    #[error("conflict: {0}")]
    Conflict(String),
    /// A start that an earlier life of the engine was about is in the way of this one, and the engine does not clear it
    /// away.
    #[error("an earlier start is in the way: {0}")]
    HalfStarted(String),
    /// The image is not to be had under that name.
    #[error("image not found: {0}")]
    ImageNotFound(String),
    /// The registry wants credentials, or better ones.
    #[error("the registry refused: {0}")]
    Unauthorised(String),
    /// The image is for another processor or system than the host's.
    #[error("image for another platform: {0}")]
    WrongPlatform(String),
    /// The pull was tried and failed.
    #[error("image pull failed: {0}")]
    PullFailed(String),
    /// The host lacks the OCI runtime.
    #[error("runtime not available: {0}")]
    RuntimeUnavailable(String),
    #[error("the engine's disk is full: {0}")]
    DiskFull(String),
    /// The engine refused; its own words.
    #[error("the engine refused: {0}")]
    Refused(String),
    /// The engine, or a container through it, broke the protocol.
    #[error("protocol error: {0}")]
    Protocol(String),
}
