//! The way out: a tunnel through our gateway against one through squid with the equivalent rules, both to a server of this
//! program's at an address that counts as public, and both beside the direct way. Each proxy is a process of its own; ours is
//! this program again, running the gateway as the guest does.

use crate::procs;
use crate::report::{Bound, Report, percentile, show};
use anyhow::{Context, Result, bail, ensure};
use rexec_egress::dns;
use rexec_egress::gateway::Gateway;
use rexec_egress::policy::{Layer, Origin, Policy, Preset};
use rexec_egress::record::Records;
use rexec_egress::resolve::Resolver;
use rexec_egress::table::Bound as Whose;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

const NAME: &str = "bench.example";
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
/// The two ends of the way there.
const NEAR: &str = "203.0.113.10";
const FAR: &str = "203.0.113.11";
const PORT: u16 = 443;
/// Workspaces that ask in turn: each may make so many connections and no more.
const SOURCES: u8 = 200;
const ROUNDS: usize = 7;
const TUNNELS: usize = 200;
const STREAM_BYTES: usize = 512 << 20;
const STREAMS: usize = 3;
const READY_MAX: Duration = Duration::from_secs(20);
/// What the server there is asked for, behind a ClientHello.
const STREAM: u8 = b'S';

/// Runs the gateway in this process until it is killed.
pub async fn serve(proxy: SocketAddr, names: SocketAddr) -> Result<()> {
    // Nobody takes the records: the last thousands are kept, and the rest are counted.
    let (records, _taken) = Records::new();
    let gateway = Gateway::new(Resolver::new(&[names])?, records, Vec::new(), None, Default::default());
    for source in sources() {
        let layer = Layer { origin: Origin::Workspace, allow: vec![NAME.parse()?], deny: Vec::new() };
        let policy = Policy::new(Preset::Balanced, vec![layer]);
        gateway
            .table
            .bind(source, Whose { workspace: source.to_string(), version: 1, policy, reading: None, models: None });
    }
    gateway.serve_proxy(TcpListener::bind(proxy).await?).await;
    Ok(())
}

pub async fn run(report: &mut Report) -> Result<()> {
    ensure!(Path::new("/usr/sbin/squid").exists(), "squid is missing: apt-get install squid");
    let outside = Outside::make()?;
    let names = UdpSocket::bind("127.0.0.1:0").await?;
    let names_at = names.local_addr()?;
    let listener = outside.listen()?;
    std::thread::spawn(move || world(names.into_std(), listener));
    let directory = tempfile::tempdir()?;
    let (ours_at, squid_at) = (free()?, free()?);
    let ours = Process(gateway(ours_at, names_at)?);
    let squid = Process(squid(squid_at, directory.path())?);
    let peer = std::mem::replace(&mut report.peer, "squid");
    for at in [ours_at, squid_at] {
        until_ready(at).await?;
    }
    let idle = procs::resident_kib(ours.0.id())? as f64 / 1024.0;
    latency(report, ours_at, squid_at).await?;
    throughput(report, ours_at, squid_at).await?;
    report.figure("memory of an idle gateway", "with this program around it", idle, "MB", Bound::AtMost(10.0));
    report.note(format!(
        "after all of it: ours {:.1} MB, squid {:.1} MB",
        procs::resident_kib(ours.0.id())? as f64 / 1024.0,
        procs::resident_kib(squid.0.id())? as f64 / 1024.0
    ));
    report.peer = peer;
    Ok(())
}

/// From dialling to the first byte back; what a proxy adds to the direct way.
async fn latency(report: &mut Report, ours_at: SocketAddr, squid_at: SocketAddr) -> Result<()> {
    let (mut direct, mut ours, mut squid) = (Vec::new(), Vec::new(), Vec::new());
    let mut sources = sources().cycle();
    for _ in 0..ROUNDS {
        for (through, times) in [(None, &mut direct), (Some(ours_at), &mut ours), (Some(squid_at), &mut squid)] {
            for _ in 0..TUNNELS {
                let source = sources.next().context("a source")?;
                let began = Instant::now();
                let _tunnel = tunnel(source, through).await?;
                times.push(began.elapsed());
            }
        }
    }
    for percent in [50.0, 99.0] {
        let base = percentile(&mut direct, percent);
        let added = |times: &mut [Duration]| percentile(times, percent).saturating_sub(base);
        let name = format!("added latency of an allowed CONNECT, p{percent}");
        report.times(&name, added(&mut ours), added(&mut squid), Bound::AtMost(1.0));
        report.note(format!("direct {}", show(base)));
    }
    Ok(())
}

async fn throughput(report: &mut Report, ours_at: SocketAddr, squid_at: SocketAddr) -> Result<()> {
    let (mut ours, mut squid) = (Vec::new(), Vec::new());
    for _ in 0..STREAMS {
        for (at, times) in [(ours_at, &mut ours), (squid_at, &mut squid)] {
            let mut stream = tunnel(sources().next().context("a source")?, Some(at)).await?;
            let began = Instant::now();
            stream.write_all(&[STREAM]).await?;
            let (mut buffer, mut got) = (vec![0; 256 * 1024], 0);
            while got < STREAM_BYTES {
                match stream.read(&mut buffer).await? {
                    0 => bail!("the stream ended after {got} bytes"),
                    count => got += count,
                }
            }
            times.push(began.elapsed());
        }
    }
    let (ours, squid) = (percentile(&mut ours, 50.0), percentile(&mut squid, 50.0));
    report.speed("512 MiB through a tunnel", ours, squid, Bound::AtLeast(1.0));
    Ok(())
}

