//! Ports on which something listens, from the kernel's own tables.
//!
//! The tables and the processes' names are the tenant's to influence; everything is bounded and
//! nothing that cannot be read is an error.

pub mod watch;

use crate::guest::Guest;
use crate::rights::Rights;
use crate::terminal::unix_ms;
use rexec_api::guest::{GuestError, PortInfo};
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most ports in one answer.
const PORTS_MAX: usize = 512;
/// Most bytes read of a table: the kernel lists listening sockets before all others.
const TABLE_BYTES_MAX: u64 = 256 * 1024;
/// Most processes and descriptors looked at to find a listener's name.
const DESCRIPTORS_MAX: usize = 65_536;
/// Where Docker answers names inside of a workspace; nobody there listens on it.
const ENGINE_RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
/// The state of a listening socket in `/proc/net/tcp` (`TCP_LISTEN`).
const STATE_LISTEN: &str = "0A";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    port: u16,
    address: IpAddr,
    uid: u32,
    inode: u64,
}

/// The program that holds a listening socket.
#[derive(Debug, Clone)]
pub struct Owner {
    pid: u32,
    name: String,
}

/// When each listening socket was first seen, in milliseconds since 1970; the kernel does not tell.
#[derive(Debug, Default)]
pub struct Seen(RefCell<HashMap<u64, i64>>);

impl Seen {
    fn note(&self, listeners: &[Listener]) -> HashMap<u64, i64> {
        let now = unix_ms();
        let mut seen = self.0.borrow_mut();
        let since = listeners.iter().map(|l| (l.inode, seen.get(&l.inode).copied().unwrap_or(now)));
        *seen = since.collect();
        seen.clone()
    }
}

/// Everything that listens. The kernel lets the user look at the user's processes and root at
/// root's, so both look.
pub async fn listening(guest: &Guest) -> Result<Vec<PortInfo>, GuestError> {
    let workspace = guest.workspace()?;
    let (listeners, owners) = workspace
        .rights
        .run(|| {
            let listeners = listeners();
            let owners = owners(&listeners);
            Ok((listeners, owners))
        })
        .await?;
    let since = guest.ports_seen.note(&listeners);
    Rights::own()
        .run(move || {
            let mut all = owners;
            if all.len() < listeners.len() {
                all.extend(self::owners(&listeners));
            }
            Ok(describe(&listeners, &all, &since))
        })
        .await
}

/// Reads both tables.
fn listeners() -> Vec<Listener> {
    let mut all = Vec::new();
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let mut text = String::new();
        // A last line that is cut is no listener.
        let read = std::fs::File::open(table).and_then(|file| file.take(TABLE_BYTES_MAX).read_to_string(&mut text));
        if read.is_ok() {
            all.extend(parse(&text).take(PORTS_MAX));
        }
    }
    all
}

/// The programs that hold these sockets, as far as the calling thread may look.
fn owners(listeners: &[Listener]) -> HashMap<u64, Owner> {
    let mut owners = HashMap::new();
    let mut budget = DESCRIPTORS_MAX;
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return owners;
    };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        for descriptor in descriptors.flatten() {
            budget = budget.saturating_sub(1);
            if budget == 0 || owners.len() == listeners.len() {
                return owners;
            }
            let Some(inode) = socket_inode(&descriptor.path()) else {
                continue;
            };
            if listeners.iter().any(|l| l.inode == inode)
                && let Ok(name) = std::fs::read(process.path().join("comm"))
            {
                let name = String::from_utf8_lossy(name.trim_ascii_end()).into_owned();
                owners.insert(inode, Owner { pid, name });
            }
        }
    }
    owners
}

