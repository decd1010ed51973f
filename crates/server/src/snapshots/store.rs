//! The SQL of snapshots.
//!
//! ```text
//!   taking --> ready --deleted--> deleting --volume and image removed--> deleted
//!     |                              ^
//!     +--> failed ----deleted--------+
//! ```
//!
//! `moving` is the image of a workspace on its way to another host (`workspaces/moving`): nobody's snapshot, then `deleting`.
//!
//! `volume` and `image_ref` name what the engine may have of it, from before it has it until it has it no
//! more: of those `failed` or `deleting` that is to be removed.

use crate::db;
use crate::page;
use crate::workspaces::store::Workspace;
use rexec_api::error::ErrorCode;
use rexec_api::ids::{HostId, SnapshotId, UserId, WorkspaceId};
use rexec_api::snapshots::SnapshotState;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};
use std::borrow::Cow;

/// What images of snapshots are called, before the snapshot's id.
const IMAGE: &str = "rexec/snapshot:";
/// What the names of their volumes begin with.
const VOLUME: &str = "rexec-snapshot-";

#[derive(Debug, Clone)]
pub struct Snapshot {
    pub id: SnapshotId,
    pub owner: UserId,
    pub workspace: WorkspaceId,
    pub workspace_name: String,
    /// Where it lies.
    pub host: Option<HostId>,
    pub name: String,
    pub state: SnapshotState,
    pub reason: Option<String>,
    /// Of a failure.
    pub error_code: Option<ErrorCode>,
    pub image_ref: Option<String>,
    pub volume: Option<String>,
    /// What the root file system of the first of its line was made from.
    pub base_image: String,
    /// What the workspace had; JSON.
    pub plan_json: String,
    pub image_bytes: i64,
    pub home_bytes: i64,
    pub pause_ms: Option<i64>,
    pub clones: i64,
    pub created_ms: i64,
}

#[derive(FromQueryResult)]
struct Row {
    id: String,
    owner_id: String,
    workspace_id: String,
    workspace_name: String,
    host_id: Option<String>,
    name: String,
    state: String,
    reason: Option<String>,
    error_code: Option<String>,
    image_ref: Option<String>,
    volume: Option<String>,
    base_image: String,
    plan_json: String,
    image_bytes: i64,
    home_bytes: i64,
    pause_ms: Option<i64>,
    clones: i64,
    created_ms: i64,
}

const COLUMNS: &str = "id, owner_id, workspace_id, workspace_name, host_id, name, state, reason, error_code, image_ref, volume, base_image, \
    plan_json, image_bytes, home_bytes, pause_ms, created_ms, (SELECT COUNT(*) FROM workspaces w \
    WHERE w.source_snapshot = snapshots.id AND w.deleted_ms IS NULL AND w.desired <> 'deleted') AS clones";
const SHOWN: &str = "state IN ('taking', 'ready', 'failed')";

impl TryFrom<Row> for Snapshot {
    type Error = DbErr;

    fn try_from(row: Row) -> Result<Self, DbErr> {
        let broken = |what: &str| DbErr::Type(format!("snapshot {} has an unreadable {what}", row.id));
        Ok(Self {
            id: row.id.parse().map_err(|_| broken("id"))?,
            owner: row.owner_id.parse().map_err(|_| broken("owner_id"))?,
            workspace: row.workspace_id.parse().map_err(|_| broken("workspace_id"))?,
            host: row.host_id.as_deref().map(|id| id.parse().map_err(|_| broken("host_id"))).transpose()?,
            state: match row.state.as_str() {
                "taking" => SnapshotState::Taking,
                "ready" => SnapshotState::Ready,
                "failed" => SnapshotState::Failed,
                _ => return Err(broken("state")),
            },
            workspace_name: row.workspace_name,
            name: row.name,
            reason: row.reason,
            error_code: row.error_code.as_deref().map(ErrorCode::parse),
            image_ref: row.image_ref,
            volume: row.volume,
            base_image: row.base_image,
            plan_json: row.plan_json,
            image_bytes: row.image_bytes,
            home_bytes: row.home_bytes,
            pause_ms: row.pause_ms,
            clones: row.clones,
            created_ms: row.created_ms,
        })
    }
}

