//! A workspace's record as its owner sees it.

use super::Workspaces;
use super::store::Workspace;
use crate::actor::Actor;
use crate::time::rfc3339;
use rexec_api::workspaces::WorkspaceView;

impl Workspaces {
    pub(super) fn view(&self, actor: &Actor, row: &Workspace) -> WorkspaceView {
        let facts = self.deps.host.ready().ok();
        let runtime = if row.runtime.is_empty() {
            facts.map_or_else(|| "default".into(), |facts| facts.engine.default_runtime.clone())
        } else {
            row.runtime.clone()
        };
        WorkspaceView {
            id: row.id,
            name: row.name.clone(),
            owner_id: row.owner,
            status: row.status,
            status_reason: row.status_reason.clone(),
            image: row.image.clone(),
            region: self.deps.host.region.clone(),
            host: actor.is_admin().then(|| self.deps.host.name.clone()),
            runtime,
            cpu: row.cpu_milli as f64 / 1000.0,
            memory_mb: u32::try_from(row.memory_mb).unwrap_or(u32::MAX),
            pids: u32::try_from(row.pids).unwrap_or(u32::MAX),
            created_at: rfc3339(row.created_ms),
            started_at: row.started_ms.map(rfc3339),
        }
    }
}
