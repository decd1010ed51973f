//! The container profile: what a workspace may do on its host, the same for every one but those that hold
//! containers, which may make user namespaces and mounts besides ([`Profile::Nesting`]). Our own helper that sets a host's
//! firewall rules has the host's network, and in exchange hardly anything else ([`Profile::Firewall`]); so has the gateway
//! ([`Profile::Gateway`]); the one that ends what an engine has left behind has its processes in the same way
//! ([`Profile::Orphans`]).
//!
//! Invariant: nothing else in a [`ContainerSpec`] can widen it. A spec that would (the host's network,
//! another container's, a limit of zero that Docker reads as none) is refused, not corrected.

use super::seccomp;
use crate::{ContainerSpec, EngineError, Labels, Limits, Profile, Result};
use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, DeviceMapping, EndpointIpamConfig, EndpointSettings, HealthConfig,
    HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions, NetworkingConfig, RestartPolicy,
    RestartPolicyNameEnum, VolumeCreateRequest,
};
use std::collections::HashMap;
use std::net::Ipv4Addr;

/// What the guest needs to become the workspace's user and to own files; `apt install` works with these.
const CAPABILITIES: &[&str] = &["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"];
/// What setting rules takes, and nothing of the above.
const FIREWALL_CAPABILITIES: &[&str] = &["NET_ADMIN"];
/// What listening at port 53 takes.
const GATEWAY_CAPABILITIES: &[&str] = &["NET_BIND_SERVICE"];
/// What ending another's process takes.
const ORPHANS_CAPABILITIES: &[&str] = &["KILL"];
const HOST_NETWORK: &str = "host";
const NO_NETWORK: &str = "none";
/// `/dev/shm`; it counts towards the memory limit. Browsers fail with less.
const SHM_BYTES: i64 = 64 * 1024 * 1024;
/// How long a stop without a grace of its own waits before it kills.
const STOP_TIMEOUT_SECONDS: i64 = 10;
/// Docker's own least.
const MEMORY_BYTES_MIN: u64 = 6 * 1024 * 1024;
/// More cores than any machine; keeps the arithmetic exact.
const CPU_MAX: f64 = 4096.0;
const TUN: &str = "/dev/net/tun";
const NAME_BYTES_MAX: usize = 255;

/// A container's or volume's name or id, as Docker allows them; so none can leave its place in a path.
pub(super) fn name(name: &str) -> Result<&str> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let good = name.len() <= NAME_BYTES_MAX
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.bytes().all(inner);
    if good { Ok(name) } else { Err(EngineError::Refused(format!("{name:?} is no name"))) }
}

/// An image reference: lower-case path segments, an optional registry, tag and digest.
pub(super) fn reference(reference: &str) -> Result<&str> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'/' | b':' | b'@');
    let segment = |s: &str| s.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let good = reference.len() <= NAME_BYTES_MAX + "@sha256:".len() + 64
        && reference.bytes().all(inner)
        && reference.split(['/', ':', '@']).all(segment);
    if good { Ok(reference) } else { Err(EngineError::Refused(format!("{reference:?} is no image reference"))) }
}

/// The name of an image, with a tag or digest. Docker takes the beginning of an id for an image too, and one
/// digit is enough: `9`, or `sha256:9`, would be whatever image has such an id, somebody's snapshot as well.
pub(super) fn image(text: &str) -> Result<String> {
    let whole = reference(text)?;
    let last = whole.rsplit('/').next().unwrap_or(whole);
    if whole.split([':', '@']).next().is_some_and(|name| matches!(name, "sha256" | "sha384" | "sha512")) {
        return Err(EngineError::Refused(format!("{text:?} is an image's id and no name")));
    }
    Ok(if last.contains([':', '@']) { whole.to_owned() } else { format!("{whole}:latest") })
}

fn absolute(path: &str) -> Result<String> {
    let parts_good = path.split('/').all(|part| part != "." && part != "..");
    if path.starts_with('/') && path.len() > 1 && parts_good && !path.contains('\0') {
        return Ok(path.to_owned());
    }
    Err(EngineError::Refused(format!("{path:?} is no path to mount")))
}

