//! Workspace networks: a bridge on which containers do not reach each other.
//!
//! Docker allows two networks of one name, but no two bridges of one name: the bridge is what makes
//! a network safe to ensure when several servers start at once. A network that is there already is used only
//! if it keeps containers apart as asked; it is never changed.

use super::waiting::within;
use super::{CALL_TIMEOUT, DockerEngine, POLL_INTERVAL, WORK_TIMEOUT, found_or_none, profile};
use crate::{EngineError, NetworkSpec, Result};
use bollard::models::{NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::InspectNetworkOptions;
use std::time::Duration;

/// How long a network that is being made by another server may take to be found.
const NETWORK_APPEARS_TIME: Duration = Duration::from_secs(2);
const BRIDGE_OPTION: &str = "com.docker.network.bridge.name";
const APART_OPTION: &str = "com.docker.network.bridge.enable_icc";
/// The kernel's IFNAMSIZ, less its closing zero.
const BRIDGE_BYTES_MAX: usize = 15;

pub(super) fn request(spec: &NetworkSpec) -> Result<NetworkCreateRequest> {
    profile::name(&spec.name)?;
    if profile::name(&spec.bridge).is_err() || spec.bridge.len() > BRIDGE_BYTES_MAX {
        return Err(EngineError::Refused(format!("{:?} is no name for a bridge", spec.bridge)));
    }
    let options = [(BRIDGE_OPTION, spec.bridge.as_str()), (APART_OPTION, "false")];
    Ok(NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some("bridge".into()),
        internal: Some(spec.internal),
        attachable: Some(false),
        enable_ipv6: Some(false),
        options: Some(options.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        ..Default::default()
    })
}

impl DockerEngine {
    pub(super) async fn make_network(&self, spec: &NetworkSpec) -> Result<()> {
        let request = request(spec)?;
        if let Some(there) = self.network(&spec.name).await? {
            return check(spec, &there);
        }
        match within(WORK_TIMEOUT, self.docker.create_network(request)).await {
            Ok(_) => Ok(()),
            // Another server was quicker. Its network has the bridge a moment before it has a name.
            Err(EngineError::Conflict(message)) => {
                let deadline = tokio::time::Instant::now() + NETWORK_APPEARS_TIME;
                loop {
                    match self.network(&spec.name).await? {
                        Some(there) => return check(spec, &there),
                        None if tokio::time::Instant::now() >= deadline => return Err(EngineError::Conflict(message)),
                        None => tokio::time::sleep(POLL_INTERVAL).await,
                    }
                }
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn network(&self, name: &str) -> Result<Option<Seen>> {
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
        }
    }
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
    } else {
        return Ok(());
    };
    Err(EngineError::Conflict(format!("the network {:?} exists and {wrong}; remove it", spec.name)))
}
