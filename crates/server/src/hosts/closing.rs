//! Keeps workspaces from the machine of their host and from each other: its ports, clouds' metadata, private ranges but for
//! those that the operator lets all of them reach, siblings.
//!
//! Where server and engine share a machine, the server sets the rules itself (`firewall.rs` of the engine). On any other
//! our guest does, in a helper that has that machine's network, the one capability over it and nothing that it can write
//! (`guest firewall close`); it reads back what it has set. Both say the same rules; both look first, and set them
//! again when they are gone: whenever the host comes, when its events were interrupted, and in rounds.
//!
//! Invariants: what is not known to be closed counts as open when a host comes. Later, a host that is ready stays so while
//! it merely cannot be looked at, by a full disk for one: that it does not answer, its pings tell.

use super::gateway::NoGateway;
use super::helper::{Helper, HelperSpec, fault_of};
use super::{Host, shares_kernel};
use crate::config::EgressConfig;
use rexec_api::guest::FirewallClosed;
use rexec_egress::rule::{Ports, Range, Rule, To};
use rexec_engine::firewall::{self, Leave, Pass};
use rexec_engine::{EngineError, EngineInfo, Profile};
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// How often the rules of this machine are looked at: a firewall's reload can take them away.
const HERE_EVERY: Duration = Duration::from_secs(60);
/// The same of another machine, where each look takes a container. What empties all tables there takes the engine's rules
/// away, too, and the engine is started anew then, which is noticed.
const THERE_EVERY: Duration = Duration::from_secs(300);
const CLOSING_MAX: Duration = Duration::from_secs(30);
/// A few words and numbers.
const ANSWER_BYTES_MAX: u64 = 1024;
/// What rules there cannot do; metadata addresses are closed all the same.
const ROOTLESS: &str = "the engine is rootless, what leaves its network is sent by a process of its machine, and no rule there tells it from others";
const ROOTLESS_PODMAN: &str = "the engine is rootless, and its network is none that rules can be set in";
const NO_KERNEL: &str =
    "none of the engine's runtimes is known to share its machine's kernel, whose rules would have to be set";
const NOT_FILTERED: &str = "the engine does not see to it, and its machine's kernel does not either (it does with `modprobe br_netfilter` and \
     `sysctl net.bridge.bridge-nf-call-iptables=1` there)";

/// What looking at the rules, and mending them, has shown; all in sentences.
#[derive(Debug, Default)]
pub(super) struct Closing {
    /// What stands open.
    pub open: Vec<String>,
    /// Why it cannot be told at this moment.
    pub unseen: Option<String>,
}

impl Closing {
    /// Whoever knows nothing better takes what is not known for open.
    pub fn all(self) -> Vec<String> {
        self.open.into_iter().chain(self.unseen).collect()
    }
}

/// Why rules are not set.
enum NotSet {
    /// They cannot be, until somebody changes the machine.
    Never(String),
    Unseen(String),
}

/// Private ranges that the operator lets all reach. Names are no matter of rules here, nor is IPv6, which leads nowhere.
fn passes(operator: &EgressConfig) -> Vec<Pass> {
    let mut passes = Vec::new();
    for rule in operator.allow.iter().filter_map(|text| text.parse::<Rule>().ok()) {
        let To::Range(Range { base: IpAddr::V4(base), bits }) = rule.to else { continue };
        let ports = match rule.ports {
            Ports::Any => vec![None],
            Ports::Web => [80, 443].map(|port| Some((port, port))).into(),
            Ports::Between(first, last) => vec![Some((first, last))],
        };
        passes.extend(ports.into_iter().map(|ports| Pass { base, bits, ports }));
    }
    passes
}

impl Host {
    pub(super) fn rules_every(&self) -> Duration {
        if self.is_here { HERE_EVERY } else { THERE_EVERY }
    }

    /// Sets the rules on what workspaces send, where they are not in force.
    pub(super) async fn close_network(&self, info: &EngineInfo) -> Closing {
        let is_open = |whom: &str, why: &str| format!("Workspaces could reach {whom}: {why}.");
        let ports = if self.is_here { "this machine's ports" } else { "its machine's ports" };
        let all = format!("{ports}, the metadata addresses of its cloud and its private networks");
        // Who sets rules where they hold, and whether siblings are apart by them.
        let leave = Leave::Open(passes(&self.egress));
        let set = self.close_bridge(info, &self.bridge(), &leave).await;
        let mut closing = Closing::default();
        match set {
            Ok(apart) => {
                if info.rootless {
                    closing.open.push(is_open(ports, ROOTLESS));
                }
                closing.open.extend(apart.map(|why| is_open("each other", &why)));
            }
            Err(NotSet::Never(why)) => {
                closing.open.push(is_open(&all, &why));
                closing.open.extend((!info.networks_apart).then(|| is_open("each other", &why)));
            }
            Err(NotSet::Unseen(why)) => {
                closing.unseen = Some(format!("Whether its network is closed to workspaces cannot be told: {why}"));
            }
        }
        closing
    }

