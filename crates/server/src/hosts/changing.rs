//! A change of a server: what is recorded then, and that its engine is still the one on which its workspaces lie.

use super::Host;
use super::admin::{Servers, milli};
use super::placement::Amount;
use super::store::{self, HostRow};
use crate::error::{Error, Result};
use rexec_api::error::ErrorCode;
use rexec_api::servers::{NewServer, PatchServer};
use rexec_engine::Labels;
use serde_json::{Value, json};

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
