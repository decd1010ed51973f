//! The SQL of warm workspaces: rows like any other, of the pool's own user, with a `pool_key` until somebody has them.

use super::key::Key;
use super::target::Made;
use crate::db;
use crate::egress::store as egress;
use crate::hosts::placement::Amount;
use crate::workspaces::lifecycle::Desired;
use crate::workspaces::store::{Want, WantBy, Workspace};
use rexec_api::ids::{HostId, UserId, VolumeId, WorkspaceId};
use rexec_api::workspaces::WorkspaceStatus;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};
use std::collections::HashMap;

/// Whose warm workspaces are.
pub const OWNER: UserId = UserId(uuid::Uuid::nil());
/// Requests that are looked at to know the demand.
const MADE_MAX: i64 = 5_000;
/// Warm ones that are tried for one request.
const WARM_MAX: i64 = 64;

/// A warm workspace as its pool sees it.
#[derive(Debug, Clone)]
pub struct Warm {
    pub id: WorkspaceId,
    /// `None`: of another version.
    pub key: Option<Key>,
    pub image: Option<String>,
    pub status: WorkspaceStatus,
    /// On its way out.
    pub leaves: bool,
}

#[derive(FromQueryResult)]
struct Id {
    id: String,
}

/// Those that are ready to be had, the oldest first.
pub async fn ready(conn: &impl ConnectionTrait, host: HostId, key: &Key) -> Result<Vec<WorkspaceId>, DbErr> {
    let text = "SELECT id FROM workspaces WHERE host_id = $1 AND pool_key = $2 AND status = 'running' \
                AND desired = 'running' AND deleted_ms IS NULL ORDER BY id LIMIT $3";
    let values = [host.to_string().into(), key.to_json().into(), WARM_MAX.into()];
    let rows = db::fetch_all::<Id, _>(conn, text, values).await?;
    Ok(rows.into_iter().filter_map(|row| row.id.parse().ok()).collect())
}

/// Makes this warm one what `row` is, and its owner's. `false`: somebody else has it, or it is not ready any more.
pub async fn claim(conn: &impl ConnectionTrait, id: WorkspaceId, key: &Key, row: &Workspace) -> Result<bool, DbErr> {
    let json = |value: serde_json::Result<String>| value.map_err(|e| DbErr::Json(e.to_string()));
    let changed = db::execute(
        conn,
        "UPDATE workspaces SET owner_id = $1, name = $2, template = $3, plan_json = $4, git_url = $5, git_branch = $6, \
         env_json = $7, idle_json = $8, source_state = $9, status = 'creating', created_ms = $10, updated_ms = $10, \
         last_active_ms = $10, egress_json = $11, egress_seq = egress_seq + 1, pool_key = NULL, pool_image = NULL \
         WHERE id = $12 AND pool_key = $13 AND status = 'running' AND desired = 'running' AND deleted_ms IS NULL",
        [
            row.owner.to_string().into(),
            row.name.clone().into(),
            row.template.clone().into(),
            row.plan_json.clone().into(),
            row.git_url.clone().into(),
            row.git_branch.clone().into(),
            json(serde_json::to_string(&row.env))?.into(),
            json(serde_json::to_string(&row.idle))?.into(),
            row.source_state.as_str().into(),
            row.created_ms.into(),
            row.egress.as_ref().map(egress::json_of).transpose()?.into(),
            id.to_string().into(),
            key.to_json().into(),
        ],
    )
    .await?;
    if changed == 0 {
        return Ok(false);
    }
    // Its home is as new as it is; ids of homes are in the order in which they came to be somebody's.
    let text =
        "UPDATE volumes SET id = $1, owner_id = $2, workspace_name = $3, created_ms = $4 WHERE workspace_id = $5";
    let values = [
        VolumeId::new().to_string().into(),
        row.owner.to_string().into(),
        row.name.clone().into(),
        row.created_ms.into(),
        id.to_string().into(),
    ];
    db::execute(conn, text, values).await?;
    Ok(true)
}

/// All of a host's, the oldest first.
pub async fn of_host(conn: &impl ConnectionTrait, host: HostId) -> Result<Vec<Warm>, DbErr> {
    #[derive(FromQueryResult)]
    struct Row {
        id: String,
        pool_key: String,
        pool_image: Option<String>,
        status: String,
        desired: String,
    }
    let text = "SELECT id, pool_key, pool_image, status, desired FROM workspaces \
                WHERE host_id = $1 AND pool_key IS NOT NULL AND deleted_ms IS NULL ORDER BY id";
    let rows = db::fetch_all::<Row, _>(conn, text, [host.to_string().into()]).await?;
    let warm = |row: Row| {
        Some(Warm {
            id: row.id.parse().ok()?,
            key: Key::parse(&row.pool_key),
            image: row.pool_image,
            status: WorkspaceStatus::parse(&row.status)?,
            leaves: row.desired == Desired::Deleted.as_str(),
        })
    };
    Ok(rows.into_iter().filter_map(warm).collect())
}

