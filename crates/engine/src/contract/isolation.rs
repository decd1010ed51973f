//! What a container may not do, seen from inside it.

use super::{World, assert_kind};
use crate::firewall::{self, Leave};
use crate::{Addresses, NetworkSpec};

const PORT: u16 = 5000;
/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID and SETUID: bits 0, 1 and 3 to 7 (capability.h).
const CAPABILITIES: &str = "00000000000000fb";

pub async fn profile_holds(world: &World) {
    let info = world.engine.info().await.expect("tells");
    let id = world.running("a").await;
    let status = world.sh(&id, "cat /proc/1/status").await;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("{name} in {status}")).trim().to_owned()
    };
    for set in ["CapBnd", "CapPrm", "CapEff"] {
        assert_eq!(field(set), CAPABILITIES, "{set}");
    }
    assert_eq!(field("CapAmb"), "0000000000000000");
    assert_eq!(field("NoNewPrivs"), "1");
    assert!(!info.seccomp || field("Seccomp") == "2");
    let exec_status = world.sh(&id, "grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status").await;
    assert!(exec_status.contains(CAPABILITIES) && exec_status.contains("NoNewPrivs:\t1"), "{exec_status}");

    assert!(!world.succeeds(&id, "mount -t tmpfs none /tmp").await, "no mounts");
    assert!(!world.succeeds(&id, "echo x > /proc/sys/kernel/core_pattern").await, "no sysctls");
    assert!(!world.succeeds(&id, "test -s /proc/kcore && head -c 1 /proc/kcore | grep -q .").await, "no kernel memory");
    assert_eq!(world.sh(&id, "ls /dev | grep -E '^(sd|vd|nvme|mem$|kmem$)' | wc -l").await, "0", "no disks");
    assert_eq!(world.sh(&id, "hostname").await, "a");
}

async fn on_network(world: &World, role: &str, network: &NetworkSpec) -> String {
    let mut spec = world.spec(role);
    spec.network = network.name.clone();
    world.run(&spec).await
}

async fn address(world: &World, id: &str) -> String {
    let addresses = world.sh(id, "ip -4 -o addr show eth0").await;
    let words: Vec<&str> = addresses.split_whitespace().collect();
    let cidr = words.iter().skip_while(|w| **w != "inet").nth(1).expect("an address");
    cidr.split('/').next().expect("an address").to_owned()
}

/// By the engine, or by the rules of its machine where it says that it leaves that to them.
pub async fn siblings_are_apart(world: &World) {
    let network = world.network("net", false);
    world.engine.ensure_network(&network).await.expect("is made");
    let by_rules = !world.engine.info().await.expect("tells").networks_apart;
    if by_rules {
        firewall::close_host(&network.bridge, &Leave::Open(Vec::new())).await.expect("the machine's rules, as root");
        firewall::filter_bridges().await.expect("bridges are filtered");
    }
    let a = on_network(world, "a", &network).await;
    let b = on_network(world, "b", &network).await;
    let there = address(world, &a).await;
    let connect = format!("echo hello | nc -w 2 {there} {PORT}");
    let _listener = world
        .engine
        .exec_stream(&a, &super::world::exec("0:0", &["/bin/sh", "-c", &format!("nc -ll -p {PORT} -e /bin/cat")]))
        .await
        .expect("starts");
    world.until("the listener answers in its own container", async || world.succeeds(&a, &connect).await).await;
    let reached = world.succeeds(&b, &connect).await;
    if by_rules {
        firewall::forget_bridge(&network.bridge).await.expect("the rules are taken back");
    }
    assert!(!reached, "a sibling reaches it");
    assert_eq!(world.sh(&b, "ls /sys/class/net").await, "eth0\nlo");
}

