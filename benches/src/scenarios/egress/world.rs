//! The world outside: names, and hosts at addresses that are reserved for documentation and count as public, in a network of
//! their own, served on a thread of this program's.

use super::models::vendor;
use super::reading::host;
use anyhow::{Context, Result, bail, ensure};
use rexec_egress::authority::{self, Authority};
use rexec_egress::dns;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::ResolvesServerCertUsingSni;
use rustls::sign::CertifiedKey;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// Answers any bytes.
pub const PLAIN: Host = Host { name: "bench.example", address: Ipv4Addr::new(198, 51, 100, 9), port: 443 };
/// One host by two names, of which one is tunnelled, and requests to the other are read.
pub const TUNNELLED: Host = Host { name: "tunnelled.example", address: Ipv4Addr::new(198, 51, 100, 10), port: 443 };
pub const READ: Host = Host { name: "read.example", ..TUNNELLED };
/// A vendor of models.
pub const VENDOR: Host = Host { name: "vendor.example", address: Ipv4Addr::new(198, 51, 100, 11), port: 8000 };
const HOSTS: [Host; 4] = [PLAIN, TUNNELLED, READ, VENDOR];
/// The two ends of the way there.
const NEAR: &str = "203.0.113.10";
const FAR: &str = "203.0.113.11";
/// What [`PLAIN`] is asked for, behind a ClientHello, and how much of it comes.
pub const STREAM: u8 = b'S';
pub const STREAM_BYTES: usize = 512 << 20;

#[derive(Clone, Copy)]
pub struct Host {
    pub name: &'static str,
    pub address: Ipv4Addr,
    pub port: u16,
}

pub struct World {
    /// Where names are asked for.
    pub names: SocketAddr,
    /// In PEM: who says that a host is who it is.
    pub authority: String,
    _outside: Outside,
    served: Served,
}

impl World {
    pub fn make() -> Result<Self> {
        let outside = Outside::make()?;
        let names = std::net::UdpSocket::bind("127.0.0.1:0")?;
        names.set_nonblocking(true)?;
        let at = names.local_addr()?;
        let [plain, https, models] = [PLAIN, TUNNELLED, VENDOR].map(|host| outside.listen(host));
        let listeners = [plain?, https?, models?];
        let made = authority::make("the world's", SystemTime::now())?;
        let acceptor = acceptor(&Authority::read("the world's", &made.key)?)?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            if let Err(error) = serve(names, listeners, acceptor, stopped) {
                eprintln!("the world outside has ended: {error:#}");
            }
        });
        let served = Served { stop: Some(stop), thread: Some(thread) };
        Ok(Self { names: at, authority: made.certificate, _outside: outside, served })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Its sockets would keep its network, and that the interfaces.
        drop(self.served.stop.take());
        let _ = self.served.thread.take().map(JoinHandle::join);
    }
}

struct Served {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

fn serve(
    names: std::net::UdpSocket,
    listeners: [std::net::TcpListener; 3],
    acceptor: TlsAcceptor,
    stopped: oneshot::Receiver<()>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::spawn(answer_names(UdpSocket::from_std(names)?));
        let [plain, https, models] = listeners.map(TcpListener::from_std);
        tokio::spawn(answer_bytes(plain?));
        tokio::spawn(host(https?, acceptor));
        tokio::spawn(vendor(models?));
        // Dropped is the same.
        let _ = stopped.await;
        Ok(())
    })
}

async fn answer_names(names: UdpSocket) {
    let mut question = [0; 1500];
    while let Ok((length, from)) = names.recv_from(&mut question).await {
        let Ok(query) = dns::parse(&question[..length]) else { continue };
        let name = query.name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default();
        let answer = match HOSTS.iter().find(|host| host.name == name) {
            Some(host) if query.kind == dns::Kind::A => {
                dns::answer_a(&query, &[host.address], Duration::from_secs(60), dns::Transport::Udp)
            }
            Some(_) => dns::no_data(&query),
            None => dns::name_error(&query),
        };
        let _ = names.send_to(&answer, from).await;
    }
}

async fn answer_bytes(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let mut asked = vec![0; 2048];
            while let Ok(count @ 1..) = stream.read(&mut asked).await {
                let answer = if asked[..count] == [STREAM] { vec![7; STREAM_BYTES] } else { vec![b'!'] };
                if stream.write_all(&answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// How a host proves by either of its names who it is.
fn acceptor(authority: &Authority) -> Result<TlsAcceptor> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut keys = ResolvesServerCertUsingSni::new();
    for name in [TUNNELLED.name, READ.name] {
        let (certificate, key) = authority.sign(&name.parse()?, SystemTime::now())?;
        let key = provider.key_provider.load_private_key(PrivatePkcs8KeyDer::from(key).into())?;
        keys.add(name, CertifiedKey::new(vec![CertificateDer::from(certificate)], key))?;
    }
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_no_client_auth().with_cert_resolver(Arc::new(keys));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A network of its own with the hosts' addresses in it, on the other side of a pair of interfaces, until it is dropped.
struct Outside {
    name: String,
    near: String,
}

impl Outside {
    fn make() -> Result<Self> {
        let (name, near) = (format!("rxn{}-bench", std::process::id()), format!("rxb{}", std::process::id()));
        ip(&["netns", "add", &name])?;
        let outside = Self { name, near };
        let (name, near) = (outside.name.as_str(), outside.near.as_str());
        ip(&["link", "add", near, "type", "veth", "peer", "name", "e0", "netns", name])?;
        ip(&["addr", "add", &format!("{NEAR}/32"), "peer", &format!("{FAR}/32"), "dev", near])?;
        ip(&["link", "set", near, "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        ip(&["-n", name, "addr", "add", &format!("{FAR}/32"), "peer", &format!("{NEAR}/32"), "dev", "e0"])?;
        ip(&["-n", name, "link", "set", "e0", "up"])?;
        for host in [PLAIN, TUNNELLED, VENDOR] {
            let address = format!("{}/32", host.address);
            ip(&["-n", name, "addr", "add", &address, "dev", "lo"])?;
            ip(&["route", "add", &address, "via", FAR, "dev", near])?;
        }
        Ok(outside)
    }

    /// A socket belongs to the network of the thread that made it.
    fn listen(&self, host: Host) -> Result<std::net::TcpListener> {
        let network = std::fs::File::open(format!("/run/netns/{}", self.name)).context("the network outside")?;
        let thread = std::thread::spawn(move || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            let listener = std::net::TcpListener::bind(SocketAddr::new(IpAddr::V4(host.address), host.port))?;
            listener.set_nonblocking(true)?;
            anyhow::Ok(listener)
        });
        thread.join().unwrap_or_else(|_| bail!("the thread of the outside has ended"))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // The far end goes with the near one, at once.
        let _ = ip(&["link", "del", &self.near]);
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(words: &[&str]) -> Result<()> {
    let done = Command::new("ip").args(words).status()?;
    ensure!(done.success(), "ip {words:?} failed: this takes root and iproute2");
    Ok(())
}
