//! Ports on which something listens, from the kernel's own tables.
//!
//! The tables and the processes' names are the tenant's to influence; everything is bounded and
//! nothing that cannot be read is an error.

use rexec_api::guest::PortInfo;
use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;

/// Most ports in one answer.
const PORTS_MAX: usize = 1024;
/// Most processes and descriptors looked at to find a listener's name.
const DESCRIPTORS_MAX: usize = 65_536;
/// The state of a listening socket in `/proc/net/tcp` (`TCP_LISTEN`).
const STATE_LISTEN: &str = "0A";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    port: u16,
    loopback: bool,
    inode: u64,
}

/// Reads both tables.
pub fn listeners() -> Vec<Listener> {
    let mut all = Vec::new();
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        if let Ok(text) = std::fs::read_to_string(table) {
            all.extend(parse(&text).take(PORTS_MAX));
        }
    }
    all
}

/// Names the programs that hold these sockets, as far as the calling thread may look.
pub fn owners(listeners: &[Listener]) -> HashMap<u64, String> {
    let mut owners = HashMap::new();
    let mut budget = DESCRIPTORS_MAX;
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return owners;
    };
    for process in processes.flatten() {
        if !process.file_name().as_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
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
                && let Ok(name) = std::fs::read_to_string(process.path().join("comm"))
            {
                owners.insert(inode, name.trim_end().to_owned());
            }
        }
    }
    owners
}

/// One entry per port: open to more than loopback if any of its listeners is.
pub fn describe(listeners: &[Listener], owners: &HashMap<u64, String>) -> Vec<PortInfo> {
    let mut ports: BTreeMap<u16, PortInfo> = BTreeMap::new();
    for listener in listeners {
        let process = owners.get(&listener.inode).cloned();
        let port =
            ports.entry(listener.port).or_insert(PortInfo { port: listener.port, loopback: true, process: None });
        port.loopback &= listener.loopback;
        port.process = port.process.take().or(process);
    }
    ports.into_values().take(PORTS_MAX).collect()
}

fn socket_inode(path: &std::path::Path) -> Option<u64> {
    let link = std::fs::read_link(path).ok()?;
    let text = link.to_str()?;
    text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Lines are `sl local_address rem_address st ... inode`, described in the kernel's
/// `Documentation/networking/proc_net_tcp.rst`.
fn parse(table: &str) -> impl Iterator<Item = Listener> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        if fields.nth(1)? != STATE_LISTEN {
            return None;
        }
        let inode = fields.nth(5)?.parse().ok()?;
        let (address, port) = local.split_once(':')?;
        Some(Listener { port: u16::from_str_radix(port, 16).ok()?, loopback: is_loopback(address)?, inode })
    })
}

/// An address is printed as 32-bit words in the machine's own byte order.
fn is_loopback(address: &str) -> Option<bool> {
    let mut bytes = Vec::with_capacity(16);
    for word in address.as_bytes().chunks(8) {
        let word = std::str::from_utf8(word).ok()?;
        bytes.extend(u32::from_str_radix(word, 16).ok()?.to_ne_bytes());
    }
    if let Ok(v4) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(Ipv4Addr::from(v4).is_loopback());
    }
    let v6 = Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?);
    Some(match v6.to_ipv4_mapped() {
        Some(v4) => v4.is_loopback(),
        None => v6.is_loopback(),
    })
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
        let ports = describe(&listeners, &owners(&listeners));
        let found = ports.iter().find(|p| p.port == port).unwrap();
        assert!(found.loopback);
        assert!(found.process.is_some());
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
            5: zz:1F93 0:0 0A 0:0 00:0 0 0 0 14 1\n\
            6: nonsense\n";
        let found: Vec<_> = parse(table).map(|l| (l.port, l.loopback, l.inode)).collect();
        assert_eq!(found, [(8080, false, 11), (8081, true, 12), (8083, true, 14), (8084, true, 15)]);
    }
}
