//! How a server of the fleet is reached, as an administrator says it, as it lies in the database, and as the engine's client
//! takes it; and each way in which it is not reached, by a stable word.
//!
//! Invariant: what lets us in leaves this module only towards the engine: it is sealed in the database, and no view has it.

use crate::error::{Error, Result};
use crate::sealed::Sealer;
use crate::secret::Secret;
use crate::text::misleads;
use rexec_api::error::ErrorCode;
use rexec_api::ids::HostId;
use rexec_api::servers::{HOSTNAME_CHARS_MAX, NewServer, PATH_BYTES_MAX, PEM_BYTES_MAX};
use rexec_engine::EngineError;
use rexec_engine::docker::{
    Address, AddressError, DialError, DockerEngine, Endpoint, KnownHost, PrivateKey, SshMaterial, TlsMaterial,
    Unreachable,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::Read as _;
use std::path::Path;

const SSH_PORT: u16 = 22;
const SOCKET: &str = "/var/run/docker.sock";

/// How one server is reached.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "way")]
pub enum Access {
    Socket { path: String },
    Tcp { host: String, port: Option<u16>, tls: Option<Tls> },
    Ssh { host: String, port: u16, user: String, socket: String, private_key: String, host_key: Option<String> },
}

/// What mutual TLS takes, in PEM.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Tls {
    /// Read anew at each start of a connection's setting: a renewed certificate is taken up by a restart or a change.
    Files { ca: String, cert: String, key: String },
    Text {
        ca: String,
        cert: String,
        key: String,
        /// Whom the engine's certificate is for, where that is not the host that is dialled.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
}

/// Why an engine is not reached or not good enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Stable, for programs.
    pub word: &'static str,
    pub message: String,
}

impl Fault {
    pub fn new(word: &'static str, message: impl Into<String>) -> Self {
        Self { word, message: message.into() }
    }

    /// What an engine's failure means for whoever adds it.
    pub fn of(error: &EngineError) -> Self {
        let Some(why) = error.unreachable() else {
            return match error {
                EngineError::Unavailable(_) => {
                    Self::new("no_answer", "What listens there does not answer as a container engine.")
                }
                EngineError::Refused(why) if why.contains("speaks API") => Self::new("api_too_old", format!("{why}.")),
                EngineError::DiskFull(_) => Self::new("disk_full", "Its disk is full. Free some space there."),
                other => Self::new("refused_by_engine", format!("The engine refused: {other}.")),
            };
        };
        let word = match &why {
            Unreachable::NoSocket { .. } => "no_socket",
            Unreachable::SocketDenied { .. } => "socket_denied",
            Unreachable::NameNotResolved { .. } => "name_not_resolved",
            Unreachable::SocketDead { .. } | Unreachable::Refused { .. } => "refused",
            Unreachable::TimedOut { .. } => "timed_out",
            Unreachable::NotReached { .. } | Unreachable::Through(_) => "not_reached",
            Unreachable::NotLoopback { .. } => "tls_needed",
            Unreachable::NotTls { .. } => "not_tls",
            Unreachable::NotTrusted { .. } => "certificate_not_trusted",
            Unreachable::Expired { .. } => "certificate_expired",
            Unreachable::NotYetValid { .. } => "certificate_not_yet_valid",
            Unreachable::WrongName { .. } => "certificate_wrong_name",
            Unreachable::BadCertificate { .. } => "certificate_not_accepted",
            Unreachable::ClientRefused { .. } => "client_certificate_refused",
            Unreachable::ClientExpired => "client_certificate_expired",
            Unreachable::Ssh(error) => match error {
                DialError::Connect(_) => "not_reached",
                DialError::NotSsh => "not_ssh",
                DialError::TimedOut(_) => "timed_out",
                DialError::Weak { .. } => "ssh_too_weak",
                DialError::HostKeyChanged { .. } => "ssh_host_key_changed",
                DialError::KeyRefused { .. } => "ssh_key_refused",
                DialError::Broken(_) | DialError::Full => "ssh_broken",
                DialError::Ended { .. } | DialError::NoWay { .. } => "ssh_no_socket",
            },
        };
        Self::new(word, format!("It is not reached: {why}."))
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Error::new(ErrorCode::ServerUnfit, fault.message).details(json!({ "fault": fault.word }))
    }
}

