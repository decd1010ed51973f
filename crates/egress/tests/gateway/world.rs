//! A world of each test's own: a network namespace with a gateway and workspaces, by their addresses, in it, and a server of
//! names; and another, the internet, at addresses that are reserved for documentation and count as public.

use rexec_egress::authority::{self, Authority};
use rexec_egress::dns;
use rexec_egress::gateway::Gateway;
use rexec_egress::policy::{Layer, Origin, Policy, Preset};
use rexec_egress::proxy::DIRECT_PORTS;
use rexec_egress::reading::{Reading, Roots};
use rexec_egress::record::{Record, Records};
use rexec_egress::resolve::Resolver;
use rexec_egress::table::Bound;
use rexec_egress::upstream::Upstream;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};
use tokio_rustls::TlsAcceptor;

pub const GATEWAY: &str = "10.9.0.1";
pub const ONE: &str = "10.9.0.2";
pub const TWO: &str = "10.9.0.3";
/// Nobody's.
pub const STRANGER: &str = "10.9.0.4";
/// Hosts of the internet.
pub const HOSTS: [&str; 2] = ["198.51.100.1", "198.51.100.2"];
/// Where code is kept: see `github.rs`.
pub const CODE_HOST: &str = "198.51.100.3";
pub const CODE: &str = "code.example";
/// The gateway's machine, as the internet knows it.
pub const MACHINE: &str = "203.0.113.2";
const INTERNET: &str = "203.0.113.1";
const PROXY_PORT: u16 = 3128;
const UPSTREAM_PORT: u16 = 3999;
/// What the other proxy lets through.
pub const UPSTREAM_WANTS: &str = "Basic bWU6c2VjcmV0";
const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    pub gateway: Arc<Gateway>,
    pub records: Mutex<mpsc::Receiver<Record>>,
    names: Names,
    /// Heads of requests that came to the internet's port 80, and connections there.
    pub requests: Arc<Mutex<Vec<String>>>,
    pub asked: Arc<Mutex<Vec<String>>>,
    /// The other proxy.
    pub upstream: JoinHandle<()>,
    /// Where code is to be served, by whoever takes it.
    pub code: Mutex<Option<(TcpListener, TlsAcceptor)>>,
}

/// Answers by name: each in turn, the last for ever.
type Names = Arc<Mutex<HashMap<String, Vec<Vec<IpAddr>>>>>;

/// Runs a test in a network namespace of its own.
pub fn apart(test: impl AsyncFnOnce(World) + Send + 'static) {
    apart_with(false, test);
}

/// The same, where everything leaves by another proxy.
pub fn apart_by_upstream(test: impl AsyncFnOnce(World) + Send + 'static) {
    apart_with(true, test);
}

fn apart_with(by_upstream: bool, test: impl AsyncFnOnce(World) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // SAFETY: what a network namespace is to a thread, nothing here has taken for granted.
        let unshared = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(unshared, 0, "these tests need root, for network namespaces of their own");
        ip(&["link", "set", "lo", "up"]);
        for address in [GATEWAY, ONE, TWO, STRANGER] {
            ip(&["addr", "add", &format!("{address}/32"), "dev", "lo"]);
        }
        let internet = Internet::make();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let world = World::new(&internet, by_upstream).await;
            let gateway = world.gateway.clone();
            tokio::time::timeout(PATIENCE, test(world)).await.expect("the test ends in time");
            gateway.close().await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Goes when it is dropped; should the process be killed, `scripts/leftovers.sh` knows it by its name.
struct Internet(String);

impl Internet {
    fn make() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rxn{}-e{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name]);
        let internet = Self(name.clone());
        ip(&["link", "add", "e0", "type", "veth", "peer", "name", "e0", "netns", &name]);
        ip(&["addr", "add", &format!("{MACHINE}/24"), "dev", "e0"]);
        ip(&["link", "set", "e0", "up"]);
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        ip(&["-n", &name, "addr", "add", &format!("{INTERNET}/24"), "dev", "e0"]);
        ip(&["-n", &name, "link", "set", "e0", "up"]);
        for host in HOSTS.iter().copied().chain([CODE_HOST]) {
            ip(&["-n", &name, "addr", "add", &format!("{host}/32"), "dev", "lo"]);
        }
        ip(&["route", "add", "default", "via", INTERNET]);
        internet
    }

    /// A socket belongs to the network of the thread that made it.
    fn listen(&self, host: &str, port: u16) -> TcpListener {
        let network = std::fs::File::open(format!("/run/netns/{}", self.0)).unwrap();
        let host = host.to_owned();
        let thread = std::thread::spawn(move || {
            rustix::thread::move_into_link_name_space(
                network.as_fd(),
                Some(rustix::thread::LinkNameSpaceType::Network),
            )
            .unwrap();
            let listener = std::net::TcpListener::bind((host.as_str(), port)).unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        });
        TcpListener::from_std(thread.join().unwrap()).unwrap()
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.0]);
    }
}

