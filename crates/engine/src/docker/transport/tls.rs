//! Mutual TLS to an engine: the CA that was given is trusted and no other, and we show the certificate that was given.
//!
//! In TLS 1.3 an engine refuses our certificate only after the handshake is done for us, so what is read from the
//! connection may still turn out to be that refusal, and is told as such.

use super::endpoint::place;
use super::unreachable::Unreachable;
use super::{tcp, x509};
use crate::ByteStream;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, InconsistentKeys, RootCertStore};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// From the first byte to the end of the handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Names of a certificate that are told.
const NAMES_MAX: usize = 8;

/// What it takes to be let in by TLS, as the text of PEM files.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsMaterial {
    /// Who must have signed the engine's certificate.
    pub ca: Vec<u8>,
    /// Ours, followed by those between it and the engine's CA.
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
    /// Whom the engine's certificate must be for; the host that is dialled, when absent.
    pub name: Option<String>,
}

impl std::fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsMaterial(..)")
    }
}

/// What is wrong with the material.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    #[error("the CA's file has no certificate in it (PEM)")]
    Ca,
    #[error("the certificate's file has no certificate in it (PEM)")]
    Certificate,
    #[error("the key's file has no private key in it (PEM)")]
    Key,
    #[error("the private key is encrypted; `openssl pkey -in key.pem -out key.pem` takes the passphrase away")]
    EncryptedKey,
    #[error("the private key is not the certificate's")]
    OtherKey,
    #[error("the certificate has expired")]
    Expired,
    #[error("the address has a host that no certificate could be for")]
    Name,
}

/// Until when certificates are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Validity {
    pub ours: Option<SystemTime>,
    /// As the last connection showed it.
    pub engines: Option<SystemTime>,
}

pub(super) struct Tls {
    host: String,
    port: u16,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    validity: Mutex<Validity>,
}

impl Tls {
    pub(super) fn new(host: &str, port: u16, material: &TlsMaterial) -> Result<Tls, TlsFault> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificates = |pem: &[u8]| CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&material.ca).map_err(|_| TlsFault::Ca)? {
            roots.add(certificate).map_err(|_| TlsFault::Ca)?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        let verifier = verifier.map_err(|_| TlsFault::Ca)?;
        let chain = certificates(&material.certificate).map_err(|_| TlsFault::Certificate)?;
        let ours = x509::not_after(chain.first().ok_or(TlsFault::Certificate)?).ok_or(TlsFault::Certificate)?;
        if ours < SystemTime::now() {
            return Err(TlsFault::Expired);
        }
        let key = PrivateKeyDer::from_pem_slice(&material.key).map_err(|_| key_fault(&material.key))?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| TlsFault::Ca)?
            .with_webpki_verifier(verifier)
            .with_client_auth_cert(chain, key)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsFault::OtherKey,
                _ => TlsFault::Key,
            })?;
        Ok(Tls {
            host: host.into(),
            port,
            name: ServerName::try_from(material.name.clone().unwrap_or_else(|| host.into()))
                .map_err(|_| TlsFault::Name)?,
            config: Arc::new(config),
            validity: Mutex::new(Validity { ours: Some(ours), engines: None }),
        })
    }

    pub(super) fn validity(&self) -> Validity {
        *self.validity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn dial(&self) -> Result<Box<dyn ByteStream>, Unreachable> {
        let at = place(&self.host, self.port);
        if self.validity().ours.is_some_and(|ours| ours < SystemTime::now()) {
            return Err(Unreachable::ClientExpired);
        }
        let tcp = tcp::connect(&self.host, self.port).await?;
        let connector = TlsConnector::from(self.config.clone());
        let handshake = tokio::time::timeout(HANDSHAKE_TIME, connector.connect(self.name.clone(), tcp)).await;
        let stream = handshake
            .map_err(|_| Unreachable::TimedOut { at: at.clone(), seconds: HANDSHAKE_TIME.as_secs() })?
            .map_err(|error| why(&at, &error))?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        self.validity.lock().unwrap_or_else(PoisonError::into_inner).engines =
            shown.and_then(|shown| x509::not_after(shown));
        Ok(Box::new(Wire { stream, at }))
    }
}

fn key_fault(pem: &[u8]) -> TlsFault {
    let is_encrypted = String::from_utf8_lossy(pem).contains("ENCRYPTED");
    if is_encrypted { TlsFault::EncryptedKey } else { TlsFault::Key }
}

fn why(at: &str, error: &io::Error) -> Unreachable {
    let at = at.to_owned();
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) else {
        return Unreachable::NotTls { at, why: error.to_string() };
    };
    match error {
        rustls::Error::InvalidCertificate(fault) => match fault {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Unreachable::Expired { at },
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Unreachable::NotYetValid { at }
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Unreachable::NotTrusted { at },
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names: Vec<&str> = presented.iter().take(NAMES_MAX).map(|name| bare(name)).collect();
                Unreachable::WrongName { at, names: names.join(", ") }
            }
            CertificateError::NotValidForName => Unreachable::WrongName { at, names: "another".into() },
            other => Unreachable::BadCertificate { at, why: other.to_string() },
        },
        rustls::Error::AlertReceived(alert) => match client_fault(*alert) {
            Some(why) => Unreachable::ClientRefused { at, why: why.into() },
            None => Unreachable::NotTls { at, why: error.to_string() },
        },
        other => Unreachable::NotTls { at, why: other.to_string() },
    }
}

/// A name of a certificate without what rustls writes around it: `DnsName("host")`, `IpAddress(10.0.0.1)`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

/// What an alert says of our certificate (RFC 8446, section 6.2).
fn client_fault(alert: AlertDescription) -> Option<&'static str> {
    match alert {
        AlertDescription::UnknownCA => Some("it was not signed by a CA that the engine trusts"),
        AlertDescription::CertificateExpired => Some("it has expired by the engine's clock"),
        AlertDescription::CertificateRevoked => Some("it was revoked"),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::DecryptError => Some(
            "the engine does not accept it: it must be signed by the engine's CA, and be a client's (extended key usage clientAuth)",
        ),
        AlertDescription::CertificateRequired | AlertDescription::AccessDenied => Some("the engine wants another"),
        _ => None,
    }
}

/// A TLS connection whose late refusals are told as what they are.
struct Wire {
    stream: TlsStream<TcpStream>,
    at: String,
}

impl Wire {
    fn told(&self, error: io::Error) -> io::Error {
        let alert = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        match alert {
            Some(rustls::Error::AlertReceived(alert)) if client_fault(*alert).is_some() => why(&self.at, &error).into(),
            _ => error,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        read.map_err(|error| self.told(error))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        written.map_err(|error| self.told(error))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        written.map_err(|error| self.told(error))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
