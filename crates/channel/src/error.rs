//! Why a call or a stream failed.

use rexec_api::guest::GuestError;

pub type Result<T, E = ChannelError> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The guest answered with a refusal; its text is the tenant's word.
    #[error("the guest refused: {}", .0.message)]
    Guest(GuestError),
    /// The connection or the stream has ended.
    #[error("the connection to the guest has ended")]
    Closed,
    /// The peer is there but did not answer in time.
    #[error("the guest did not answer in time")]
    TimedOut,
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
}

impl ChannelError {
    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::Protocol(message.into())
    }
}

/// An orderly end, a reset and a broken byte stream are all an end; the rest is a fault of the
/// peer.
impl From<h2::Error> for ChannelError {
    fn from(error: h2::Error) -> Self {
        use h2::Reason;
        if error.is_io() {
            return Self::Closed;
        }
        match error.reason() {
            Some(Reason::NO_ERROR | Reason::CANCEL | Reason::REFUSED_STREAM) => Self::Closed,
            // A stream or connection that is no more is reported without a reason.
            None => Self::Closed,
            Some(_) => Self::Protocol(error.to_string()),
        }
    }
}
