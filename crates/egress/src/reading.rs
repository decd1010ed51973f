//! What it takes to read the requests of one workspace to hosts that its secrets are bound to, or rules about single requests
//! are about: TLS ends here with a certificate
//! of the workspace's own authority, and begins anew with the host, whose certificate is judged as anybody would.

use crate::authority::{Authority, Failed};
use crate::host::{Host, HostName};
use crate::secrets::Secrets;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Spoken within: requests are read one after the other.
const PROTOCOL: &[u8] = b"http/1.1";
/// Certificates that are kept of one workspace.
const KEPT_MAX: usize = 64;
/// When a kept one is made anew: long before it ends.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// Sessions with hosts that are taken up again.
const SESSIONS_MAX: usize = 32;

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// Of one workspace.
pub struct Reading {
    pub secrets: Secrets,
    voice: Arc<Voice>,
}

/// By which it speaks for hosts; outlives changes of what is read.
struct Voice {
    authority: Authority,
    kept: Mutex<HashMap<HostName, (Arc<ServerConfig>, Instant)>>,
}

/// Without what is secret.
impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reading({:?})", self.secrets)
    }
}

/// Why the gateway cannot speak for a host.
#[derive(Debug, thiserror::Error)]
pub enum CannotSpeak {
    #[error(transparent)]
    Certificate(#[from] Failed),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl Reading {
    pub fn new(secrets: Secrets, authority: Authority) -> Self {
        Self { secrets, voice: Arc::new(Voice { authority, kept: Mutex::default() }) }
    }

    /// Whether this is its authority.
    pub fn speaks_by(&self, authority: &str, authority_key: &str) -> bool {
        self.voice.authority.is(authority, authority_key)
    }

    /// With other secrets: what its authority has signed is still shown.
    pub fn with(&self, secrets: Secrets) -> Self {
        Self { secrets, voice: self.voice.clone() }
    }

    pub fn is_for(&self, host: &Host, port: u16) -> bool {
        self.secrets.are_for(host, port)
    }

    /// How TLS is spoken in the place of this host.
    pub fn in_place_of(&self, host: &HostName) -> Result<Arc<ServerConfig>, CannotSpeak> {
        let mut kept = self.voice.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((config, made)) = kept.get(host)
            && made.elapsed() < KEPT_FOR
        {
            return Ok(config.clone());
        }
        let (certificate, key) = self.voice.authority.sign(host, SystemTime::now())?;
        let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(certificate)], PrivatePkcs8KeyDer::from(key).into())?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let config = Arc::new(config);
        if kept.len() >= KEPT_MAX {
            // A workspace with more hosts than these has each made anew now and then.
            kept.clear();
        }
        kept.insert(host.clone(), (config.clone(), Instant::now()));
        Ok(config)
    }
}

/// Whose word counts for what a host is: authorities' certificates, read when they are first needed.
#[derive(Default)]
pub struct Roots {
    all: Vec<Vec<u8>>,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Roots {
    /// In DER; what is none is left out.
    pub fn new(all: Vec<Vec<u8>>) -> Self {
        Self { all, config: OnceLock::new() }
    }

    /// Of certificates in PEM, one behind the other, whatever is between them.
    pub fn of_pem(text: &str) -> Self {
        let all = CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok);
        Self::new(all.map(|one| one.to_vec()).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How TLS is spoken with hosts.
    pub fn config(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.all.iter().map(|one| CertificateDer::from(one.as_slice())));
        let mut config = ClientConfig::builder_with_provider(PROVIDER.clone())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Ok(self.config.get_or_init(|| Arc::new(config)).clone())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::authority;

    #[test]
    fn what_was_signed_outlives_a_change_of_secrets() {
        let [one, other] = [0; 2].map(|_| authority::make("one", SystemTime::now()).unwrap());
        let host: HostName = "api.example".parse().unwrap();
        let first = Reading::new(Secrets::default(), Authority::read("one", &one.key).unwrap());
        let shown = first.in_place_of(&host).unwrap();
        let again = first.with(Secrets::default());
        assert!(Arc::ptr_eq(&shown, &again.in_place_of(&host).unwrap()));
        assert!(again.speaks_by("one", &one.key));
        assert!(!again.speaks_by("one", &other.key) && !again.speaks_by("two", &one.key));
    }
}