pub fn image_name(id: SnapshotId) -> String {
    format!("{IMAGE}{}", id.0.simple())
}

pub fn volume_name(id: SnapshotId) -> String {
    format!("{VOLUME}{}", id.0.simple())
}

pub async fn insert(conn: &impl ConnectionTrait, s: &Snapshot) -> Result<(), DbErr> {
    db::execute(
        conn,
        "INSERT INTO snapshots (id, owner_id, workspace_id, workspace_name, host_id, name, state, image_ref, volume, \
         base_image, plan_json, created_ms) VALUES ($1, $2, $3, $4, $5, $6, 'taking', $7, $8, $9, $10, $11)",
        [
            s.id.to_string().into(),
            s.owner.to_string().into(),
            s.workspace.to_string().into(),
            s.workspace_name.clone().into(),
            s.host.map(|host| host.to_string()).into(),
            s.name.clone().into(),
            s.image_ref.clone().into(),
            s.volume.clone().into(),
            s.base_image.clone().into(),
            s.plan_json.clone().into(),
            s.created_ms.into(),
        ],
    )
    .await
    .map(|_| ())
}

/// An image of a workspace's root that a move makes at one host: no snapshot of anybody's, but its name and removal are
/// those of one.
pub async fn insert_moving(
    conn: &impl ConnectionTrait,
    id: SnapshotId,
    host: HostId,
    of: &Workspace,
    base: &str,
    now_ms: i64,
) -> Result<(), DbErr> {
    db::execute(
        conn,
        "INSERT INTO snapshots (id, owner_id, workspace_id, workspace_name, host_id, name, state, image_ref, base_image, \
         plan_json, created_ms) VALUES ($1, $2, $3, $4, $5, $4, 'moving', $6, $7, '{}', $8)",
        [
            id.to_string().into(),
            of.owner.to_string().into(),
            of.id.to_string().into(),
            of.name.clone().into(),
            host.to_string().into(),
            image_name(id).into(),
            base.into(),
            now_ms.into(),
        ],
    )
    .await
    .map(|_| ())
}

/// Its image goes once no workspace is made of it.
pub async fn let_go(conn: &impl ConnectionTrait, id: SnapshotId) -> Result<(), DbErr> {
    let text = "UPDATE snapshots SET state = 'deleting' WHERE id = $1 AND state = 'moving'";
    db::execute(conn, text, [id.to_string().into()]).await.map(|_| ())
}

/// What the first of its line was made from.
pub async fn base_of(conn: &impl ConnectionTrait, image: &str) -> Result<String, DbErr> {
    let id = image.strip_prefix(IMAGE).and_then(|id| id.parse::<SnapshotId>().ok());
    let base = match id {
        Some(id) => base_image(conn, &id.to_string()).await?,
        None => None,
    };
    Ok(base.unwrap_or_else(|| image.to_owned()))
}

/// A page of an owner's snapshots, newest first; `only` those of these workspaces.
pub async fn list(
    conn: &impl ConnectionTrait,
    owner: UserId,
    only: Option<&[WorkspaceId]>,
    before: Option<SnapshotId>,
) -> Result<Vec<Snapshot>, DbErr> {
    let only = db::among("workspace_id", only);
    let text = format!(
        "SELECT {COLUMNS} FROM snapshots WHERE owner_id = $1 AND {SHOWN} AND id < $2 {only} ORDER BY id DESC LIMIT $3"
    );
    let values = [owner.to_string().into(), page::before(before).into(), page::FETCH.into()];
    db::fetch_all::<Row, _>(conn, &text, values).await?.into_iter().map(Snapshot::try_from).collect()
}

