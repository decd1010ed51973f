//! The gateway of a host: the one way out for workspaces on its *closed* network.
//!
//! ```text
//!   workspace (closed network: internal, no route, siblings apart) -> the bridge's own address, a few ports of it, nothing else
//!     -> gateway (our guest binary in a container of the host's network) -> what its policy lets through
//! ```
//!
//! It is one container per network, outlives the server, and is told everything over `guest connect gateway` by exec, on any
//! transport. One of another build is made anew. It is made when the network's rules are in force, never before.
//!
//! Invariant: an address on the closed network is given by us and means one workspace; the gateway knows it or it reaches
//! nothing. What the gateway forgets, by its end, is closed.

use super::delivery::{EMPTY_IMAGE, GUEST_HASH, VOLUME, program};
use super::{Host, LABEL_GATEWAY, shares_kernel};
use rexec_api::gateway::GatewaySettings;
use rexec_api::guest::MOUNT;
use rexec_channel::GuestClient;
use rexec_egress::authority::BUNDLES;
use rexec_engine::firewall::Leave;
use rexec_engine::{
    ContainerSpec, ContainerState, EngineError, EngineInfo, ExecStart, Labels, Limits, Mount, Profile, Subnet,
};
use std::net::SocketAddrV4;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Where its proxy listens, at the address of the closed network's bridge, as proxies do; else at one of the others.
pub const PROXY_PORT: u16 = 3128;
const OTHER_PORTS: [u16; 2] = [13128, 23128];
/// It is idle most of the time, and needs 10 MiB then; a thousand busy connections take some tens.
const LIMITS: Limits = Limits { cpu: 2.0, memory_bytes: 512 << 20, pids: 64 };
/// How long it may take to answer for the first time.
const START_MAX: Duration = Duration::from_secs(10);
/// Beside all else that a request to a guest has.
const ROOTS_BYTES_MAX: usize = 1 << 20;
const START_RETRY: Duration = Duration::from_millis(50);

/// A gateway that was met.
pub struct Gateway {
    pub client: GuestClient,
    /// The closed network, and what addresses there are on it.
    pub network: String,
    pub subnet: Subnet,
    pub container: String,
    /// Another after each of its starts.
    pub life: Uuid,
    port: u16,
    /// The web's ports, if it listens there.
    direct: Vec<u16>,
    bridge: String,
    driver: JoinHandle<()>,
}

/// Why there is none.
#[derive(Debug, Clone)]
pub enum NoGateway {
    /// There cannot be one on this host, until somebody changes it.
    Never(String),
    Unknown(String),
}

