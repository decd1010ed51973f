//! The addresses of the machine that the gateway runs on, by the kernel's own table of them (proc_pid_net(5), `fib_trie`).
//!
//! A workspace reaches none of its host's ports by any of its addresses, public ones included. Addresses come and go, so they
//! are read again.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const IPV4: &str = "/proc/self/net/fib_trie";
const IPV6: &str = "/proc/self/net/if_inet6";
const KNOWN_FOR: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub struct Own(Mutex<Option<(Instant, Arc<HashSet<IpAddr>>)>>);

impl Own {
    pub fn has(&self, address: IpAddr) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses = match &*known {
            Some((read, addresses)) if read.elapsed() < KNOWN_FOR => addresses.clone(),
            _ => {
                let text = |path| std::fs::read_to_string(path).unwrap_or_default();
                let addresses = Arc::new(of_trie(&text(IPV4)).chain(of_list(&text(IPV6))).collect());
                *known = Some((Instant::now(), Arc::clone(&addresses)));
                addresses
            }
        };
        addresses.contains(&crate::address::canonical(address))
    }
}

/// Those that stand before `/32 host LOCAL`.
fn of_trie(text: &str) -> impl Iterator<Item = IpAddr> {
    let mut last: Option<Ipv4Addr> = None;
    text.lines().filter_map(move |line| match line.trim().strip_prefix("|-- ") {
        Some(address) => {
            last = address.parse().ok();
            None
        }
        None => last.filter(|_| line.trim() == "/32 host LOCAL").map(IpAddr::V4),
    })
}

/// 32 hexadecimal digits begin each line.
fn of_list(text: &str) -> impl Iterator<Item = IpAddr> {
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let bits = text.lines().filter_map(first).filter_map(|digits| u128::from_str_radix(&digits, 16).ok());
    bits.map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 4\n     |-- 127.0.0.0\n        /8 host LOCAL\n     |-- 127.0.0.1\n        /32 host \
                    LOCAL\n     |-- 198.51.100.0\n        /24 link UNICAST\n     |-- 198.51.100.7\n        /32 host LOCAL\n";
        let own: Vec<String> = of_trie(trie).map(|address| address.to_string()).collect();
        assert_eq!(own, ["127.0.0.1", "198.51.100.7"]);
        let list = "00000000000000000000000000000001 01 80 10 80       lo\nx\n";
        assert_eq!(of_list(list).collect::<Vec<_>>(), [IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        assert!(Own::default().has(IpAddr::V4(Ipv4Addr::LOCALHOST)), "this machine has it");
    }
}
