//! This machine closed to its workspaces, seen from a real container. Needs an engine on this
//! machine; the rules need root, and without it the refusal is what is tested.

use rexec_engine::contract::World;
use rexec_engine::docker::DockerEngine;
use rexec_engine::firewall::{FirewallError, Leave, close_host, filter_bridges, forget_bridge, host_is_closed};
use rexec_engine::{Engine, ExecStart, NetworkSpec};
use std::process::Command;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

static OPEN: Leave = Leave::Open(Vec::new());

fn make() -> Arc<dyn Engine> {
    let host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    let address = host.unwrap_or_else(|| "unix:///var/run/docker.sock".into());
    Arc::new(DockerEngine::connect(&address).expect("DOCKER_HOST names an engine that can be reached"))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Takes the rules back, also when the test fails.
struct Closed(String);

impl Drop for Closed {
    fn drop(&mut self) {
        let bridge = self.0.clone();
        let forgotten = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(forget_bridge(&bridge))
        });
        let forgotten = forgotten.join().expect("no panic");
        if !std::thread::panicking() {
            forgotten.expect("the rules are taken back");
        }
    }
}

/// Every IPv4 address of this machine, but loopback: lines of `/32 host LOCAL` follow their address.
fn own_addresses() -> Vec<String> {
    let trie = std::fs::read_to_string("/proc/net/fib_trie").expect("readable");
    let lines: Vec<&str> = trie.lines().map(str::trim).collect();
    let pairs = lines.windows(2).filter(|pair| pair[1] == "/32 host LOCAL");
    let mut addresses: Vec<String> = pairs.filter_map(|pair| Some(pair[0].strip_prefix("|-- ")?.to_owned())).collect();
    addresses.retain(|address| !address.starts_with("127."));
    addresses.sort();
    addresses.dedup();
    addresses
}

/// Packets that a chain's rules with this destination have dropped.
fn dropped(chain: &str, destination: &str) -> u64 {
    let out =
        Command::new("iptables").args(["-w", "20", "-t", "mangle", "-nvxL", chain]).output().expect("iptables runs");
    let out = String::from_utf8_lossy(&out.stdout).into_owned();
    let rules = out.lines().filter(|line| line.contains("DROP") && line.contains(destination));
    rules.filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok()).sum()
}

fn rules_of(bridge: &str) -> String {
    let out = Command::new("iptables-save").output().expect("iptables-save runs");
    let all = String::from_utf8_lossy(&out.stdout).into_owned();
    all.lines()
        .filter(|line| line.starts_with("-A") && line.contains(bridge) && line.contains("RX"))
        .collect::<Vec<_>>()
        .join("\n")
}

