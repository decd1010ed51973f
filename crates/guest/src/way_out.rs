//! The way out of a workspace whose network has none but its host's gateway: what its programs are told of that, and the
//! proof that nothing else is reached.
//!
//! Programs learn of the gateway by the usual variables, those that read none by files of ours: servers of names, apt, ssh.
//! Each such file is written anew at every configuration and goes when there is no gateway any more; what `resolv.conf` was
//! stands in it, behind marks, and comes back. A directory that an image has not got is not made.

use crate::refusal::invalid;
use rexec_api::guest::{ADDRESSES, GuestError, Leaks, PROGRAM, WayOut};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// How long a way that must be shut may take to show that it is not.
const TRIAL: Duration = Duration::from_millis(300);
/// Ways in one request, and servers of names that are asked.
const WAYS_MAX: usize = 16;
const SERVERS_MAX: usize = 3;
const DNS_PORT: u16 = 53;
const ANSWER_BYTES_MAX: usize = 512;
const NAMES: &str = "etc/resolv.conf";
/// More than any such file has.
const FILE_BYTES_MAX: u64 = 64 * 1024;
const DOCKER_NAMES: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
const NAMES_MAX: Duration = Duration::from_secs(5);
/// What the kernel sends by which device, of IPv4 (device first) and of IPv6 (device last).
const ROUTES: [&str; 2] = ["/proc/net/route", "/proc/net/ipv6_route"];
/// What the file was before, line by line.
const BEFORE: &str = "#was: ";
const HEADER: &str = "# Names are answered by the gateway of this workspace's host, as far as they may be reached.\n";
const APT: &str = "etc/apt/apt.conf.d";
const SSH: &str = "etc/ssh/ssh_config.d";
const FILE: &str = "90-rexec-gateway.conf";
/// Of the workspace itself.
const NOT_BY_PROXY: &str = "localhost,127.0.0.1,::1,.localhost";

/// Variables that programs look at; each in both spellings, as there is no one that all of them read.
pub fn variables(gateway: SocketAddrV4) -> BTreeMap<String, String> {
    let proxy = format!("http://{gateway}");
    let (host, port) = (gateway.ip(), gateway.port());
    let java = format!(
        "-Dhttp.proxyHost={host} -Dhttp.proxyPort={port} -Dhttps.proxyHost={host} -Dhttps.proxyPort={port} \
         -Dhttp.nonProxyHosts=localhost|127.*"
    );
    // Maven's own transports look at the machine's properties when they are told to.
    let maven = format!(
        "{java} -Daether.transport.http.useSystemProperties=true -Daether.connector.http.useSystemProperties=true"
    );
    let mut all = BTreeMap::from([
        ("MAVEN_OPTS".to_owned(), maven),
        ("GRADLE_OPTS".to_owned(), java),
        // Node itself looks at the others only when it is told to.
        ("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned()),
    ]);
    for (name, value) in [
        ("HTTP_PROXY", proxy.as_str()),
        ("HTTPS_PROXY", &proxy),
        ("FTP_PROXY", &proxy),
        ("ALL_PROXY", &proxy),
        ("NO_PROXY", NOT_BY_PROXY),
    ] {
        all.insert(name.to_owned(), value.to_owned());
        all.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    all
}

/// Has what reads no variables find the gateway, or forget it. What cannot be written is left: it is a convenience, and
/// nothing is reached by another way for want of it.
pub fn write(root: &Path, gateway: Option<SocketAddrV4>) {
    let names = root.join(NAMES);
    if let Ok(there) = read(&names, FILE_BYTES_MAX) {
        let text = match gateway {
            Some(gateway) => resolv_conf(gateway, &original(&there)),
            None => original(&there),
        };
        if text != there {
            // Written where it is: engines mount it, and what is mounted cannot be replaced.
            note(overwrite(&names, &text), &names);
        }
    }
    let apt =
        |gateway| format!("Acquire::http::Proxy \"http://{gateway}\";\nAcquire::https::Proxy \"http://{gateway}\";\n");
    let ssh = |gateway| format!("Host * !localhost !127.*\n    ProxyCommand {PROGRAM} tunnel {gateway} '%h' %p\n");
    put(&root.join(APT), FILE, gateway.map(apt).as_deref());
    put(&root.join(SSH), FILE, gateway.map(ssh).as_deref());
}

/// A file of ours in a directory that is there, or none any more.
pub(crate) fn put(directory: &Path, name: &str, text: Option<&str>) {
    let path = directory.join(name);
    // Whatever is there under that name, a link or a pipe even, is not written into.
    match std::fs::remove_file(&path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
        removed => note(removed, &path),
    }
    if let Some(text) = text.filter(|_| directory.is_dir()) {
        let made = OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_NOFOLLOW).open(&path);
        note(made.and_then(|mut file| file.write_all(text.as_bytes())), &path);
    }
}

/// A regular file, and no link: root of the workspace may have put anything there for PID 1 to wait at.
fn regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn read(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    regular(path, OpenOptions::new().read(true))?.take(bytes_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}

fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    let mut file = regular(path, OpenOptions::new().write(true))?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())
}

