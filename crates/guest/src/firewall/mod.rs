//! `guest firewall close BRIDGE open [RANGE:PORTS]...`: closes the machine whose network this process has to what comes from
//! a bridge: its own ports at every address, the metadata addresses of clouds, private ranges but for these, the bridge's
//! other containers, IPv6; `close BRIDGE gateway ADDRESS PORT...`: everything but the gateway there. What `firewall.rs` of the
//! engine does by `iptables` where server and engine share a machine, this does by nf_tables on any other, in a helper
//! container of the server's own with that machine's network and `CAP_NET_ADMIN`. Never in a workspace.
//!
//! It looks first and changes nothing that is as it should be; else it replaces the whole table at one moment, and reads
//! it back. It says `{"changed":..,"bridges_filtered":..,"kernel":..}`, or fails with why not.
//!
//! Invariant: no table but the bridge's own is touched. The bridge need not exist yet: rules go by its name.

mod netlink;
mod rules;

use self::netlink::Socket;
use self::rules::{Leave, Pass};
use rexec_api::guest::FirewallClosed;
use rexec_egress::rule::{Ports, Range, Rule, To};
use std::ffi::OsString;
use std::io::{self, Write};
use std::net::IpAddr;

const USAGE: &str =
    "usage: guest firewall close BRIDGE open [RANGE:PORTS]... | guest firewall close BRIDGE gateway ADDRESS PORT...";
/// The kernel's IFNAMSIZ, less its closing zero.
const BRIDGE_BYTES_MAX: usize = 15;
/// Whether the kernel asks rules also about packets between two ports of one bridge.
const BRIDGES_FILTERED: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// Carries out `guest firewall ...`.
pub fn run(arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let words: Option<Vec<String>> = arguments.map(|word| word.into_string().ok()).collect();
    let words = words.unwrap_or_default();
    let (bridge, leave) = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["close", bridge, "open", passes @ ..] => {
            let passes = passes.iter().map(|text| pass(text)).collect::<Option<_>>().ok_or_else(|| invalid(USAGE))?;
            (*bridge, Leave::Open(passes))
        }
        ["close", bridge, "gateway", address, ports @ ..] => {
            let address = address.parse().map_err(|_| invalid(USAGE))?;
            let ports = ports.iter().map(|port| port.parse()).collect::<Result<_, _>>().map_err(|_| invalid(USAGE))?;
            (*bridge, Leave::Gateway { address, ports })
        }
        _ => return Err(invalid(USAGE)),
    };
    let closed = FirewallClosed {
        changed: close(bridge, &leave)?,
        bridges_filtered: std::fs::read_to_string(BRIDGES_FILTERED).is_ok_and(|value| value.trim() == "1"),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
    };
    writeln!(io::stdout(), "{}", serde_json::to_string(&closed)?)
}

fn pass(text: &str) -> Option<Pass> {
    let rule: Rule = text.parse().ok()?;
    let ports = match rule.ports {
        Ports::Any => None,
        Ports::Between(first, last) => Some((first, last)),
        Ports::Web => return None,
    };
    match rule.to {
        To::Range(Range { base: IpAddr::V4(base), bits }) => Some(Pass { base, bits, ports }),
        _ => None,
    }
}

/// Whether anything had to be changed.
fn close(bridge: &str, leave: &Leave) -> io::Result<bool> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if bridge.is_empty() || bridge.len() > BRIDGE_BYTES_MAX || !bridge.bytes().all(inner) {
        return Err(invalid("that is no name of a bridge"));
    }
    let (table, wanted) = (rules::table(bridge), rules::closing(bridge, leave));
    let mut socket = Socket::open(rules::FAMILY).map_err(|error| because("netfilter's socket is not had", error))?;
    let is_closed = |socket: &mut Socket| match rules::read(socket, &table) {
        Ok(found) => Ok(found.as_ref() == Some(&wanted)),
        Err(error) => Err(because("the rules cannot be read", error)),
    };
    if is_closed(&mut socket)? {
        return Ok(false);
    }
    rules::replace(&mut socket, &table, &wanted).map_err(|error| because("the rules cannot be set", error))?;
    match is_closed(&mut socket)? {
        true => Ok(true),
        false => Err(io::Error::other("the rules were set, and are not there")),
    }
}

/// In words that tell an operator what to do; the kernel's own are the last of them.
fn because(what: &str, error: io::Error) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "it takes CAP_NET_ADMIN over that machine's own network",
        Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::ENOENT) => {
            "its kernel has no nf_tables for `inet`"
        }
        _ => "nf_tables refuses",
    };
    io::Error::new(error.kind(), format!("{what}: {hint} ({error})"))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    static OPEN: Leave = Leave::Open(Vec::new());

    /// In a network of its own, which ends with the thread; `None` where that is not to be had.
    fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let thread = std::thread::spawn(|| {
            // SAFETY: what a network namespace is to a thread, nothing here has taken for granted.
            let is_apart = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
            is_apart.then(work)
        });
        thread.join().unwrap()
    }

    #[test]
    fn the_rules_are_set_once_and_again_when_they_are_not_as_they_should_be() {
        let tried = apart(|| {
            assert!(close("rexec0", &OPEN).unwrap(), "nothing was there");
            assert!(!close("rexec0", &OPEN).unwrap(), "all was there");
            assert!(
                close("other", &OPEN).unwrap() && !close("rexec0", &OPEN).unwrap(),
                "each bridge has a table of its own"
            );

            let mut socket = Socket::open(rules::FAMILY).unwrap();
            let fewer = &rules::closing("rexec0", &OPEN)[1..];
            rules::replace(&mut socket, "rexec-rexec0", fewer).unwrap();
            assert!(close("rexec0", &OPEN).unwrap(), "a chain was missing");
            let another = rules::closing("rexec1", &OPEN);
            rules::replace(&mut socket, "rexec-rexec0", &another).unwrap();
            assert!(close("rexec0", &OPEN).unwrap(), "they were about another bridge");
            assert!(!close("rexec0", &OPEN).unwrap() && !close("other", &OPEN).unwrap());
            let passes = Leave::Open(
                ["10.1.0.0/16:80-90", "10.2.0.0/24:*", "0.0.0.0/0:22"].map(|text| pass(text).unwrap()).into(),
            );
            assert!(close("rexec0", &passes).unwrap() && !close("rexec0", &passes).unwrap());
            let gateway = |ports: &[u16]| Leave::Gateway { address: [172, 18, 0, 1].into(), ports: ports.into() };
            assert!(close("rexec0", &gateway(&[3128])).unwrap() && !close("rexec0", &gateway(&[3128])).unwrap());
            assert!(close("rexec0", &gateway(&[3129])).unwrap() && close("rexec0", &gateway(&[3129, 80])).unwrap());
        });
        if tried.is_none() {
            let refused = close("rexec0", &OPEN).unwrap_err();
            assert!(refused.to_string().contains("CAP_NET_ADMIN"), "{refused}");
        }
    }

    #[test]
    fn only_ranges_with_ports_pass() {
        for bad in ["10.0.0.0/8", "a.example:80", "[fd00::/8]:80", "*:80", "10.0.0.1/8:80", ""] {
            assert_eq!(pass(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_bridges_are_closed() {
        for bad in ["", "a b", "sixteen-letters!", "0123456789abcdef", "a\n"] {
            assert_eq!(close(bad, &OPEN).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{bad:?}");
        }
    }
}
