//! Mutual TLS in front of the engine's socket, and an authority that signs whatever a test wants.

use super::local_socket;
use crate::docker::{Address, AddressError, DockerEngine, Endpoint, TlsMaterial};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Now,
    Before,
    Later,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).expect("signs").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Its own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// For a server of these names, or for a client if there are none.
    pub fn issue(&self, names: &[&str], when: When) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let usage = match names.is_empty() {
            true => ExtendedKeyUsagePurpose::ClientAuth,
            false => ExtendedKeyUsagePurpose::ServerAuth,
        };
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, "test");
        params.extended_key_usages = vec![usage];
        let (from, until) = match when {
            When::Now => (2020, 2090),
            When::Before => (2020, 2021),
            When::Later => (2089, 2090),
        };
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        let certificate = params.signed_by(&key, &self.issuer).expect("signs").pem();
        Issued { certificate, key: key.serialize_pem() }
    }
}

impl Issued {
    pub fn material(&self, ca: &Authority) -> TlsMaterial {
        TlsMaterial {
            ca: ca.pem().as_bytes().to_vec(),
            certificate: self.certificate.as_bytes().to_vec(),
            key: self.key.as_bytes().to_vec(),
            name: None,
        }
    }
}

/// Listens on the loopback, on a thread of its own: what is made by one test's runtime would end with that.
pub struct TlsFront {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl TlsFront {
    /// Shows `shown` and lets in whom `clients` has signed.
    pub fn start(shown: &Issued, clients: &Authority) -> TlsFront {
        Self::start_before(local_socket(), shown, clients)
    }

    /// The same in front of another engine's socket.
    pub fn start_before(socket: PathBuf, shown: &Issued, clients: &Authority) -> TlsFront {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(clients.pem().as_bytes()).expect("a certificate")).expect("a root");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier.expect("a verifier"))
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(shown.certificate.as_bytes()).expect("a certificate")],
                PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).expect("a key"),
            )
            .expect("a certificate and its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
        let port = listener.local_addr().expect("an address").port();
        listener.set_nonblocking(true).expect("a listener");
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(serve(listener, socket, acceptor, stopped));
        });
        TlsFront { port, stop: Some(stop), thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// As `DOCKER_HOST` has it.
    pub fn address(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    pub fn engine(&self, material: &TlsMaterial) -> Result<DockerEngine, AddressError> {
        let endpoint = Endpoint::parse(&self.address()).expect("an address");
        Ok(DockerEngine::at(Address::new(&endpoint, Some(material), None)?).expect("an engine"))
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    socket: PathBuf,
    acceptor: TlsAcceptor,
    mut stopped: oneshot::Receiver<()>,
) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (socket, acceptor) = (socket.clone(), acceptor.clone());
        connections.spawn(async move {
            let _ = stream.set_nodelay(true);
            let Ok(mut outside) = acceptor.accept(stream).await else { return };
            let Ok(mut inside) = UnixStream::connect(socket).await else { return };
            let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
        });
        while connections.try_join_next().is_some() {}
    }
}
