//! The SQL of moves.
//!
//! ```text
//!   wanted --all of it is there, verified: the row says the new host--> moved --it has run there--> proven --> done
//!     |                                                                                 (its old container is gone)
//!     +--> failed
//! ```
//!
//! What a move has made or leaves behind is named by rows from before it is there: the home at the place where the workspace
//! is not by the volume of the move's id (`moving` at the target, then `moved` at the source), the images of the root by
//! two snapshots that nobody sees (`moving`). Their own rounds remove what a step here lets go of.

use crate::db;
use crate::hosts::placement::Amount;
use crate::hosts::reserve::{self, Hold};
use crate::snapshots;
use crate::volumes;
use crate::workspaces::store::Workspace;
use rexec_api::error::ErrorCode;
use rexec_api::ids::{HostId, SnapshotId, WorkspaceId};
use rexec_api::workspaces::MoveState;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, FromQueryResult};
use serde::{Deserialize, Serialize};

/// What a workspace's own row says of its last move; JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    pub state: MoveState,
    pub to: HostId,
    pub asked_ms: i64,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub error: Option<ErrorCode>,
    /// It has not run where it lies since an earlier move brought it there.
    #[serde(default)]
    pub is_unproven: bool,
}

/// One that is under way.
#[derive(Debug, Clone)]
pub struct Move {
    /// That of the image at the target, too.
    pub id: SnapshotId,
    pub workspace: WorkspaceId,
    pub from: HostId,
    pub to: HostId,
    pub from_volume: String,
    pub to_volume: String,
    /// Of the image that is made of the root at the source.
    pub from_snapshot: SnapshotId,
    /// Containers up to this one are the source's.
    pub generation: i64,
    /// Taken of the target's disk.
    pub disk_mb: i64,
    pub asked_ms: i64,
}

#[derive(FromQueryResult)]
struct Row {
    id: String,
    workspace_id: String,
    from_host: String,
    to_host: String,
    from_volume: String,
    to_volume: String,
    from_snapshot: String,
    from_generation: i64,
    held_disk_mb: i64,
    created_ms: i64,
}

const COLUMNS: &str = "id, workspace_id, from_host, to_host, from_volume, to_volume, from_snapshot, from_generation, \
    held_disk_mb, created_ms";

impl TryFrom<Row> for Move {
    type Error = DbErr;

    fn try_from(row: Row) -> Result<Self, DbErr> {
        let broken = |what: &str| DbErr::Type(format!("move {} has an unreadable {what}", row.id));
        Ok(Self {
            id: row.id.parse().map_err(|_| broken("id"))?,
            workspace: row.workspace_id.parse().map_err(|_| broken("workspace_id"))?,
            from: row.from_host.parse().map_err(|_| broken("from_host"))?,
            to: row.to_host.parse().map_err(|_| broken("to_host"))?,
            from_snapshot: row.from_snapshot.parse().map_err(|_| broken("from_snapshot"))?,
            from_volume: row.from_volume,
            to_volume: row.to_volume,
            generation: row.from_generation,
            disk_mb: row.held_disk_mb,
            asked_ms: row.created_ms,
        })
    }
}

impl Move {
    pub fn moving(&self, state: MoveState) -> Moving {
        Moving { state, to: self.to, asked_ms: self.asked_ms, reason: None, error: None, is_unproven: false }
    }

    fn disk(&self) -> Amount {
        Amount { disk_mb: self.disk_mb, ..Amount::default() }
    }
}

/// Records that a stopped workspace is to be moved, with all that will be made of it, and takes the target's room for it.
/// `Began::Full`, `Began::Changed`: nothing is changed once the transaction is given up.
pub async fn begin(tx: &DatabaseTransaction, m: &Move, row: &Workspace) -> Result<Began, DbErr> {
    if !tell(tx, m, &m.moving(MoveState::Moving), Some(row)).await? {
        return Ok(Began::Changed);
    }
    if !reserve::take(tx, m.to, m.disk()).await? {
        return Ok(Began::Full);
    }
    let text =
        format!("INSERT INTO moves ({COLUMNS}, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'wanted')");
    let values = [
        m.id.to_string().into(),
        m.workspace.to_string().into(),
        m.from.to_string().into(),
        m.to.to_string().into(),
        m.from_volume.clone().into(),
        m.to_volume.clone().into(),
        m.from_snapshot.to_string().into(),
        m.generation.into(),
        m.disk_mb.into(),
        m.asked_ms.into(),
    ];
    db::execute(tx, &text, values).await?;
    let home = "INSERT INTO volumes (id, owner_id, workspace_id, host_id, name, workspace_name, state, created_ms) \
                VALUES ($1, $2, $3, $4, $5, $6, 'moving', $7)";
    let values = [
        m.id.to_string().into(),
        row.owner.to_string().into(),
        m.workspace.to_string().into(),
        m.to.to_string().into(),
        m.to_volume.clone().into(),
        row.name.clone().into(),
        m.asked_ms.into(),
    ];
    db::execute(tx, home, values).await?;
    let base = snapshots::store::base_of(tx, &row.image).await?;
    for (id, host) in [(m.from_snapshot, m.from), (m.id, m.to)] {
        snapshots::store::insert_moving(tx, id, host, row, &base, m.asked_ms).await?;
    }
    Ok(Began::Yes)
}

