//! What is never dialled, whatever a policy says: the machine that the gateway runs on, by any of its addresses, the networks
//! of its workspaces, and every other network that it has inside: containers of anybody. The gateway dials from the machine's
//! own network, where no rule keeps any of them apart.

use crate::address::canonical;
use crate::rule::Range;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

/// Any will do: nothing is sent.
const PORT: u16 = 9;
const ROUTES: &str = "/proc/net/route";
const ROUTES_V6: &str = "/proc/net/ipv6_route";
const INTERFACES: &str = "/sys/class/net";

#[derive(Debug)]
pub struct Own {
    /// Of the workspaces' networks.
    pub ranges: Vec<Range>,
}

impl Own {
    /// What cannot be told counts as its own.
    pub fn has(&self, address: IpAddr) -> bool {
        let address = canonical(address);
        self.ranges.iter().any(|range| range.contains(address))
            || is_here(address).unwrap_or(true)
            || is_inside(address).unwrap_or(true)
    }
}

/// A way of the kernel's, as it tells of it.
#[derive(Debug, PartialEq)]
struct Route<'a> {
    to: u128,
    bits: u32,
    by_gateway: bool,
    interface: &'a str,
}

/// Whether it lies on a bridge of this machine, such as engines make. One that a gateway is reached by leads outside.
fn is_inside(address: IpAddr) -> io::Result<bool> {
    let (path, width) = if address.is_ipv4() { (ROUTES, 32) } else { (ROUTES_V6, 128) };
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && address.is_ipv6() => return Ok(false),
        text => text?,
    };
    let routes: Vec<Route<'_>> = match address {
        IpAddr::V4(_) => text.lines().filter_map(route_v4).collect(),
        IpAddr::V6(_) => text.lines().filter_map(route_v6).collect(),
    };
    let bits = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    let is_bridge = |interface: &str| Path::new(INTERFACES).join(interface).join("bridge").exists();
    Ok(inside(&routes, bits, width).is_some_and(is_bridge))
}

/// The interface that it lies on, if no gateway is reached by that.
fn inside<'a>(routes: &[Route<'a>], address: u128, width: u32) -> Option<&'a str> {
    let leads = |route: &&Route<'_>| route.bits == 0 || (address ^ route.to) >> (width - route.bits) == 0;
    let way = routes.iter().filter(leads).max_by_key(|route| route.bits)?;
    let is_outward = routes.iter().any(|route| route.by_gateway && route.interface == way.interface);
    (!way.by_gateway && !is_outward).then_some(way.interface)
}

/// A line of `/proc/net/route`: interface, destination, gateway, flags, three counts, mask; addresses as this machine's bytes.
fn route_v4(line: &str) -> Option<Route<'_>> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let bits = |word: &str| u32::from_str_radix(word, 16).ok().map(|bits| u32::from_be_bytes(bits.to_ne_bytes()));
    let (to, gateway, mask) = (bits(words.get(1)?)?, bits(words.get(2)?)?, bits(words.get(7)?)?);
    let interface = words.first()?;
    Some(Route { to: to.into(), bits: mask.count_ones(), by_gateway: gateway != 0, interface })
}

/// A line of `/proc/net/ipv6_route`: destination, its length, source, its length, next hop, three counts, flags, interface.
fn route_v6(line: &str) -> Option<Route<'_>> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let bits = |word: &str| u128::from_str_radix(word, 16).ok();
    let length = u32::from_str_radix(words.get(1)?, 16).ok()?;
    let interface = words.get(9)?;
    // The kernel's own entry of what it has no way to.
    let is_way = *interface != "lo" && length <= 128;
    is_way.then_some(Route {
        to: bits(words.first()?)?,
        bits: length,
        by_gateway: bits(words.get(4)?)? != 0,
        interface,
    })
}

/// The kernel sends to an address of its own from that very address.
fn is_here(address: IpAddr) -> io::Result<bool> {
    let any = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = match UdpSocket::bind(SocketAddr::new(any, 0)) {
        // No IPv6 here: none of it is its own, and none is reached.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(false),
        bound => bound?,
    };
    match socket.connect(SocketAddr::new(address, PORT)) {
        // Whole ranges may be its own (`ip route add local`): it reaches those through its loopback.
        Ok(()) => socket.local_addr().map(|from| from.ip() == address || from.ip().is_loopback()),
        // There is no way there, so that dialling it says the same.
        Err(error) if matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::rule::{Rule, To};

    #[test]
    fn the_machine_and_its_workspaces_are_known() {
        let To::Range(range) = "172.18.0.0/16".parse::<Rule>().unwrap().to else { panic!("a range") };
        let own = Own { ranges: vec![range] };
        for (address, is_own) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::ffff:127.0.0.1", true),
            ("172.18.0.9", true),
            ("198.51.100.9", false),
        ] {
            assert_eq!(own.has(address.parse().unwrap()), is_own, "{address}");
        }
    }

    #[test]
    fn networks_inside_are_told_from_ways_out() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    br0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    br0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                    docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let routes: Vec<_> = text.lines().filter_map(route_v4).collect();
        assert_eq!(routes.len(), 3);
        let on = |address: &str| inside(&routes, address.parse::<Ipv4Addr>().unwrap().to_bits().into(), 32);
        assert_eq!(on("172.17.3.4"), Some("docker0"));
        assert_eq!([on("10.0.0.9"), on("198.51.100.1"), on("172.18.0.1")], [None; 3], "by what leads outside");
        let v6 = "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 \
                  00000100 00000001 00000000 00000001 docker0\n\
                  00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 \
                  ffffffff 00000001 00000000 00200200       lo\n";
        let routes: Vec<_> = v6.lines().filter_map(route_v6).collect();
        let on = |address: &str| inside(&routes, address.parse::<Ipv6Addr>().unwrap().to_bits(), 128);
        assert_eq!((routes.len(), on("fd00::9"), on("2001:db8::1")), (1, Some("docker0"), None));
    }
}
