//! What is never dialled, whatever a policy says: the machine that the gateway runs on, by any of its addresses, and the
//! networks of its workspaces. The gateway dials from the machine's own network, where no rule keeps siblings apart.

use crate::address::canonical;
use crate::rule::Range;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Any will do: nothing is sent.
const PORT: u16 = 9;

#[derive(Debug)]
pub struct Own {
    /// Of the workspaces' networks.
    pub ranges: Vec<Range>,
}

impl Own {
    /// What cannot be told counts as its own.
    pub fn has(&self, address: IpAddr) -> bool {
        let address = canonical(address);
        self.ranges.iter().any(|range| range.contains(address)) || is_here(address).unwrap_or(true)
    }
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
}
