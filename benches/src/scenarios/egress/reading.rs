//! Requests that are read on their way out, against the same requests tunnelled: the same client, gateway and host, which has
//! two names. To one its connections are tunnelled, and it is sent the secret itself. To the other TLS ends at the gateway, the
//! secret takes a placeholder's place, and TLS begins anew.
//!
//! What is held to the bound is single requests on connections that go on, as clients of HTTP/1.1 keep them, both those that may
//! be asked again by themselves and those that may not: they are nearly all that a workspace sends. A request that has a
//! connection made for it is dialling and greeting above all, which is done twice where TLS ends between; it is held to the
//! same, beside them.

use super::gateway::{Running, balanced, bound};
use super::world::{Host, READ, TUNNELLED, World};
use super::{connect, is_let, sources};
use crate::report::{Bound, Report, percentile, show};
use anyhow::{Context, Result, bail, ensure};
use rexec_api::gateway::{BoundSecret, BoundSecrets};
use rexec_egress::authority;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Workspaces that ask in turn: each may make so many connections and no more.
const SOURCES: usize = 200;
const CONNECTIONS: usize = 20;
const REQUESTS: usize = 200;
const FRESH: usize = 1_500;
/// As long as each other.
const VALUE: &str = "sk-3f9c2ab54d7e41f08a6b1c9d2e8f7a60";
const PLACEHOLDER: &str = "sk-placeholder00000000000000000000a";
const NAME: &str = "KEY";
const ASKED_BYTES: usize = 4_096;
const ANSWER_BYTES: usize = 2_048;
const BOUND: f64 = 2.0;

#[derive(Clone, Copy)]
enum Method {
    Get,
    Post,
}

/// Where a connection goes, and by whom.
#[derive(Clone, Copy)]
enum Way {
    Direct,
    Tunnelled,
    Read,
}

const WAYS: [Way; 3] = [Way::Direct, Way::Tunnelled, Way::Read];

pub async fn run(program: &Path, report: &mut Report) -> Result<()> {
    let world = World::make()?;
    let gateway = Running::start(program, &world, Default::default()).await?;
    let made = authority::make("the workspaces'", SystemTime::now())?;
    let rules = [READ.name, TUNNELLED.name];
    for source in sources(SOURCES) {
        let mut bound = bound(source, balanced(&rules, &[]))?;
        bound.secrets = Some(secrets(&made.key));
        gateway.client.bind_address(&bound).await?;
    }
    let client = Client { proxy: gateway.at, tls: trusting(&[&world.authority, &made.certificate])? };
    let peer = std::mem::replace(&mut report.peer, "tunnelled");
    for (method, name) in [(Method::Get, "GET"), (Method::Post, "POST")] {
        tell(report, &format!("read {name}, kept connection"), client.kept(method).await?);
    }
    tell(report, "read GET, new connection", client.fresh().await?);
    report.note(format!("after all of it: ours {:.1} MB", gateway.resident_mb()?));
    report.peer = peer;
    Ok(())
}

fn tell(report: &mut Report, name: &str, [mut direct, mut tunnelled, mut read]: [Vec<Duration>; 3]) {
    for percent in [50.0, 99.0] {
        let [direct, tunnelled, read] =
            [&mut direct, &mut tunnelled, &mut read].map(|times| percentile(times, percent));
        report.times(&format!("{name}, p{percent}"), read, tunnelled, Bound::AtMost(BOUND));
        report.note(format!("direct {}", show(direct)));
    }
}

fn secrets(authority_key: &str) -> BoundSecrets {
    let one = BoundSecret {
        name: NAME.into(),
        placeholder: PLACEHOLDER.into(),
        value: VALUE.into(),
        hosts: vec![READ.name.into()],
        headers: vec!["authorization".into()],
    };
    BoundSecrets { authority: "the workspaces'".into(), authority_key: authority_key.into(), all: vec![one] }
}

struct Client {
    proxy: SocketAddr,
    tls: TlsConnector,
}

impl Client {
    /// By each way in turn, request after request.
    async fn kept(&self, method: Method) -> Result<[Vec<Duration>; 3]> {
        let mut times = [const { Vec::new() }; 3];
        for source in sources(CONNECTIONS) {
            let mut talks = [
                self.talk(source, WAYS[0]).await?,
                self.talk(source, WAYS[1]).await?,
                self.talk(source, WAYS[2]).await?,
            ];
            for talk in &mut talks {
                // The first has the gateway dial.
                talk.ask(method).await?;
            }
            for _ in 0..REQUESTS {
                for (talk, times) in talks.iter_mut().zip(&mut times) {
                    let began = Instant::now();
                    talk.ask(method).await?;
                    times.push(began.elapsed());
                }
            }
        }
        Ok(times)
    }

