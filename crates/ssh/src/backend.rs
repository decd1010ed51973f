//! What stands behind a login. Everything here is implemented by whoever embeds the server; bytes are
//! opaque, and dropping a value ends what it stands for.

use crate::keys::{Certificate, PublicKey};
use async_trait::async_trait;
use bytes::Bytes;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    pub address: SocketAddr,
}

/// What somebody shows to be let in. Signatures have been verified.
#[derive(Debug)]
pub enum Proof<'a> {
    /// Nothing but the login itself, which may be a token. Asked first by nearly every client and answered at
    /// once: look for a token only, not for a user or a workspace, or the time tells whether there is one.
    Login,
    Key(&'a PublicKey),
    /// Signed by one of [`crate::Settings::authorities`], in its time, without critical options. Whether its
    /// principals fit the login is for the backend to say; one without principals is refused before.
    Certificate(&'a Certificate),
    /// A password, or the answer to the keyboard-interactive prompt.
    Token(&'a str),
}

/// Who may enter. A refusal says nothing about why: the caller must not learn whether the user, the workspace
/// or the key was the wrong one.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Whether `key` could open `login`, asked before its owner has signed anything.
    async fn offered(&self, peer: &Peer, login: &str, key: &PublicKey) -> bool;

    /// What `login` leads to, for who can show `proof`.
    async fn enter(&self, peer: &Peer, login: &str, proof: Proof<'_>) -> Option<Arc<dyn Target>>;
}

/// What a login leads to, for one connection. Each method checks the permission for its kind of channel and
/// records it; refused, the channel ends with the refusal's sentence.
#[async_trait]
pub trait Target: Send + Sync + 'static {
    /// A shell, a command or the SFTP subsystem. What takes a while, such as waking up, is told by `notices`.
    async fn run(&self, request: Request, notices: Notices) -> Result<Running, Refusal>;

    /// `direct-tcpip` and `direct-streamlocal`.
    async fn dial(&self, to: Destination) -> Result<Box<dyn Duplex>, Refusal>;

    /// `tcpip-forward` and `streamlocal-forward`, and the socket that leads to the client's agent. It is asked
    /// while the connection waits, so it answers within seconds.
    async fn listen(&self, at: Place) -> Result<Box<dyn Listener>, Refusal>;

    /// Resolves with a sentence for the client when the connection has to end, because what let it in is no more.
    async fn revoked(&self) -> String {
        std::future::pending().await
    }
}

/// A sentence for the person at the other end.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub message: String,
    /// Whether it was forbidden, rather than impossible.
    pub forbidden: bool,
}

impl Refusal {
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self { message: message.into(), forbidden: true }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), forbidden: false }
    }
}

/// Lines for the person's standard error while a channel is made ready.
#[derive(Debug, Clone)]
pub struct Notices(pub(crate) mpsc::Sender<String>);

impl Notices {
    /// Says a line, given without its end. Lost if the client is not listening.
    pub fn say(&self, line: impl Into<String>) {
        let _ = self.0.try_send(line.into());
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    Shell,
    /// To be given to the user's shell, as bytes.
    Command(Vec<u8>),
    /// An SFTP server, version 3, on its standard input and output.
    Sftp,
}

#[derive(Debug, Clone)]
pub struct Request {
    pub work: Work,
    pub pty: Option<Pty>,
    /// Those that the client may set, and `SSH_AUTH_SOCK` where an agent is forwarded.
    pub env: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub struct Pty {
    /// The value for `TERM`.
    pub term: String,
    pub size: Size,
}

/// In characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub cols: u16,
    pub rows: u16,
}

/// Something that runs. One task uses all three parts, so they may share what wants one waker. Dropping all three parts ends it, or detaches from it if it outlives its viewers.
pub struct Running {
    pub input: Box<dyn Input>,
    pub control: Box<dyn Control>,
    pub output: Box<dyn Output>,
}

#[async_trait]
pub trait Input: Send {
    /// Returns when there is room for more.
    async fn write(&mut self, bytes: Bytes) -> io::Result<()>;
    /// The end of standard input. On a terminal it means nothing.
    async fn finish(&mut self) -> io::Result<()>;
}

/// What must not wait behind input.
#[async_trait]
pub trait Control: Send {
    async fn resize(&mut self, size: Size);
    /// A signal by its name without `SIG`, such as `INT`.
    async fn signal(&mut self, name: &str);
}

#[async_trait]
pub trait Output: Send {
    /// The next event, in order; nothing follows an [`Event::Exit`]. Cancelling it loses nothing.
    async fn next(&mut self) -> Event;
}

#[derive(Debug)]
pub enum Event {
    Out(Bytes),
    /// Never from a terminal.
    Err(Bytes),
    Exit(Exit),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    Code(u32),
    /// By its name without `SIG`.
    Signal(String),
}

pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    Tcp { host: String, port: u16 },
    Unix { path: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `address` as the client wrote it: empty or `*` for any, `localhost` for loopback. Port 0: choose one.
    Tcp {
        address: String,
        port: u16,
    },
    Unix {
        path: String,
    },
    /// A socket of its own, that only the user may use, for the client's agent.
    Agent,
}

#[async_trait]
pub trait Listener: Send {
    /// The port that was chosen. 0 where there is none.
    fn port(&self) -> u16;
    /// The path of a Unix socket.
    fn path(&self) -> Option<&str>;
    /// The next that connects; nothing when it listens no more. Cancelled only when nobody listens any longer.
    async fn accept(&mut self) -> Option<Incoming>;
}

pub struct Incoming {
    pub stream: Box<dyn Duplex>,
    /// Who connected, as far as it is known: an address and a port.
    pub from: (String, u16),
}