pub(crate) fn note(done: io::Result<()>, path: &Path) {
    if let Err(error) = done {
        eprintln!("rexec-guest: {}: {error}", path.display());
    }
}

fn resolv_conf(gateway: SocketAddrV4, before: &str) -> String {
    let before: String = before.lines().map(|line| format!("{BEFORE}{line}\n")).collect();
    format!("{HEADER}nameserver {}\noptions timeout:2 attempts:2\n{before}", gateway.ip())
}

/// What the file was before it was ours.
fn original(text: &str) -> String {
    if !text.starts_with(HEADER) {
        return text.to_owned();
    }
    text.lines().filter_map(|line| line.strip_prefix(BEFORE)).map(|line| format!("{line}\n")).collect()
}

fn servers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| line.strip_prefix("nameserver")?.trim().parse().ok();
    text.lines().filter_map(server).take(SERVERS_MAX).collect()
}

/// Tries all of it at once.
pub async fn try_ways(root: &Path, ways: WayOut) -> Result<Leaks, GuestError> {
    if ways.shut.len() > WAYS_MAX {
        return Err(invalid(format!("{WAYS_MAX} ways are the most.")));
    }
    let mut tries = JoinSet::new();
    for (to, what) in ways.shut {
        tries.spawn_local(async move { is_reached(to.into()).await.then_some(what) });
    }
    let own = ways.own;
    tries.spawn_local(async move { (!is_alone(ways.gateway, own).await).then(|| ADDRESSES.to_owned()) });
    let text = read(&root.join(NAMES), FILE_BYTES_MAX).unwrap_or_default();
    let mut asked = servers(&original(&text));
    // Whatever a file says: that is where Docker's own listens.
    asked.push(DOCKER_NAMES);
    asked.retain(|server| *server != IpAddr::V4(*ways.gateway.ip()));
    asked.dedup();
    let patience = Duration::from_millis(ways.unknown_ms).min(NAMES_MAX);
    for server in asked {
        let name = ways.unknown.clone();
        tries.spawn_local(async move {
            let is_known = tokio::time::timeout(patience, knows(server, &name)).await;
            matches!(is_known, Ok(Ok(true))).then(|| format!("{name}, by {server}"))
        });
    }
    Ok(Leaks { reached: tries.join_all().await.into_iter().flatten().collect() })
}

/// Whether it speaks to its gateway from its own address, and has no other network than that.
async fn is_alone(gateway: SocketAddrV4, own: Ipv4Addr) -> bool {
    let from = async {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        // Nothing is sent.
        socket.connect(gateway).await?;
        socket.local_addr()
    };
    let is_own = from.await.is_ok_and(|from| from.ip() == IpAddr::V4(own));
    let [four, six] = ROUTES.map(|path| std::fs::read_to_string(path).unwrap_or_default());
    is_own && devices(&four, &six).len() <= 1
}

/// Those that anything is sent by. Others are there, too, on kernels that make one for each kind of tunnel.
fn devices<'a>(four: &'a str, six: &'a str) -> BTreeSet<&'a str> {
    // The first line of IPv4's names the columns.
    let four = four.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    let six = six.lines().filter_map(|line| line.split_whitespace().last());
    four.chain(six).filter(|device| *device != "lo").collect()
}

/// Whoever says that nobody listens is there, too.
async fn is_reached(to: SocketAddr) -> bool {
    match tokio::time::timeout(TRIAL, TcpStream::connect(to)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
        Err(_) => false,
    }
}

