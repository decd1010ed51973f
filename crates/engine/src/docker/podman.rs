//! What Podman does otherwise behind Docker's API, and what only its own API tells.
//!
//! It says names of images in full, with the registry that they stand for; it neither keeps the containers of a network
//! apart nor tells which bridge a network has; it takes no runtime of a container's own; and of limits it tells what the
//! machine could hold, not what its user may.

use super::faults::engine_error;
use super::transport::{Body, json as read_json};
use super::waiting::unavailable;
use super::{CALL_TIMEOUT, DockerEngine, hijack, label_filters, networks};
use crate::{CommitConfig, ContainerSpec, Engine, EngineError, EngineInfo, Labels, Profile, Result};
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, ContainerUpdateBody, ResourcesUlimits,
};
use bytes::Bytes;
use http::Request;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Empty, Full};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capability_is_in_bounding_set};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;

/// Its own API, at the oldest version that has what is asked here.
const OWN_API: &str = "/v4.0.0/libpod";
const DOCKERS_API: &str = "/v1.41";
/// The longest answer of it that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The registry of names that name none, as Podman says them in full.
const HUB: &[&str] = &["docker.io/library/", "docker.io/"];
/// What Podman gives a container where it may.
const LIMIT_MAX: u64 = 1024 * 1024;
/// As many processes Podman lets itself have.
const PROCESSES_MAX: &str = "/proc/sys/kernel/pid_max";
/// Exists when the kernel has IPv6.
const KERNEL_V6: &str = "/proc/net/if_inet6";
/// Over which a share of the CPU is reckoned, as engines do, in microseconds.
const CPU_PERIOD_US: i64 = 100_000;
const NANO: i64 = 1_000_000_000;

#[derive(Debug, Deserialize)]
pub(super) struct Facts {
    host: HostFacts,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HostFacts {
    /// What it may limit: as a user of cgroup v2, what was delegated; of v1, nothing.
    #[serde(default)]
    cgroup_controllers: Option<Vec<String>>,
    security: Security,
}

#[derive(Debug, Deserialize)]
struct Security {
    rootless: bool,
}

#[derive(Debug, Deserialize)]
struct Network {
    driver: String,
    #[serde(default)]
    network_interface: String,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    ipv6_enabled: bool,
    #[serde(default)]
    subnets: Vec<SubnetOf>,
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
}

#[derive(Debug, Deserialize)]
struct SubnetOf {
    subnet: String,
}

impl Facts {
    /// Takes the place of what the other API says of the same.
    pub(super) fn correct(&self, info: &mut EngineInfo) {
        let controllers = self.host.cgroup_controllers.as_deref().unwrap_or_default();
        let has = |name: &str| controllers.iter().any(|controller| controller == name);
        info.kind = "podman".into();
        info.rootless = self.host.security.rootless;
        info.memory_limit = has("memory");
        info.cpu_limit = has("cpu");
        info.pids_limit = has("pids");
        // Where a user has none of these, its containers are in the engine's own group.
        info.control_groups = !controllers.is_empty();
        info.networks_apart = false;
        // Others are named whether they are installed or not, and cannot be asked for.
        info.runtimes = vec![info.default_runtime.clone()];
    }
}

impl DockerEngine {
    pub(super) async fn is_podman(&self) -> Result<bool> {
        self.transport.is_podman().await.map_err(engine_error)
    }

    /// `None` where the engine is none.
    pub(super) async fn podman(&self) -> Result<Option<Facts>> {
        if !self.is_podman().await? {
            return Ok(None);
        }
        self.ask_podman(&format!("{OWN_API}/info")).await.map(Some)
    }