pub fn ip(words: &[&str]) {
    let done = Command::new("ip").args(words).output().expect("`ip` is installed (iproute2)");
    assert!(done.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

impl World {
    async fn new(internet: &Internet, by_upstream: bool) -> Self {
        let (names, asked, requests) = (Names::default(), Arc::default(), Arc::default());
        let socket = UdpSocket::bind("127.0.0.1:5353").await.unwrap();
        tokio::task::spawn_local(serve_names(socket, names.clone(), Arc::clone(&asked)));
        // Proves who it is to whoever trusts the one that made it.
        let ([proven, code], outside) = proven(["api.example", CODE]);
        for host in HOSTS {
            tokio::task::spawn_local(serve_http(internet.listen(host, 80), Arc::clone(&requests)));
            tokio::task::spawn_local(serve_tls(internet.listen(host, 443)));
            tokio::task::spawn_local(serve_https(internet.listen(host, 8443), proven.clone(), Arc::clone(&requests)));
            tokio::task::spawn_local(serve_greeting(internet.listen(host, 22)));
        }
        tokio::task::spawn_local(serve_nothing(internet.listen(HOSTS[0], 8080)));
        let resolver = || Resolver::new(&["127.0.0.1:5353".parse().unwrap()]).unwrap();
        let upstream = by_upstream.then(|| {
            let authorization = UPSTREAM_WANTS.parse().unwrap();
            Upstream::new("proxy.example".parse().unwrap(), UPSTREAM_PORT, Some(authorization), resolver())
        });
        let listener = listen("127.0.0.1", UPSTREAM_PORT).await;
        let serving = tokio::task::spawn_local(serve_upstream(listener, Arc::clone(&requests)));
        let (records, taken) = Records::new();
        let gateway = Gateway::new(resolver(), records, Vec::new(), upstream, Roots::new(vec![outside]));
        tokio::task::spawn_local(gateway.clone().serve_proxy(listen(GATEWAY, PROXY_PORT).await));
        for port in DIRECT_PORTS {
            let listener = listen(GATEWAY, port).await;
            tokio::task::spawn_local(gateway.clone().serve_direct(listener, port));
        }
        let names_here = Arc::new(UdpSocket::bind((GATEWAY, 53)).await.unwrap());
        tokio::task::spawn_local(gateway.clone().serve_udp(names_here));
        tokio::task::spawn_local(gateway.clone().serve_tcp(listen(GATEWAY, 53).await));
        let code = Mutex::new(Some((internet.listen(CODE_HOST, 443), code)));
        let world = Self { gateway, records: Mutex::new(taken), names, requests, asked, upstream: serving, code };
        world.name(CODE, &[&[CODE_HOST]]);
        for (name, host) in [("a.example", 0), ("b.example", 0), ("c.example", 1), ("evil.example", 1)] {
            world.name(name, &[&[HOSTS[host]]]);
        }
        world.name("api.example", &[&[HOSTS[0]]]);
        world.name("proxy.example", &[&["127.0.0.1"]]);
        world
    }

    /// What a name leads to: the first time, the second, and so on.
    pub fn name(&self, name: &str, answers: &[&[&str]]) {
        let answers = answers.iter().map(|all| all.iter().map(|address| address.parse().unwrap()).collect());
        self.names.lock().unwrap().insert(name.to_owned(), answers.collect());
    }

    /// Lets a workspace reach these.
    pub fn allow(&self, address: &str, rules: &[&str]) {
        self.bind(address, Preset::Locked, rules, &[]);
    }

    pub fn bind(&self, address: &str, preset: Preset, allow: &[&str], deny: &[&str]) {
        let rules = |rules: &[&str]| rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let layer = Layer { origin: Origin::Workspace, allow: rules(allow), deny: rules(deny) };
        self.bind_reading(address, Policy::new(preset, vec![layer]), None);
    }

    /// Whose requests are read, if there are secrets.
    pub fn bind_reading(&self, address: &str, policy: Policy, reading: Option<Reading>) {
        let bound = Bound { workspace: address.to_owned(), version: 1, policy, reading, models: None, github: None };
        self.gateway.table.bind(address.parse().unwrap(), bound);
    }

    /// A connection of a workspace to the proxy.
    pub async fn dial(&self, from: &str) -> TcpStream {
        self.dial_at(from, PROXY_PORT).await
    }

    /// To another port of the gateway.
    pub async fn dial_at(&self, from: &str, port: u16) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        socket.connect(SocketAddr::new(GATEWAY.parse().unwrap(), port)).await.unwrap()
    }

    /// Names lead to the gateway from now on.
    pub fn lead_here(&self) {
        self.gateway.lead_to(GATEWAY.parse().unwrap());
    }

    /// Asks the gateway for a name's IPv4 addresses: the answer as it came, if one does.
    pub async fn look_up(&self, from: &str, name: &str) -> Option<Vec<u8>> {
        let labels: Vec<u8> =
            name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
        let question = [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &labels, &[0, 0, 1, 0, 1]].concat();
        let socket = UdpSocket::bind((from, 0)).await.unwrap();
        socket.send_to(&question, (GATEWAY, 53)).await.unwrap();
        let mut answer = [0; 1500];
        let got = tokio::time::timeout(Duration::from_secs(2), socket.recv(&mut answer)).await;
        got.ok().map(|count| answer[..count.unwrap()].to_vec())
    }

    /// Sends what is given and reads one answer's head.
    pub async fn ask(&self, from: &str, request: &str) -> (TcpStream, String) {
        let mut stream = self.dial(from).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = head(&mut stream).await;
        (stream, head)
    }

    pub async fn connect(&self, from: &str, to: &str) -> (TcpStream, String) {
        self.ask(from, &format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n")).await
    }

    /// The next record that fits; what is told before it is passed over.
    pub async fn told(&self, fits: impl Fn(&Record) -> bool) -> Record {
        loop {
            let next = self.records.lock().unwrap().try_recv();
            match next {
                Ok(record) if fits(&record) => return record,
                Ok(_) => {}
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

/// The first line and headers of an answer, and nothing of its body; empty when the connection ends.
pub async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Everything until the end, however it comes.
pub async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    all
}

async fn listen(host: &str, port: u16) -> TcpListener {
    TcpListener::bind((host, port)).await.unwrap()
}

async fn serve_names(socket: UdpSocket, names: Names, asked: Arc<Mutex<Vec<String>>>) {
    let mut message = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut message).await.unwrap();
        let query = dns::parse(&message[..length]).unwrap();
        let name = query.name.as_ref().unwrap().as_str().to_owned();
        let answer = match names.lock().unwrap().get_mut(&name) {
            None => dns::name_error(&query),
            Some(_) if query.kind != dns::Kind::A => dns::no_data(&query),
            Some(answers) => {
                let now = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
                let v4: Vec<Ipv4Addr> = now.iter().filter_map(|a| a.to_string().parse().ok()).collect();
                // Not to be remembered: the next question is another answer.
                dns::answer_a(&query, &v4, Duration::ZERO, dns::Transport::Udp)
            }
        };
        asked.lock().unwrap().push(name);
        socket.send_to(&answer, from).await.unwrap();
    }
}

/// Answers each head that comes, and keeps it; says on which connection.
async fn serve_http(listener: TcpListener, requests: Arc<Mutex<Vec<String>>>) {
    let mut count = 0;
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        count += 1;
        let requests = Arc::clone(&requests);
        tokio::task::spawn_local(async move {
            loop {
                let head = head(&mut stream).await;
                if head.is_empty() {
                    return;
                }
                let answer = match head.starts_with("GET /away") {
                    true => {
                        "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n"
                            .into()
                    }
                    false => format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-Talk: {count}\r\n\r\nok"
                    ),
                };
                let lower = head.to_lowercase();
                let length = lower.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
                let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                if stream.read_exact(&mut body).await.is_err() {
                    return;
                }
                requests.lock().unwrap().push(head);
                if lower.contains("\r\ntransfer-encoding: chunked\r\n") {
                    while !body.ends_with(b"0\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        body.push(byte);
                    }
                }
                let asked = lower.split(' ').nth(1).unwrap_or_default();
                if asked.starts_with("/never") {
                    return std::future::pending().await;
                }
                if asked == "/lose" || stream.write_all(answer.as_bytes()).await.is_err() || asked == "/close" {
                    return;
                }
            }
        });
    }
}

/// Another proxy: whatever it is asked for is at the first host; it keeps what it was asked.
async fn serve_upstream(listener: TcpListener, requests: Arc<Mutex<Vec<String>>>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let requests = Arc::clone(&requests);
        tokio::task::spawn_local(async move {
            let head = head(&mut stream).await;
            requests.lock().unwrap().push(head.clone());
            let asked = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let is_let = head.contains(&format!("proxy-authorization: {UPSTREAM_WANTS}\r\n"));
            let answer = match (is_let, head.starts_with("CONNECT ")) {
                (false, _) => "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
                _ if asked.contains("refused.example") => "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
                (true, false) => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nvia",
                (true, true) => "",
            };
            if !answer.is_empty() {
                return stream.write_all(answer.as_bytes()).await.unwrap();
            }
            let port = asked.rsplit(':').next().unwrap().parse::<u16>().unwrap();
            let mut host = TcpStream::connect((HOSTS[0], port)).await.unwrap();
            // What the host says at once comes with the answer.
            let mut established = b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec();
            if port == 22 {
                host.read_buf(&mut established).await.unwrap();
            }
            stream.write_all(&established).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut host).await;
        });
    }
}