/// One that is not deleted.
pub async fn find(conn: &impl ConnectionTrait, id: SnapshotId) -> Result<Option<Snapshot>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM snapshots WHERE id = $1 AND {SHOWN}");
    db::fetch_one::<Row, _>(conn, &text, [id.to_string().into()]).await?.map(Snapshot::try_from).transpose()
}

/// The one that is to be taken of a workspace now.
pub async fn taking(conn: &impl ConnectionTrait, workspace: WorkspaceId) -> Result<Option<Snapshot>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM snapshots WHERE workspace_id = $1 AND state = 'taking' LIMIT 1");
    db::fetch_one::<Row, _>(conn, &text, [workspace.to_string().into()]).await?.map(Snapshot::try_from).transpose()
}

/// How many an owner has, and their bytes; whoever asks in a transaction is alone with it until its end.
pub async fn usage(conn: &impl ConnectionTrait, owner: UserId) -> Result<(i64, i64), DbErr> {
    #[derive(FromQueryResult)]
    struct Usage {
        n: i64,
        bytes: i64,
    }
    // PostgreSQL lets two transactions count at once otherwise.
    db::execute(conn, "UPDATE users SET id = id WHERE id = $1", [owner.to_string().into()]).await?;
    let text = "SELECT COUNT(*) AS n, CAST(COALESCE(SUM(image_bytes + home_bytes), 0) AS BIGINT) AS bytes \
                FROM snapshots WHERE owner_id = $1 AND state IN ('taking', 'ready')";
    let usage = db::fetch_one::<Usage, _>(conn, text, [owner.to_string().into()]).await?;
    Ok(usage.map_or((0, 0), |usage| (usage.n, usage.bytes)))
}

/// What came of taking one.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Absent: the root file system is that of the base image.
    pub image_ref: Option<String>,
    pub image_bytes: i64,
    pub home_bytes: i64,
    pub pause_ms: Option<i64>,
    pub reason: Option<String>,
}

/// `false`: it was deleted meanwhile.
pub async fn ready(conn: &impl ConnectionTrait, id: SnapshotId, taken: &Taken, now_ms: i64) -> Result<bool, DbErr> {
    let changed = db::execute(
        conn,
        "UPDATE snapshots SET state = 'ready', image_ref = $1, image_bytes = $2, home_bytes = $3, pause_ms = $4, \
         reason = $5, ready_ms = $6 WHERE id = $7 AND state = 'taking'",
        [
            taken.image_ref.clone().into(),
            taken.image_bytes.into(),
            taken.home_bytes.into(),
            taken.pause_ms.into(),
            taken.reason.clone().into(),
            now_ms.into(),
            id.to_string().into(),
        ],
    )
    .await?;
    Ok(changed > 0)
}

/// Why one is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: ErrorCode,
    /// A sentence for its owner.
    pub reason: Cow<'static, str>,
}

