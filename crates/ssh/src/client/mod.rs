//! A client that keeps one connection to one server, and opens byte streams through it: to a socket there
//! (`direct-streamlocal@openssh.com`), or, where the server refuses that, to a command's input and output.
//!
//! ```text
//!   down --dial--> connecting --logged in--> up --lost--> down
//!                      '------failed------> down, and no attempt before the pause is over
//! ```
//!
//! **Invariants.** The server is known before we log in: by a key that was given, or by the one that the first
//! connection showed. One attempt at a time; a dial waits for one at most. One stream that nobody reads holds up no other
//! ([`crate::flow`]). A [`Link`] contacts nobody until it is dialled, and its task ends with it.

mod key;
mod known;
mod link;
mod session;
mod stream;

pub use key::{PrivateKey, PrivateKeyError};
pub use known::{KnownHost, KnownHostError};
pub use link::Link;
pub use stream::Stream;

use crate::keys::PublicKey;
use futures_util::future::BoxFuture;
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Makes the connection below: names, time-outs and keep-alive are the caller's.
pub type Connect = Arc<dyn Fn() -> BoxFuture<'static, io::Result<TcpStream>> + Send + Sync>;

/// Whom a link connects to, as whom, and what for.
pub struct Settings {
    pub connect: Connect,
    pub user: String,
    pub key: PrivateKey,
    /// `None`: the first key that the server shows is the one that it must show from then on.
    pub known: Option<KnownHost>,
    /// The path of a socket at the server.
    pub socket: String,
    /// What reaches the same there, from its standard input and output, where the server lets nobody reach a socket. For
    /// the user's shell.
    pub fallback: String,
}

/// Why there is no stream.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    /// The connection below was not made.
    #[error("{0}")]
    Connect(Arc<io::Error>),
    #[error("what answers there does not speak SSH")]
    NotSsh,
    #[error("the SSH server did not let us in within {0} s")]
    TimedOut(u64),
    #[error("the SSH server offers no {what} that is strong enough; it offers {theirs}")]
    Weak { what: &'static str, theirs: String },
    #[error(
        "the SSH server's host key is {shown}, and {known} is expected: it was set up anew, or somebody is in between"
    )]
    HostKeyChanged { known: String, shown: String },
    #[error("the SSH server does not let {user} in with the key {fingerprint}")]
    KeyRefused { user: String, fingerprint: String },
    #[error("the SSH connection broke: {0}")]
    Broken(String),
    #[error("too many streams on one SSH connection")]
    Full,
    #[error("the SSH server does not open {socket}, and `{command}` ended at once there{said}")]
    Ended { socket: String, command: String, said: String },
    #[error("the SSH server opens neither {socket} ({why}) nor runs `{fallback}` ({fallback_why})")]
    NoWay { socket: String, why: String, fallback: String, fallback_why: String },
}

/// What a connection found.
#[derive(Debug, Clone)]
pub struct Seen {
    pub host_key: PublicKey,
}

/// Of a foreign text, what fits into a sentence.
fn tame(text: &[u8]) -> String {
    const CHARS_MAX: usize = 400;
    let text = String::from_utf8_lossy(text);
    let words: Vec<&str> = text.split(|char: char| char.is_whitespace() || char.is_control()).collect();
    words
        .iter()
        .filter(|word| !word.is_empty())
        .copied()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(CHARS_MAX)
        .collect()
}