/// Whether a server tells an address of this name (RFC 1035, section 4.1).
async fn knows(server: IpAddr, name: &str) -> io::Result<bool> {
    let id = std::process::id() as u16;
    let mut question = Vec::from(id.to_be_bytes());
    // Recursion desired; one question.
    question.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        question.push(label.len() as u8);
        question.extend(label.as_bytes());
    }
    // An address, on the internet.
    question.extend([0, 0, 1, 0, 1]);
    let here: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(here).await?;
    socket.connect((server, DNS_PORT)).await?;
    socket.send(&question).await?;
    let mut answer = [0; ANSWER_BYTES_MAX];
    let length = socket.recv(&mut answer).await?;
    Ok(length > 8 && answer[..2] == id.to_be_bytes() && answer[6..8] != [0, 0])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GATEWAY: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(10, 0, 0, 1), 3128);

    #[test]
    fn what_was_there_comes_back() {
        let root = tempfile::tempdir().unwrap();
        let read = |path: &str| std::fs::read_to_string(root.path().join(path)).ok();
        let (names, was) = (NAMES, "search a.example\nnameserver 127.0.0.11\noptions ndots:0\n");
        for directory in ["etc", "etc/apt", APT] {
            std::fs::create_dir(root.path().join(directory)).unwrap();
        }
        std::fs::write(root.path().join(names), was).unwrap();
        write(root.path(), Some(GATEWAY));
        let first = read(names).unwrap();
        assert_eq!(servers(&first), [IpAddr::V4(*GATEWAY.ip())]);
        assert_eq!(servers(&original(&first)), ["127.0.0.11".parse::<IpAddr>().unwrap()]);
        let other = SocketAddrV4::new([10, 9, 0, 1].into(), 3128);
        write(root.path(), Some(other));
        assert_eq!(read(names).unwrap(), first.replace("10.0.0.1", "10.9.0.1"), "once, however often");
        assert!(read("etc/apt/apt.conf.d/90-rexec-gateway.conf").unwrap().contains("10.9.0.1:3128"));
        assert!(!root.path().join(SSH).exists(), "an image without ssh gets none");
        write(root.path(), None);
        assert_eq!(read(names).unwrap(), was);
        assert_eq!(read("etc/apt/apt.conf.d/90-rexec-gateway.conf"), None);
    }

    #[test]
    fn nothing_of_the_tenants_holds_it_up() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at(APT)).unwrap();
        std::fs::create_dir_all(at(SSH)).unwrap();
        let pipe = |path: &Path| {
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        };
        pipe(&at(NAMES));
        pipe(&at(SSH).join(FILE));
        std::fs::write(at("other"), "theirs").unwrap();
        std::os::unix::fs::symlink(at("other"), at(APT).join(FILE)).unwrap();
        write(root.path(), Some(GATEWAY));
        assert_eq!(std::fs::read_to_string(at("other")).unwrap(), "theirs");
        assert!(std::fs::read_to_string(at(SSH).join(FILE)).unwrap().contains("ProxyCommand"));
        std::fs::remove_file(at(NAMES)).unwrap();
        let large = "nameserver 10.0.0.2\n".repeat(100_000);
        std::fs::write(at(NAMES), &large).unwrap();
        write(root.path(), Some(GATEWAY));
        assert_eq!(std::fs::read_to_string(at(NAMES)).unwrap(), large, "what nobody wrote for names is left");
    }

    #[test]
    fn a_device_without_routes_leads_nowhere() {
        let four = "Iface Destination Gateway Flags\neth0 00000000 010011AC 0003\neth0 000011AC 00000000 0001\n";
        let none = "00000000000000000000000000000000 00 0 00 0 ffffffff 00000001 00000000 00200200       lo\n";
        assert_eq!(Vec::from_iter(devices(four, none)), ["eth0"]);
        let other = format!("{none}fd000000000000000000000000000000 40 0 00 0 00000100 1 0 00000001     eth1\n");
        assert_eq!(Vec::from_iter(devices(four, &other)), ["eth0", "eth1"]);
        assert_eq!(Vec::from_iter(devices(&format!("{four}eth2 000012AC 00000000 0001\n"), "")), ["eth0", "eth2"]);
        assert!(devices("", "").is_empty());
    }

    #[tokio::test]
    async fn a_way_that_is_open_is_told() {
        let root = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open: SocketAddrV4 = listener.local_addr().unwrap().to_string().parse().unwrap();
        let refused = SocketAddrV4::new(*open.ip(), 1);
        let shut = vec![(open, "one".to_owned()), (refused, "two".to_owned())];
        let ways = WayOut { gateway: GATEWAY, own: *GATEWAY.ip(), shut, unknown: "a.example".into(), unknown_ms: 100 };
        let tried = tokio::task::LocalSet::new().run_until(try_ways(root.path(), ways)).await;
        let mut reached = tried.unwrap().reached;
        reached.sort();
        assert_eq!(reached, [ADDRESSES, "one", "two"], "this machine has another address");
    }
}
