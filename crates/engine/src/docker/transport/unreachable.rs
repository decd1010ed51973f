//! Why an engine is not reached, each fault by its own name.
//!
//! It travels within the `io::Error` of a connection through all that carries such an error, and is found again at
//! the end ([`EngineError::unreachable`]).

use crate::EngineError;
use rexec_ssh::client::DialError;
use std::error::Error;
use std::io;

#[derive(Debug, Clone, thiserror::Error)]
pub enum Unreachable {
    #[error("{path}: there is no socket")]
    NoSocket { path: String },
    #[error("{path}: this user may not open the socket")]
    SocketDenied { path: String },
    #[error("{path}: nobody listens at the socket")]
    SocketDead { path: String },
    #[error("the name {host} is not resolved: {why}")]
    NameNotResolved { host: String, why: String },
    #[error("{at} refuses connections: nobody listens there, or a firewall is in between")]
    Refused { at: String },
    #[error("{at} does not answer within {seconds} s: it is switched off, or a firewall is in between")]
    TimedOut { at: String, seconds: u64 },
    #[error("{at} is not reached: {why}")]
    NotReached { at: String, why: String },
    #[error("{host} is an address of another machine, and without TLS whoever is on the way would have root there")]
    NotLoopback { host: String },
    #[error("{at} does not speak TLS: {why}")]
    NotTls { at: String, why: String },
    #[error("the certificate of {at} is not trusted: it was not signed by the CA that was given")]
    NotTrusted { at: String },
    #[error("the certificate of {at} has expired")]
    Expired { at: String },
    #[error("the certificate of {at} is not valid yet: one of the two clocks is wrong")]
    NotYetValid { at: String },
    #[error("the certificate of {at} is for another name: it is for {names}")]
    WrongName { at: String, names: String },
    #[error("the certificate of {at} is not accepted: {why}")]
    BadCertificate { at: String, why: String },
    #[error("{at} refuses our client certificate: {why}")]
    ClientRefused { at: String, why: String },
    #[error("our client certificate has expired")]
    ClientExpired,
    /// What stands between says why, in a sentence.
    #[error("{}", .0.trim_end_matches('.'))]
    Through(String),
    #[error(transparent)]
    Ssh(#[from] DialError),
}

impl Unreachable {
    pub(super) fn kind(&self) -> io::ErrorKind {
        match self {
            Self::NoSocket { .. } | Self::NameNotResolved { .. } => io::ErrorKind::NotFound,
            Self::SocketDenied { .. } | Self::NotLoopback { .. } => io::ErrorKind::PermissionDenied,
            Self::SocketDead { .. } | Self::Refused { .. } => io::ErrorKind::ConnectionRefused,
            Self::TimedOut { .. } => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::Other,
        }
    }
}

impl From<Unreachable> for io::Error {
    fn from(why: Unreachable) -> io::Error {
        io::Error::new(why.kind(), why)
    }
}

impl EngineError {
    /// Why no connection was made, if that is what went wrong.
    pub fn unreachable(&self) -> Option<Unreachable> {
        let mut next: Option<&(dyn Error + 'static)> = Some(self);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Unreachable>() {
                return Some(found.clone());
            }
            // What a stream through SSH turned out to lead to.
            if let Some(found) = error.downcast_ref::<DialError>() {
                return Some(Unreachable::Ssh(found.clone()));
            }
            // An `io::Error` passes over what it holds when it is asked for its source.
            let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = held.map(|held| held as &(dyn Error + 'static)).or_else(|| error.source());
        }
        None
    }
}
