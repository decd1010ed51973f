//! Workspace networks: a bridge on which containers do not reach each other.
//!
//! Docker gives a container an address of our choice only on a network whose range we chose, too. So that this is one that
//! nothing on the engine's machine uses, the engine is let choose for a network that is made for that and removed.
//!
//! Docker allows two networks of one name, but no two bridges of one name: the bridge is what makes
//! a network safe to ensure when several servers start at once. A network that is there already is used only
//! if it keeps containers apart as asked; it is never changed.

use super::waiting::within;
use super::{CALL_TIMEOUT, DockerEngine, POLL_INTERVAL, WORK_TIMEOUT, found_or_none, profile};
use crate::{Addresses, Engine, EngineError, NetworkSpec, Result, Subnet};
use bollard::models::{
    EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest, NetworkInspect,
};
use bollard::query_parameters::{InspectContainerOptions, InspectNetworkOptions};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long a network that is being made by another server may take to be found.
const NETWORK_APPEARS_TIME: Duration = Duration::from_secs(2);
const BRIDGE_OPTION: &str = "com.docker.network.bridge.name";
const APART_OPTION: &str = "com.docker.network.bridge.enable_icc";
/// On a network whose addresses are ours: Docker does not tell afterwards whose choice its range was.
const OURS_LABEL: &str = "rexec.addresses";
/// How often a range is looked for that is not somebody else's the moment after.
const RANGE_TRIES: u32 = 3;
/// The kernel's IFNAMSIZ, less its closing zero.
const BRIDGE_BYTES_MAX: usize = 15;

pub(super) fn request(spec: &NetworkSpec, range: Option<Subnet>) -> Result<NetworkCreateRequest> {
    profile::name(&spec.name)?;
    if profile::name(&spec.bridge).is_err() || spec.bridge.len() > BRIDGE_BYTES_MAX {
        return Err(EngineError::Refused(format!("{:?} is no name for a bridge", spec.bridge)));
    }
    let options = [(BRIDGE_OPTION, spec.bridge.as_str()), (APART_OPTION, "false")];
    let mut labels: HashMap<_, _> = spec.labels.clone().into_iter().collect();
    let ours = range.map(|range| {
        labels.insert(OURS_LABEL.into(), "1".into());
        let (subnet, gateway) = (Some(range.to_string()), Some(range.gateway().to_string()));
        Ipam { config: Some(vec![IpamConfig { subnet, gateway, ..Default::default() }]), ..Default::default() }
    });
    Ok(NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some("bridge".into()),
        internal: Some(spec.internal),
        attachable: Some(false),
        enable_ipv6: Some(false),
        options: Some(options.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
        labels: Some(labels),
        ipam: ours,
        ..Default::default()
    })
}