pub async fn networks_are_ensured_once(world: &World) {
    let engine = &world.engine;
    let network = world.network("net", false);
    let all = futures_util::future::join_all((0..6).map(|_| engine.ensure_network(&network))).await;
    for ensured in all {
        ensured.expect("whoever is first");
    }
    let there = engine.network(&network.name).await.expect("tells").expect("is there");
    assert_eq!(there.bridge.as_ref(), Some(&network.bridge));
    assert_eq!(engine.network("rexec-no-such-network").await.expect("tells"), None);
    let mut other = network.clone();
    other.bridge = format!("rx{}o", &world.id[..11]);
    assert_kind(engine.ensure_network(&other).await, "Conflict");
    let mut other = network.clone();
    other.internal = true;
    assert_kind(engine.ensure_network(&other).await, "Conflict");
    // Another network cannot take the bridge.
    let mut other = world.network("other", false);
    other.bridge = network.bridge.clone();
    assert_kind(engine.ensure_network(&other).await, "Conflict");
    for bridge in ["", "a name too long for a bridge", "a/b"] {
        let mut bad = network.clone();
        bad.bridge = bridge.into();
        assert_kind(engine.ensure_network(&bad).await, "Refused");
    }

    let id = on_network(world, "a", &network).await;
    assert_kind(engine.remove_network(&network.name).await, "Conflict");
    engine.remove(&id).await.expect("is removed");
    engine.remove_network(&network.name).await.expect("is removed");
    engine.remove_network(&network.name).await.expect("a second time is no failure");
}

/// Each container has the address that it was given, for as long as it is there.
pub async fn addresses_are_ours(world: &World) {
    let engine = &world.engine;
    let ours = NetworkSpec { addresses: Addresses::Ours, ..world.network("net", true) };
    let all = futures_util::future::join_all((0..4).map(|_| engine.ensure_network(&ours))).await;
    for made in all {
        made.expect("is made once");
    }
    let left_to_it = NetworkSpec { addresses: Addresses::Engine, ..ours.clone() };
    assert_kind(engine.ensure_network(&left_to_it).await, "Conflict");
    let subnet = engine.network(&ours.name).await.expect("tells").expect("is there").subnet.expect("one range");

    let at = |role: &str, place| {
        let (network, address) = (ours.name.clone(), subnet.address(place));
        crate::ContainerSpec { network, address, ..world.spec(role) }
    };
    let last = subnet.room() - 1;
    for (role, place) in [("a", 0), ("b", last)] {
        let id = world.run(&at(role, place)).await;
        let given = subnet.address(place).expect("within").to_string();
        assert_eq!(address(world, &id).await, given);
        engine.stop(&id, 0).await.expect("stops");
        engine.start(&id).await.expect("starts");
        assert_eq!(address(world, &id).await, given, "the same again");
    }
    let twice = world.create(&at("c", 0)).await;
    assert!(engine.start(&twice).await.is_err(), "somebody has it");
}

/// Between two starts, with all that a container has written.
pub async fn networks_are_changed(world: &World) {
    let engine = &world.engine;
    let open = world.network("open", false);
    let closed = NetworkSpec { addresses: Addresses::Ours, ..world.network("closed", true) };
    for network in [&open, &closed] {
        engine.ensure_network(network).await.expect("is made");
    }
    let subnet = engine.network(&closed.name).await.expect("tells").expect("is there").subnet.expect("one range");
    let id = on_network(world, "pen", &open).await;
    world.sh(&id, "echo mine > /kept").await;
    for place in [3, 4] {
        engine.stop(&id, 0).await.expect("stops");
        for _ in 0..2 {
            engine.put_on_network(&id, &closed.name, subnet.address(place)).await.expect("may be repeated");
        }
        engine.start(&id).await.expect("starts");
        assert_eq!(address(world, &id).await, subnet.address(place).expect("within").to_string());
        assert_eq!(world.sh(&id, "cat /proc/net/dev | grep -c eth").await, "1", "it is on that one alone");
    }
    engine.stop(&id, 0).await.expect("stops");
    engine.put_on_network(&id, &open.name, None).await.expect("goes back");
    engine.start(&id).await.expect("starts");
    assert!(!subnet.contains(address(world, &id).await.parse().expect("an address")));
    assert_eq!(world.sh(&id, "cat /kept").await, "mine");
    for bad in ["host", "bridge", "none"] {
        assert_kind(engine.put_on_network(&id, bad, None).await, "Refused");
    }
}

pub async fn networks_have_no_ipv6(world: &World) {
    for (role, internal) in [("open", false), ("closed", true)] {
        let network = world.network(role, internal);
        world.engine.ensure_network(&network).await.expect("is made");
        let id = on_network(world, &role[1..], &network).await;
        assert_eq!(world.sh(&id, "ip -6 addr show eth0").await, "");
    }
}