impl Failure {
    pub fn new(code: ErrorCode, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// What becomes of its workspace goes before.
    pub fn given_up(reason: &'static str) -> Self {
        Self::new(ErrorCode::SnapshotGivenUp, reason)
    }
}

/// Whatever is being taken of a workspace will not be.
pub async fn fail(conn: &impl ConnectionTrait, workspace: WorkspaceId, failure: &Failure) -> Result<u64, DbErr> {
    let text = "UPDATE snapshots SET state = 'failed', reason = $1, error_code = $2 WHERE workspace_id = $3 \
                AND state = 'taking'";
    let values = [failure.reason.as_ref().into(), failure.code.as_str().into(), workspace.to_string().into()];
    db::execute(conn, text, values).await
}

/// What a server that died was taking.
pub async fn fail_all(conn: &impl ConnectionTrait, host: HostId, failure: &Failure) -> Result<u64, DbErr> {
    let text = "UPDATE snapshots SET state = 'failed', reason = $1, error_code = $2 WHERE host_id = $3 \
                AND state = 'taking'";
    let values = [failure.reason.as_ref().into(), failure.code.as_str().into(), host.to_string().into()];
    db::execute(conn, text, values).await
}

/// From here on there is no way back. `false`: somebody was faster.
pub async fn condemn(conn: &impl ConnectionTrait, id: SnapshotId) -> Result<bool, DbErr> {
    let text = format!("UPDATE snapshots SET state = 'deleting' WHERE id = $1 AND {SHOWN}");
    Ok(db::execute(conn, &text, [id.to_string().into()]).await? > 0)
}

/// In a transaction that makes a clone: it is ready, and cannot be condemned before the clone is recorded.
pub async fn hold(conn: &impl ConnectionTrait, id: SnapshotId) -> Result<bool, DbErr> {
    let text = "UPDATE snapshots SET state = 'ready' WHERE id = $1 AND state = 'ready'";
    Ok(db::execute(conn, text, [id.to_string().into()]).await? > 0)
}

/// The volume that a clone's home is to be a copy of, whoever has deleted the snapshot since.
pub async fn source_volume(conn: &impl ConnectionTrait, id: &str) -> Result<Option<String>, DbErr> {
    let text = "SELECT volume AS name, id FROM snapshots WHERE id = $1 AND volume IS NOT NULL";
    Ok(db::fetch_one::<Remains, _>(conn, text, [id.into()]).await?.map(|row| row.name))
}

/// The base image of a snapshot, deleted or not.
pub async fn base_image(conn: &impl ConnectionTrait, id: &str) -> Result<Option<String>, DbErr> {
    let text = "SELECT base_image AS name, id FROM snapshots WHERE id = $1";
    Ok(db::fetch_one::<Remains, _>(conn, text, [id.into()]).await?.map(|row| row.name))
}

/// What the engine may still have of a snapshot.
#[derive(Debug, FromQueryResult)]
pub struct Remains {
    pub id: String,
    pub name: String,
}

/// Volumes to remove: those that no clone is being filled from.
pub async fn volumes_left(conn: &impl ConnectionTrait, host: HostId, limit: u64) -> Result<Vec<Remains>, DbErr> {
    let text = "SELECT id, volume AS name FROM snapshots WHERE state IN ('failed', 'deleting') AND volume IS NOT NULL \
                AND host_id = $1 AND NOT EXISTS (SELECT 1 FROM workspaces w WHERE w.source_snapshot = snapshots.id \
                AND w.deleted_ms IS NULL AND w.home_state <> 'ready') ORDER BY id LIMIT $2";
    let values = [host.to_string().into(), i64::try_from(limit).unwrap_or(i64::MAX).into()];
    db::fetch_all(conn, text, values).await
}

/// Images to remove: those that no workspace is made from.
pub async fn images_left(conn: &impl ConnectionTrait, host: HostId, limit: u64) -> Result<Vec<Remains>, DbErr> {
    let text = "SELECT id, image_ref AS name FROM snapshots WHERE state IN ('failed', 'deleting') \
                AND image_ref IS NOT NULL AND host_id = $1 AND NOT EXISTS (SELECT 1 FROM workspaces w \
                WHERE w.image = snapshots.image_ref AND w.deleted_ms IS NULL) ORDER BY id LIMIT $2";
    let values = [host.to_string().into(), i64::try_from(limit).unwrap_or(i64::MAX).into()];
    db::fetch_all(conn, text, values).await
}

pub async fn volume_gone(conn: &impl ConnectionTrait, id: &str) -> Result<(), DbErr> {
    db::execute(conn, "UPDATE snapshots SET volume = NULL WHERE id = $1", [id.into()]).await?;
    bury(conn, id).await
}

pub async fn image_gone(conn: &impl ConnectionTrait, id: &str) -> Result<(), DbErr> {
    db::execute(conn, "UPDATE snapshots SET image_ref = NULL WHERE id = $1", [id.into()]).await?;
    bury(conn, id).await
}

/// Of images by name, those of snapshots whose removal was seen to.
pub async fn is_remaining_image(conn: &impl ConnectionTrait, host: HostId, image: &str) -> Result<bool, DbErr> {
    let Some(id) = image.strip_prefix(IMAGE).and_then(|id| id.parse::<SnapshotId>().ok()) else { return Ok(false) };
    let text = "SELECT id, base_image AS name FROM snapshots WHERE id = $1 AND host_id = $2 AND image_ref IS NULL \
                AND state IN ('failed', 'deleting', 'deleted') \
                AND NOT EXISTS (SELECT 1 FROM workspaces w WHERE w.image = $3 AND w.deleted_ms IS NULL)";
    let values = [id.to_string().into(), host.to_string().into(), image.into()];
    Ok(db::fetch_one::<Remains, _>(conn, text, values).await?.is_some())
}

/// The same of volumes.
pub async fn is_remaining_volume(conn: &impl ConnectionTrait, host: HostId, volume: &str) -> Result<bool, DbErr> {
    let Some(id) = volume.strip_prefix(VOLUME).and_then(|id| id.parse::<SnapshotId>().ok()) else { return Ok(false) };
    let text = "SELECT id, base_image AS name FROM snapshots WHERE id = $1 AND host_id = $2 AND volume IS NULL \
                AND state IN ('failed', 'deleting', 'deleted')";
    let values = [id.to_string().into(), host.to_string().into()];
    Ok(db::fetch_one::<Remains, _>(conn, text, values).await?.is_some())
}

/// All of them on a host that is lost: there is nothing left of any. How many people had of them.
pub async fn write_off(conn: &impl ConnectionTrait, host: HostId) -> Result<u64, DbErr> {
    let (host, state) = (host.to_string(), "state IN ('taking', 'ready')");
    let text = format!(
        "UPDATE snapshots SET state = 'deleted', volume = NULL, image_ref = NULL WHERE host_id = $1 AND {state}"
    );
    let lost = db::execute(conn, &text, [host.clone().into()]).await?;
    // One that failed says why; a move's image and one that was going are nobody's.
    let text = "UPDATE snapshots SET volume = NULL, image_ref = NULL, \
                state = CASE WHEN state = 'failed' THEN state ELSE 'deleted' END WHERE host_id = $1";
    db::execute(conn, text, [host.into()]).await?;
    Ok(lost)
}

/// Of a snapshot that is to go and has nothing left.
pub async fn bury(conn: &impl ConnectionTrait, id: &str) -> Result<(), DbErr> {
    let text = "UPDATE snapshots SET state = 'deleted' WHERE id = $1 AND state = 'deleting' AND volume IS NULL \
                AND image_ref IS NULL";
    db::execute(conn, text, [id.into()]).await.map(|_| ())
}

/// What a workspace on this image can be made from now: the image itself, or its base when it is that of
/// a snapshot that is gone.
pub async fn living_image(conn: &impl ConnectionTrait, image: &str) -> Result<String, DbErr> {
    let id = image.strip_prefix(IMAGE).and_then(|id| id.parse::<SnapshotId>().ok());
    match id {
        Some(id) if find(conn, id).await?.is_none_or(|s| s.state != SnapshotState::Ready) => {
            Ok(base_image(conn, &id.to_string()).await?.unwrap_or_else(|| image.to_owned()))
        }
        _ => Ok(image.to_owned()),
    }
}

/// What an imported snapshot's archive has told of it.
#[derive(Debug, Clone)]
pub struct Imported {
    pub name: String,
    pub workspace_name: String,
    pub plan_json: String,
}

pub async fn imported(conn: &impl ConnectionTrait, id: SnapshotId, told: &Imported) -> Result<(), DbErr> {
    let text = "UPDATE snapshots SET name = $1, workspace_name = $2, plan_json = $3 WHERE id = $4 AND state = 'taking'";
    let values = [
        told.name.clone().into(),
        told.workspace_name.clone().into(),
        told.plan_json.clone().into(),
        id.to_string().into(),
    ];
    db::execute(conn, text, values).await.map(|_| ())
}
