//! The SQL of disks: who has what on a host's disk, and their limits.

use crate::db;
use rexec_api::ids::{HostId, WorkspaceId};
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};

/// A workspace as its disk is measured.
#[derive(Debug, Clone)]
pub struct Tenant {
    pub id: WorkspaceId,
    /// The home's name at the engine.
    pub volume: String,
    pub generation: i64,
    /// 0: no limit.
    pub limit_bytes: u64,
    /// When it was last started.
    pub started_ms: i64,
    /// As against stopped, paused or on its way.
    pub runs: bool,
}

#[derive(FromQueryResult)]
struct Row {
    id: String,
    volume: String,
    generation: i64,
    disk_mb: i64,
    started_ms: Option<i64>,
    status: String,
}

/// All that have a container on a host.
pub async fn tenants(conn: &impl ConnectionTrait, host: HostId) -> Result<Vec<Tenant>, DbErr> {
    let text = "SELECT id, volume, generation, disk_mb, started_ms, status FROM workspaces \
         WHERE deleted_ms IS NULL AND desired <> 'deleted' AND generation > 0 AND host_id = $1";
    let rows = db::fetch_all::<Row, _>(conn, text, [host.to_string().into()]).await?;
    let tenant = |row: Row| {
        Some(Tenant {
            id: row.id.parse().ok()?,
            volume: row.volume,
            generation: row.generation,
            limit_bytes: u64::try_from(row.disk_mb).unwrap_or(0) << 20,
            started_ms: row.started_ms.unwrap_or(0),
            runs: row.status == "running",
        })
    };
    Ok(rows.into_iter().filter_map(tenant).collect())
}

/// Whether any that runs is held to a limit.
pub async fn any_limited(conn: &impl ConnectionTrait, host: HostId) -> Result<bool, DbErr> {
    #[derive(FromQueryResult)]
    struct One {
        #[allow(dead_code)]
        id: String,
    }
    let text = "SELECT id FROM workspaces WHERE deleted_ms IS NULL AND status = 'running' AND disk_mb > 0 \
         AND host_id = $1 LIMIT 1";
    Ok(db::fetch_one::<One, _>(conn, text, [host.to_string().into()]).await?.is_some())
}
