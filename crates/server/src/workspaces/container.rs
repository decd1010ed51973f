//! A workspace's record as the container to make.

use super::limits::Wish;
use super::plan::Plan;
use super::store::Workspace;
use crate::hosts::{self, Host, delivery};
use crate::secrets::inside::Inside;
use rexec_api::guest::{Configure, DIAL_MOUNT, HOME, KEY_VARIABLE, MOUNT, PROGRAM};
use rexec_api::ids::WorkspaceId;
use rexec_engine::{ContainerSpec, DiskLimits, Labels, Mount, Profile};
use std::sync::Arc;

/// The container of a workspace at its generation.
pub fn spec(row: &Workspace, host: &Arc<Host>, disk: DiskLimits, dial_dir: Option<String>) -> ContainerSpec {
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
        address: None,
        profile: if row.nested.is_some() { Profile::Nesting } else { Profile::Usual },
        runtime: Some(row.runtime.clone()).filter(|runtime| !runtime.is_empty()),
        limits: Wish::of(row).limits(),
        mounts: vec![
            Mount { volume: delivery::VOLUME.into(), path: MOUNT.into(), read_only: true, labels: Default::default() },
            Mount { volume: row.volume.clone(), path: HOME.into(), read_only: false, labels: volume_labels },
        ],
        root_bytes: disk.root.then(|| disk_bytes(row)).flatten(),
        dial_dir: dial_dir.map(|dir| (dir, DIAL_MOUNT.into())),
    }
}

/// How much of the disk it may have; `None`: all there is.
pub fn disk_bytes(row: &Workspace) -> Option<u64> {
    u64::try_from(row.disk_mb).ok().filter(|mb| *mb > 0).map(|mb| mb << 20)
}

/// What its guest is told when it is met.
pub fn configuration(row: &Workspace, inside: Inside) -> Configure {
    let plan = Plan::of_row(row);
    let mut env = row.env.clone();
    env.extend(inside.env);
    Configure {
        gateway: row.gateway,
        authority: inside.authority,
        workspace: row.id,
        user: plan.user.unwrap_or_default(),
        account: plan.account,
        env,
        sudo: Default::default(),
        entrypoint: plan.entrypoint,
        ring_bytes: None,
        scrollback_lines: None,
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
    name_of(row.id, row.generation)
}

/// The same of a workspace whose record is not at hand.
pub fn name_of(id: WorkspaceId, generation: i64) -> String {
    format!("rexec-{}-g{generation}", id.0.simple())
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