    /// A network by its whole name, which is checked.
    pub(super) async fn podman_network(&self, name: &str) -> Result<Option<networks::Seen>> {
        match self.ask_podman::<Network>(&format!("{OWN_API}/networks/{name}/json")).await {
            Ok(network) => Ok(Some(seen(network))),
            Err(EngineError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What Podman must be told of a container besides, or would do otherwise than asked without a word.
    pub(super) async fn suit_podman(&self, spec: &ContainerSpec, body: &mut ContainerCreateBody) -> Result<()> {
        let Some(host) = body.host_config.as_mut() else { return Ok(()) };
        // It gives none to the volumes that it makes with a container.
        for mount in spec.mounts.iter().filter(|mount| !mount.labels.is_empty()) {
            self.volume_create(&mount.volume, &mount.labels, None).await?;
        }
        // It does not read which runtime is asked for.
        if let Some(runtime) = host.runtime.take() {
            let default = self.info().await?.default_runtime;
            if runtime != default {
                return Err(EngineError::RuntimeUnavailable(format!(
                    "{runtime}; Podman runs all in its own, {default}"
                )));
            }
        }
        // Docker has IPv6 off where a network has it off; the host's own is the host's.
        if !matches!(spec.profile, Profile::Firewall | Profile::Gateway) && Path::new(KERNEL_V6).exists() {
            let off = |of: &str| (format!("net.ipv6.conf.{of}.disable_ipv6"), "1".to_owned());
            host.sysctls = Some(["all", "default"].map(off).into());
        }
        // It asks for the most that there is for every container, and where it runs as root it does not look whether
        // this machine's root may have so much.
        if !self.own_words().await?.rootless && !root_may_raise() {
            let processes = std::fs::read_to_string(PROCESSES_MAX).ok().and_then(|max| max.trim().parse().ok());
            host.ulimits = Some(vec![
                ulimit("nofile", getrlimit(Resource::Nofile).maximum, None),
                ulimit("nproc", getrlimit(Resource::Nproc).maximum, processes),
            ]);
        }
        Ok(())
    }

    /// Docker's API has this only in newer ones.
    pub(super) async fn update_at_podman(&self, id: &str, limits: ContainerUpdateBody) -> Result<()> {
        let body =
            Full::new(Bytes::from(resources(&limits).to_string())).map_err(|never| match never {}).boxed_unsync();
        let request = Request::post(format!("{OWN_API}/containers/{id}/update"));
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        let request = request.map_err(|e| EngineError::Protocol(e.to_string()))?;
        let asked = async {
            let response = self.transport.send_as_is(request).await.map_err(engine_error)?;
            if response.status().is_success() { Ok(()) } else { Err(hijack::refused(response).await) }
        };
        tokio::time::timeout(CALL_TIMEOUT, asked).await.map_err(unavailable)?
    }

    /// A container, in states that Docker knows.
    pub(super) async fn inspect_at_podman(&self, id: &str) -> Result<ContainerInspectResponse> {
        let mut told: Value = self.ask_podman(&format!("{DOCKERS_API}/containers/{id}/json")).await?;
        settle(told.pointer_mut("/State/Status"));
        serde_json::from_value(told).map_err(|e| EngineError::Protocol(format!("a container: {e}")))
    }

    /// Containers with these labels, in states that Docker knows.
    pub(super) async fn list_at_podman(&self, labels: &Labels) -> Result<Vec<ContainerSummary>> {
        let filters = escaped(&json!(label_filters(labels)).to_string());
        let path = format!("{DOCKERS_API}/containers/json?all=true&filters={filters}");
        let mut told: Vec<Value> = self.ask_podman(&path).await?;
        told.iter_mut().for_each(|container| settle(container.get_mut("State")));
        let read = |container| serde_json::from_value(container);
        let listed = told.into_iter().map(read).collect::<std::result::Result<_, _>>();
        listed.map_err(|e| EngineError::Protocol(format!("a list of containers: {e}")))
    }

    async fn ask_podman<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let body: Body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = Request::get(path).body(body).map_err(|e| EngineError::Protocol(e.to_string()))?;
        let asked = async {
            let response = self.transport.send_as_is(request).await.map_err(engine_error)?;
            read_json(response, ANSWER_BYTES_MAX, path).await
        };
        tokio::time::timeout(CALL_TIMEOUT, asked).await.map_err(unavailable)?
    }
}

/// `stopped` is one that has ended and is still tidied up after.
fn settle(state: Option<&mut Value>) {
    if let Some(state) = state.filter(|state| **state == "stopped") {
        *state = "exited".into();
    }
}

/// The limits in the words of the OCI runtime specification (`linux.resources`).
fn resources(limits: &ContainerUpdateBody) -> Value {
    let quota = limits.nano_cpus.map(|cpus| cpus / (NANO / CPU_PERIOD_US));
    json!({
        "memory": { "limit": limits.memory, "swap": limits.memory_swap },
        "cpu": { "quota": quota, "period": CPU_PERIOD_US },
        "pids": { "limit": limits.pids_limit },
    })
}

/// For a query: everything but letters and digits as RFC 3986 escapes it.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

fn seen(network: Network) -> networks::Seen {
    networks::Seen {
        is_bridge: network.driver == "bridge",
        bridge: Some(network.network_interface),
        // It cannot be asked for: [`EngineInfo::networks_apart`] says who must see to it.
        is_apart: true,
        ipv6: network.ipv6_enabled,
        internal: network.internal,
        subnet: networks::only(network.subnets.iter().map(|of| of.subnet.as_str())),
        ours: networks::is_ours(network.labels.as_ref()),
    }
}

/// Whether root on this machine, which is the engine's, may raise limits: in some containers and small virtual
/// machines it may not.
fn root_may_raise() -> bool {
    capability_is_in_bounding_set(CapabilitySet::SYS_RESOURCE).unwrap_or(true)
}

/// As much as we may have ourselves, up to what Podman has and would give.
fn ulimit(name: &str, ours: Option<u64>, podmans: Option<u64>) -> ResourcesUlimits {
    let most = [ours, podmans].into_iter().flatten().fold(LIMIT_MAX, u64::min);
    let most = i64::try_from(most).ok();
    ResourcesUlimits { name: Some(name.to_owned()), soft: most, hard: most }
}

/// What an image is to say, as lines of a Dockerfile: Podman reads nothing else of a commit's.
pub(super) fn changes(config: &CommitConfig) -> Result<String> {
    let line = |word: &str, name: &str, value: &str| {
        if [name, value].iter().any(|text| text.contains(['\n', '\r'])) {
            return Err(EngineError::Refused(format!("{name:?} has more lines than an image's can have at Podman")));
        }
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
        Ok(format!("{word} {name}=\"{value}\""))
    };
    let labels = config.labels.iter().map(|(name, value)| line("LABEL", name, value));
    let env = config.env.iter().filter_map(|entry| entry.split_once('='));
    let lines: Result<Vec<_>> = labels.chain(env.map(|(name, value)| line("ENV", name, value))).collect();
    Ok(lines?.join("\n"))
}

/// An image's id as it is told elsewhere.
pub(super) fn whole_id(id: String) -> String {
    if id.contains(':') { id } else { format!("sha256:{id}") }
}

/// A name as it was given, and as Docker says it.
pub(super) fn familiar(name: String) -> String {
    HUB.iter().find_map(|hub| name.strip_prefix(hub)).map(str::to_owned).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::super::views;
    use super::*;

    /// What Podman 4.3 answers, less what is not read: rootful on cgroup v1, and a user's on v1 and on v2 without
    /// the CPU delegated.
    #[test]
    fn limits_are_those_that_podman_may_set() {
        let told = |controllers: &str, rootless: bool| {
            let text = format!(
                r#"{{"host":{{"arch":"amd64","cgroupControllers":{controllers},"cgroupManager":"cgroupfs",
                    "security":{{"apparmorEnabled":false,"rootless":{rootless},"seccompEnabled":true}}}}}}"#
            );
            let facts: Facts = serde_json::from_str(&text).expect("parses");
            let machine = bollard::models::SystemInfo {
                default_runtime: Some("runc".into()),
                runtimes: Some(["runc", "runsc"].map(|name| (name.into(), Default::default())).into()),
                memory_limit: Some(true),
                pids_limit: Some(true),
                cpu_cfs_period: Some(true),
                cpu_cfs_quota: Some(true),
                ..Default::default()
            };
            let mut info = views::engine(machine, "1.41".into());
            facts.correct(&mut info);
            assert_eq!((&*info.kind, info.rootless, info.networks_apart), ("podman", rootless, false));
            assert_eq!(info.runtimes, ["runc"]);
            (info.memory_limit, info.cpu_limit, info.pids_limit, info.control_groups)
        };
        let all = r#"["cpuset","cpu","cpuacct","blkio","memory","devices","freezer","pids"]"#;
        assert_eq!(told(all, false), (true, true, true, true));
        assert_eq!(told("[]", true), (false, false, false, false));
        assert_eq!(told("null", true), (false, false, false, false));
        assert_eq!(told(r#"["memory","pids"]"#, true), (true, false, true, true));
    }

    #[test]
    fn what_is_tidied_up_after_has_ended() {
        let mut told = json!({ "State": { "Status": "stopped", "ExitCode": 3 } });
        settle(told.pointer_mut("/State/Status"));
        assert_eq!(told, json!({ "State": { "Status": "exited", "ExitCode": 3 } }));
        settle(told.pointer_mut("/State/Nothing"));
    }

    #[test]
    fn limits_are_told_in_its_words() {
        let limits = crate::Limits { cpu: 1.5, memory_bytes: 96 << 20, pids: 44 };
        let told = resources(&super::super::profile::update(&limits).expect("sound"));
        let memory = json!({ "limit": 100_663_296, "swap": 100_663_296 });
        let cpu = json!({ "quota": 150_000, "period": 100_000 });
        assert_eq!(told, json!({ "memory": memory, "cpu": cpu, "pids": { "limit": 44 } }));
        assert_eq!(escaped(r#"{"a":"é"}"#), "%7B%22a%22%3A%22%C3%A9%22%7D");
    }

    #[test]
    fn an_image_is_told_in_lines() {
        let config = |env: &str| CommitConfig {
            labels: Labels::from([("a.b".into(), String::new())]),
            env: vec![env.into()],
            pause: false,
        };
        assert_eq!(changes(&config("KEY=0")).expect("lines"), "LABEL a.b=\"\"\nENV KEY=\"0\"");
        assert_eq!(changes(&config(r#"K=a"$\b=c"#)).expect("lines"), "LABEL a.b=\"\"\nENV K=\"a\\\"\\$\\\\b=c\"");
        assert!(changes(&config("K=a\nENV L=b")).is_err());
    }

    #[test]
    fn networks_are_read() {
        let told = r#"{"name":"t1","id":"628b","driver":"bridge","network_interface":"rxt1","subnets":[],
            "ipv6_enabled":false,"internal":true,"dns_enabled":false,"ipam_options":{"driver":"host-local"}}"#;
        let seen = seen(serde_json::from_str(told).expect("parses"));
        assert_eq!(
            (seen.is_bridge, seen.bridge.as_deref(), seen.ipv6, seen.internal),
            (true, Some("rxt1"), false, true)
        );
    }

    #[test]
    fn names_are_those_that_were_given() {
        for (full, given) in [
            ("docker.io/library/debian:12", "debian:12"),
            ("docker.io/rexec/base:latest", "rexec/base:latest"),
            ("ghcr.io/a/b:1", "ghcr.io/a/b:1"),
            ("localhost/a:1", "localhost/a:1"),
        ] {
            assert_eq!(familiar(full.into()), given);
        }
    }

    #[test]
    fn no_limit_is_above_what_there_is() {
        let hard = |ours, podmans| ulimit("nproc", ours, podmans).hard;
        assert_eq!((hard(Some(20_000), None), hard(Some(96_365), Some(32_768))), (Some(20_000), Some(32_768)));
        assert_eq!((hard(Some(1 << 30), None), hard(None, None)), (Some(1 << 20), Some(1 << 20)));
    }
}
