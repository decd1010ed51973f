//! The SQL of workspaces.
//!
//! Two writers share a row and never a column: the service writes what is wanted (`desired`,
//! `boot_seq`, `name`), the workspace's driver writes what is so (`status`, `generation`, ...).

use super::lifecycle::{Desired, Intent};
use crate::db;
use rexec_api::error::ErrorCode;
use rexec_api::ids::{HostId, UserId, WorkspaceId};
use rexec_api::workspaces::WorkspaceStatus;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};
use std::collections::BTreeMap;

/// A workspace as it is stored.
#[derive(Debug, Clone)]
pub struct Workspace {
    pub id: WorkspaceId,
    pub owner: UserId,
    pub name: String,
    pub image: String,
    /// Empty: the host's default.
    pub runtime: String,
    pub cpu_milli: i64,
    pub memory_mb: i64,
    pub env: BTreeMap<String, String>,
    pub intent: Intent,
    pub status: WorkspaceStatus,
    pub status_reason: Option<String>,
    pub error_code: Option<ErrorCode>,
    pub host: Option<HostId>,
    /// Counts containers: each one made for the workspace has the next number.
    pub generation: i64,
    /// The home volume's name.
    pub volume: String,
    pub guest_key: String,
    pub created_ms: i64,
    pub started_ms: Option<i64>,
}

#[derive(FromQueryResult)]
struct Row {
    id: String,
    owner_id: String,
    name: String,
    image: String,
    runtime: String,
    cpu_milli: i64,
    memory_mb: i64,
    env_json: String,
    desired: String,
    status: String,
    status_reason: Option<String>,
    error_code: Option<String>,
    host_id: Option<String>,
    generation: i64,
    boot_seq: i64,
    booted_seq: i64,
    volume: String,
    guest_key: String,
    created_ms: i64,
    started_ms: Option<i64>,
}

const COLUMNS: &str = "id, owner_id, name, image, runtime, cpu_milli, memory_mb, env_json, desired, status, \
    status_reason, error_code, host_id, generation, boot_seq, booted_seq, volume, guest_key, created_ms, started_ms";

impl TryFrom<Row> for Workspace {
    type Error = DbErr;

    fn try_from(row: Row) -> Result<Self, DbErr> {
        let broken = |what: &str| DbErr::Type(format!("workspace {} has an unreadable {what}", row.id));
        Ok(Self {
            id: row.id.parse().map_err(|_| broken("id"))?,
            owner: row.owner_id.parse().map_err(|_| broken("owner_id"))?,
            intent: Intent {
                desired: Desired::parse(&row.desired).ok_or_else(|| broken("desired"))?,
                boot_seq: row.boot_seq,
                booted_seq: row.booted_seq,
            },
            status: WorkspaceStatus::parse(&row.status).ok_or_else(|| broken("status"))?,
            error_code: row.error_code.as_deref().map(code_from),
            env: serde_json::from_str(&row.env_json).map_err(|_| broken("env_json"))?,
            host: row.host_id.as_deref().map(|id| id.parse().map_err(|_| broken("host_id"))).transpose()?,
            name: row.name,
            image: row.image,
            runtime: row.runtime,
            cpu_milli: row.cpu_milli,
            memory_mb: row.memory_mb,
            status_reason: row.status_reason,
            generation: row.generation,
            volume: row.volume,
            guest_key: row.guest_key,
            created_ms: row.created_ms,
            started_ms: row.started_ms,
        })
    }
}

fn code_from(text: &str) -> ErrorCode {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).unwrap_or(ErrorCode::Unknown)
}

pub async fn insert(conn: &impl ConnectionTrait, w: &Workspace) -> Result<(), DbErr> {
    let env = serde_json::to_string(&w.env).map_err(|e| DbErr::Json(e.to_string()))?;
    db::execute(
        conn,
        "INSERT INTO workspaces (id, owner_id, name, image, runtime, cpu_milli, memory_mb, env_json, desired, status, \
         host_id, generation, boot_seq, booted_seq, volume, guest_key, created_ms, updated_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
        [
            w.id.to_string().into(),
            w.owner.to_string().into(),
            w.name.clone().into(),
            w.image.clone().into(),
            w.runtime.clone().into(),
            w.cpu_milli.into(),
            w.memory_mb.into(),
            env.into(),
            w.intent.desired.as_str().into(),
            w.status.as_str().into(),
            w.host.map(|h| h.to_string()).into(),
            w.generation.into(),
            w.intent.boot_seq.into(),
            w.intent.booted_seq.into(),
            w.volume.clone().into(),
            w.guest_key.clone().into(),
            w.created_ms.into(),
            w.created_ms.into(),
        ],
    )
    .await
    .map(|_| ())
}

