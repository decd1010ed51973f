//! Docker's answers in the trait's words. Anything that Docker leaves out reads as empty or zero.

use crate::{
    ContainerInfo, ContainerState, EngineError, EngineEvent, EngineInfo, ImageInfo, PullProgress, Result, Stats,
    Summary, SummaryState,
};
use bollard::models::{
    ContainerBlkioStatEntry as BlockEntry, ContainerInspectResponse, ContainerState as DockerState,
    ContainerStateStatusEnum as Status, ContainerStatsResponse, ContainerSummary, ContainerSummaryStateEnum as Listed,
    CreateImageInfo, EventMessage, ImageInspect, SystemInfo, SystemInfoCgroupDriverEnum as CgroupDriver,
};

/// Docker's way to say "never".
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// Most bytes of a name or path that an engine says of itself, and most runtimes.
const WORD_BYTES_MAX: usize = 1024;
const RUNTIMES_MAX: usize = 64;

fn missing(what: &str) -> EngineError {
    EngineError::Protocol(format!("the engine left out {what}"))
}

fn unsigned(value: Option<i64>) -> u64 {
    value.and_then(|v| u64::try_from(v).ok()).unwrap_or(0)
}

/// No longer than such a word is: what an engine says of itself is kept and shown, and an engine may be anybody's.
fn word(text: Option<String>) -> String {
    let mut text = text.unwrap_or_default();
    text.truncate(text.floor_char_boundary(WORD_BYTES_MAX));
    text
}

pub(super) fn engine(info: SystemInfo, api_version: String) -> EngineInfo {
    let security = info.security_options.unwrap_or_default();
    let mut runtimes: Vec<String> = info.runtimes.unwrap_or_default().into_keys().collect();
    runtimes.retain(|name| name.len() <= WORD_BYTES_MAX);
    runtimes.sort();
    runtimes.truncate(RUNTIMES_MAX);
    EngineInfo {
        kind: "docker".into(),
        version: word(info.server_version),
        api_version,
        architecture: oci_architecture(word(info.architecture)),
        kernel: word(info.kernel_version),
        cpus: unsigned(info.ncpu) as u32,
        memory_bytes: unsigned(info.mem_total),
        runtimes,
        default_runtime: word(info.default_runtime),
        rootless: security.iter().any(|option| option.starts_with("name=rootless")),
        user_remapped: security.iter().any(|option| option.starts_with("name=userns")),
        storage_driver: word(info.driver),
        root_dir: word(info.docker_root_dir),
        memory_limit: info.memory_limit.unwrap_or(false),
        cpu_limit: info.cpu_cfs_period.unwrap_or(false) && info.cpu_cfs_quota.unwrap_or(false),
        pids_limit: info.pids_limit.unwrap_or(false),
        control_groups: info.cgroup_driver != Some(CgroupDriver::NONE),
        networks_apart: true,
        seccomp: security
            .iter()
            .any(|option| option.starts_with("name=seccomp") && !option.ends_with("profile=unconfined")),
    }
}

pub(super) fn image(image: ImageInspect) -> Result<ImageInfo> {
    let config = image.config.unwrap_or_default();
    Ok(ImageInfo {
        id: image.id.ok_or_else(|| missing("an image's id"))?,
        references: image.repo_tags.unwrap_or_default(),
        size_bytes: unsigned(image.size),
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        env: config.env.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        architecture: image.architecture.unwrap_or_default(),
        os: image.os.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
    })
}

