//! An engine's endpoint with what it takes to be let in; dialled for every connection.

use super::Wire;
use super::endpoint::{Endpoint, is_loopback};
use super::tcp;
use super::tls::{Tls, TlsFault, TlsMaterial, Validity};
use super::unreachable::Unreachable;
use crate::ByteStream;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rexec_ssh::client::{DialError, KnownHost, Link, PrivateKey, Seen, Settings};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::sync::watch;

/// Docker's ports, without and with TLS.
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// What it takes to be let in by SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshMaterial {
    pub key: PrivateKey,
    /// `None`: the first key that the host shows, from then on. See [`Address::host_key`].
    pub known: Option<KnownHost>,
}

/// Endpoint and material do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("{0} is another machine: without TLS whoever is on the way would have root there")]
    PlainRemote(String),
    #[error("SSH needs a private key")]
    NoKey,
    #[error(transparent)]
    Tls(#[from] TlsFault),
}

/// Connects to an engine in a way of its own; what fails is told as it says.
pub type Dialler = Arc<dyn Fn() -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> + Send + Sync>;

/// Clones share connections.
#[derive(Clone)]
pub struct Address(Arc<Way>);

enum Way {
    Through(Dialler),
    Unix(PathBuf),
    Plain { host: String, port: u16 },
    Tls(Box<Tls>),
    Ssh(Link),
}

impl Address {
    /// Contacts nobody. `tls` and `ssh` are for endpoints that need them and left alone else; TCP without `tls` leads to
    /// this machine only.
    pub fn new(
        endpoint: &Endpoint,
        tls: Option<&TlsMaterial>,
        ssh: Option<SshMaterial>,
    ) -> Result<Address, AddressError> {
        let way = match endpoint {
            Endpoint::Unix(path) => Way::Unix(path.clone()),
            Endpoint::Tcp { host, port } => match tls {
                Some(material) => Way::Tls(Box::new(Tls::new(host, port.unwrap_or(TLS_PORT), material)?)),
                None if is_loopback(host) => Way::Plain { host: host.clone(), port: port.unwrap_or(PLAIN_PORT) },
                None => return Err(AddressError::PlainRemote(host.clone())),
            },
            Endpoint::Ssh { user, host, port, socket } => {
                let material = ssh.ok_or(AddressError::NoKey)?;
                Way::Ssh(link(user, host, *port, socket, material))
            }
        };
        Ok(Address(Arc::new(way)))
    }

    /// An engine that another connects to for us.
    pub fn through(dial: Dialler) -> Address {
        Address(Arc::new(Way::Through(dial)))
    }

    /// A connection to be handed on as it is.
    pub async fn connect(&self) -> io::Result<impl ByteStream + use<>> {
        self.dial().await
    }

    /// Whether paths, processes and firewall rules of this machine are the engine's. Not so behind TLS or SSH, even
    /// if the other end should be here.
    pub fn is_local(&self) -> bool {
        matches!(*self.0, Way::Unix(_) | Way::Plain { .. })
    }

    /// Until when certificates are valid; `None` without TLS.
    pub fn validity(&self) -> Option<Validity> {
        match &*self.0 {
            Way::Tls(tls) => Some(tls.validity()),
            _ => None,
        }
    }

    /// The key that the SSH host showed, as soon as it did; `None` without SSH.
    pub fn host_key(&self) -> Option<watch::Receiver<Option<Seen>>> {
        match &*self.0 {
            Way::Ssh(link) => Some(link.seen()),
            _ => None,
        }
    }

    pub(super) async fn dial(&self) -> io::Result<Wire> {
        let stream: Box<dyn ByteStream> = match &*self.0 {
            Way::Through(dial) => dial().await?,
            Way::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(|error| socket_fault(path, error))?),
            Way::Plain { host, port } => Box::new(tcp::connect_here(host, *port).await?),
            Way::Tls(tls) => tls.dial().await?,
            Way::Ssh(link) => Box::new(link.dial().await.map_err(ssh_fault)?),
        };
        Ok(Wire(stream))
    }
}

fn socket_fault(path: &std::path::Path, error: io::Error) -> io::Error {
    let path = format!("unix://{}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound => Unreachable::NoSocket { path }.into(),
        io::ErrorKind::PermissionDenied => Unreachable::SocketDenied { path }.into(),
        io::ErrorKind::ConnectionRefused => Unreachable::SocketDead { path }.into(),
        kind => io::Error::new(kind, format!("{path}: {error}")),
    }
}

/// The connection below speaks for itself.
fn ssh_fault(error: DialError) -> Unreachable {
    if let DialError::Connect(below) = &error
        && let Some(why) = below.get_ref().and_then(|why| why.downcast_ref::<Unreachable>())
    {
        return why.clone();
    }
    Unreachable::Ssh(error)
}

fn link(user: &str, host: &str, port: u16, socket: &str, material: SshMaterial) -> Link {
    let to = host.to_owned();
    let connect = move || {
        let host = to.clone();
        async move { Ok(tcp::connect(&host, port).await?) }.boxed()
    };
    Link::new(Settings {
        connect: Arc::new(connect),
        user: user.into(),
        key: material.key,
        known: material.known,
        socket: socket.into(),
        // Its own settings there must not lead it to another engine.
        fallback: format!("docker --host unix://{socket} system dial-stdio"),
    })
}