/// One entry per port, described by the listener that is open widest.
fn describe(listeners: &[Listener], owners: &HashMap<u64, Owner>, since: &HashMap<u64, i64>) -> Vec<PortInfo> {
    let mut ports: BTreeMap<u16, Vec<&Listener>> = BTreeMap::new();
    for listener in listeners {
        ports.entry(listener.port).or_default().push(listener);
    }
    ports
        .into_iter()
        .filter_map(|(port, of_port)| {
            let listener = *of_port.iter().max_by_key(|l| width(l.address))?;
            let owner = of_port.iter().find_map(|l| owners.get(&l.inode));
            Some(PortInfo {
                port,
                loopback: loopback(listener.address),
                process: owner.map(|owner| owner.name.clone()),
                address: Some(listener.address.to_string()),
                pid: owner.map(|owner| owner.pid),
                uid: Some(listener.uid),
                since_ms: of_port.iter().filter_map(|l| since.get(&l.inode)).min().copied().unwrap_or_default(),
            })
        })
        .take(PORTS_MAX)
        .collect()
}

/// How many an address lets in; of two that are open alike, version 4 is the one to tell.
fn width(address: IpAddr) -> (bool, bool, Reverse<IpAddr>) {
    (address.is_unspecified(), !loopback(address), Reverse(address))
}

fn loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn socket_inode(path: &std::path::Path) -> Option<u64> {
    let link = std::fs::read_link(path).ok()?;
    let text = link.to_str()?;
    text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Lines are `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode`, described in
/// the kernel's `Documentation/networking/proc_net_tcp.rst`.
fn parse(table: &str) -> impl Iterator<Item = Listener> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        if fields.nth(1)? != STATE_LISTEN {
            return None;
        }
        let uid = fields.nth(3)?.parse().ok()?;
        let inode = fields.nth(1)?.parse().ok()?;
        let (address, port) = local.split_once(':')?;
        let address = address_of(address).filter(|address| *address != ENGINE_RESOLVER)?;
        Some(Listener { port: u16::from_str_radix(port, 16).ok()?, address, uid, inode })
    })
}

/// An address is printed as 32-bit words in the machine's own byte order.
fn address_of(address: &str) -> Option<IpAddr> {
    let mut bytes = Vec::with_capacity(16);
    for word in address.as_bytes().chunks(8) {
        let word = std::str::from_utf8(word).ok()?;
        bytes.extend(u32::from_str_radix(word, 16).ok()?.to_ne_bytes());
    }
    if let Ok(v4) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(Ipv4Addr::from(v4).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?).into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_real_listener_is_found_and_named() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let listeners = listeners();
        let seen = Seen::default();
        let since = seen.note(&listeners);
        let ports = describe(&listeners, &owners(&listeners), &since);
        let found = ports.iter().find(|p| p.port == port).unwrap();
        assert_eq!((found.loopback, found.address.as_deref()), (true, Some("127.0.0.1")));
        assert_eq!((found.pid, found.uid), (Some(std::process::id()), Some(rustix::process::getuid().as_raw())));
        assert!(found.process.is_some());
        assert_eq!(seen.note(&listeners), since, "seen once, the time stays");
        assert!(seen.note(&[]).is_empty());
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn tables_are_read_and_nonsense_is_skipped() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 11 1\n\
            1: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12 1\n\
            2: 0100007F:1F92 0100007F:0050 01 00000000:00000000 00:00000000 00000000  1000        0 13 1\n\
            3: 00000000000000000000000001000000:1F93 0:0 0A 0:0 00:0 0 0 0 14 1\n\
            4: 0000000000000000FFFF00000100007F:1F94 0:0 0A 0:0 00:0 0 0 0 15 1\n\
            5: 0B00007F:1F95 0:0 0A 0:0 00:0 0 0 0 16 1\n\
            6: zz:1F93 0:0 0A 0:0 00:0 0 0 0 14 1\n\
            7: nonsense\n";
        let found: Vec<_> = parse(table).map(|l| (l.port, loopback(l.address), l.uid, l.inode)).collect();
        assert_eq!(found, [(8080, false, 1000, 11), (8081, true, 1000, 12), (8083, true, 0, 14), (8084, true, 0, 15)]);
    }
}