/// Docker gives a volume that nobody has named 64 random hexadecimal digits.
pub(super) fn is_unnamed(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) fn container(container: ContainerInspectResponse) -> Result<ContainerInfo> {
    let mounts = container.mounts.unwrap_or_default().into_iter();
    let volumes = mounts.filter_map(|mount| Some((mount.destination?, mount.name.filter(|name| !name.is_empty())?)));
    let (unnamed, named): (Vec<_>, Vec<_>) = volumes.partition(|(_, name)| is_unnamed(name));
    let config = container.config.unwrap_or_default();
    let state = container.state.ok_or_else(|| missing("a container's state"))?;
    let running = matches!(state.status, Some(Status::RUNNING | Status::PAUSED));
    Ok(ContainerInfo {
        id: container.id.ok_or_else(|| missing("a container's id"))?,
        name: container.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        image: config.image.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        started_at: state.started_at.clone().filter(|t| t != ZERO_TIME).unwrap_or_default(),
        unnamed_volumes: unnamed.into_iter().map(|(place, _)| place).collect(),
        named_volumes: named.into_iter().collect(),
        pid: if running { unsigned(state.pid) as u32 } else { 0 },
        state: container_state(state)?,
    })
}

fn container_state(state: DockerState) -> Result<ContainerState> {
    let exited = |error: String| ContainerState::Exited {
        code: state.exit_code.and_then(|c| i32::try_from(c).ok()).unwrap_or(-1),
        oom_killed: state.oom_killed.unwrap_or(false),
        error,
    };
    match state.status.ok_or_else(|| missing("a container's status"))? {
        Status::CREATED => Ok(ContainerState::Created),
        Status::RUNNING => Ok(ContainerState::Running),
        Status::PAUSED => Ok(ContainerState::Paused),
        Status::RESTARTING | Status::REMOVING | Status::STOPPING => Ok(ContainerState::Changing),
        Status::EXITED => Ok(exited(state.error.clone().unwrap_or_default())),
        Status::DEAD => Ok(exited("its removal failed; it can only be removed again".into())),
        Status::EMPTY => Err(missing("a container's status")),
    }
}

pub(super) fn summary(container: ContainerSummary) -> Result<Summary> {
    // A container linked to others has several names; only its own has no slash inside.
    let own = |name: &String| !name.trim_start_matches('/').contains('/');
    let name = container.names.unwrap_or_default().into_iter().find(own).unwrap_or_default();
    Ok(Summary {
        id: container.id.ok_or_else(|| missing("a container's id"))?,
        name: name.trim_start_matches('/').to_owned(),
        image: container.image.unwrap_or_default(),
        labels: container.labels.unwrap_or_default().into_iter().collect(),
        state: match container.state.ok_or_else(|| missing("a container's status"))? {
            Listed::CREATED => SummaryState::Created,
            Listed::RUNNING => SummaryState::Running,
            Listed::PAUSED => SummaryState::Paused,
            Listed::RESTARTING | Listed::REMOVING | Listed::STOPPING => SummaryState::Changing,
            Listed::EXITED | Listed::DEAD => SummaryState::Exited,
            Listed::EMPTY => return Err(missing("a container's status")),
        },
    })
}

/// `None` for what is not about a layer.
pub(super) fn pull_progress(info: CreateImageInfo) -> Option<PullProgress> {
    let status = info.status.unwrap_or_default();
    // "Pulling from library/x" carries the tag where a layer's id would be.
    let layer = info.id.filter(|id| !id.is_empty() && !status.starts_with("Pulling from"))?;
    let (current, total) = info.progress_detail.map_or((None, None), |d| (d.current, d.total));
    Some(PullProgress { layer, status, current_bytes: unsigned(current), total_bytes: unsigned(total) })
}