fn network(spec: &ContainerSpec) -> Result<String> {
    let network = &spec.network;
    match name(network)? {
        HOST_NETWORK if has_the_hosts_network(spec.profile) => Ok(HOST_NETWORK.into()),
        _ if has_the_hosts_network(spec.profile) => {
            Err(EngineError::Refused(format!("the network {network:?} is not the host's")))
        }
        NO_NETWORK if spec.profile == Profile::Orphans => Ok(NO_NETWORK.into()),
        _ if spec.profile == Profile::Orphans => {
            Err(EngineError::Refused(format!("the network {network:?} beside the host's processes")))
        }
        NO_NETWORK => Ok(NO_NETWORK.into()),
        own => own_network(own).map(str::to_owned),
    }
}

/// The name of a network that keeps workspaces apart.
pub(super) fn own_network(network: &str) -> Result<&str> {
    match name(network)? {
        HOST_NETWORK | NO_NETWORK | "bridge" | "default" | "nat" => {
            Err(EngineError::Refused(format!("the network {network:?} does not keep workspaces apart")))
        }
        own => Ok(own),
    }
}

struct Amounts {
    nano_cpus: i64,
    memory: i64,
    pids: i64,
}

fn amounts(limits: &Limits) -> Result<Amounts> {
    if !(limits.cpu > 0.0 && limits.cpu <= CPU_MAX) {
        return Err(EngineError::Refused(format!("a limit of {} cores", limits.cpu)));
    }
    let memory = i64::try_from(limits.memory_bytes).ok().filter(|_| limits.memory_bytes >= MEMORY_BYTES_MIN);
    let Some(memory) = memory else {
        return Err(EngineError::Refused(format!("a limit of {} bytes of memory", limits.memory_bytes)));
    };
    if limits.pids == 0 {
        return Err(EngineError::Refused("a limit of 0 processes".into()));
    }
    Ok(Amounts { nano_cpus: (limits.cpu * 1e9) as i64, memory, pids: limits.pids.into() })
}

pub(super) fn update(limits: &Limits) -> Result<ContainerUpdateBody> {
    let amounts = amounts(limits)?;
    Ok(ContainerUpdateBody {
        nano_cpus: Some(amounts.nano_cpus),
        memory: Some(amounts.memory),
        memory_swap: Some(amounts.memory),
        pids_limit: Some(amounts.pids),
        ..Default::default()
    })
}

/// Docker's size options, of volumes and of root file systems.
fn size(bytes: Option<u64>) -> Result<Option<HashMap<String, String>>> {
    match bytes {
        Some(0) => Err(EngineError::Refused("a limit of 0 bytes of disk".into())),
        bytes => Ok(bytes.map(|bytes| HashMap::from([("size".to_owned(), bytes.to_string())]))),
    }
}

pub(super) fn volume(volume: &str, labels: &Labels, size_bytes: Option<u64>) -> Result<VolumeCreateRequest> {
    Ok(VolumeCreateRequest {
        name: Some(name(volume)?.to_owned()),
        labels: Some(labels.clone().into_iter().collect()),
        driver_opts: size(size_bytes)?,
        ..Default::default()
    })
}

fn mounts(spec: &ContainerSpec) -> Result<Vec<Mount>> {
    let mut mounts = Vec::with_capacity(spec.mounts.len() + 1);
    for mount in &spec.mounts {
        let labels = mount.labels.clone().into_iter().collect();
        mounts.push(Mount {
            typ: Some(MountType::VOLUME),
            source: Some(name(&mount.volume)?.to_owned()),
            target: Some(absolute(&mount.path)?),
            read_only: Some(mount.read_only),
            volume_options: Some(MountVolumeOptions { labels: Some(labels), ..Default::default() }),
            ..Default::default()
        });
    }
    if let Some((source, target)) = &spec.dial_dir {
        // A bind of the mount kind is refused when the source is missing; `Binds` would make it, as root.
        mounts.push(Mount {
            typ: Some(MountType::BIND),
            source: Some(absolute(source)?),
            target: Some(absolute(target)?),
            read_only: Some(true),
            ..Default::default()
        });
    }
    Ok(mounts)
}

/// Whether it shares something of the host's own.
fn is_of_the_host(profile: Profile) -> bool {
    has_the_hosts_network(profile) || profile == Profile::Orphans
}

fn has_the_hosts_network(profile: Profile) -> bool {
    matches!(profile, Profile::Firewall | Profile::Gateway)
}