    /// One request on each connection, from dialling on.
    async fn fresh(&self) -> Result<[Vec<Duration>; 3]> {
        let mut times = [const { Vec::new() }; 3];
        for source in sources(SOURCES).cycle().take(FRESH) {
            for (way, times) in WAYS.into_iter().zip(&mut times) {
                let began = Instant::now();
                self.talk(source, way).await?.ask(Method::Get).await?;
                times.push(began.elapsed());
            }
        }
        Ok(times)
    }

    async fn talk(&self, source: IpAddr, way: Way) -> Result<Talk> {
        let (Host { name, address, port }, secret) = match way {
            Way::Direct | Way::Tunnelled => (TUNNELLED, VALUE),
            Way::Read => (READ, PLACEHOLDER),
        };
        let stream = match way {
            Way::Direct => {
                let stream = TcpStream::connect((address, port)).await?;
                stream.set_nodelay(true)?;
                stream
            }
            Way::Tunnelled | Way::Read => {
                let (stream, head) = connect(source, self.proxy, name, port).await?;
                ensure!(is_let(&head), "{head}");
                stream
            }
        };
        let stream =
            self.tls.connect(ServerName::try_from(name)?, stream).await.with_context(|| format!("TLS with {name}"))?;
        let [get, post] = [Method::Get, Method::Post].map(|method| request(method, name, secret));
        Ok(Talk { stream: BufStream::new(stream), get, post })
    }
}

/// As most clients: none of curl, Go and Python takes a session up again by itself.
fn trusting(authorities: &[&str]) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions()?.with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A connection that goes on.
struct Talk {
    stream: BufStream<TlsStream<TcpStream>>,
    get: Vec<u8>,
    post: Vec<u8>,
}

impl Talk {
    async fn ask(&mut self, method: Method) -> Result<()> {
        let request = match method {
            Method::Get => &self.get,
            Method::Post => &self.post,
        };
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let (head, body) = message(&mut self.stream).await?.context("there is no answer")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
        ensure!(body == ANSWER_BYTES, "an answer of {body} bytes");
        Ok(())
    }
}

/// As clients of APIs ask.
fn request(method: Method, name: &str, secret: &str) -> Vec<u8> {
    let more = format!(
        "Host: {name}\r\nAuthorization: Bearer {secret}\r\nUser-Agent: client/1.2 (linux; x86_64)\r\nAccept: application/json\r\n\
         Accept-Encoding: gzip, deflate, br\r\nX-Request-Id: 0190f5a2-7c3e-7000-8a3b-4d5e6f708192\r\n"
    );
    match method {
        Method::Get => format!("GET /v1/items?limit=20 HTTP/1.1\r\n{more}\r\n"),
        Method::Post => {
            let body = json(ASKED_BYTES);
            let about = format!("Content-Type: application/json\r\nContent-Length: {ASKED_BYTES}\r\n");
            format!("POST /v1/items HTTP/1.1\r\n{more}{about}\r\n{body}")
        }
    }
    .into_bytes()
}

/// So many bytes.
fn json(length: usize) -> String {
    format!("{{\"items\":\"{}\"}}", "x".repeat(length - 12))
}

/// The head of the next message, and the length of its body, which is read to its end; `None` at the end of them all.
async fn message(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Result<Option<(String, usize)>> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let before = head.len();
        if stream.read_line(&mut head).await? == 0 {
            ensure!(head.is_empty(), "a head without an end");
            return Ok(None);
        }
        let line = head[before..].trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    stream.read_exact(&mut vec![0; length]).await?;
    Ok(Some((head, length)))
}

/// A host that answers whoever has the secret.
pub async fn host(listener: TcpListener, acceptor: TlsAcceptor) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // Whoever breaks off has a part that fails.
            let _ = answer(stream, acceptor).await;
        });
    }
}

async fn answer(stream: TcpStream, acceptor: TlsAcceptor) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufStream::new(acceptor.accept(stream).await?);
    let body = json(ANSWER_BYTES);
    let found = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {ANSWER_BYTES}\r\nServer: host\r\n\
         Date: Mon, 01 Jan 2024 00:00:00 GMT\r\nCache-Control: no-store\r\n\r\n{body}"
    );
    while let Some((head, _)) = message(&mut stream).await? {
        if !head.contains(VALUE) {
            stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await?;
            stream.flush().await?;
            bail!("a request without the secret");
        }
        stream.write_all(found.as_bytes()).await?;
        stream.flush().await?;
    }
    Ok(())
}