impl Access {
    /// What a request says; `None`: nothing of how it is reached.
    pub fn asked(new: &NewServer) -> Result<Option<Self>> {
        let texts = [(&new.tls_ca, "tls_ca"), (&new.tls_cert, "tls_cert"), (&new.tls_key, "tls_key")];
        let paths = [
            (&new.tls_ca_path, "tls_ca_path"),
            (&new.tls_cert_path, "tls_cert_path"),
            (&new.tls_key_path, "tls_key_path"),
        ];
        let any_tls = texts.iter().chain(&paths).any(|(value, _)| value.is_some());
        if let Some(path) = &new.socket {
            if new.hostname.is_some() || new.ssh.is_some() || any_tls || new.docker_port.is_some() {
                return Err(Error::field(
                    "socket",
                    "A server is reached by `socket` or by `hostname`; name one of the two.",
                ));
            }
            require_path("socket", path)?;
            return Ok(Some(Self::Socket { path: path.clone() }));
        }
        let Some(host) = &new.hostname else {
            return match new.ssh.is_some() || any_tls || new.docker_port.is_some() {
                true => Err(Error::field("hostname", "Name the `hostname` as well.")),
                false => Ok(None),
            };
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if host.is_empty() || host.chars().count() > HOSTNAME_CHARS_MAX || !host.chars().all(is_plain) {
            return Err(Error::field("hostname", "`hostname` must be a name or an address, such as 10.0.1.10."));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if let Some(ssh) = &new.ssh {
            if any_tls || new.docker_port.is_some() {
                return Err(Error::field("ssh", "A server is reached by `ssh` or by TLS; name one of the two."));
            }
            if ssh.private_key.len() > PEM_BYTES_MAX {
                return Err(Error::field("ssh.private_key", "The private key is longer than any."));
            }
            PrivateKey::read(&ssh.private_key).map_err(|error| {
                Error::field("ssh.private_key", format!("The private key cannot be used: {error}."))
            })?;
            if let Some(known) = &ssh.host_key {
                KnownHost::parse(known)
                    .map_err(|error| Error::field("ssh.host_key", format!("`host_key` cannot be read: {error}.")))?;
            }
            let socket = ssh.socket.clone().unwrap_or_else(|| SOCKET.into());
            require_path("ssh.socket", &socket)?;
            let (user, port) = (ssh.user.clone(), ssh.port.unwrap_or(SSH_PORT));
            let access = Self::Ssh {
                host,
                port,
                user,
                socket,
                private_key: ssh.private_key.clone(),
                host_key: ssh.host_key.clone(),
            };
            access.endpoint().map_err(|why| Error::field("ssh", why))?;
            return Ok(Some(access));
        }
        let tls = match (all("tls_ca", texts)?, all("tls_ca_path", paths)?) {
            (Some(_), Some(_)) => {
                return Err(Error::field("tls_ca", "The TLS material comes as text or as files; name one of the two."));
            }
            (Some([ca, cert, key]), None) => {
                if [&ca, &cert, &key].iter().any(|pem| pem.len() > PEM_BYTES_MAX) {
                    return Err(Error::field("tls_ca", format!("A PEM may have {PEM_BYTES_MAX} bytes at most.")));
                }
                Some(Tls::Text { ca, cert, key, name: None })
            }
            (None, Some([ca, cert, key])) => {
                for (path, field) in [(&ca, "tls_ca_path"), (&cert, "tls_cert_path"), (&key, "tls_key_path")] {
                    require_path(field, path)?;
                }
                Some(Tls::Files { ca, cert, key })
            }
            (None, None) => None,
        };
        let access = Self::Tcp { host, port: new.docker_port, tls };
        access.endpoint().map_err(|why| Error::field("hostname", why))?;
        Ok(Some(access))
    }

    fn endpoint(&self) -> std::result::Result<Endpoint, String> {
        let text = self.address();
        Endpoint::parse(&text).map_err(|error| format!("`{text}` is no address of an engine: {error}."))
    }

    /// For people, and without anything secret.
    pub fn address(&self) -> String {
        let place = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match self {
            Self::Socket { path } => format!("unix://{path}"),
            Self::Tcp { host, port: Some(port), .. } => format!("tcp://{}:{port}", place(host)),
            Self::Tcp { host, port: None, .. } => format!("tcp://{}", place(host)),
            Self::Ssh { host, port, user, socket, .. } => {
                let path = if socket == SOCKET { "" } else { socket.as_str() };
                format!("ssh://{user}@{}:{port}{path}", place(host))
            }
        }
    }

    /// The client of the engine there; contacts nobody.
    pub fn engine(&self) -> std::result::Result<DockerEngine, Fault> {
        let endpoint = self.endpoint().map_err(|why| Fault::new("address", why))?;
        let (tls, ssh) = match self {
            Self::Socket { .. } | Self::Tcp { tls: None, .. } => (None, None),
            Self::Tcp { tls: Some(tls), .. } => (Some(tls.material()?), None),
            Self::Ssh { private_key, host_key, .. } => {
                let key = PrivateKey::read(private_key)
                    .map_err(|e| Fault::new("ssh_key", format!("The private key cannot be used: {e}.")))?;
                let known = host_key.as_deref().map(KnownHost::parse).transpose();
                let known =
                    known.map_err(|e| Fault::new("ssh_host_key", format!("The host key cannot be read: {e}.")))?;
                (None, Some(SshMaterial { key, known }))
            }
        };
        let address = Address::new(&endpoint, tls.as_ref(), ssh).map_err(|error| match error {
            AddressError::PlainRemote(_) => {
                Fault::new("tls_needed", format!("{error}. Name the `tls_` files or `ssh`."))
            }
            AddressError::NoKey | AddressError::Tls(_) => {
                Fault::new("tls_material", format!("The TLS material cannot be used: {error}."))
            }
        })?;
        DockerEngine::at(address).map_err(|error| Fault::of(&error))
    }

    /// The same, pinned to the key that the server showed when it was reached.
    #[must_use]
    pub fn pinned(mut self, engine: &DockerEngine) -> Self {
        if let Self::Ssh { host_key: known @ None, .. } = &mut self
            && let Some(seen) = engine.address().host_key().and_then(|seen| seen.borrow().clone())
        {
            *known = Some(seen.host_key.line());
        }
        self
    }

    /// The fingerprint of the key that it must show.
    pub fn host_key(&self) -> Option<String> {
        match self {
            Self::Ssh { host_key, .. } => Some(KnownHost::parse(host_key.as_deref()?).ok()?.fingerprint()),
            Self::Socket { .. } | Self::Tcp { .. } => None,
        }
    }

    pub fn seal(&self, sealer: &Sealer, id: HostId) -> Result<String> {
        let text = serde_json::to_string(self).map_err(Error::internal)?;
        sealer.seal(&owner(id), &Secret::new(text)).map_err(Error::internal)
    }

    /// Absent when it was sealed under another signing secret, or is damaged.
    pub fn open(sealer: &Sealer, id: HostId, sealed: &str) -> Option<Self> {
        serde_json::from_str(sealer.open(&owner(id), sealed)?.expose()).ok()
    }
}

impl Tls {
    fn material(&self) -> std::result::Result<TlsMaterial, Fault> {
        Ok(match self {
            Self::Text { ca, cert, key, name } => TlsMaterial {
                ca: ca.clone().into(),
                certificate: cert.clone().into(),
                key: key.clone().into(),
                name: name.clone(),
            },
            Self::Files { ca, cert, key } => {
                TlsMaterial { ca: read(ca)?, certificate: read(cert)?, key: read(key)?, name: None }
            }
        })
    }
}

fn read(path: &str) -> std::result::Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let taken =
        std::fs::File::open(Path::new(path)).and_then(|file| file.take(PEM_BYTES_MAX as u64).read_to_end(&mut bytes));
    taken
        .map_err(|error| Fault::new("tls_files", format!("{path} cannot be read on the machine of Rexec: {error}.")))?;
    Ok(bytes)
}

fn owner(id: HostId) -> String {
    format!("host {id}")
}

fn require_path(field: &str, path: &str) -> Result<()> {
    if path.starts_with('/') && path.len() <= PATH_BYTES_MAX && !path.chars().any(misleads) {
        return Ok(());
    }
    Err(Error::field(
        field,
        format!("`{field}` must be an absolute path of at most {PATH_BYTES_MAX} bytes, without control characters."),
    ))
}

/// All three or none.
fn all(what: &str, three: [(&Option<String>, &'static str); 3]) -> Result<Option<[String; 3]>> {
    match three.map(|(value, _)| value.clone()) {
        [Some(ca), Some(cert), Some(key)] => Ok(Some([ca, cert, key])),
        [None, None, None] => Ok(None),
        _ => {
            let names = three.map(|(_, name)| name).join("`, `");
            Err(Error::field(what, format!("Mutual TLS takes all of `{names}`.")))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn field(new: &NewServer) -> String {
        Access::asked(new).err().unwrap().details["field"].as_str().unwrap().to_owned()
    }

    #[test]
    fn the_body_of_the_guide_is_understood() {
        let body = r#"{"name":"ws-1","hostname":"10.0.1.10","docker_port":2376,"tls_ca_path":"/etc/podex/certs/ws-1/ca.pem",
            "tls_cert_path":"/etc/podex/certs/ws-1/client-cert.pem","tls_key_path":"/etc/podex/certs/ws-1/client-key.pem",
            "total_cpu":8,"total_memory_mb":32768,"total_disk_gb":100}"#;
        let new: NewServer = serde_json::from_str(body).unwrap();
        let access = Access::asked(&new).unwrap().unwrap();
        assert_eq!(access.address(), "tcp://10.0.1.10:2376");
        assert_eq!(access.engine().err().unwrap().word, "tls_files", "they are not on this machine");
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_field() {
        let host = || Some("example.org".to_owned());
        let some = || Some("/x".to_owned());
        assert!(Access::asked(&NewServer::default()).unwrap().is_none());
        assert_eq!(field(&NewServer { tls_ca_path: some(), ..Default::default() }), "hostname");
        assert_eq!(field(&NewServer { hostname: host(), tls_ca_path: some(), ..Default::default() }), "tls_ca_path");
        assert_eq!(field(&NewServer { hostname: host(), socket: some(), ..Default::default() }), "socket");
        assert_eq!(field(&NewServer { socket: Some("x".into()), ..Default::default() }), "socket");
        assert_eq!(field(&NewServer { hostname: Some("a/b".into()), ..Default::default() }), "hostname");
        let plain = Access::asked(&NewServer { hostname: host(), ..Default::default() }).unwrap().unwrap();
        assert_eq!(plain.engine().err().unwrap().word, "tls_needed");
    }

    #[test]
    fn it_opens_for_its_own_host_alone() {
        let sealer = Sealer::new(&Secret::new("a")).unwrap();
        let (id, access) = (HostId::new(), Access::Socket { path: "/run/docker.sock".into() });
        let sealed = access.seal(&sealer, id).unwrap();
        assert!(!sealed.contains("docker"));
        assert_eq!(Access::open(&sealer, id, &sealed).unwrap().address(), "unix:///run/docker.sock");
        assert!(Access::open(&sealer, HostId::new(), &sealed).is_none());
    }
}
