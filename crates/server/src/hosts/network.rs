//! The network of a host's workspaces, and its bridge: what the rules of the machine hold to.
//!
//! Engines that share a machine each have a bridge of their own, called after the record of the server. A network that is
//! there already was made by a record that is gone, or by another installation of ours: its bridge is taken as it is, since
//! stopped containers hold to that network.

use super::Host;
use rexec_engine::{EngineError, Labels, NetworkSpec};

/// What all bridges of ours begin with.
const OURS: &str = "rexec";

impl Host {
    pub(super) async fn ensure_network(&self) -> Result<(), EngineError> {
        if let Some(there) = self.engine.network_bridge(&self.network).await?.filter(|name| name.starts_with(OURS)) {
            self.set_bridge(there);
        }
        let network = NetworkSpec {
            name: self.network.clone(),
            bridge: self.bridge(),
            internal: false,
            labels: Labels::from([("rexec.network".into(), "1".into())]),
        };
        self.engine.ensure_network(&network).await
    }
}

/// The bridge of a network: a name that host rules can hold to, 15 bytes at most (IFNAMSIZ - 1).
pub(super) fn bridge_name(network: &str) -> String {
    if network == "rexec" {
        return "rexec0".into();
    }
    use sha2::Digest as _;
    format!("{OURS}-{}", hex::encode(&sha2::Sha256::digest(network)[..4]))
}