    /// Has nothing come from a bridge but what may leave it; else why not.
    pub(super) async fn close_but_for(&self, info: &EngineInfo, bridge: &str, leave: &Leave) -> Result<(), NoGateway> {
        match self.close_bridge(info, bridge, leave).await {
            Ok(None) => Ok(()),
            Ok(Some(why)) | Err(NotSet::Never(why)) => Err(NoGateway::Never(format!("{}.", why.trim_end_matches('.')))),
            Err(NotSet::Unseen(why)) => Err(NoGateway::Unknown(why)),
        }
    }

    /// Why siblings can reach each other all the same.
    async fn close_bridge(&self, info: &EngineInfo, bridge: &str, leave: &Leave) -> Result<Option<String>, NotSet> {
        match (self.is_here, info.rootless) {
            (true, false) => self.close_here(info, bridge, leave).await,
            (_, true) if info.kind == "podman" => Err(NotSet::Never(ROOTLESS_PODMAN.into())),
            _ => self.close_there(info, bridge, leave).await,
        }
    }

    async fn close_here(&self, info: &EngineInfo, bridge: &str, leave: &Leave) -> Result<Option<String>, NotSet> {
        let never = |error: firewall::FirewallError| NotSet::Never(error.to_string());
        firewall::close_host(bridge, leave).await.map_err(never)?;
        match info.networks_apart {
            true => Ok(None),
            false => Ok(firewall::filter_bridges().await.err().map(|error| error.to_string())),
        }
    }

    /// The same on the engine's machine, wherever that is.
    async fn close_there(&self, info: &EngineInfo, bridge: &str, leave: &Leave) -> Result<Option<String>, NotSet> {
        let shares = |name: &&String| shares_kernel(name);
        let runtime = match shares_kernel(&info.default_runtime) {
            true => None,
            false => Some(info.runtimes.iter().find(shares).ok_or_else(|| NotSet::Never(NO_KERNEL.into()))?.clone()),
        };
        let closed = tokio::time::timeout(CLOSING_MAX, self.ask_to_close(runtime, bridge, leave)).await;
        let closed = closed.unwrap_or_else(|_| Err(EngineError::Unavailable("it took too long".into())));
        let closed = closed.map_err(|error| match error {
            EngineError::Unavailable(_)
            | EngineError::DiskFull(_)
            | EngineError::Conflict(_)
            | EngineError::NotFound(_) => NotSet::Unseen(self.why(&error)),
            error => NotSet::Never(error.to_string()),
        })?;
        let closed = closed.map_err(NotSet::Never)?;
        if closed.kernel != info.kernel {
            return Err(NotSet::Never(NO_KERNEL.into()));
        }
        if closed.changed {
            tracing::info!(host = self.name, bridge, "set the rules that close its machine to workspaces");
        }
        Ok((!info.networks_apart && !closed.bridges_filtered).then(|| NOT_FILTERED.to_owned()))
    }

    /// What our guest says there, or why it could not do it.
    async fn ask_to_close(
        &self,
        runtime: Option<String>,
        bridge: &str,
        leave: &Leave,
    ) -> Result<Result<FirewallClosed, String>, EngineError> {
        let spec = HelperSpec {
            // Several may be at it, and each sees to all of it.
            job: format!("firewall-{}", uuid::Uuid::new_v4().simple()),
            runtime,
            profile: Profile::Firewall,
            ..HelperSpec::default()
        };
        let helper = Helper::open(self, spec).await?;
        let said = say(&helper, bridge, leave).await;
        helper.close().await?;
        said
    }
}

async fn say(helper: &Helper, bridge: &str, leave: &Leave) -> Result<Result<FirewallClosed, String>, EngineError> {
    let mut said = Vec::new();
    let (how, what): (_, Vec<String>) = match leave {
        Leave::Open(passes) => ("open", passes.iter().map(Pass::to_string).collect()),
        Leave::Gateway { address, ports } => {
            let ports = ports.iter().map(u16::to_string);
            ("gateway", std::iter::once(address.to_string()).chain(ports).collect())
        }
    };
    let words: Vec<&str> =
        ["firewall", "close", bridge, how].into_iter().chain(what.iter().map(String::as_str)).collect();
    let stream = helper.run(&words).await?;
    match stream.take(ANSWER_BYTES_MAX).read_to_end(&mut said).await {
        Ok(_) => {
            let closed = serde_json::from_slice(&said);
            closed.map(Ok).map_err(|error| EngineError::Protocol(format!("the guest's answer: {error}")))
        }
        Err(error) => Ok(Err(fault_of(error)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_the_operator_pass() {
        let allow = ["a.example", "10.1.0.0/16", "10.2.0.0/24:*", "192.168.0.7:5432", "[fd00::/8]:80"];
        let operator = EgressConfig { allow: allow.map(str::to_owned).into(), ..EgressConfig::default() };
        let passes: Vec<String> = passes(&operator).iter().map(Pass::to_string).collect();
        assert_eq!(passes, ["10.1.0.0/16:80-80", "10.1.0.0/16:443-443", "10.2.0.0/24:*", "192.168.0.7/32:5432-5432"]);
    }
}
