//! What is written of a workspace: what is wanted by the service, what is so by its driver.

use super::{HomeState, Want, Workspace};
use crate::db;
use crate::workspaces::lifecycle::{Desired, Intent};
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::WorkspaceStatus;
use sea_orm::{ConnectionTrait, DbErr};

pub async fn insert(conn: &impl ConnectionTrait, w: &Workspace) -> Result<(), DbErr> {
    let env = serde_json::to_string(&w.env).map_err(|e| DbErr::Json(e.to_string()))?;
    db::execute(
        conn,
        "INSERT INTO workspaces (id, owner_id, name, template, plan_json, git_url, git_branch, source_snapshot, image, \
         runtime, cpu_milli, memory_mb, disk_mb, pids, nested, env_json, desired, want_by, want_reason, idle_json, \
         limits_seq, status, host_id, generation, boot_seq, booted_seq, volume, home_state, source_state, guest_key, \
         created_ms, updated_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, \
         $23, $24, $25, $26, $27, $28, $29, $30, $31, $32)",
        [
            w.id.to_string().into(),
            w.owner.to_string().into(),
            w.name.clone().into(),
            w.template.clone().into(),
            w.plan_json.clone().into(),
            w.git_url.clone().into(),
            w.git_branch.clone().into(),
            w.source_snapshot.clone().into(),
            w.image.clone().into(),
            w.runtime.clone().into(),
            w.cpu_milli.into(),
            w.memory_mb.into(),
            w.disk_mb.into(),
            w.pids.into(),
            w.nested.clone().into(),
            env.into(),
            w.intent.desired.as_str().into(),
            w.want.by.as_str().into(),
            w.want.reason.clone().into(),
            w.idle_json.clone().into(),
            w.limits_seq.into(),
            w.status.as_str().into(),
            w.host.map(|h| h.to_string()).into(),
            w.generation.into(),
            w.intent.boot_seq.into(),
            w.intent.booted_seq.into(),
            w.volume.clone().into(),
            w.home_state.as_str().into(),
            w.source_state.as_str().into(),
            w.guest_key.clone().into(),
            w.created_ms.into(),
            w.created_ms.into(),
        ],
    )
    .await
    .map(|_| ())
}

/// Writes what is wanted, by whom and why. `false`: it is gone, or already on its way out.
pub async fn want(
    conn: &impl ConnectionTrait,
    id: WorkspaceId,
    intent: Intent,
    want: &Want,
    now_ms: i64,
) -> Result<bool, DbErr> {
    let changed = db::execute(
        conn,
        "UPDATE workspaces SET desired = $1, boot_seq = $2, want_by = $3, want_reason = $4, updated_ms = $5 \
         WHERE id = $6 AND deleted_ms IS NULL AND desired <> 'deleted'",
        [
            intent.desired.as_str().into(),
            intent.boot_seq.into(),
            want.by.as_str().into(),
            want.reason.clone().into(),
            now_ms.into(),
            id.to_string().into(),
        ],
    )
    .await?;
    Ok(changed > 0)
}

/// The same where nobody has wanted anything else since `before` was read: of two that decide at
/// once, the later finds `false`.
pub async fn want_if(
    conn: &impl ConnectionTrait,
    before: &Workspace,
    desired: Desired,
    want: &Want,
    now_ms: i64,
) -> Result<bool, DbErr> {
    let changed = db::execute(
        conn,
        "UPDATE workspaces SET desired = $1, want_by = $2, want_reason = $3, updated_ms = $4 \
         WHERE id = $5 AND deleted_ms IS NULL AND desired = $6 AND boot_seq = $7 AND COALESCE(want_by, 'user') = $8",
        [
            desired.as_str().into(),
            want.by.as_str().into(),
            want.reason.clone().into(),
            now_ms.into(),
            before.id.to_string().into(),
            before.intent.desired.as_str().into(),
            before.intent.boot_seq.into(),
            before.want.by.as_str().into(),
        ],
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

/// What the driver has seen or done: what these columns hold from now on.
#[derive(Debug, Clone)]
pub struct Observation<'a> {
    pub status: WorkspaceStatus,
    pub reason: Option<&'a str>,
    pub error: Option<ErrorCode>,
    pub generation: i64,
    pub booted_seq: i64,
    pub started_ms: Option<i64>,
    pub last_active_ms: Option<i64>,
    pub stopped_ms: Option<i64>,
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
         started_ms = $6, last_active_ms = $7, stopped_ms = $8, updated_ms = $9 WHERE id = $10",
        [
            seen.status.as_str().into(),
            seen.reason.into(),
            seen.error.map(ErrorCode::as_str).into(),
            seen.generation.into(),
            seen.booted_seq.into(),
            seen.started_ms.into(),
            seen.last_active_ms.into(),
            seen.stopped_ms.into(),
            now_ms.into(),
            id.to_string().into(),
        ],
    )
    .await
    .map(|_| ())
}

/// How far the filling of its home is.
pub async fn set_home_state(conn: &impl ConnectionTrait, id: WorkspaceId, state: HomeState) -> Result<(), DbErr> {
    let text = "UPDATE workspaces SET home_state = $1 WHERE id = $2";
    db::execute(conn, text, [state.as_str().into(), id.to_string().into()]).await.map(|_| ())
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