async fn on_network(world: &World, network: &NetworkSpec) -> String {
    world.engine.ensure_network(network).await.expect("is made");
    let mut spec = world.spec("a");
    spec.network = network.name.clone();
    world.run(&spec).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said() {
    assert!(matches!(close_host("not a bridge", &OPEN).await, Err(FirewallError::BadBridge(_))));
    if !is_root() {
        assert!(matches!(close_host("rexec0", &OPEN).await, Err(FirewallError::NotRoot)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_is_closed_and_the_world_is_not() {
    if !is_root() {
        assert!(matches!(host_is_closed("rexec0", &OPEN).await, Err(FirewallError::NotRoot)));
        return;
    }
    let world = World::new(make).await;
    let network = world.network("net", false);
    let id = on_network(&world, &network).await;
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("binds");
    let port = listener.local_addr().expect("an address").port();
    let greeter = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"hello from the host\n").await;
        }
    });
    let reaches = async |address: &str| {
        world.succeeds(&id, &format!("nc -w 2 {address} {port} < /dev/null | grep -q hello")).await
    };

    let gateway = world.sh(&id, "ip -4 route show default").await;
    let gateway = gateway.split_whitespace().nth(2).expect("a gateway").to_owned();
    assert!(own_addresses().contains(&gateway));
    assert!(!host_is_closed(&network.bridge, &OPEN).await.expect("looks"));
    assert!(reaches(&gateway).await, "without the rules the host is open: this is what they are for");

    let closed = Closed(network.bridge.clone());
    close_host(&network.bridge, &OPEN).await.expect("closes");
    assert!(host_is_closed(&network.bridge, &OPEN).await.expect("looks"));
    for address in own_addresses() {
        assert!(!reaches(&address).await, "{address} is open");
    }

    // Whether a packet leaves depends on this machine's routes; that ours do not drop it, does not.
    let chain = format!("RXF-{}", network.bridge);
    let connect = async |address: &str| {
        let _ = world.exec(&id, &["/bin/sh", "-c", &format!("nc -w 1 {address} 80 < /dev/null")]).await;
    };
    // An address that was this machine's a moment ago, of a network that is gone, may have counted already.
    let before = dropped(&chain, "");
    connect("198.51.100.7").await;
    assert_eq!(dropped(&chain, ""), before, "elsewhere is not ours to close");
    let routed =
        std::fs::read_to_string("/proc/net/route").is_ok_and(|r| r.lines().any(|l| l.contains("\t00000000\t")));
    for address in ["169.254.169.254", "169.254.170.2", "100.100.100.200", "10.77.0.1", "100.64.7.1"] {
        let before = dropped(&chain, "");
        connect(address).await;
        assert!(!routed || dropped(&chain, "") > before, "{address} was let through");
    }
    // Docker's own DNS knows the containers of the network, whatever is closed.
    let own = world.name("a");
    assert!(world.succeeds(&id, &format!("nslookup {own} 127.0.0.11 | grep -q {own}")).await, "DNS at 127.0.0.11");

    drop(closed);
    assert!(!host_is_closed(&network.bridge, &OPEN).await.expect("looks"));
    assert!(reaches(&gateway).await, "the rules were what closed it");
    assert_eq!(rules_of(&network.bridge), "");
    greeter.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_twice_or_at_once_adds_nothing() {
    if !is_root() {
        assert!(matches!(close_host("rexec0", &OPEN).await, Err(FirewallError::NotRoot)));
        return;
    }
    let bridge = format!("rxt{}", std::process::id());
    let closed = Closed(bridge.clone());
    for result in futures_util::future::join_all((0..6).map(|_| close_host(&bridge, &OPEN))).await {
        result.expect("closes");
    }
    let once = rules_of(&bridge);
    assert_eq!(once.lines().count(), 15, "two jumps, and what they lead to:\n{once}");
    close_host(&bridge, &OPEN).await.expect("closes again");
    assert_eq!(rules_of(&bridge), once);
    assert!(host_is_closed(&bridge, &OPEN).await.expect("looks"));

    // Another firewall's reload takes a jump away: it is seen, and mended.
    let jump = ["-w", "20", "-D", "INPUT", "-i", &bridge, "-j", &format!("RXI-{bridge}")];
    assert!(Command::new("iptables").args(jump).status().expect("runs").success());
    assert!(!host_is_closed(&bridge, &OPEN).await.expect("looks"));
    close_host(&bridge, &OPEN).await.expect("mends");
    assert!(host_is_closed(&bridge, &OPEN).await.expect("looks"));
    drop(closed);
    assert_eq!(rules_of(&bridge), "");
}

/// A network as an engine makes it that does not keep containers apart, past everything under test.
async fn open_network(name: &str, bridge: &str) {
    let host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    let path = host.as_deref().and_then(|host| host.strip_prefix("unix://")).unwrap_or("/var/run/docker.sock");
    let body =
        format!(r#"{{"Name":"{name}","Driver":"bridge","Options":{{"com.docker.network.bridge.name":"{bridge}"}}}}"#);
    let request = format!(
        "POST /v1.41/networks/create HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = UnixStream::connect(path).await.expect("connects");
    socket.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("reads");
    assert!(answer.contains(" 201 "), "{answer}");
}

/// Podman's networks are such, and its workspaces are kept apart by nothing but this.
#[tokio::test(flavor = "multi_thread")]
async fn siblings_are_apart_where_the_engine_does_not_see_to_it() {
    if !is_root() {
        assert!(matches!(close_host("rexec0", &OPEN).await, Err(FirewallError::NotRoot)));
        return;
    }
    let world = World::new(make).await;
    let network = world.network("net", false);
    open_network(&network.name, &network.bridge).await;
    let on_it = async |role: &str| {
        let mut spec = world.spec(role);
        spec.network = network.name.clone();
        world.run(&spec).await
    };
    let (a, b) = (on_it("a").await, on_it("b").await);
    let address = world.sh(&a, "ip -4 -o addr show eth0").await;
    let address = address.split_whitespace().nth(3).and_then(|cidr| cidr.split('/').next()).expect("an address");
    let listen = ["/bin/sh", "-c", "nc -ll -p 5000 -e /bin/echo hello"].map(String::from).into();
    let listen = ExecStart { command: listen, user: "0:0".into(), env: vec!["PATH=/bin".into()] };
    let _listening = world.engine.exec_stream(&a, &listen).await.expect("listens");
    let reach = format!("nc -w 2 {address} 5000 < /dev/null | grep -q hello");
    world.until("the listener is reached", async || world.succeeds(&b, &reach).await).await;

    let closed = Closed(network.bridge.clone());
    filter_bridges().await.expect("bridges are filtered");
    close_host(&network.bridge, &OPEN).await.expect("closes");
    assert!(!world.succeeds(&b, &reach).await, "a sibling reaches it");
    assert!(world.succeeds(&a, &reach).await, "its own container does");
    drop(closed);
    assert!(world.succeeds(&b, &reach).await, "the rules were what kept them apart");
}
