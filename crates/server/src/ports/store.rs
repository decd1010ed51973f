//! The SQL of previews. A port without a row is private and has no label.

use super::address::Spot;
use super::pass::Holder;
use crate::db;
use rexec_api::ids::{UserId, WorkspaceId};
use rexec_api::ports::Visibility;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};

/// What was said of one port's preview.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub port: u16,
    pub visibility: Visibility,
    /// When `public` ends.
    pub expires_ms: Option<i64>,
    pub label: Option<String>,
    /// The server's own port for this preview, where previews have no names.
    pub listen_port: Option<u16>,
}

impl Setting {
    /// Who may open it now.
    pub fn visibility_at(&self, now_ms: i64) -> Visibility {
        if self.expires_ms.is_some_and(|end| end <= now_ms) { Visibility::Private } else { self.visibility }
    }
}

#[derive(FromQueryResult)]
struct Row {
    port: i64,
    visibility: String,
    expires_ms: Option<i64>,
    label: Option<String>,
    listen_port: Option<i64>,
}

const COLUMNS: &str = "port, visibility, expires_ms, label, listen_port";

impl TryFrom<Row> for Setting {
    type Error = DbErr;

    fn try_from(row: Row) -> Result<Self, DbErr> {
        let broken = |what: &str| DbErr::Type(format!("the preview of port {} has an unreadable {what}", row.port));
        Ok(Self {
            port: row.port.try_into().map_err(|_| broken("port"))?,
            visibility: match row.visibility.as_str() {
                "private" => Visibility::Private,
                "organisation" => Visibility::Organisation,
                "public" => Visibility::Public,
                _ => return Err(broken("visibility")),
            },
            listen_port: row.listen_port.map(u16::try_from).transpose().map_err(|_| broken("listen_port"))?,
            expires_ms: row.expires_ms,
            label: row.label,
        })
    }
}

/// What was said of a workspace's ports, by port.
pub async fn of_workspace(conn: &impl ConnectionTrait, workspace: WorkspaceId) -> Result<Vec<Setting>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM previews WHERE workspace_id = $1 ORDER BY port");
    let rows = db::fetch_all::<Row, _>(conn, &text, [workspace.to_string().into()]).await?;
    rows.into_iter().map(Setting::try_from).collect()
}

pub async fn find(conn: &impl ConnectionTrait, workspace: WorkspaceId, port: u16) -> Result<Option<Setting>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM previews WHERE workspace_id = $1 AND port = $2");
    let values = [workspace.to_string().into(), i64::from(port).into()];
    db::fetch_one::<Row, _>(conn, &text, values).await?.map(Setting::try_from).transpose()
}

/// Says what a port's preview is to be; its `listen_port` stays.
pub async fn put(
    conn: &impl ConnectionTrait,
    workspace: WorkspaceId,
    setting: &Setting,
    now_ms: i64,
) -> Result<(), DbErr> {
    db::execute(
        conn,
        "INSERT INTO previews (workspace_id, port, visibility, expires_ms, label, created_ms, updated_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $6)
         ON CONFLICT (workspace_id, port) DO UPDATE SET visibility = excluded.visibility,
         expires_ms = excluded.expires_ms, label = excluded.label, updated_ms = excluded.updated_ms",
        [
            workspace.to_string().into(),
            i64::from(setting.port).into(),
            setting.visibility.as_str().into(),
            setting.expires_ms.into(),
            setting.label.clone().into(),
            now_ms.into(),
        ],
    )
    .await
    .map(drop)
}

/// Forgets what was said of a port; whether there was anything.
pub async fn reset(conn: &impl ConnectionTrait, workspace: WorkspaceId, port: u16) -> Result<bool, DbErr> {
    let values = [workspace.to_string().into(), i64::from(port).into()];
    Ok(db::execute(conn, "DELETE FROM previews WHERE workspace_id = $1 AND port = $2", values).await? == 1)
}