pub(super) fn stats(stats: ContainerStatsResponse) -> Stats {
    let memory = stats.memory_stats.unwrap_or_default();
    let details = memory.stats.unwrap_or_default();
    // Page cache that can go at any time is not use; cgroup v1 and v2 name it differently.
    let cache = details.get("total_inactive_file").or_else(|| details.get("inactive_file")).copied().unwrap_or(0);
    let networks = stats.networks.unwrap_or_default();
    let cpu = stats.cpu_stats.unwrap_or_default();
    let blocks = stats.blkio_stats.and_then(|blocks| blocks.io_service_bytes_recursive).unwrap_or_default();
    // "Read" under cgroup v1, "read" under v2; one entry for each device.
    let moved = |way: &str| {
        let same = |entry: &&BlockEntry| entry.op.as_deref().is_some_and(|op| op.eq_ignore_ascii_case(way));
        blocks.iter().filter(same).filter_map(|entry| entry.value).sum()
    };
    Stats {
        cpu_total_ns: cpu.cpu_usage.and_then(|usage| usage.total_usage).unwrap_or(0),
        throttled_ns: cpu.throttling_data.and_then(|data| data.throttled_time).unwrap_or(0),
        block_read_bytes: moved("read"),
        block_write_bytes: moved("write"),
        memory_bytes: memory.usage.unwrap_or(0).saturating_sub(cache),
        memory_limit_bytes: memory.limit.unwrap_or(0),
        network_rx_bytes: networks.values().filter_map(|n| n.rx_bytes).sum(),
        network_tx_bytes: networks.values().filter_map(|n| n.tx_bytes).sum(),
        pids: stats.pids_stats.and_then(|p| p.current).unwrap_or(0),
    }
}

pub(super) fn event(event: EventMessage) -> Option<EngineEvent> {
    let actor = event.actor?;
    Some(EngineEvent {
        container_id: actor.id?,
        action: match event.action?.as_str() {
            "died" => "die".into(),
            "remove" => "destroy".into(),
            dockers => dockers.to_owned(),
        },
        labels: actor.attributes.unwrap_or_default().into_iter().collect(),
    })
}

/// An engine tells its machine as `uname` does; images, and those who ask for a server, use the words of the OCI image
/// specification.
fn oci_architecture(machine: String) -> String {
    match machine.as_str() {
        "x86_64" => "amd64".into(),
        "aarch64" => "arm64".into(),
        "i386" | "i686" => "386".into(),
        "armv6l" | "armv7l" => "arm".into(),
        _ => machine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_says_of_itself_is_bounded() {
        let info = SystemInfo {
            kernel_version: Some("é".repeat(WORD_BYTES_MAX)),
            runtimes: Some((0..1000).map(|n| (format!("r{n:04}"), Default::default())).collect()),
            ..Default::default()
        };
        let told = engine(info, "1.41".into());
        assert_eq!((told.kernel.len(), told.runtimes.len()), (WORD_BYTES_MAX, RUNTIMES_MAX));
    }

    #[test]
    fn states() {
        let state = |status, exit_code| {
            let state = DockerState {
                status: Some(status),
                exit_code: Some(exit_code),
                oom_killed: Some(true),
                ..Default::default()
            };
            container_state(state).expect("known")
        };
        assert_eq!(state(Status::CREATED, 0), ContainerState::Created);
        assert_eq!(state(Status::RUNNING, 0), ContainerState::Running);
        assert_eq!(state(Status::PAUSED, 0), ContainerState::Paused);
        assert_eq!(state(Status::RESTARTING, 0), ContainerState::Changing);
        assert_eq!(state(Status::REMOVING, 0), ContainerState::Changing);
        let exited = ContainerState::Exited { code: 137, oom_killed: true, error: String::new() };
        assert_eq!(state(Status::EXITED, 137), exited);
        assert!(
            matches!(state(Status::DEAD, 1), ContainerState::Exited { code: 1, ref error, .. } if !error.is_empty())
        );
    }

    #[test]
    fn an_engine_that_enforces_nothing_says_so() {
        let rootless = SystemInfo {
            security_options: Some(vec!["name=seccomp,profile=unconfined".into(), "name=rootless".into()]),
            cgroup_driver: Some(CgroupDriver::NONE),
            ..Default::default()
        };
        let info = engine(rootless, "1.41".into());
        assert!(info.rootless);
        assert!(!info.memory_limit && !info.cpu_limit && !info.pids_limit && !info.seccomp);
        assert!(!info.control_groups && engine(SystemInfo::default(), "1.41".into()).control_groups);
    }

    #[test]
    fn machines_are_told_as_images_tell_them() {
        for (machine, told) in [("x86_64", "amd64"), ("aarch64", "arm64"), ("armv7l", "arm"), ("riscv64", "riscv64")] {
            assert_eq!(super::oci_architecture(machine.into()), told);
        }
    }
}