/// Has it go, unless somebody has it.
pub async fn let_go(conn: &impl ConnectionTrait, id: WorkspaceId, now_ms: i64) -> Result<bool, DbErr> {
    let text = "UPDATE workspaces SET desired = $1, want_by = $2, updated_ms = $3 \
                WHERE id = $4 AND pool_key IS NOT NULL AND deleted_ms IS NULL AND desired <> 'deleted'";
    let want = Want { by: WantBy::Purge, reason: None };
    let values = [Desired::Deleted.as_str().into(), want.by.as_str().into(), now_ms.into(), id.to_string().into()];
    Ok(db::execute(conn, text, values).await? > 0)
}

/// One that is there for nobody, the oldest.
pub async fn any(conn: &impl ConnectionTrait, host: HostId) -> Result<Option<WorkspaceId>, DbErr> {
    let text = "SELECT id FROM workspaces WHERE host_id = $1 AND pool_key IS NOT NULL AND desired <> 'deleted' \
                AND deleted_ms IS NULL ORDER BY id LIMIT 1";
    let row = db::fetch_one::<Id, _>(conn, text, [host.to_string().into()]).await?;
    Ok(row.and_then(|row| row.id.parse().ok()))
}

/// What warm workspaces hold of their hosts, and how many they are: all of it is to be had.
pub async fn held(conn: &impl ConnectionTrait) -> Result<HashMap<HostId, (Amount, i64)>, DbErr> {
    #[derive(FromQueryResult)]
    struct Row {
        host_id: String,
        cpu: i64,
        memory: i64,
        disk: i64,
        places: i64,
    }
    let text = "SELECT host_id, CAST(SUM(held_cpu_milli) AS BIGINT) AS cpu, CAST(SUM(held_memory_mb) AS BIGINT) AS memory, \
                CAST(SUM(held_disk_mb) AS BIGINT) AS disk, CAST(SUM(held_place) AS BIGINT) AS places FROM workspaces \
                WHERE pool_key IS NOT NULL AND desired <> 'deleted' AND deleted_ms IS NULL GROUP BY host_id";
    let rows = db::fetch_all::<Row, _>(conn, text, []).await?;
    let held = |row: Row| {
        let amount = Amount { cpu_milli: row.cpu, memory_mb: row.memory, disk_mb: row.disk };
        Some((row.host_id.parse().ok()?, (amount, row.places)))
    };
    Ok(rows.into_iter().filter_map(held).collect())
}

/// What was asked for on a host since then and could have come out of a pool, the newest first.
pub async fn made_since(conn: &impl ConnectionTrait, host: HostId, since_ms: i64) -> Result<Vec<Made>, DbErr> {
    #[derive(FromQueryResult)]
    struct Row {
        image: String,
        runtime: String,
        nested: Option<String>,
        cpu_milli: i64,
        memory_mb: i64,
        disk_mb: i64,
        pids: i64,
        created_ms: i64,
        address: Option<String>,
    }
    // One that took over an image of its repository did not begin as that.
    let text = "SELECT COALESCE(made_from, image) AS image, runtime, nested, cpu_milli, memory_mb, disk_mb, pids, created_ms, address FROM workspaces \
                WHERE host_id = $1 AND created_ms >= $2 AND pool_key IS NULL AND machine_json IS NULL \
                AND source_snapshot IS NULL AND image_found IS NULL AND owner_id <> $3 ORDER BY created_ms DESC LIMIT $4";
    let values = [host.to_string().into(), since_ms.into(), OWNER.to_string().into(), MADE_MAX.into()];
    let made = |row: Row| Made {
        key: Key {
            image: row.image,
            runtime: row.runtime,
            nested: row.nested,
            cpu_milli: row.cpu_milli,
            memory_mb: row.memory_mb,
            disk_mb: row.disk_mb,
            pids: row.pids,
            closed: row.address.is_some(),
            guest: crate::hosts::delivery::GUEST_HASH.into(),
        },
        at_ms: row.created_ms,
    };
    Ok(db::fetch_all::<Row, _>(conn, text, values).await?.into_iter().map(made).collect())
}
