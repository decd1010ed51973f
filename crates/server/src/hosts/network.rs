//! The network of a host's workspaces, and its bridge: what the rules of the machine hold to.
//!
//! Engines that share a machine each have a bridge of their own, called after the record of the server. A network that is
//! there already was made by a record that is gone, or by another installation of ours: its bridge is taken as it is, since
//! stopped containers hold to that network.

use super::Host;
use rexec_engine::{Addresses, EngineError, Labels, NetworkSpec, Subnet};

/// What all bridges of ours begin with.
const OURS: &str = "rexec";

impl Host {
    pub(super) async fn ensure_network(&self) -> Result<(), EngineError> {
        if let Some(there) = self
            .engine
            .network(&self.network)
            .await?
            .and_then(|there| there.bridge)
            .filter(|name| name.starts_with(OURS))
        {
            self.set_bridge(there);
        }
        let network = NetworkSpec {
            name: self.network.clone(),
            bridge: self.bridge(),
            internal: false,
            addresses: Addresses::Engine,
            labels: Labels::from([("rexec.network".into(), "1".into())]),
        };
        self.engine.ensure_network(&network).await
    }
}

impl Host {
    /// What it is called: of this installation alone, whose addresses on it are.
    pub fn closed_network(&self) -> String {
        let own = || format!("{}-closed-{}", self.network, self.instance);
        self.egress.network.clone().unwrap_or_else(own)
    }

    /// The network from which only the gateway is reached: its name and its bridge's. Its containers' addresses are ours.
    pub(super) async fn ensure_closed_network(&self) -> Result<(String, String, Subnet), EngineError> {
        let name = self.closed_network();
        let there = self.engine.network(&name).await?.and_then(|there| there.bridge);
        let bridge = there.filter(|name| name.starts_with(OURS));
        let bridge = bridge.unwrap_or_else(|| bridge_name(&format!("{}/{name}", self.bridge())));
        let mut labels = self.extra_labels.clone();
        labels.insert("rexec.network".into(), "1".into());
        let network = NetworkSpec {
            name: name.clone(),
            bridge: bridge.clone(),
            internal: true,
            addresses: Addresses::Ours,
            labels,
        };
        self.engine.ensure_network(&network).await?;
        let subnet = self.engine.network(&name).await?.and_then(|there| there.subnet);
        let subnet = subnet.ok_or_else(|| EngineError::Protocol(format!("the network {name:?} has no one range")))?;
        Ok((name, bridge, subnet))
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
