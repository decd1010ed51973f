//! What is written of a workspace: what is wanted by the service, what is so by its driver.

use super::Workspace;
use crate::db;
use crate::workspaces::lifecycle::Intent;
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::WorkspaceStatus;
use sea_orm::{ConnectionTrait, DbErr};

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