/// Whether a move has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Began {
    Yes,
    /// The target has not the room any more.
    Full,
    /// Something else was asked of it meanwhile.
    Changed,
}

/// The move of a workspace that is to be carried out.
pub async fn wanted(conn: &impl ConnectionTrait, id: WorkspaceId) -> Result<Option<Move>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM moves WHERE workspace_id = $1 AND state = 'wanted' LIMIT 1");
    db::fetch_one::<Row, _>(conn, &text, [id.to_string().into()]).await?.map(Move::try_from).transpose()
}

pub async fn has_failed(conn: &impl ConnectionTrait, id: SnapshotId) -> Result<bool, DbErr> {
    let text = "SELECT id FROM moves WHERE id = $1 AND state = 'failed'";
    let statement = db::sql(conn, text, [id.to_string().into()]);
    Ok(conn.query_one_raw(statement).await?.is_some())
}

/// What a workspace is from the moment on at which it lies at the target.
pub struct Landed<'a> {
    pub image: &'a str,
    pub now_ms: i64,
}

/// The one moment of a move. `false`: something else is wanted of the workspace now, or the target has no room for a disk
/// that has grown; nothing is changed once the transaction is given up.
pub async fn land(tx: &DatabaseTransaction, m: &Move, landed: &Landed<'_>) -> Result<bool, DbErr> {
    // First of all: whoever fails it waits for this, or was faster.
    let text = "UPDATE moves SET state = 'moved' WHERE id = $1 AND state = 'wanted'";
    if db::execute(tx, text, [m.id.to_string().into()]).await? == 0 {
        return Ok(false);
    }
    // What it holds there goes back; what was taken here for it is its own.
    reserve::hold(tx, m.workspace, Hold::Nothing).await?;
    let moving = json(&Moving { is_unproven: true, ..m.moving(MoveState::Unproven) })?;
    // A number that no container has had anywhere: where it comes back to, the one of before may lie still.
    let text = "UPDATE workspaces SET host_id = $1, image = $2, made_from = COALESCE(made_from, image), image_found = CASE WHEN image_found = image THEN NULL ELSE image_found END, volume = $3, booted_seq = 0, \
                home_state = 'ready', generation = generation + 1, held_disk_mb = $4, held_place = 1, move_json = $5, updated_ms = $6 \
                WHERE id = $7 AND deleted_ms IS NULL AND desired = 'stopped' AND host_id = $8 AND generation = $9";
    let values = [
        m.to.to_string().into(),
        landed.image.into(),
        m.to_volume.clone().into(),
        m.disk_mb.into(),
        moving.into(),
        landed.now_ms.into(),
        m.workspace.to_string().into(),
        m.from.to_string().into(),
        m.generation.into(),
    ];
    if db::execute(tx, text, values).await? == 0 || !reserve::hold(tx, m.workspace, Hold::Stopped).await? {
        return Ok(false);
    }
    // The home's record goes with it; the other one stands for what is left at the source. Names are unique.
    let id = m.id.to_string();
    db::execute(tx, "UPDATE volumes SET name = id WHERE id = $1", [id.clone().into()]).await?;
    let text = "UPDATE volumes SET name = $1, host_id = $2 WHERE name = $3 AND state = 'in_use'";
    db::execute(tx, text, [m.to_volume.clone().into(), m.to.to_string().into(), m.from_volume.clone().into()]).await?;
    let text = "UPDATE volumes SET name = $1, host_id = $2, state = 'moved' WHERE id = $3";
    db::execute(tx, text, [m.from_volume.clone().into(), m.from.to_string().into(), id.into()]).await?;
    // It stays for as long as the workspace is made of it.
    snapshots::store::let_go(tx, m.id).await?;
    Ok(true)
}

