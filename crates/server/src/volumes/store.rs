//! The SQL of volumes: each home that was ever made has a row, and only what has one is ever removed.
//!
//! ```text
//!   in_use --workspace deleted--> kept --purge, or its time is up--> purging --> purged
//!     ^                            |
//!     +--------- restored ---------+
//!
//!   moving --its workspace is here--> moved --it has run there--> purging
//! ```
//!
//! The last line is of a second record, of the home of a workspace that moves to another host (`workspaces/moving`):
//! first what is made there, then what is left behind.

use crate::db;
use crate::page;
use rexec_api::ids::{HostId, SnapshotId, UserId, VolumeId, WorkspaceId};
use rexec_api::volumes::VolumeState;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};

#[derive(Debug, Clone)]
pub struct Volume {
    pub id: VolumeId,
    pub owner: UserId,
    /// The workspace whose home it is, or was last.
    pub workspace: WorkspaceId,
    /// Where it lies.
    pub host: Option<HostId>,
    /// Its name at the engine.
    pub name: String,
    pub workspace_name: String,
    pub state: VolumeState,
    pub size_bytes: Option<i64>,
    pub kept_ms: Option<i64>,
    pub purge_after_ms: Option<i64>,
    pub created_ms: i64,
}

#[derive(FromQueryResult)]
struct Row {
    id: String,
    owner_id: String,
    workspace_id: String,
    host_id: Option<String>,
    name: String,
    workspace_name: String,
    state: String,
    size_bytes: Option<i64>,
    kept_ms: Option<i64>,
    purge_after_ms: Option<i64>,
    created_ms: i64,
}

const COLUMNS: &str =
    "id, owner_id, workspace_id, host_id, name, workspace_name, state, size_bytes, kept_ms, purge_after_ms, created_ms";

impl TryFrom<Row> for Volume {
    type Error = DbErr;

    fn try_from(row: Row) -> Result<Self, DbErr> {
        let broken = |what: &str| DbErr::Type(format!("volume {} has an unreadable {what}", row.id));
        Ok(Self {
            id: row.id.parse().map_err(|_| broken("id"))?,
            owner: row.owner_id.parse().map_err(|_| broken("owner_id"))?,
            workspace: row.workspace_id.parse().map_err(|_| broken("workspace_id"))?,
            host: row.host_id.as_deref().map(|id| id.parse().map_err(|_| broken("host_id"))).transpose()?,
            state: match row.state.as_str() {
                "in_use" => VolumeState::InUse,
                "kept" => VolumeState::Kept,
                _ => return Err(broken("state")),
            },
            name: row.name,
            workspace_name: row.workspace_name,
            size_bytes: row.size_bytes,
            kept_ms: row.kept_ms,
            purge_after_ms: row.purge_after_ms,
            created_ms: row.created_ms,
        })
    }
}

/// The home of a workspace that is about to be made.
pub struct NewHome<'a> {
    pub owner: UserId,
    pub workspace: WorkspaceId,
    pub host: Option<HostId>,
    pub name: &'a str,
    pub workspace_name: &'a str,
    pub now_ms: i64,
}

pub async fn insert(conn: &impl ConnectionTrait, home: &NewHome<'_>) -> Result<(), DbErr> {
    db::execute(
        conn,
        "INSERT INTO volumes (id, owner_id, workspace_id, host_id, name, workspace_name, state, created_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, 'in_use', $7)",
        [
            VolumeId::new().to_string().into(),
            home.owner.to_string().into(),
            home.workspace.to_string().into(),
            home.host.map(|host| host.to_string()).into(),
            home.name.into(),
            home.workspace_name.into(),
            home.now_ms.into(),
        ],
    )
    .await
    .map(|_| ())
}

/// A page of an owner's volumes, newest first; `only` those of these workspaces. The home of a workspace that never
/// ran holds nothing yet.
pub async fn list(
    conn: &impl ConnectionTrait,
    owner: UserId,
    only: Option<&[WorkspaceId]>,
    before: Option<VolumeId>,
) -> Result<Vec<Volume>, DbErr> {
    let only = db::among("workspace_id", only);
    let text = format!(
        "SELECT {COLUMNS} FROM volumes WHERE owner_id = $1 AND (state = 'kept' OR state = 'in_use' AND \
         (kept_ms IS NOT NULL OR workspace_id IN (SELECT w.id FROM workspaces w WHERE w.started_ms IS NOT NULL))) \
         AND id < $2 {only} \
         ORDER BY id DESC LIMIT $3"
    );
    let values = [owner.to_string().into(), page::before(before).into(), page::FETCH.into()];
    db::fetch_all::<Row, _>(conn, &text, values).await?.into_iter().map(Volume::try_from).collect()
}

/// One that is not on its way out.
pub async fn find(conn: &impl ConnectionTrait, id: VolumeId) -> Result<Option<Volume>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM volumes WHERE id = $1 AND state IN ('in_use', 'kept')");
    db::fetch_one::<Row, _>(conn, &text, [id.to_string().into()]).await?.map(Volume::try_from).transpose()
}

/// Whether the volume of this name was the home of an earlier workspace: then it is not to be lost
/// because the next one could not be made.
pub async fn was_kept(conn: &impl ConnectionTrait, name: &str) -> Result<bool, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM volumes WHERE name = $1 AND state = 'in_use' AND kept_ms IS NOT NULL");
    Ok(db::fetch_one::<Row, _>(conn, &text, [name.into()]).await?.is_some())
}

