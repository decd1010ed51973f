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

/// Writes down what a walk has seen of the homes in use. Kept ones are measured when they are kept.
pub async fn record_homes(conn: &impl ConnectionTrait, homes: &[(&str, u64)], now_ms: i64) -> Result<(), DbErr> {
    let text = "UPDATE volumes SET size_bytes = $1, measured_ms = $2 WHERE name = $3 AND state = 'in_use' \
         AND COALESCE(size_bytes, -1) <> $1";
    for (name, bytes) in homes {
        let bytes = i64::try_from(*bytes).unwrap_or(i64::MAX);
        db::execute(conn, text, [bytes.into(), now_ms.into(), (*name).into()]).await?;
    }
    Ok(())
}