/// It stays where it is. What was made of it at either place is let go.
pub async fn fail(tx: &DatabaseTransaction, m: &Move, code: ErrorCode, reason: &str) -> Result<(), DbErr> {
    // One that has landed is no failure, whatever was heard of it.
    let text = "UPDATE moves SET state = 'failed' WHERE id = $1 AND state = 'wanted'";
    if db::execute(tx, text, [m.id.to_string().into()]).await? == 0 {
        return Ok(());
    }
    let text = format!("SELECT {COLUMNS} FROM moves WHERE workspace_id = $1 AND state = 'moved' LIMIT 1");
    let is_unproven = db::fetch_one::<Row, _>(tx, &text, [m.workspace.to_string().into()]).await?.is_some();
    let moving = Moving { reason: Some(reason.into()), error: Some(code), is_unproven, ..m.moving(MoveState::Failed) };
    tell(tx, m, &moving, None).await?;
    reserve::give_back(tx, m.to, m.disk()).await?;
    snapshots::store::let_go(tx, m.from_snapshot).await?;
    snapshots::store::let_go(tx, m.id).await?;
    let text = "UPDATE volumes SET state = 'purging' WHERE id = $1 AND state = 'moving'";
    db::execute(tx, text, [m.id.to_string().into()]).await.map(|_| ())
}

/// It has run where it is, or nobody wants it any more: what it left elsewhere is let go. Gives those hosts.
pub async fn prove(tx: &DatabaseTransaction, id: WorkspaceId) -> Result<Vec<HostId>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM moves WHERE workspace_id = $1 AND state = 'moved'");
    let rows = db::fetch_all::<Row, _>(tx, &text, [id.to_string().into()]).await?;
    let mut left = Vec::new();
    for m in rows.into_iter().map(Move::try_from) {
        let m = m?;
        let_go(tx, &m).await?;
        left.push(m.from);
    }
    let text = "UPDATE workspaces SET move_json = NULL WHERE id = $1";
    db::execute(tx, text, [id.to_string().into()]).await?;
    Ok(left)
}

async fn let_go(tx: &DatabaseTransaction, m: &Move) -> Result<(), DbErr> {
    turn(tx, m, "proven").await?;
    snapshots::store::let_go(tx, m.from_snapshot).await?;
    let text = "UPDATE volumes SET state = 'purging' WHERE id = $1 AND state = 'moved'";
    db::execute(tx, text, [m.id.to_string().into()]).await.map(|_| ())
}

/// Moves whose old containers a host may still have.
pub async fn proven(conn: &impl ConnectionTrait, host: HostId, limit: u64) -> Result<Vec<Move>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM moves WHERE from_host = $1 AND state = 'proven' ORDER BY id LIMIT $2");
    let values = [host.to_string().into(), i64::try_from(limit).unwrap_or(i64::MAX).into()];
    db::fetch_all::<Row, _>(conn, &text, values).await?.into_iter().map(Move::try_from).collect()
}

/// It has none of them any more.
pub async fn done(conn: &impl ConnectionTrait, m: &Move) -> Result<(), DbErr> {
    turn(conn, m, "done").await.map(|_| ())
}

/// `false`: it is over already.
async fn turn(conn: &impl ConnectionTrait, m: &Move, state: &str) -> Result<bool, DbErr> {
    let text = "UPDATE moves SET state = $1 WHERE id = $2 AND state IN ('wanted', 'moved', 'proven')";
    Ok(db::execute(conn, text, [state.into(), m.id.to_string().into()]).await? > 0)
}

/// Has its owner see this of it; with `before` only where it is as it was read, stopped and not moving.
async fn tell(tx: &DatabaseTransaction, m: &Move, moving: &Moving, before: Option<&Workspace>) -> Result<bool, DbErr> {
    let (json, id) = (json(moving)?, m.workspace.to_string());
    let Some(before) = before else {
        let text = "UPDATE workspaces SET move_json = $1 WHERE id = $2";
        return Ok(db::execute(tx, text, [json.into(), id.into()]).await? > 0);
    };
    let text = "UPDATE workspaces SET move_json = $1 WHERE id = $2 AND deleted_ms IS NULL AND desired = 'stopped' \
                AND host_id = $3 AND generation = $4 \
                AND NOT EXISTS (SELECT 1 FROM moves WHERE moves.workspace_id = workspaces.id AND moves.state = 'wanted')";
    let values = [json.into(), id.into(), m.from.to_string().into(), before.generation.into()];
    Ok(db::execute(tx, text, values).await? > 0)
}

fn json(moving: &Moving) -> Result<String, DbErr> {
    serde_json::to_string(moving).map_err(|e| DbErr::Json(e.to_string()))
}

