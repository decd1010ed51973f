//! What is written of a workspace: what is wanted by the service, what is so by its driver.

use super::row::Wished;
use super::{HomeState, Want, Workspace};
use crate::db::{self, Db};
use crate::egress::store as egress;
use crate::replicas::Hold;
use crate::workspaces::lifecycle::{Desired, Intent};
use crate::workspaces::limits::Wish;
use crate::workspaces::retention::Warning;
use rexec_api::error::ErrorCode;
use rexec_api::idle::IdleSettings;
use rexec_api::ids::{HostId, WorkspaceId};
use rexec_api::workspaces::{MachineView, WorkspaceStatus};
use sea_orm::{ConnectionTrait, DbErr};
use std::collections::BTreeMap;

pub async fn insert(conn: &impl ConnectionTrait, w: &Workspace) -> Result<(), DbErr> {
    let env = serde_json::to_string(&w.env).map_err(|e| DbErr::Json(e.to_string()))?;
    let idle = serde_json::to_string(&w.idle).map_err(|e| DbErr::Json(e.to_string()))?;
    db::execute(
        conn,
        "INSERT INTO workspaces (id, owner_id, name, template, plan_json, git_url, git_branch, source_snapshot, image, \
         runtime, cpu_milli, memory_mb, disk_mb, pids, nested, env_json, desired, want_by, want_reason, idle_json, \
         limits_seq, status, host_id, generation, boot_seq, booted_seq, volume, home_state, source_state, guest_key, \
         created_ms, updated_ms, status_reason, machine_json, pool_key, pool_image, egress_json) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, \
         $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37)",
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
            idle.into(),
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
            w.status_reason.clone().into(),
            w.machine.as_ref().map(json_of).transpose()?.into(),
            w.pool.as_ref().map(|pool| pool.key.clone()).into(),
            w.pool.as_ref().and_then(|pool| pool.image.clone()).into(),
            w.egress.as_ref().map(egress::json_of).transpose()?.into(),
        ],
    )
    .await
    .map(|_| ())
}

fn json_of(machine: &MachineView) -> Result<String, DbErr> {
    serde_json::to_string(machine).map_err(|e| DbErr::Json(e.to_string()))
}