/// What shares the host's network or processes may write nowhere, so that nothing but its program can come to run there.
fn require_read_only(spec: &ContainerSpec) -> Result<()> {
    let writes = spec.mounts.iter().any(|mount| !mount.read_only) || spec.dial_dir.is_some();
    match is_of_the_host(spec.profile) && writes {
        true => Err(EngineError::Refused("a mount that can be written beside the host's network or processes".into())),
        false => Ok(()),
    }
}

/// Naming no seccomp profile is the engine's default one. AppArmor's for containers denies every mount, in whatever
/// namespace; without it the covered paths, capabilities and namespaces hold alone.
fn security(profile: Profile) -> Vec<String> {
    let mut options = vec!["no-new-privileges:true".to_owned()];
    if profile == Profile::Nesting {
        options.push(format!("seccomp={}", seccomp::nesting()));
    }
    // It denies signals to what is not confined as well, such as what looks after containers.
    if matches!(profile, Profile::Nesting | Profile::Orphans) {
        options.push("apparmor=unconfined".into());
    }
    options
}

/// For the user-mode network of nested containers. A device made with it needs a network namespace of one's own.
fn devices(profile: Profile) -> Option<Vec<DeviceMapping>> {
    (profile == Profile::Nesting).then(|| {
        let path = Some(TUN.to_owned());
        let cgroup_permissions = Some("rw".to_owned());
        vec![DeviceMapping { path_on_host: path.clone(), path_in_container: path, cgroup_permissions }]
    })
}

fn host_config(spec: &ContainerSpec) -> Result<HostConfig> {
    let amounts = amounts(&spec.limits)?;
    require_read_only(spec)?;
    let is_of_the_host = is_of_the_host(spec.profile);
    let capabilities = match spec.profile {
        Profile::Firewall => FIREWALL_CAPABILITIES,
        Profile::Gateway => GATEWAY_CAPABILITIES,
        Profile::Orphans => ORPHANS_CAPABILITIES,
        Profile::Usual | Profile::Nesting => CAPABILITIES,
    };
    Ok(HostConfig {
        cap_drop: Some(vec!["ALL".into()]),
        cap_add: Some(capabilities.iter().map(|&c| c.to_owned()).collect()),
        privileged: Some(false),
        readonly_rootfs: is_of_the_host.then_some(true),
        // Somebody else's root, as it is where an engine remaps users, has no say over the host's network and processes.
        userns_mode: is_of_the_host.then(|| "host".to_owned()),
        pid_mode: (spec.profile == Profile::Orphans).then(|| "host".to_owned()),
        security_opt: Some(security(spec.profile)),
        devices: devices(spec.profile),
        nano_cpus: Some(amounts.nano_cpus),
        memory: Some(amounts.memory),
        memory_swap: Some(amounts.memory),
        pids_limit: Some(amounts.pids),
        shm_size: Some(SHM_BYTES),
        ipc_mode: Some("private".into()),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: Some(0) }),
        auto_remove: Some(false),
        publish_all_ports: Some(false),
        init: Some(false),
        // The guest keeps what terminals say; a log of PID 1's stdio would only fill the host's disk.
        log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
        network_mode: Some(network(spec)?),
        runtime: spec.runtime.clone(),
        storage_opt: size(spec.root_bytes)?,
        mounts: Some(mounts(spec)?),
        ..Default::default()
    })
}

fn at_address(network: &str, address: Ipv4Addr) -> NetworkingConfig {
    let own = EndpointIpamConfig { ipv4_address: Some(address.to_string()), ..Default::default() };
    let endpoint = EndpointSettings { ipam_config: Some(own), ..Default::default() };
    NetworkingConfig { endpoints_config: Some([(network.to_owned(), endpoint)].into()) }
}

