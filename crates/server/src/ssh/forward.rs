//! Byte streams to what listens in the workspace.

use crate::config::Use;
use crate::error::Result;
use crate::workspaces::{Reach, Used, Waker};
use rexec_api::guest::DialSpec;
use rexec_channel::{BodyReceiver, BodySender, Tunnel};
use rexec_ssh::{Destination, Duplex, Refusal};
use std::net::IpAddr;

/// Longest path of a socket that is repeated in the audit log.
pub(super) const PATH_CHARS_MAX: usize = 256;

/// What to dial, and what it is called in the audit log. The workspace's own ports and sockets only: the gateway is no
/// way into other networks.
pub(super) fn judge(to: &Destination) -> Result<(DialSpec, String), Refusal> {
    match to {
        Destination::Tcp { host, port } if is_here(host) => Ok((DialSpec::Tcp { port: *port }, format!("port {port}"))),
        Destination::Tcp { .. } => {
            Err(Refusal::forbidden("Only ports of the workspace itself are forwarded to: name `localhost`."))
        }
        Destination::Unix { path } => {
            let shown = path.chars().take(PATH_CHARS_MAX).collect();
            Ok((DialSpec::Unix { path: path.clone() }, shown))
        }
    }
}

pub(super) fn is_here(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

pub(super) async fn dial(reach: Reach, spec: &DialSpec) -> Result<Box<dyn Duplex>> {
    let (sender, receiver) = reach.guest.dial(spec).await?;
    Ok(used(sender, receiver, reach.waker))
}

/// A stream of the workspace's, whose traffic counts as use.
pub(super) fn used(sender: BodySender, receiver: BodyReceiver, waker: Waker) -> Box<dyn Duplex> {
    Box::new(Used::new(Tunnel::new(sender, receiver), waker, Use::Ssh))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_workspace_itself_is_forwarded_to() {
        for host in ["localhost", "LOCALHOST.", "127.0.0.1", "127.8.9.1", "::1", "app.localhost"] {
            assert!(is_here(host), "{host}");
        }
        for host in ["", "example.com", "10.0.0.1", "169.254.169.254", "0.0.0.0", "localhost.example.com", "1"] {
            assert!(!is_here(host), "{host}");
        }
    }
}