impl DockerEngine {
    pub(super) async fn make_network(&self, spec: &NetworkSpec) -> Result<()> {
        request(spec, None)?;
        if let Some(there) = self.seen_network(&spec.name).await? {
            return check(spec, &there);
        }
        let mut made = self.try_network(spec).await;
        for _ in 1..RANGE_TRIES {
            if !made.as_ref().is_err_and(is_range_taken) {
                break;
            }
            made = self.try_network(spec).await;
        }
        match made {
            Ok(()) => Ok(()),
            // Another server was quicker. Its network has the bridge a moment before it has a name.
            Err(EngineError::Conflict(message)) => {
                let deadline = tokio::time::Instant::now() + NETWORK_APPEARS_TIME;
                loop {
                    match self.seen_network(&spec.name).await? {
                        Some(there) => return check(spec, &there),
                        None if tokio::time::Instant::now() >= deadline => return Err(EngineError::Conflict(message)),
                        None => tokio::time::sleep(POLL_INTERVAL).await,
                    }
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn try_network(&self, spec: &NetworkSpec) -> Result<()> {
        let range = match spec.addresses {
            Addresses::Engine => None,
            Addresses::Ours => Some(self.free_range(spec).await?),
        };
        within(WORK_TIMEOUT, self.docker.create_network(request(spec, range)?)).await.map(drop)
    }

    /// A network is left before another is joined: a container that is on none is on the one that it was made for when it
    /// starts, which is no wider than where it was made.
    pub(super) async fn change_network(&self, id: &str, network: &str, address: Option<Ipv4Addr>) -> Result<()> {
        let (id, network) = (profile::name(id)?, profile::own_network(network)?);
        let found = within(CALL_TIMEOUT, self.docker.inspect_container(id, None::<InspectContainerOptions>)).await?;
        let on = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let asked = address.map(|address| address.to_string());
        let given =
            |endpoint: &EndpointSettings| endpoint.ipam_config.as_ref().and_then(|own| own.ipv4_address.clone());
        let is_there = |name: &str, endpoint: &EndpointSettings| {
            name == network && given(endpoint).filter(|address| !address.is_empty()) == asked
        };
        let mut is_on = false;
        for (name, endpoint) in &on {
            if is_there(name, endpoint) {
                is_on = true;
                continue;
            }
            let leave = NetworkDisconnectRequest { container: id.to_owned(), force: Some(true) };
            within(WORK_TIMEOUT, self.docker.disconnect_network(name, leave)).await?;
        }
        if is_on {
            return Ok(());
        }
        let ipam_config =
            asked.map(|ipv4_address| EndpointIpamConfig { ipv4_address: Some(ipv4_address), ..Default::default() });
        let endpoint_config = Some(EndpointSettings { ipam_config, ..Default::default() });
        let join = NetworkConnectRequest { container: id.to_owned(), endpoint_config };
        within(WORK_TIMEOUT, self.docker.connect_network(network, join)).await
    }

    /// One that the engine would give to a network at this moment.
    async fn free_range(&self, spec: &NetworkSpec) -> Result<Subnet> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{}-range-{id}", spec.name);
        let bridge = format!("rxr-{}", &id[..10]);
        let probe = NetworkSpec { name: name.clone(), bridge, addresses: Addresses::Engine, ..spec.clone() };
        let made = within(WORK_TIMEOUT, self.docker.create_network(request(&probe, None)?)).await;
        let there = match made {
            Ok(_) => self.seen_network(&name).await,
            Err(error) => Err(error),
        };
        self.remove_network(&name).await?;
        there?
            .and_then(|there| there.subnet)
            .ok_or_else(|| EngineError::Protocol("the engine does not tell the range of a network".into()))
    }

    pub(super) async fn seen_network(&self, name: &str) -> Result<Option<Seen>> {
        if self.is_podman().await? {
            return self.podman_network(profile::name(name)?).await;
        }
        let found = within(CALL_TIMEOUT, self.docker.inspect_network(name, None::<InspectNetworkOptions>)).await;
        // Docker also finds networks by the start of an id.
        Ok(found_or_none(found)?.filter(|network| network.name.as_deref() == Some(name)).map(Seen::of))
    }
}

/// What matters of a network that is there.
#[derive(Debug)]
pub(super) struct Seen {
    pub is_bridge: bool,
    pub bridge: Option<String>,
    pub is_apart: bool,
    pub ipv6: bool,
    pub internal: bool,
    pub subnet: Option<Subnet>,
    /// Its addresses are.
    pub ours: bool,
}

impl Seen {
    pub(super) fn of(there: NetworkInspect) -> Seen {
        let mut options = there.options.unwrap_or_default();
        Seen {
            is_bridge: there.driver.as_deref() == Some("bridge"),
            bridge: options.remove(BRIDGE_OPTION),
            is_apart: options.get(APART_OPTION).map(String::as_str) == Some("false"),
            ipv6: there.enable_ipv6 == Some(true),
            internal: there.internal.unwrap_or(false),
            subnet: only(
                there.ipam.iter().flat_map(|ipam| &ipam.config).flatten().filter_map(|config| config.subnet.as_deref()),
            ),
            ours: is_ours(there.labels.as_ref()),
        }
    }
}

/// The one IPv4 range of a network.
pub(super) fn only<'a>(ranges: impl Iterator<Item = &'a str>) -> Option<Subnet> {
    let mut ranges = ranges.filter_map(|range| range.parse().ok());
    ranges.next().filter(|_| ranges.next().is_none())
}

pub(super) fn is_ours(labels: Option<&HashMap<String, String>>) -> bool {
    labels.is_some_and(|labels| labels.contains_key(OURS_LABEL))
}

/// Docker's words: somebody was quicker.
fn is_range_taken(error: &EngineError) -> bool {
    matches!(error, EngineError::Refused(message) | EngineError::Conflict(message)
        if message.contains("Pool overlaps") || message.contains("already used on the host"))
}

/// Whether a network that is there is the one asked for.
pub(super) fn check(spec: &NetworkSpec, there: &Seen) -> Result<()> {
    let wrong = if !there.is_bridge {
        "is no bridge"
    } else if there.bridge.as_ref() != Some(&spec.bridge) {
        "has another bridge"
    } else if !there.is_apart {
        "lets containers reach each other"
    } else if there.ipv6 {
        "has IPv6 on"
    } else if there.internal != spec.internal {
        "is not as closed to the outside as asked"
    } else if (spec.addresses == Addresses::Ours) != there.ours {
        "gives addresses otherwise"
    } else {
        return Ok(());
    };
    Err(EngineError::Conflict(format!("the network {:?} exists and {wrong}; remove it", spec.name)))
}