/// Accepts and never reads.
async fn serve_nothing(listener: TcpListener) {
    let mut held = Vec::new();
    loop {
        held.push(listener.accept().await.unwrap());
    }
}

/// How a host of the internet speaks TLS with certificates that are in order, and who says so.
fn proven<const COUNT: usize>(names: [&str; COUNT]) -> ([TlsAcceptor; COUNT], Vec<u8>) {
    let made = authority::make("the internet's", SystemTime::now()).unwrap();
    let root = CertificateDer::from_pem_slice(made.certificate.as_bytes()).unwrap().to_vec();
    let authority = Authority::read("the internet's", &made.key).unwrap();
    let acceptor_of = |name: &str| {
        let (certificate, key) = authority.sign(&name.parse().unwrap(), SystemTime::now()).unwrap();
        acceptor(CertificateDer::from(certificate), key)
    };
    (names.map(acceptor_of), root)
}

fn acceptor(certificate: CertificateDer<'static>, key: Vec<u8>) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], rustls::pki_types::PrivateKeyDer::try_from(key).unwrap())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";

/// Answers each head with all of it in a header, and keeps it.
async fn serve_https(listener: TcpListener, acceptor: TlsAcceptor, requests: Arc<Mutex<Vec<String>>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (requests, acceptor) = (Arc::clone(&requests), acceptor.clone());
        tokio::task::spawn_local(async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            loop {
                let head = head(&mut stream).await;
                if head.is_empty() {
                    return;
                }
                let echo = head.replace("\r\n", "|");
                let is_socket = head.to_lowercase().contains("\r\nupgrade: websocket\r\n");
                requests.lock().unwrap().push(head);
                if is_socket {
                    let agreed = format!("{SWITCHING}X-Echo: {echo}\r\n\r\n");
                    stream.write_all(agreed.as_bytes()).await.unwrap();
                    let (mut from, mut to) = tokio::io::split(&mut stream);
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                    return;
                }
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nX-Echo: {echo}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Late\r\n\r\n2\r\nok\r\n0\r\n\
                     X-Late: {echo}\r\n\r\n"
                );
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn serve_tls(listener: TcpListener) {
    let names = ["a.example", "b.example", "c.example", "evil.example"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let acceptor = acceptor(made.cert.der().clone(), made.signing_key.serialize_der());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::task::spawn_local(async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let (mut from, mut to) = tokio::io::split(&mut stream);
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            }
        });
    }
}

/// Speaks first, then repeats what it hears.
async fn serve_greeting(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::task::spawn_local(async move {
            let _ = stream.write_all(b"SSH-2.0-here\r\n").await;
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        });
    }
}