/// Its workspace goes, it stays, with the size that it was last seen to have until it is measured once more.
pub async fn keep(
    conn: &impl ConnectionTrait,
    name: &str,
    workspace_name: &str,
    now_ms: i64,
    purge_after_ms: i64,
) -> Result<(), DbErr> {
    db::execute(
        conn,
        "UPDATE volumes SET state = 'kept', workspace_name = $1, measured_ms = NULL, kept_ms = $2, \
         purge_after_ms = $3 WHERE name = $4 AND state = 'in_use'",
        [workspace_name.into(), now_ms.into(), purge_after_ms.into(), name.into()],
    )
    .await
    .map(|_| ())
}

/// Makes it the home of another workspace. `false`: somebody was faster.
pub async fn take(conn: &impl ConnectionTrait, id: VolumeId, workspace: WorkspaceId) -> Result<bool, DbErr> {
    let changed = db::execute(
        conn,
        "UPDATE volumes SET state = 'in_use', workspace_id = $1, purge_after_ms = NULL WHERE id = $2 AND state = 'kept'",
        [workspace.to_string().into(), id.to_string().into()],
    )
    .await?;
    Ok(changed > 0)
}

/// From here on there is no way back. `false`: it is not kept any more.
pub async fn condemn(conn: &impl ConnectionTrait, id: VolumeId) -> Result<bool, DbErr> {
    let text = "UPDATE volumes SET state = 'purging' WHERE id = $1 AND state = 'kept'";
    Ok(db::execute(conn, text, [id.to_string().into()]).await? > 0)
}

/// Those whose time is up; gives how many.
pub async fn condemn_due(conn: &impl ConnectionTrait, host: HostId, now_ms: i64) -> Result<u64, DbErr> {
    let text = "UPDATE volumes SET state = 'purging' WHERE state = 'kept' AND purge_after_ms <= $1 AND host_id = $2";
    db::execute(conn, text, [now_ms.into(), host.to_string().into()]).await
}

/// A home by its name at the engine, and the workspace that had it last.
#[derive(FromQueryResult)]
struct LeftRow {
    name: String,
    workspace_id: String,
}

pub type Left = (String, WorkspaceId);

impl LeftRow {
    fn read(self) -> Result<Left, DbErr> {
        let broken = |_| DbErr::Type(format!("volume {} has an unreadable workspace_id", self.name));
        let workspace = self.workspace_id.parse().map_err(broken)?;
        Ok((self.name, workspace))
    }
}

/// At most `limit` volumes that the engine is to remove.
pub async fn condemned(conn: &impl ConnectionTrait, host: HostId, limit: u64) -> Result<Vec<Left>, DbErr> {
    let text = "SELECT name, workspace_id FROM volumes WHERE state = 'purging' AND host_id = $1 ORDER BY id LIMIT $2";
    let values = [host.to_string().into(), i64::try_from(limit).unwrap_or(i64::MAX).into()];
    db::fetch_all::<LeftRow, _>(conn, text, values).await?.into_iter().map(LeftRow::read).collect()
}

/// The engine has removed it.
pub async fn purged(conn: &impl ConnectionTrait, name: &str) -> Result<(), DbErr> {
    db::execute(conn, "UPDATE volumes SET state = 'purged' WHERE name = $1", [name.into()]).await.map(|_| ())
}

/// All of them on a host that is lost. How many were kept.
pub async fn write_off(conn: &impl ConnectionTrait, host: HostId) -> Result<u64, DbErr> {
    let host = host.to_string();
    let text = "UPDATE volumes SET state = 'purged' WHERE host_id = $1 AND state = 'kept'";
    let kept = db::execute(conn, text, [host.clone().into()]).await?;
    db::execute(conn, "UPDATE volumes SET state = 'purged' WHERE host_id = $1", [host.into()]).await?;
    Ok(kept)
}

/// What a moved workspace has left behind is all that is left of it, and stays as any kept home.
pub async fn keep_moved(
    conn: &impl ConnectionTrait,
    id: SnapshotId,
    workspace_name: &str,
    now_ms: i64,
    purge_after_ms: i64,
) -> Result<(), DbErr> {
    let text = "UPDATE volumes SET state = 'kept', workspace_name = $1, measured_ms = NULL, kept_ms = $2, \
                purge_after_ms = $3 WHERE id = $4 AND state = 'moved'";
    let values = [workspace_name.into(), now_ms.into(), purge_after_ms.into(), id.to_string().into()];
    db::execute(conn, text, values).await.map(|_| ())
}

/// Kept volumes that nobody has measured yet.
pub async fn unmeasured(conn: &impl ConnectionTrait, host: HostId, limit: u64) -> Result<Vec<Left>, DbErr> {
    let text =
        "SELECT name, workspace_id FROM volumes WHERE state = 'kept' AND measured_ms IS NULL AND host_id = $1 LIMIT $2";
    let values = [host.to_string().into(), i64::try_from(limit).unwrap_or(i64::MAX).into()];
    db::fetch_all::<LeftRow, _>(conn, text, values).await?.into_iter().map(LeftRow::read).collect()
}

/// What a kept home was seen to have; `None`: the engine does not tell, and what is known of it stands. `false`: it is not
/// kept any more.
pub async fn measured(
    conn: &impl ConnectionTrait,
    name: &str,
    size_bytes: Option<i64>,
    now_ms: i64,
) -> Result<bool, DbErr> {
    let text = "UPDATE volumes SET size_bytes = COALESCE(CAST($1 AS BIGINT), size_bytes), measured_ms = $2 \
                WHERE name = $3 AND state = 'kept'";
    Ok(db::execute(conn, text, [size_bytes.into(), now_ms.into(), name.into()]).await? > 0)
}