/// A connection on which the server has answered the first bytes.
async fn tunnel(source: IpAddr, through: Option<SocketAddr>) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if through.is_some() {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let mut stream = socket.connect(through.unwrap_or((OUTSIDE, PORT).into())).await?;
    stream.set_nodelay(true)?;
    if through.is_some() {
        stream.write_all(format!("CONNECT {NAME}:{PORT} HTTP/1.1\r\nHost: {NAME}:{PORT}\r\n\r\n").as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        ensure!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    }
    stream.write_all(&hello()).await?;
    stream.read_u8().await?;
    Ok(stream)
}

/// As short as a ClientHello that names its server can be (RFC 8446, section 4.1.2).
fn hello() -> Vec<u8> {
    let with_length = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let name = with_length(&[&[0], &with_length(NAME.as_bytes())[..]].concat());
    let extensions = with_length(&[&[0, 0], &with_length(&name)[..]].concat());
    let body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0], &extensions].concat();
    let length = (body.len() as u32).to_be_bytes();
    let message = [&[1], &length[1..], &body].concat();
    [&[22, 3, 1][..], &with_length(&message)].concat()
}

/// The server there and the server of names, on a thread of their own.
fn world(names: std::io::Result<std::net::UdpSocket>, listener: std::net::TcpListener) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let names = UdpSocket::from_std(names?)?;
        tokio::spawn(async move {
            let mut question = [0; 1500];
            while let Ok((length, from)) = names.recv_from(&mut question).await {
                let Ok(query) = dns::parse(&question[..length]) else { continue };
                let answer = match query.kind {
                    dns::Kind::A => dns::answer_a(&query, &[OUTSIDE], Duration::from_secs(60), dns::Transport::Udp),
                    _ => dns::no_data(&query),
                };
                let _ = names.send_to(&answer, from).await;
            }
        });
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
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
    })
}

fn sources() -> impl Iterator<Item = IpAddr> + Clone {
    (1..=SOURCES).map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 3, last)))
}

fn free() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

async fn until_ready(at: SocketAddr) -> Result<()> {
    let began = Instant::now();
    let source = sources().next().context("a source")?;
    while let Err(error) = tunnel(source, Some(at)).await {
        if began.elapsed() > READY_MAX {
            return Err(error.context(format!("the proxy at {at} does not come up")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn gateway(at: SocketAddr, names: SocketAddr) -> Result<Child> {
    let words = ["--rexec", "none", "--gateway"].map(str::to_owned).into_iter();
    let words = words.chain([at.to_string(), "--names".to_owned(), names.to_string()]);
    Ok(Command::new(std::env::current_exe()?).args(words).spawn()?)
}

fn squid(at: SocketAddr, directory: &Path) -> Result<Child> {
    let (hosts, rules) = (directory.join("hosts"), directory.join("squid.conf"));
    std::fs::write(&hosts, format!("{OUTSIDE} {NAME}\n"))?;
    let text = format!(
        "http_port {at}\nhosts_file {}\nacl allowed dstdomain {NAME}\nacl tls port {PORT}\n\
         http_access deny CONNECT !tls\nhttp_access allow allowed\nhttp_access deny all\ncache deny all\n\
         access_log none\ncache_log /dev/null\npid_filename none\nshutdown_lifetime 1 second\n",
        hosts.display()
    );
    std::fs::write(&rules, text)?;
    // It is nobody in particular once it runs.
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new("/usr/sbin/squid");
    command.args(["-N", "-f"]).arg(&rules).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("squid")
}

/// Ends with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // By request: killed, squid would leave shared memory behind that it does not start beside.
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let asked = pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
        if !asked {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

/// A network of its own with the server's address in it, on the other side of a pair of interfaces, until it is dropped.
struct Outside(String);

impl Outside {
    fn make() -> Result<Self> {
        let name = format!("rxn{}-bench", std::process::id());
        let near = format!("rxb{}", std::process::id());
        ip(&["netns", "add", &name])?;
        let outside = Self(name.clone());
        ip(&["link", "add", &near, "type", "veth", "peer", "name", "e0", "netns", &name])?;
        ip(&["addr", "add", &format!("{NEAR}/32"), "peer", &format!("{FAR}/32"), "dev", &near])?;
        ip(&["link", "set", &near, "up"])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        ip(&["-n", &name, "addr", "add", &format!("{FAR}/32"), "peer", &format!("{NEAR}/32"), "dev", "e0"])?;
        ip(&["-n", &name, "link", "set", "e0", "up"])?;
        ip(&["-n", &name, "addr", "add", &format!("{OUTSIDE}/32"), "dev", "lo"])?;
        ip(&["route", "add", &format!("{OUTSIDE}/32"), "via", FAR, "dev", &near])?;
        Ok(outside)
    }

    /// A socket belongs to the network of the thread that made it.
    fn listen(&self) -> Result<std::net::TcpListener> {
        let network = std::fs::File::open(format!("/run/netns/{}", self.0))?;
        let thread = std::thread::spawn(move || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            let listener = std::net::TcpListener::bind((OUTSIDE, PORT))?;
            listener.set_nonblocking(true)?;
            anyhow::Ok(listener)
        });
        thread.join().unwrap_or_else(|_| bail!("the thread of the outside has ended"))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // Its interface, and the near end of it, go with it.
        let _ = ip(&["netns", "del", &self.0]);
    }
}

fn ip(words: &[&str]) -> Result<()> {
    let done = Command::new("ip").args(words).status()?;
    ensure!(done.success(), "ip {words:?} failed: this takes root and iproute2");
    Ok(())
}