/// A workspace that has moved from a host and not run since: its source is kept there.
pub struct Kept {
    pub workspace: WorkspaceId,
    pub name: String,
}

pub async fn unproven_at(conn: &impl ConnectionTrait, host: HostId) -> Result<Vec<Kept>, DbErr> {
    #[derive(FromQueryResult)]
    struct Row {
        id: String,
        name: String,
    }
    let text = "SELECT w.id, w.name FROM moves m JOIN workspaces w ON w.id = m.workspace_id \
                WHERE m.from_host = $1 AND m.state = 'moved' ORDER BY w.id";
    let rows = db::fetch_all::<Row, _>(conn, text, [host.to_string().into()]).await?;
    Ok(rows.into_iter().filter_map(|row| Some(Kept { workspace: row.id.parse().ok()?, name: row.name })).collect())
}

/// What moved workspaces have left on a host goes before they have run elsewhere.
pub async fn drop_sources(tx: &DatabaseTransaction, host: HostId) -> Result<(), DbErr> {
    let text = format!("SELECT {COLUMNS} FROM moves WHERE from_host = $1 AND state = 'moved'");
    for m in db::fetch_all::<Row, _>(tx, &text, [host.to_string().into()]).await?.into_iter().map(Move::try_from) {
        let_go(tx, &m?).await?;
    }
    Ok(())
}

/// A host is lost: moves to it fail, and what was left on it for moved workspaces is gone. Comes before the workspaces that
/// lie there are buried. Gives those whose moves have failed.
pub async fn write_off(tx: &DatabaseTransaction, host: HostId, reason: &str) -> Result<Vec<WorkspaceId>, DbErr> {
    let mut failed = Vec::new();
    let of_host = [host.to_string().into()];
    let text = format!("SELECT {COLUMNS} FROM moves WHERE (from_host = $1 OR to_host = $1) AND state = 'wanted'");
    for m in db::fetch_all::<Row, _>(tx, &text, of_host.clone()).await? {
        let m = Move::try_from(m)?;
        fail(tx, &m, ErrorCode::MoveGivenUp, reason).await?;
        failed.push(m.workspace);
    }
    let text = format!("SELECT {COLUMNS} FROM moves WHERE from_host = $1 AND state IN ('moved', 'proven')");
    for m in db::fetch_all::<Row, _>(tx, &text, of_host).await? {
        done(tx, &Move::try_from(m)?).await?;
    }
    Ok(failed)
}

/// The newest place that a workspace has left without having run since: its home there is kept, and its record says it as
/// it was there, and where that is.
pub async fn keep_source(
    tx: &DatabaseTransaction,
    id: WorkspaceId,
    name: &str,
    now_ms: i64,
    purge_after_ms: i64,
) -> Result<Option<HostId>, DbErr> {
    let text =
        format!("SELECT {COLUMNS} FROM moves WHERE workspace_id = $1 AND state = 'moved' ORDER BY id DESC LIMIT 1");
    let Some(m) = db::fetch_one::<Row, _>(tx, &text, [id.to_string().into()]).await? else { return Ok(None) };
    let m = Move::try_from(m)?;
    volumes::store::keep_moved(tx, m.id, name, now_ms, purge_after_ms).await?;
    let text = "UPDATE workspaces SET image = COALESCE(made_from, image), volume = $1 WHERE id = $2";
    db::execute(tx, text, [m.from_volume.into(), id.to_string().into()]).await?;
    Ok(Some(m.from))
}

/// What lies on a host and is on its way out, or there for a move.
#[derive(Debug, FromQueryResult)]
pub struct Going {
    pub homes: i64,
    pub snapshots: i64,
    pub moving_homes: i64,
    pub moving_images: i64,
}

pub async fn going(conn: &impl ConnectionTrait, host: HostId) -> Result<Going, DbErr> {
    let text = "SELECT (SELECT COUNT(*) FROM volumes WHERE host_id = $1 AND state = 'purging') AS homes, \
                (SELECT COUNT(*) FROM snapshots WHERE host_id = $1 AND state IN ('failed', 'deleting') \
                AND (volume IS NOT NULL OR image_ref IS NOT NULL)) AS snapshots, \
                (SELECT COUNT(*) FROM volumes WHERE host_id = $1 AND state IN ('moving', 'moved')) AS moving_homes, \
                (SELECT COUNT(*) FROM snapshots WHERE host_id = $1 AND state = 'moving') AS moving_images";
    let going = db::fetch_one::<Going, _>(conn, text, [host.to_string().into()]).await?;
    Ok(going.unwrap_or(Going { homes: 0, snapshots: 0, moving_homes: 0, moving_images: 0 }))
}
