//! The world outside, as far as a test needs one: the operator's proxy, behind which every host is one that proves to be
//! who the test says; and how a program inside speaks with it.

use super::workspaces::Stage;
use rexec_api::exec::ExecStart;
use rexec_api::ids::WorkspaceId;
use rexec_client::CommandOutput;
use rexec_egress::authority::{self, Authority};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Keeps what it hears.
pub struct Outside {
    pub proxy: String,
    /// Who says that it is.
    pub authority: tempfile::NamedTempFile,
    pub heard: Arc<Mutex<Vec<String>>>,
    serving: AbortHandle,
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Outside {
    /// Answers each request, of which it is given head and body.
    pub async fn open(host: &str, answer: impl Fn(&str) -> String + Clone + Send + 'static) -> Outside {
        let made = authority::make("outside", SystemTime::now()).unwrap();
        let authority = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(authority.path(), &made.certificate).unwrap();
        let signer = Authority::read("outside", &made.key).unwrap();
        let (certificate, key) = signer.sign(&host.parse().unwrap(), SystemTime::now()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(certificate)], PrivateKeyDer::try_from(key).unwrap())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (proxy, heard) = (listener.local_addr().unwrap().to_string(), Arc::<Mutex<Vec<String>>>::default());
        let (acceptor, hearing) = (TlsAcceptor::from(Arc::new(config)), heard.clone());
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // Whoever breaks off is the test's own workspace.
                tokio::spawn(serve(stream, acceptor.clone(), hearing.clone(), answer.clone()));
            }
        });
        Outside { proxy, authority, heard, serving: serving.abort_handle() }
    }

    pub fn last(&self) -> String {
        self.heard.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

async fn serve(
    mut stream: TcpStream,
    acceptor: TlsAcceptor,
    heard: Arc<Mutex<Vec<String>>>,
    answer: impl Fn(&str) -> String,
) -> std::io::Result<()> {
    let asked = head(&mut stream).await?;
    assert!(asked.starts_with("CONNECT "), "{asked}");
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    let mut stream = acceptor.accept(stream).await?;
    loop {
        let head = head(&mut stream).await?;
        let length = head
            .to_lowercase()
            .split("\r\ncontent-length: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).await?;
        let asked = format!("{head}{}", String::from_utf8_lossy(&body));
        let answer = answer(&asked);
        heard.lock().unwrap().push(asked);
        stream.write_all(answer.as_bytes()).await?;
    }
}

pub async fn head(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A program's connection by way of its proxy, which trusts what this workspace is told to trust.
pub async fn tunnel(stage: &Stage, id: WorkspaceId, host: &str) -> std::io::Result<TlsStream<DuplexStream>> {
    let mut roots = rustls::RootCertStore::empty();
    let authority = stage.run(id, "cat $NODE_EXTRA_CA_CERTS").await.stdout;
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, bytes(stage, id, host).await).await
}

async fn bytes(stage: &Stage, id: WorkspaceId, host: &str) -> DuplexStream {
    let script = format!("exec /.rexec/current/guest tunnel \"${{https_proxy#http://}}\" {host} 443");
    let command = ["sh", "-c", &script].map(str::to_owned).into();
    let start = ExecStart { command, ..ExecStart::default() };
    let (mut input, mut output) = stage.client.run_command(id, &start).await.unwrap();
    let (near, far) = tokio::io::duplex(1 << 16);
    let (mut from, mut to) = tokio::io::split(far);
    tokio::spawn(async move {
        let mut bytes = vec![0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            if input.write(&bytes[..count]).await.is_err() {
                return;
            }
        }
        // It may be over by itself.
        let _ = input.end().await;
    });
    tokio::spawn(async move {
        while let Ok(CommandOutput::Stdout(bytes)) = output.next().await {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    near
}
