//! The SQL of events.

use super::bus::News;
use super::{Logged, NewEvent};
use crate::db;
use crate::time::now_ms;
use rexec_api::ids::{EventId, UserId, WorkspaceId};
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};

/// Writes an event in the caller's transaction; to be told on the bus once that is committed.
pub async fn append<C: ConnectionTrait>(conn: &C, event: &NewEvent) -> Result<Logged, DbErr> {
    let logged = Logged { id: EventId::new(), at_ms: now_ms(), event: event.clone() };
    db::execute(
        conn,
        "INSERT INTO events (id, at_ms, user_id, workspace_id, kind, data_json)
         VALUES ($1, $2, $3, $4, $5, $6)",
        [
            logged.id.to_string().into(),
            logged.at_ms.into(),
            event.user.map(|u| u.to_string()).into(),
            event.workspace.map(|w| w.to_string()).into(),
            event.kind.into(),
            event.data.to_string().into(),
        ],
    )
    .await?;
    Ok(logged)
}

/// Takes out an event whose subject is unmade in the same transaction: nothing happened.
pub async fn unmake(conn: &impl ConnectionTrait, id: EventId) -> Result<(), DbErr> {
    db::execute(conn, "DELETE FROM events WHERE id = $1", [id.to_string().into()]).await.map(|_| ())
}

#[derive(FromQueryResult)]
struct Row {
    id: String,
    at_ms: i64,
    workspace_id: String,
    kind: String,
    data_json: String,
}

impl Row {
    fn news(self, user: UserId) -> Result<News, DbErr> {
        let broken = |what: &str| DbErr::Type(format!("event {} has an unreadable {what}", self.id));
        Ok(News {
            id: Some(self.id.parse().map_err(|_| broken("id"))?),
            at_ms: self.at_ms,
            user,
            workspace: self.workspace_id.parse().map_err(|_| broken("workspace_id"))?,
            data: serde_json::from_str(&self.data_json).map_err(|_| broken("data_json"))?,
            kind: self.kind.into(),
        })
    }
}

/// What happened to a user's workspaces after an event: the newest of it, oldest first.
pub async fn after(conn: &impl ConnectionTrait, user: UserId, after: EventId, limit: u64) -> Result<Vec<News>, DbErr> {
    // Ids are UUIDv7, so their order as text is the order of time.
    let text = "SELECT e.id, e.at_ms, e.workspace_id, e.kind, e.data_json FROM events e \
         JOIN workspaces w ON w.id = e.workspace_id WHERE w.owner_id = $1 AND e.id > $2 ORDER BY e.id DESC LIMIT $3";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = db::fetch_all::<Row, _>(conn, text, [user.to_string().into(), after.to_string().into(), limit.into()]);
    rows.await?.into_iter().rev().map(|row| row.news(user)).collect()
}

/// What an event says, which another server told of by its id.
pub async fn data_of(conn: &impl ConnectionTrait, id: EventId) -> Result<Option<serde_json::Value>, DbErr> {
    #[derive(FromQueryResult)]
    struct Data {
        data_json: String,
    }
    let text = "SELECT data_json FROM events WHERE id = $1";
    let row = db::fetch_one::<Data, _>(conn, text, [id.to_string().into()]).await?;
    Ok(row.and_then(|row| serde_json::from_str(&row.data_json).ok()))
}

/// What happened to one workspace of a user's before an event whose id is `before`, the newest first.
pub async fn of_workspace(
    conn: &impl ConnectionTrait,
    user: UserId,
    workspace: WorkspaceId,
    before: String,
    limit: i64,
) -> Result<Vec<News>, DbErr> {
    let text = "SELECT id, at_ms, workspace_id, kind, data_json FROM events \
         WHERE workspace_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
    let rows = db::fetch_all::<Row, _>(conn, text, [workspace.to_string().into(), before.into(), limit.into()]);
    rows.await?.into_iter().map(|row| row.news(user)).collect()
}