pub(super) fn container(spec: &ContainerSpec) -> Result<ContainerCreateBody> {
    if spec.command.is_empty() {
        return Err(EngineError::Refused("a container without a command".into()));
    }
    Ok(ContainerCreateBody {
        hostname: Some(spec.hostname.clone()),
        image: Some(image(&spec.image)?),
        // An entrypoint of ours keeps the image's entrypoint and command out.
        entrypoint: Some(spec.command.clone()),
        cmd: Some(Vec::new()),
        env: Some(spec.env.clone()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        // The image's user, signal and health check are for its own entrypoint, not for the guest.
        user: Some("0:0".into()),
        stop_signal: Some("SIGTERM".into()),
        stop_timeout: Some(STOP_TIMEOUT_SECONDS),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..Default::default() }),
        tty: Some(false),
        open_stdin: Some(false),
        attach_stdin: Some(false),
        attach_stdout: Some(false),
        attach_stderr: Some(false),
        host_config: Some(host_config(spec)?),
        networking_config: spec.address.map(|address| at_address(&spec.network, address)),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ContainerSpec {
        ContainerSpec {
            name: "a".into(),
            hostname: "a".into(),
            image: "base:1".into(),
            command: vec!["/init".into()],
            env: Vec::new(),
            labels: Labels::new(),
            network: "apart".into(),
            address: None,
            runtime: None,
            profile: Profile::Usual,
            limits: Limits { cpu: 0.5, memory_bytes: 64 << 20, pids: 10 },
            mounts: Vec::new(),
            root_bytes: None,
            dial_dir: None,
        }
    }

    #[test]
    fn names_and_references() {
        for good in ["a", "rexec-guest", "A1_.-"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "../images", "-a", "a/b", "a b", "a\0", "ä"] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "rexec/base:1", "localhost:5000/a/b:c", "a@sha256:0123", "sha256:abc"] {
            assert!(reference(good).is_ok(), "{good}");
        }
        for bad in ["", "../x", "a/../b", "a//b", "/a", "a:", "a b", "a?x=1", "a\n", "a/./b"] {
            assert!(reference(bad).is_err(), "{bad:?}");
        }
    }

    /// Docker looks a word up as the beginning of an id when no image has that name; with a tag it cannot be one.
    #[test]
    fn no_image_is_found_by_the_beginning_of_its_id() {
        assert_eq!(image("9").expect("a name"), "9:latest");
        assert_eq!(image("localhost:5000/a/b").expect("a name"), "localhost:5000/a/b:latest");
        for whole in ["a:1", "localhost:5000/a/b:c", "a@sha256:0123"] {
            assert_eq!(image(whole).expect("a name"), whole);
        }
        for id in ["sha256:9", "sha256", "sha512:abc", "sha256@sha256:9"] {
            assert!(image(id).is_err(), "{id}");
        }
    }

    #[test]
    fn what_would_widen_the_profile_is_refused() {
        assert!(container(&spec()).is_ok());
        type Change = fn(&mut ContainerSpec);
        let changes: &[Change] = &[
            |s| s.network = "host".into(),
            |s| s.network = "bridge".into(),
            |s| s.network = "container:abc".into(),
            |s| s.limits.pids = 0,
            |s| s.limits.memory_bytes = 0,
            |s| s.limits.memory_bytes = u64::MAX,
            |s| s.limits.cpu = 0.0,
            |s| s.limits.cpu = f64::NAN,
            |s| s.limits.cpu = f64::INFINITY,
            |s| s.command.clear(),
            |s| s.image = "../x".into(),
            |s| s.root_bytes = Some(0),
            |s| s.dial_dir = Some(("/a/../etc".into(), "/d".into())),
            |s| s.dial_dir = Some(("relative".into(), "/d".into())),
            |s| {
                s.mounts.push(crate::Mount {
                    volume: "/etc".into(),
                    path: "/m".into(),
                    read_only: false,
                    labels: Labels::new(),
                })
            },
            |s| {
                s.mounts.push(crate::Mount {
                    volume: "v".into(),
                    path: "/".into(),
                    read_only: false,
                    labels: Labels::new(),
                })
            },
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut changed = spec();
            change(&mut changed);
            assert!(matches!(container(&changed), Err(EngineError::Refused(_))), "change {i}");
        }
    }

    /// The least that nested containers need, and none of what would make the workspace the host.
    #[test]
    fn nesting_widens_what_it_must_and_no_more() {
        let usual = container(&spec()).expect("allowed").host_config.expect("there");
        let nesting = ContainerSpec { profile: Profile::Nesting, ..spec() };
        let nesting = container(&nesting).expect("allowed").host_config.expect("there");
        assert_eq!(usual.devices, None);
        assert_eq!(usual.security_opt.as_deref(), Some(&["no-new-privileges:true".to_owned()][..]));
        let options = nesting.security_opt.clone().expect("there");
        assert!(options[0] == "no-new-privileges:true" && options[1].starts_with("seccomp={"), "{options:?}");
        let back = HostConfig { devices: None, security_opt: usual.security_opt.clone(), ..nesting };
        assert_eq!(back, usual);
        assert_eq!((usual.privileged, usual.masked_paths, usual.binds), (Some(false), None, None));
    }

    /// The host's network is had by what can do nothing with it but set rules.
    #[test]
    fn the_hosts_network_is_for_its_rules_alone() {
        let firewall = ContainerSpec { profile: Profile::Firewall, network: "host".into(), ..spec() };
        let host = container(&firewall).expect("allowed").host_config.expect("there");
        let gateway = ContainerSpec { profile: Profile::Gateway, ..firewall.clone() };
        let other = container(&gateway).expect("allowed").host_config.expect("there");
        assert_eq!(other.cap_add.as_deref(), Some(&["NET_BIND_SERVICE".to_owned()][..]));
        assert_eq!(HostConfig { cap_add: host.cap_add.clone(), ..other }, host, "nothing else");
        assert_eq!((host.network_mode.as_deref(), host.readonly_rootfs), (Some("host"), Some(true)));
        assert_eq!(host.cap_add.as_deref(), Some(&["NET_ADMIN".to_owned()][..]));
        assert_eq!(host.cap_drop.as_deref(), Some(&["ALL".to_owned()][..]));
        assert_eq!(host.security_opt.as_deref(), Some(&["no-new-privileges:true".to_owned()][..]));
        assert_eq!((host.privileged, host.devices, host.pid_mode), (Some(false), None, None));
        let volume =
            |read_only| crate::Mount { volume: "v".into(), path: "/m".into(), read_only, labels: Labels::new() };
        assert!(container(&ContainerSpec { mounts: vec![volume(true)], ..firewall.clone() }).is_ok());
        for wrong in [
            ContainerSpec { network: "apart".into(), ..firewall.clone() },
            ContainerSpec { mounts: vec![volume(false)], ..firewall.clone() },
            ContainerSpec { dial_dir: Some(("/run/dial".into(), "/dial".into())), ..firewall.clone() },
            ContainerSpec { profile: Profile::Nesting, ..firewall.clone() },
        ] {
            assert!(matches!(container(&wrong), Err(EngineError::Refused(_))), "{wrong:?}");
        }
    }

    /// So are its processes, by what can do nothing with them but end some.
    #[test]
    fn the_hosts_processes_are_seen_by_what_ends_orphans_alone() {
        let usual = container(&spec()).expect("allowed").host_config.expect("there");
        assert_eq!(usual.pid_mode, None);
        let orphans = ContainerSpec { profile: Profile::Orphans, network: "none".into(), ..spec() };
        let host = container(&orphans).expect("allowed").host_config.expect("there");
        assert_eq!((host.pid_mode.as_deref(), host.network_mode.as_deref()), (Some("host"), Some("none")));
        assert_eq!(host.cap_add.as_deref(), Some(&["KILL".to_owned()][..]));
        assert_eq!(host.cap_drop.as_deref(), Some(&["ALL".to_owned()][..]));
        assert_eq!((host.privileged, host.devices, host.readonly_rootfs), (Some(false), None, Some(true)));
        let options = host.security_opt.expect("there");
        assert_eq!(options, ["no-new-privileges:true", "apparmor=unconfined"]);
        let volume = crate::Mount { volume: "v".into(), path: "/m".into(), read_only: false, labels: Labels::new() };
        for wrong in [
            ContainerSpec { network: "apart".into(), ..orphans.clone() },
            ContainerSpec { network: "host".into(), ..orphans.clone() },
            ContainerSpec { mounts: vec![volume], ..orphans.clone() },
            ContainerSpec { dial_dir: Some(("/run/dial".into(), "/dial".into())), ..orphans.clone() },
        ] {
            assert!(matches!(container(&wrong), Err(EngineError::Refused(_))), "{wrong:?}");
        }
    }

    #[test]
    fn the_dial_directory_is_read_only_and_must_exist() {
        let mut with = spec();
        with.dial_dir = Some(("/run/dial".into(), "/dial".into()));
        let host = container(&with).expect("allowed").host_config.expect("there");
        assert_eq!(host.binds, None);
        let mounts = host.mounts.expect("there");
        assert_eq!((mounts.len(), mounts[0].read_only), (1, Some(true)));
        assert_eq!(mounts[0].bind_options, None);
    }
}