impl NoGateway {
    pub fn why(&self) -> &str {
        match self {
            Self::Never(why) | Self::Unknown(why) => why,
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Gateway {
    pub fn proxy(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.subnet.gateway(), self.port)
    }

    #[cfg(test)]
    pub(super) async fn over(stream: tokio::io::DuplexStream) -> Self {
        let (client, driver) = GuestClient::connect(stream).await.expect("a stream of memory");
        Self {
            client,
            network: String::new(),
            subnet: "192.0.2.0/24".parse().expect("a range"),
            container: String::new(),
            life: Uuid::nil(),
            port: PROXY_PORT,
            direct: Vec::new(),
            bridge: String::new(),
            driver: tokio::spawn(driver),
        }
    }

    fn leave(&self) -> Leave {
        let ports = std::iter::once(self.port).chain(self.direct.iter().copied()).collect();
        Leave::Gateway { address: self.subnet.gateway(), ports }
    }
}

/// Authorities that this machine trusts, and the operator's own, in PEM.
async fn roots(more: Option<&Path>) -> String {
    let mut text = String::new();
    if let Some(path) = more {
        match tokio::fs::read_to_string(path).await {
            Ok(own) => text.push_str(&own),
            Err(error) => tracing::warn!(%error, path = %path.display(), "the operator's authorities cannot be read"),
        }
    }
    for path in BUNDLES {
        if let Ok(bundle) = tokio::fs::read_to_string(Path::new("/").join(path)).await {
            text.push_str(&bundle);
            break;
        }
    }
    if text.len() > ROOTS_BYTES_MAX {
        tracing::error!(
            bytes = text.len(),
            "too many authorities to tell a gateway: hosts that secrets are for are not reached"
        );
        text.clear();
    }
    text
}

impl Host {
    /// Makes the closed network, closes it, and meets its gateway, which is made where there is none of this build; else why
    /// this host has none.
    pub async fn open_gateway(&self, info: &EngineInfo) -> Result<Gateway, NoGateway> {
        let unknown = |error: EngineError| NoGateway::Unknown(self.why(&error));
        let (network, bridge, subnet) = self.ensure_closed_network().await.map_err(|error| match error {
            EngineError::Refused(_) | EngineError::Conflict(_) => NoGateway::Never(self.why(&error)),
            error => unknown(error),
        })?;
        let only_proxy = Leave::Gateway { address: subnet.gateway(), ports: vec![PROXY_PORT] };
        self.close_but_for(info, &bridge, &only_proxy).await?;
        let container = self.ensure_gateway(info, &network).await.map_err(unknown)?;
        let (client, driver) = self.meet_gateway(&container).await.map_err(NoGateway::Unknown)?;
        let (life, port, direct) = (Uuid::nil(), PROXY_PORT, Vec::new());
        let mut gateway = Gateway { client, network, subnet, container, life, port, direct, bridge, driver };
        // It dials from the machine's own network, where no rule keeps siblings apart.
        let open = self.engine.network(&self.network).await.map_err(unknown)?;
        let closed = [Some(gateway.subnet), open.and_then(|open| open.subnet)];
        let closed = closed.into_iter().flatten().map(|subnet| subnet.to_string()).collect();
        let settings = GatewaySettings {
            proxy: gateway.proxy(),
            other_ports: OTHER_PORTS.into(),
            direct: self.egress.direct,
            resolvers: self.egress.resolvers.clone(),
            closed,
            upstream: self.egress.upstream.as_ref().map(|upstream| upstream.told()),
            roots: roots(self.egress.authorities.as_deref()).await,
            models: self.egress.models.told(),
        };
        let state = gateway.client.set_gateway(&settings).await;
        let state = state.map_err(|error| NoGateway::Unknown(error.to_string()))?;
        gateway.life = state.life;
        // Another program of that machine may have the usual one.
        gateway.port = state.proxy.map_or(PROXY_PORT, |proxy| proxy.port());
        gateway.direct = state.direct;
        let leave = gateway.leave();
        if leave != only_proxy {
            // Only now: another program may have been at these ports.
            self.close_but_for(info, &gateway.bridge, &leave).await?;
        }
        if let Some(why) = state.no_direct {
            tracing::warn!(host = self.name, why, "programs that know no proxies reach nothing through its gateway");
        }
        if let Some(why) = state.no_names {
            tracing::warn!(
                host = self.name,
                why,
                "its gateway answers no questions for names; what asks the proxy works"
            );
        }
        Ok(gateway)
    }

    /// Sets the rules around it again, should somebody have taken them away.
    pub(super) async fn close_again(&self, info: &EngineInfo, gateway: &Gateway) -> Result<(), NoGateway> {
        self.close_but_for(info, &gateway.bridge, &gateway.leave()).await
    }

    /// The container, running.
    async fn ensure_gateway(&self, info: &EngineInfo, network: &str) -> Result<String, EngineError> {
        let spec = self.gateway_container(info, network);
        if let Some(there) = self.engine.inspect(&spec.name).await? {
            let is_ours = there.labels.get(LABEL_GATEWAY).is_some_and(|build| build == GUEST_HASH);
            if is_ours && there.state == ContainerState::Running {
                return Ok(there.id);
            }
            self.engine.remove(&there.id).await?;
        }
        let id = match self.engine.create(&spec).await {
            // Another server was quicker; its guest may be another build, which is seen next time.
            Err(EngineError::Conflict(why)) => {
                let there = self.engine.inspect(&spec.name).await?.ok_or(EngineError::Conflict(why))?;
                there.id
            }
            made => made?,
        };
        self.engine.start(&id).await?;
        Ok(id)
    }

    fn gateway_container(&self, info: &EngineInfo, network: &str) -> ContainerSpec {
        let mut labels = self.labels_to_give();
        labels.insert(LABEL_GATEWAY.into(), GUEST_HASH.into());
        // The host's network is had by what shares its kernel.
        let runtime = match shares_kernel(&info.default_runtime) {
            true => None,
            false => info.runtimes.iter().find(|name| shares_kernel(name)).cloned(),
        };
        ContainerSpec {
            name: format!("{network}-gateway"),
            hostname: "gateway".into(),
            image: EMPTY_IMAGE.into(),
            command: vec![program(""), "egress".into()],
            env: Vec::new(),
            labels,
            network: "host".into(),
            address: None,
            runtime,
            profile: Profile::Gateway,
            limits: LIMITS,
            mounts: vec![Mount { volume: VOLUME.into(), path: MOUNT.into(), read_only: true, labels: Labels::new() }],
            root_bytes: None,
            dial_dir: None,
        }
    }

    /// Its process takes a moment to listen.
    async fn meet_gateway(&self, container: &str) -> Result<(GuestClient, JoinHandle<()>), String> {
        let command = vec![program(""), "connect".into(), "gateway".into()];
        let exec = ExecStart { command, user: "0:0".into(), env: Vec::new() };
        let meet = async {
            loop {
                let stream = self.engine.exec_stream(container, &exec).await.map_err(|error| self.why(&error))?;
                if let Ok((client, driver)) = GuestClient::connect(stream).await {
                    // Ended with the gateway's owner from here on.
                    let driver = tokio::spawn(driver);
                    if client.gateway().await.is_ok() {
                        return Ok((client, driver));
                    }
                    driver.abort();
                }
                tokio::time::sleep(START_RETRY).await;
            }
        };
        let met = tokio::time::timeout(START_MAX, meet).await;
        met.unwrap_or_else(|_| Err("Its gateway does not answer.".into()))
    }
}