/// A user's running workspaces, whose ports can be watched.
pub async fn running_of(conn: &impl ConnectionTrait, user: UserId, limit: u64) -> Result<Vec<WorkspaceId>, DbErr> {
    #[derive(FromQueryResult)]
    struct Id {
        id: String,
    }
    let text = "SELECT id FROM workspaces WHERE owner_id = $1 AND deleted_ms IS NULL AND status = 'running' \
                ORDER BY id DESC LIMIT $2";
    let values = [user.to_string().into(), i64::try_from(limit).unwrap_or(i64::MAX).into()];
    let rows = db::fetch_all::<Id, _>(conn, text, values).await?;
    Ok(rows.into_iter().filter_map(|row| row.id.parse().ok()).collect())
}

/// Keeps a code, and forgets those that have run out.
pub async fn keep_code(
    conn: &impl ConnectionTrait,
    hash: &str,
    holder: Holder,
    spot: Spot,
    expires_ms: i64,
) -> Result<(), DbErr> {
    let Holder { user, session } = holder;
    db::execute(conn, "DELETE FROM preview_codes WHERE expires_ms < $1", [crate::time::now_ms().into()]).await?;
    db::execute(
        conn,
        "INSERT INTO preview_codes (hash, session_id, user_id, workspace_id, port, expires_ms)
         VALUES ($1, $2, $3, $4, $5, $6)",
        [
            hash.into(),
            session.to_string().into(),
            user.to_string().into(),
            spot.workspace.to_string().into(),
            i64::from(spot.port).into(),
            expires_ms.into(),
        ],
    )
    .await
    .map(drop)
}

/// Takes a code away; of two who try at once, one has it.
pub async fn take_code(
    conn: &impl ConnectionTrait,
    hash: &str,
    spot: Spot,
    now_ms: i64,
) -> Result<Option<Holder>, DbErr> {
    #[derive(FromQueryResult)]
    struct Code {
        session_id: String,
        user_id: String,
    }
    let text = "DELETE FROM preview_codes WHERE hash = $1 AND workspace_id = $2 AND port = $3 AND expires_ms > $4 \
                RETURNING session_id, user_id";
    let values = [hash.into(), spot.workspace.to_string().into(), i64::from(spot.port).into(), now_ms.into()];
    let found = db::fetch_one::<Code, _>(conn, text, values).await?;
    Ok(found.and_then(|code| Some(Holder { user: code.user_id.parse().ok()?, session: code.session_id.parse().ok()? })))
}

/// The server's ports that living workspaces' previews have, and whose they are.
pub async fn listen_ports(conn: &impl ConnectionTrait) -> Result<Vec<(u16, Spot)>, DbErr> {
    #[derive(FromQueryResult)]
    struct Taken {
        listen_port: i64,
        workspace_id: String,
        port: i64,
    }
    let text = "SELECT p.listen_port, p.workspace_id, p.port FROM previews p \
                JOIN workspaces w ON w.id = p.workspace_id \
                WHERE p.listen_port IS NOT NULL AND w.deleted_ms IS NULL ORDER BY p.listen_port";
    let rows = db::fetch_all::<Taken, _>(conn, text, []).await?;
    let taken = |row: Taken| {
        let spot = Spot { workspace: row.workspace_id.parse().ok()?, port: row.port.try_into().ok()? };
        Some((row.listen_port.try_into().ok()?, spot))
    };
    Ok(rows.into_iter().filter_map(taken).collect())
}

/// Gives a preview a port of the server, which whoever had it and is gone loses. A preview that has
/// one keeps it.
pub async fn give_listen_port(
    conn: &impl ConnectionTrait,
    spot: Spot,
    listen_port: u16,
    now_ms: i64,
) -> Result<(), DbErr> {
    let text = "UPDATE previews SET listen_port = NULL WHERE listen_port = $1 \
                AND workspace_id IN (SELECT id FROM workspaces WHERE deleted_ms IS NOT NULL)";
    db::execute(conn, text, [i64::from(listen_port).into()]).await?;
    db::execute(
        conn,
        "INSERT INTO previews (workspace_id, port, visibility, listen_port, created_ms, updated_ms)
         VALUES ($1, $2, 'private', $3, $4, $4)
         ON CONFLICT (workspace_id, port) DO UPDATE SET listen_port = excluded.listen_port",
        [spot.workspace.to_string().into(), i64::from(spot.port).into(), i64::from(listen_port).into(), now_ms.into()],
    )
    .await
    .map(drop)
}