/// Any workspace that is not buried, for the driver and for checks of ownership.
pub async fn find(conn: &impl ConnectionTrait, id: WorkspaceId) -> Result<Option<Workspace>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM workspaces WHERE id = $1 AND deleted_ms IS NULL");
    db::fetch_one::<Row, _>(conn, &text, [id.to_string().into()]).await?.map(Workspace::try_from).transpose()
}

/// A page of an owner's workspaces, newest first, those before `before` in that order.
pub async fn list(
    conn: &impl ConnectionTrait,
    owner: UserId,
    before: Option<WorkspaceId>,
    limit: u64,
) -> Result<Vec<Workspace>, DbErr> {
    // Ids are UUIDv7, so their order as text is the order of creation.
    let text = format!(
        "SELECT {COLUMNS} FROM workspaces WHERE owner_id = $1 AND deleted_ms IS NULL AND desired <> 'deleted' \
         AND id < $2 ORDER BY id DESC LIMIT $3"
    );
    let before = before.map_or_else(|| "g".to_owned(), |id| id.to_string());
    let values = [owner.to_string().into(), before.into(), i64::try_from(limit).unwrap_or(i64::MAX).into()];
    db::fetch_all::<Row, _>(conn, &text, values).await?.into_iter().map(Workspace::try_from).collect()
}

/// The ids of all workspaces that need a driver.
pub async fn living(conn: &impl ConnectionTrait) -> Result<Vec<WorkspaceId>, DbErr> {
    #[derive(FromQueryResult)]
    struct Id {
        id: String,
    }
    let rows =
        db::fetch_all::<Id, _>(conn, "SELECT id FROM workspaces WHERE deleted_ms IS NULL ORDER BY id", []).await?;
    Ok(rows.into_iter().filter_map(|row| row.id.parse().ok()).collect())
}

/// How many workspaces there are that are not on their way out.
pub async fn count(conn: &impl ConnectionTrait) -> Result<i64, DbErr> {
    #[derive(FromQueryResult)]
    struct Count {
        n: i64,
    }
    let text = "SELECT COUNT(*) AS n FROM workspaces WHERE deleted_ms IS NULL AND desired <> 'deleted'";
    Ok(db::fetch_one::<Count, _>(conn, text, []).await?.map_or(0, |row| row.n))
}

/// Writes what is wanted. `false`: it is gone, or already on its way out.
pub async fn want(conn: &impl ConnectionTrait, id: WorkspaceId, intent: Intent, now_ms: i64) -> Result<bool, DbErr> {
    let changed = db::execute(
        conn,
        "UPDATE workspaces SET desired = $1, boot_seq = $2, updated_ms = $3 \
         WHERE id = $4 AND deleted_ms IS NULL AND desired <> 'deleted'",
        [intent.desired.as_str().into(), intent.boot_seq.into(), now_ms.into(), id.to_string().into()],
    )
    .await?;
    Ok(changed > 0)
}

pub async fn rename(conn: &impl ConnectionTrait, id: WorkspaceId, name: &str, now_ms: i64) -> Result<bool, DbErr> {
    let changed = db::execute(
        conn,
        "UPDATE workspaces SET name = $1, updated_ms = $2 WHERE id = $3 AND deleted_ms IS NULL AND desired <> 'deleted'",
        [name.into(), now_ms.into(), id.to_string().into()],
    )
    .await?;
    Ok(changed > 0)
}

/// What the driver has seen or done; `None` leaves a column as it is.
#[derive(Debug, Clone)]
pub struct Observation<'a> {
    pub status: WorkspaceStatus,
    pub reason: Option<&'a str>,
    pub error: Option<ErrorCode>,
    pub generation: i64,
    pub booted_seq: i64,
    pub started_ms: Option<i64>,
}

pub async fn observe(
    conn: &impl ConnectionTrait,
    id: WorkspaceId,
    seen: &Observation<'_>,
    now_ms: i64,
) -> Result<(), DbErr> {
    db::execute(
        conn,
        "UPDATE workspaces SET status = $1, status_reason = $2, error_code = $3, generation = $4, booted_seq = $5, \
         started_ms = $6, updated_ms = $7 WHERE id = $8",
        [
            seen.status.as_str().into(),
            seen.reason.into(),
            seen.error.map(ErrorCode::as_str).into(),
            seen.generation.into(),
            seen.booted_seq.into(),
            seen.started_ms.into(),
            now_ms.into(),
            id.to_string().into(),
        ],
    )
    .await
    .map(|_| ())
}

/// Leaves the tombstone; the guest's key goes with the container.
pub async fn bury(conn: &impl ConnectionTrait, id: WorkspaceId, now_ms: i64) -> Result<(), DbErr> {
    db::execute(
        conn,
        "UPDATE workspaces SET status = 'deleted', status_reason = NULL, error_code = NULL, guest_key = '', \
         env_json = '{}', deleted_ms = $1, updated_ms = $1 WHERE id = $2 AND deleted_ms IS NULL",
        [now_ms.into(), id.to_string().into()],
    )
    .await
    .map(|_| ())
}
