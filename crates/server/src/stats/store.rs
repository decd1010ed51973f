//! The SQL of statistics: whose containers to look at, and the coarse spans that outlive the server.

use super::history::Bucket;
use crate::db;
use rexec_api::ids::{HostId, WorkspaceId};
use rexec_api::workspaces::WorkspaceStatus;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult, Value};

/// Rows of one statement: their values stay far below the 32,766 that SQLite takes.
const ROWS_MAX: usize = 500;
const COLUMNS: &str = "workspace_id, at_ms, covered_ms, cpu_ms, memory_bytes, disk_bytes, rx_bytes, tx_bytes, pids";
const COLUMN_COUNT: usize = 9;

/// A workspace as its statistics need it. A warm one has none: they would be its next owner's.
#[derive(Debug, Clone)]
pub struct Subject {
    pub id: WorkspaceId,
    pub host: Option<HostId>,
    pub status: WorkspaceStatus,
    pub generation: i64,
    pub cpu_milli: i64,
    pub pids: i64,
    /// 0: no limit.
    pub disk_mb: i64,
}

#[derive(FromQueryResult)]
struct SubjectRow {
    id: String,
    host_id: Option<String>,
    status: String,
    generation: i64,
    cpu_milli: i64,
    pids: i64,
    disk_mb: i64,
}

const SUBJECT: &str = "SELECT id, host_id, status, generation, cpu_milli, pids, disk_mb FROM workspaces \
    WHERE deleted_ms IS NULL AND desired <> 'deleted' AND machine_json IS NULL AND pool_key IS NULL AND";

impl SubjectRow {
    fn read(self) -> Option<Subject> {
        Some(Subject {
            id: self.id.parse().ok()?,
            host: self.host_id.as_deref().map(str::parse).transpose().ok()?,
            status: WorkspaceStatus::parse(&self.status)?,
            generation: self.generation,
            cpu_milli: self.cpu_milli,
            pids: self.pids,
            disk_mb: self.disk_mb,
        })
    }
}

/// `None` when it is gone or on its way out.
pub async fn subject(conn: &impl ConnectionTrait, id: WorkspaceId) -> Result<Option<Subject>, DbErr> {
    let found = db::fetch_one::<SubjectRow, _>(conn, &format!("{SUBJECT} id = $1"), [id.to_string().into()]).await?;
    Ok(found.and_then(SubjectRow::read))
}

/// Those that run on a host.
pub async fn running(conn: &impl ConnectionTrait, host: HostId) -> Result<Vec<Subject>, DbErr> {
    let text = format!("{SUBJECT} status = 'running' AND host_id = $1");
    let rows = db::fetch_all::<SubjectRow, _>(conn, &text, [host.to_string().into()]).await?;
    Ok(rows.into_iter().filter_map(SubjectRow::read).collect())
}

/// Stores spans, over what was stored of the same.
pub async fn save(conn: &impl ConnectionTrait, buckets: &[(WorkspaceId, Bucket)]) -> Result<(), DbErr> {
    for rows in buckets.chunks(ROWS_MAX) {
        let places: Vec<String> = (0..rows.len()).map(places).collect();
        let text = format!(
            "INSERT INTO workspace_stats ({COLUMNS}) VALUES {} ON CONFLICT (workspace_id, at_ms) DO UPDATE SET \
             covered_ms = excluded.covered_ms, cpu_ms = excluded.cpu_ms, memory_bytes = excluded.memory_bytes, \
             disk_bytes = excluded.disk_bytes, rx_bytes = excluded.rx_bytes, tx_bytes = excluded.tx_bytes, \
             pids = excluded.pids",
            places.join(", ")
        );
        let values: Vec<Value> = rows.iter().flat_map(|(id, bucket)| values(*id, bucket)).collect();
        db::execute(conn, &text, values).await?;
    }
    Ok(())
}

/// `($1, $2, ...)` of the row with this number.
fn places(row: usize) -> String {
    let first = row * COLUMN_COUNT + 1;
    let each: Vec<String> = (first..first + COLUMN_COUNT).map(|n| format!("${n}")).collect();
    format!("({})", each.join(", "))
}

fn values(id: WorkspaceId, bucket: &Bucket) -> [Value; COLUMN_COUNT] {
    [
        id.to_string().into(),
        bucket.at_ms.into(),
        bucket.covered_ms.into(),
        (bucket.cpu_ms.round() as i64).into(),
        signed(bucket.memory_bytes).into(),
        bucket.disk_bytes.map(signed).into(),
        signed(bucket.rx_bytes).into(),
        signed(bucket.tx_bytes).into(),
        signed(bucket.pids).into(),
    ]
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[derive(FromQueryResult)]
struct BucketRow {
    at_ms: i64,
    covered_ms: i64,
    cpu_ms: i64,
    memory_bytes: i64,
    disk_bytes: Option<i64>,
    rx_bytes: i64,
    tx_bytes: i64,
    pids: i64,
}

/// A workspace's stored spans from a time on, oldest first.
pub async fn load(conn: &impl ConnectionTrait, id: WorkspaceId, since_ms: i64) -> Result<Vec<Bucket>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM workspace_stats WHERE workspace_id = $1 AND at_ms >= $2 ORDER BY at_ms");
    let rows = db::fetch_all::<BucketRow, _>(conn, &text, [id.to_string().into(), since_ms.into()]).await?;
    let bucket = |row: BucketRow| Bucket {
        at_ms: row.at_ms,
        covered_ms: row.covered_ms,
        cpu_ms: row.cpu_ms as f64,
        memory_bytes: unsigned(row.memory_bytes),
        disk_bytes: row.disk_bytes.map(unsigned),
        rx_bytes: unsigned(row.rx_bytes),
        tx_bytes: unsigned(row.tx_bytes),
        pids: unsigned(row.pids),
    };
    Ok(rows.into_iter().map(bucket).collect())
}

/// Forgets what nobody is shown any more.
pub async fn forget(conn: &impl ConnectionTrait, before_ms: i64) -> Result<(), DbErr> {
    db::execute(conn, "DELETE FROM workspace_stats WHERE at_ms < $1", [before_ms.into()]).await.map(|_| ())
}
