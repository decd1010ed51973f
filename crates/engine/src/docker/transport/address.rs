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
pub struct Address(Arc<Inner>);

struct Inner {
    way: Way,
    /// What it was made of; a caller's own way is like no other.
    said: Option<Said>,
}

/// Endpoint and material, as far as that is used.
#[derive(PartialEq)]
struct Said {
    endpoint: Endpoint,
    tls: Option<TlsMaterial>,
    ssh: Option<SshMaterial>,
}

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
                let material = ssh.as_ref().ok_or(AddressError::NoKey)?;
                Way::Ssh(link(user, host, *port, socket, material.clone()))
            }
        };
        let said = Said {
            endpoint: endpoint.clone(),
            tls: tls.filter(|_| matches!(way, Way::Tls(_))).cloned(),
            ssh: ssh.filter(|_| matches!(way, Way::Ssh(_))),
        };
        Ok(Address(Arc::new(Inner { way, said: Some(said) })))
    }

    /// An engine that another connects to for us.
    pub fn through(dial: Dialler) -> Address {
        Address(Arc::new(Inner { way: Way::Through(dial), said: None }))
    }

    /// Whether the same is dialled, as the same and let in by the same: what a connection over the one shows, one over the
    /// other would. Of an SSH host that was to be known by the first key that it shows, that key counts, as soon as it did.
    pub fn leads_as(&self, other: &Address) -> bool {
        if Arc::ptr_eq(&self.0, &other.0) {
            return true;
        }
        let (Some(own), Some(its)) = (&self.0.said, &other.0.said) else { return false };
        match (&own.ssh, &its.ssh) {
            (Some(material), Some(others)) => {
                own.endpoint == its.endpoint && material.key == others.key && self.knows_host_as(other)
            }
            _ => own == its,
        }
    }

    fn knows_host_as(&self, other: &Address) -> bool {
        match (self.seen_host(), other.seen_host()) {
            (Some(own), Some(its)) => own.host_key == its.host_key,
            (Some(seen), None) => other.known_host().is_some_and(|known| known.is(&seen.host_key)),
            (None, Some(seen)) => self.known_host().is_some_and(|known| known.is(&seen.host_key)),
            (None, None) => self.known_host().is_some() && self.known_host() == other.known_host(),
        }
    }

    fn seen_host(&self) -> Option<Seen> {
        self.host_key()?.borrow().clone()
    }

    fn known_host(&self) -> Option<&KnownHost> {
        self.0.said.as_ref()?.ssh.as_ref()?.known.as_ref()
    }

    /// A connection to be handed on as it is.
    pub async fn connect(&self) -> io::Result<impl ByteStream + use<>> {
        self.dial().await
    }

    /// Whether paths, processes and firewall rules of this machine are the engine's. Not so behind TLS or SSH, even
    /// if the other end should be here.
    pub fn is_local(&self) -> bool {
        matches!(self.0.way, Way::Unix(_) | Way::Plain { .. })
    }

    /// Until when certificates are valid; `None` without TLS.
    pub fn validity(&self) -> Option<Validity> {
        match &self.0.way {
            Way::Tls(tls) => Some(tls.validity()),
            _ => None,
        }
    }

    /// The key that the SSH host showed, as soon as it did; `None` without SSH.
    pub fn host_key(&self) -> Option<watch::Receiver<Option<Seen>>> {
        match &self.0.way {
            Way::Ssh(link) => Some(link.seen()),
            _ => None,
        }
    }

    pub(super) async fn dial(&self) -> io::Result<Wire> {
        let stream: Box<dyn ByteStream> = match &self.0.way {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rexec_ssh::HostKey;

    fn at(endpoint: &str, ssh: Option<SshMaterial>) -> Address {
        Address::new(&Endpoint::parse(endpoint).unwrap(), None, ssh).unwrap()
    }

    #[test]
    fn addresses_that_lead_the_same_way_are_known() {
        let socket = at("unix:///run/a.sock", None);
        assert!(socket.leads_as(&socket.clone()) && socket.leads_as(&at("unix:///run/a.sock", None)));
        for other in ["unix:///run/b.sock", "tcp://127.0.0.1:2375"] {
            assert!(!socket.leads_as(&at(other, None)), "{other}");
        }
        let through = || Address::through(Arc::new(|| async { Err(io::ErrorKind::NotFound.into()) }.boxed()));
        let one = through();
        assert!(one.leads_as(&one.clone()) && !one.leads_as(&through()));
    }

    #[test]
    fn by_ssh_the_key_and_the_host_must_be_the_same() {
        let key = || PrivateKey::read(&HostKey::generate().secret().unwrap()).unwrap();
        let (ours, host) = (key(), KnownHost::Key(HostKey::generate().public()));
        let to = |key: &PrivateKey, known: Option<&KnownHost>| {
            at("ssh://root@10.0.0.7", Some(SshMaterial { key: key.clone(), known: known.cloned() }))
        };
        let known = to(&ours, Some(&host));
        assert!(known.leads_as(&to(&ours, Some(&host))));
        assert!(!known.leads_as(&to(&key(), Some(&host))));
        let another = KnownHost::Key(HostKey::generate().public());
        assert!(!known.leads_as(&to(&ours, Some(&another))));
        // Whoever it will turn out to be.
        assert!(!known.leads_as(&to(&ours, None)) && !to(&ours, None).leads_as(&to(&ours, None)));
    }
}