/// Writes what a joined machine says of itself, with its cores and memory, and when it came up.
pub async fn note_machine(conn: &impl ConnectionTrait, w: &Workspace, now_ms: i64) -> Result<(), DbErr> {
    let text = "UPDATE workspaces SET machine_json = $1, cpu_milli = $2, memory_mb = $3, started_ms = $4, \
                updated_ms = $5 WHERE id = $6 AND deleted_ms IS NULL";
    let values = [
        w.machine.as_ref().map(json_of).transpose()?.into(),
        w.cpu_milli.into(),
        w.memory_mb.into(),
        w.started_ms.into(),
        now_ms.into(),
        w.id.to_string().into(),
    ];
    db::execute(conn, text, values).await.map(|_| ())
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

/// Writes its own thresholds of idleness. `false`: others stand there than `before`, or it is gone.
pub async fn set_idle(
    conn: &impl ConnectionTrait,
    id: WorkspaceId,
    before: &IdleSettings,
    idle: &IdleSettings,
    now_ms: i64,
) -> Result<bool, DbErr> {
    let json = |settings| serde_json::to_string(settings).map_err(|e| DbErr::Json(e.to_string()));
    let text = "UPDATE workspaces SET idle_json = $1, updated_ms = $2 \
         WHERE id = $3 AND idle_json = $4 AND deleted_ms IS NULL AND desired <> 'deleted'";
    let values = [json(idle)?.into(), now_ms.into(), id.to_string().into(), json(before)?.into()];
    Ok(db::execute(conn, text, values).await? > 0)
}

/// Writes the limits that are wished for. `false`: others are, since `before` was read, or it is gone.
pub async fn wish_limits(
    conn: &impl ConnectionTrait,
    before: &Workspace,
    wish: &Wished,
    now_ms: i64,
) -> Result<bool, DbErr> {
    let wish = serde_json::to_string(wish).map_err(|e| DbErr::Json(e.to_string()))?;
    let text = "UPDATE workspaces SET limits_json = $1, limits_seq = limits_seq + 1, updated_ms = $2 \
         WHERE id = $3 AND limits_seq = $4 AND deleted_ms IS NULL AND desired <> 'deleted'";
    let values = [wish.into(), now_ms.into(), before.id.to_string().into(), before.limits_seq.into()];
    Ok(db::execute(conn, text, values).await? > 0)
}

/// Writes that the limits that `row` wishes for are in force.
pub async fn grant_limits(conn: &impl ConnectionTrait, row: &Workspace, wish: &Wish) -> Result<(), DbErr> {
    let text = "UPDATE workspaces SET cpu_milli = $1, memory_mb = $2, pids = $3, limits_applied_seq = $4 WHERE id = $5";
    let values = [
        wish.cpu_milli.into(),
        wish.memory_mb.into(),
        wish.pids.into(),
        row.limits_seq.into(),
        row.id.to_string().into(),
    ];
    db::execute(conn, text, values).await.map(|_| ())
}

/// Writes that the limits that `row` wishes for cannot be had: the wish is over.
pub async fn refuse_limits(conn: &impl ConnectionTrait, row: &Workspace) -> Result<(), DbErr> {
    let text = "UPDATE workspaces SET limits_applied_seq = $1 WHERE id = $2";
    db::execute(conn, text, [row.limits_seq.into(), row.id.to_string().into()]).await.map(|_| ())
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
    /// Of a use; what is recorded of a later one stays.
    pub used_ms: Option<i64>,
    pub stopped_ms: Option<i64>,
}

/// Only under the lease of whoever saw it.
pub async fn observe(db: &Db, lease: &Hold, id: WorkspaceId, seen: &Observation<'_>, now_ms: i64) -> Result<(), DbErr> {
    lease
        .execute(
            db,
            "UPDATE workspaces SET status = $1, status_reason = $2, error_code = $3, generation = $4, booted_seq = $5, \
         started_ms = $6, stopped_ms = $7, updated_ms = $8, last_active_ms = CASE WHEN \
         COALESCE(last_active_ms, 0) < CAST($9 AS BIGINT) THEN CAST($9 AS BIGINT) ELSE last_active_ms END \
         WHERE id = $10",
            vec![
                seen.status.as_str().into(),
                seen.reason.into(),
                seen.error.map(ErrorCode::as_str).into(),
                seen.generation.into(),
                seen.booted_seq.into(),
                seen.started_ms.into(),
                seen.stopped_ms.into(),
                now_ms.into(),
                seen.used_ms.into(),
                id.to_string().into(),
            ],
        )
        .await
        .map(|_| ())
}

/// Records a use of it: the one column that driver and keeper both write, because it only grows.
pub async fn note_use(conn: &impl ConnectionTrait, id: WorkspaceId, at_ms: i64) -> Result<(), DbErr> {
    let text = "UPDATE workspaces SET last_active_ms = $1 WHERE id = $2 AND COALESCE(last_active_ms, 0) < $1";
    db::execute(conn, text, [at_ms.into(), id.to_string().into()]).await.map(|_| ())
}

/// Records what its owner hears of its deletion. `false`: it has been started meanwhile, or goes already.
pub async fn tell_of_deletion(
    conn: &impl ConnectionTrait,
    before: &Workspace,
    warning: Option<Warning>,
) -> Result<bool, DbErr> {
    let text = "UPDATE workspaces SET delete_warned_ms = $1, delete_told_ms = $2 WHERE id = $3 \
         AND deleted_ms IS NULL AND desired = 'stopped' AND stopped_ms = $4";
    let values = [
        warning.map(|told| told.at_ms).into(),
        warning.map(|told| told.deletes_ms).into(),
        before.id.to_string().into(),
        before.stopped_ms.into(),
    ];
    Ok(db::execute(conn, text, values).await? > 0)
}

/// The key that the guest of its next container proves itself by.
pub async fn set_guest_key(conn: &impl ConnectionTrait, id: WorkspaceId, key: &str) -> Result<(), DbErr> {
    let text = "UPDATE workspaces SET guest_key = $1 WHERE id = $2 AND deleted_ms IS NULL";
    db::execute(conn, text, [key.into(), id.to_string().into()]).await.map(|_| ())
}

/// How far the filling of its home is.
pub async fn set_home_state(conn: &impl ConnectionTrait, id: WorkspaceId, state: HomeState) -> Result<(), DbErr> {
    let text = "UPDATE workspaces SET home_state = $1 WHERE id = $2";
    db::execute(conn, text, [state.as_str().into(), id.to_string().into()]).await.map(|_| ())
}

/// What a repository, once cloned, makes of its workspace.
pub struct Adoption {
    pub plan_json: String,
    pub env: BTreeMap<String, String>,
    /// The image that it is to be made again from.
    pub image_found: Option<String>,
}

pub async fn adopt_repository(
    conn: &impl ConnectionTrait,
    id: WorkspaceId,
    adoption: &Adoption,
    now_ms: i64,
) -> Result<(), DbErr> {
    let env = serde_json::to_string(&adoption.env).map_err(|e| DbErr::Json(e.to_string()))?;
    db::execute(
        conn,
        "UPDATE workspaces SET source_state = 'done', plan_json = $1, env_json = $2, image_found = $3, updated_ms = $4 \
         WHERE id = $5 AND deleted_ms IS NULL",
        [
            adoption.plan_json.clone().into(),
            env.into(),
            adoption.image_found.clone().into(),
            now_ms.into(),
            id.to_string().into(),
        ],
    )
    .await
    .map(|_| ())
}

/// The image that its repository names is its image from now on.
pub async fn take_found_image(conn: &impl ConnectionTrait, id: WorkspaceId) -> Result<(), DbErr> {
    let text = "UPDATE workspaces SET image = image_found WHERE id = $1 AND image_found IS NOT NULL";
    db::execute(conn, text, [id.to_string().into()]).await.map(|_| ())
}

/// That image cannot be had: it stays with the one that it has, and its plan says why.
pub async fn drop_found_image(conn: &impl ConnectionTrait, id: WorkspaceId, plan_json: &str) -> Result<(), DbErr> {
    let text = "UPDATE workspaces SET image_found = NULL, plan_json = $1 WHERE id = $2";
    db::execute(conn, text, [plan_json.into(), id.to_string().into()]).await.map(|_| ())
}

/// Leaves the tombstone, from which a kept home is restored; the guest's key goes with the container.
pub async fn bury(conn: &impl ConnectionTrait, id: WorkspaceId, now_ms: i64) -> Result<(), DbErr> {
    db::execute(
        conn,
        "UPDATE workspaces SET status = 'deleted', status_reason = NULL, error_code = NULL, guest_key = '', \
         deleted_ms = $1, updated_ms = $1 WHERE id = $2 AND deleted_ms IS NULL",
        [now_ms.into(), id.to_string().into()],
    )
    .await
    .map(|_| ())
}

/// It is another host's from here on.
pub async fn lies_on(conn: &impl ConnectionTrait, id: WorkspaceId, host: HostId) -> Result<(), DbErr> {
    let text = "UPDATE workspaces SET host_id = $1, address = NULL, gateway = NULL WHERE id = $2";
    db::execute(conn, text, [host.to_string().into(), id.to_string().into()]).await.map(|_| ())
}

/// Takes from the tombstones of a host that is lost what may be secret; those whose home lies elsewhere keep it.
pub async fn forget_envs(conn: &impl ConnectionTrait, host: HostId) -> Result<(), DbErr> {
    let text = "UPDATE workspaces SET env_json = '{}' WHERE host_id = $1 AND deleted_ms IS NOT NULL \
                AND NOT EXISTS (SELECT 1 FROM volumes v WHERE v.name = workspaces.volume AND v.state = 'kept')";
    db::execute(conn, text, [host.to_string().into()]).await.map(|_| ())
}

/// How much of the disk it may have.
pub async fn set_disk(conn: &impl ConnectionTrait, id: WorkspaceId, disk_mb: i64, now_ms: i64) -> Result<bool, DbErr> {
    let text = "UPDATE workspaces SET disk_mb = $1, updated_ms = $2 WHERE id = $3 AND deleted_ms IS NULL AND desired <> 'deleted'";
    Ok(db::execute(conn, text, [disk_mb.into(), now_ms.into(), id.to_string().into()]).await? > 0)
}

/// Takes from the tombstones of a home that is gone what may be secret: nothing is restored from them any more.
pub async fn forget_env(conn: &impl ConnectionTrait, volume: &str) -> Result<(), DbErr> {
    let text = "UPDATE workspaces SET env_json = '{}' WHERE volume = $1 AND deleted_ms IS NOT NULL";
    db::execute(conn, text, [volume.into()]).await.map(|_| ())
}
