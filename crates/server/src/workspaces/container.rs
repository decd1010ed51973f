//! A workspace's record as the container to make.

use super::store::Workspace;
use crate::hosts::{self, Host, delivery};
use rexec_api::guest::{DIAL_MOUNT, KEY_VARIABLE, MOUNT, PROGRAM};
use rexec_api::workspaces::PIDS_MAX;
use rexec_engine::{ContainerSpec, Labels, Limits, Mount};
use std::sync::Arc;

const HOME: &str = "/home/user";

/// The container of a workspace at its generation.
pub fn spec(row: &Workspace, host: &Arc<Host>, dial_dir: Option<String>) -> ContainerSpec {
    let mut labels = host.labels_to_give();
    labels.insert(hosts::LABEL_WORKSPACE.into(), row.id.to_string());
    let volume_labels = home_labels(row, host);
    labels.insert(hosts::LABEL_GENERATION.into(), row.generation.to_string());
    ContainerSpec {
        name: container_name(row),
        hostname: hostname(&row.name),
        image: row.image.clone(),
        command: vec![PROGRAM.into(), "init".into()],
        env: vec![format!("{KEY_VARIABLE}={}", row.guest_key)],
        labels,
        network: host.network.clone(),
        runtime: Some(row.runtime.clone()).filter(|runtime| !runtime.is_empty()),
        limits: Limits {
            cpu: row.cpu_milli as f64 / 1000.0,
            memory_bytes: (row.memory_mb as u64) << 20,
            pids: u32::try_from(row.pids).unwrap_or(PIDS_MAX),
        },
        mounts: vec![
            Mount { volume: delivery::VOLUME.into(), path: MOUNT.into(), read_only: true, labels: Default::default() },
            Mount { volume: row.volume.clone(), path: HOME.into(), read_only: false, labels: volume_labels },
        ],
        root_bytes: None,
        dial_dir: dial_dir.map(|dir| (dir, DIAL_MOUNT.into())),
    }
}

/// What the volume of its home is given when it is made.
pub fn home_labels(row: &Workspace, host: &Host) -> Labels {
    let mut labels = host.labels_to_give();
    labels.insert(hosts::LABEL_WORKSPACE.into(), row.id.to_string());
    labels.insert("rexec.home".into(), "1".into());
    labels
}

/// The container's name: unique to workspace and generation, so that two makers collide.
pub fn container_name(row: &Workspace) -> String {
    format!("rexec-{}-g{}", row.id.0.simple(), row.generation)
}

/// A name as a host name: letters, digits and inner hyphens, 63 at most (RFC 1123, section 2.1).
fn hostname(name: &str) -> String {
    let mut host: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).take(63).collect();
    host = host.trim_matches('-').to_owned();
    if host.is_empty() { "workspace".into() } else { host }
}

#[cfg(test)]
mod tests {
    use super::hostname;

    #[test]
    fn names_become_host_names() {
        assert_eq!(hostname("My Box"), "my-box");
        assert_eq!(hostname("-ü-"), "workspace");
        assert_eq!(hostname(&"a".repeat(80)).len(), 63);
    }
}
