//! What is asked of a server, new or changed: that it can be so, what is recorded then, and that its engine is still the one
//! on which its workspaces lie.

use super::Host;
use super::admin::{Servers, milli};
use super::placement::Amount;
use super::store::{self, HostRow};
use crate::error::{Error, Result};
use rexec_api::error::ErrorCode;
use rexec_api::servers::{
    LABELS_MAX, NAME_CHARS_MAX, NewServer, PatchServer, RUNTIMES_MAX, TOTAL_CPU_MAX, TOTAL_DISK_GB_MAX,
    TOTAL_MEMORY_MB_MAX, WORKSPACES_MAX,
};
use rexec_engine::Labels;
use serde_json::{Value, json};

/// The least limit of cores that is not none.
const TOTAL_CPU_MIN: f64 = 0.001;

impl Servers {
    /// An engine that has none of the homes that lie on the server is another: to it, all workspaces would have vanished,
    /// and be made again, empty, beside those that run. A server that is new has none.
    pub(super) async fn require_same(&self, host: &Host) -> Result<()> {
        let recorded = store::volumes(self.db().read(), host.id).await?;
        if recorded.is_empty() {
            return Ok(());
        }
        let there =
            host.engine.volumes(&Labels::new()).await.map_err(|error| Error::from(super::access::Fault::of(&error)))?;
        if there.iter().any(|volume| recorded.contains(&volume.name)) {
            return Ok(());
        }
        let count = recorded.len();
        let message = format!(
            "That is another engine: it has none of the {count} homes that lie on this server. Add it as a server of its own, and move \
             or delete what lies here."
        );
        Err(Error::new(ErrorCode::ServerInUse, message).details(json!({ "homes": count })))
    }
}

/// Refuses what no server can be, by the field.
pub(super) fn valid(new: &NewServer) -> Result<()> {
    let is_word = |text: &str| {
        (1..=NAME_CHARS_MAX).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
    };
    let words = format!(
        "is from 1 to {NAME_CHARS_MAX} letters, digits, dots, hyphens and underscores, of which the first is a letter or a digit"
    );
    if !is_word(&new.name) || new.name.contains('/') {
        return Err(Error::field("name", format!("`name` {words}.")));
    }
    if new.region.as_ref().is_some_and(|region| !is_word(region)) {
        return Err(Error::field("region", format!("`region` {words}.")));
    }
    if new.labels.len() > LABELS_MAX {
        return Err(Error::field("labels", format!("A server has {LABELS_MAX} labels at most.")));
    }
    if new.labels.iter().any(|(key, value)| !is_word(key) || (!value.is_empty() && !is_word(value))) {
        return Err(Error::field("labels", format!("A label's key {words}, and so is its value, which may be empty.")));
    }
    if let Some(runtimes) = &new.runtimes
        && (runtimes.is_empty() || runtimes.len() > RUNTIMES_MAX || !runtimes.iter().all(|name| is_word(name)))
    {
        return Err(Error::field("runtimes", format!("`runtimes` names from 1 to {RUNTIMES_MAX} OCI runtimes.")));
    }
    let beyond = |field: &str, most: String| Err(Error::field(field, format!("`{field}` must be from 0 to {most}.")));
    if new.total_cpu.is_some_and(|cpu| cpu != 0.0 && !(TOTAL_CPU_MIN..=TOTAL_CPU_MAX).contains(&cpu)) {
        let message = format!("`total_cpu` must be from {TOTAL_CPU_MIN} to {TOTAL_CPU_MAX}, or 0 for no limit.");
        return Err(Error::field("total_cpu", message));
    }
    if new.total_memory_mb.is_some_and(|mb| mb > TOTAL_MEMORY_MB_MAX) {
        return beyond("total_memory_mb", TOTAL_MEMORY_MB_MAX.to_string());
    }
    if new.total_disk_gb.is_some_and(|gb| gb > TOTAL_DISK_GB_MAX) {
        return beyond("total_disk_gb", TOTAL_DISK_GB_MAX.to_string());
    }
    if new.max_workspaces.is_some_and(|max| max > WORKSPACES_MAX) {
        return beyond("max_workspaces", WORKSPACES_MAX.to_string());
    }
    Ok(())
}

/// What is recorded of it then.
pub(super) fn after(before: &HostRow, change: &PatchServer) -> HostRow {
    let asked = asked(before, change);
    HostRow {
        name: asked.name,
        region: asked.region.unwrap_or_else(|| before.region.clone()),
        labels: asked.labels,
        runtimes: asked.runtimes,
        workspaces_max: asked.max_workspaces.map(i64::from),
        total: Amount {
            cpu_milli: change.total_cpu.map_or(before.total.cpu_milli, milli),
            memory_mb: change.total_memory_mb.map_or(before.total.memory_mb, |mb| mb as i64),
            disk_mb: change.total_disk_gb.map_or(before.total.disk_mb, |gb| (gb << 10) as i64),
        },
        ..before.clone()
    }
}

/// What a change makes of a server, as a request for one; how it is reached only as far as that is named.
pub(super) fn asked(before: &HostRow, change: &PatchServer) -> NewServer {
    let PatchServer { hostname, docker_port, ssh, socket, .. } = change.clone();
    NewServer {
        name: change.name.clone().unwrap_or_else(|| before.name.clone()),
        hostname,
        docker_port,
        tls_ca_path: change.tls_ca_path.clone(),
        tls_cert_path: change.tls_cert_path.clone(),
        tls_key_path: change.tls_key_path.clone(),
        tls_ca: change.tls_ca.clone(),
        tls_cert: change.tls_cert.clone(),
        tls_key: change.tls_key.clone(),
        ssh,
        socket,
        total_cpu: change.total_cpu,
        total_memory_mb: change.total_memory_mb,
        total_disk_gb: change.total_disk_gb,
        max_workspaces: change.max_workspaces.unwrap_or(before.workspaces_max.and_then(|max| u32::try_from(max).ok())),
        region: change.region.clone(),
        labels: change.labels.clone().unwrap_or_else(|| before.labels.clone()),
        runtimes: change.runtimes.clone().unwrap_or_else(|| before.runtimes.clone()),
        architecture: None,
    }
}

/// Names of what differs.
pub(super) fn changed(before: &HostRow, after: &HostRow) -> Value {
    let differs = [
        ("name", before.name != after.name),
        ("address", before.access_sealed != after.access_sealed),
        ("region", before.region != after.region),
        ("labels", before.labels != after.labels),
        ("runtimes", before.runtimes != after.runtimes),
        ("totals", before.total != after.total),
        ("max_workspaces", before.workspaces_max != after.workspaces_max),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect::<Vec<_>>().into()
}
