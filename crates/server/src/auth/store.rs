//! The SQL of login sessions.

use crate::db::{execute, fetch_all, fetch_one};
use rexec_api::ids::{SessionId, UserId};
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};

/// A login session as it is kept.
#[derive(Debug, Clone, FromQueryResult)]
pub struct SessionRow {
    pub id: String,
    pub user_id: String,
    pub created_ms: i64,
    pub expires_ms: i64,
    pub last_used_ms: i64,
    pub user_agent: Option<String>,
    pub address: Option<String>,
}

/// What decides whether a session still holds.
#[derive(Debug, Clone, FromQueryResult)]
pub struct Standing {
    pub user_id: String,
    pub role: String,
    pub expires_ms: i64,
    pub last_used_ms: i64,
    pub revoked_ms: Option<i64>,
}

pub async fn insert<C: ConnectionTrait>(conn: &C, row: &SessionRow) -> Result<(), DbErr> {
    execute(
        conn,
        "INSERT INTO sessions (id, user_id, created_ms, expires_ms, last_used_ms, user_agent, address)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        [
            row.id.clone().into(),
            row.user_id.clone().into(),
            row.created_ms.into(),
            row.expires_ms.into(),
            row.last_used_ms.into(),
            row.user_agent.clone().into(),
            row.address.clone().into(),
        ],
    )
    .await
    .map(|_| ())
}

pub async fn standing<C: ConnectionTrait>(conn: &C, id: SessionId) -> Result<Option<Standing>, DbErr> {
    fetch_one(
        conn,
        "SELECT s.user_id, u.role, s.expires_ms, s.last_used_ms, s.revoked_ms
         FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1",
        [id.to_string().into()],
    )
    .await
}

/// The user's live sessions, newest first.
pub async fn live<C: ConnectionTrait>(
    conn: &C,
    user: UserId,
    now_ms: i64,
    limit: u64,
) -> Result<Vec<SessionRow>, DbErr> {
    fetch_all(
        conn,
        "SELECT id, user_id, created_ms, expires_ms, last_used_ms, user_agent, address
         FROM sessions WHERE user_id = $1 AND revoked_ms IS NULL AND expires_ms > $2
         ORDER BY created_ms DESC, id DESC LIMIT $3",
        [user.to_string().into(), now_ms.into(), (limit as i64).into()],
    )
    .await
}

/// Ends one live session of the user; whether there was one.
pub async fn revoke<C: ConnectionTrait>(conn: &C, user: UserId, id: SessionId, now_ms: i64) -> Result<bool, DbErr> {
    let changed = execute(
        conn,
        "UPDATE sessions SET revoked_ms = $1
         WHERE id = $2 AND user_id = $3 AND revoked_ms IS NULL AND expires_ms > $1",
        [now_ms.into(), id.to_string().into(), user.to_string().into()],
    )
    .await?;
    Ok(changed == 1)
}

/// Ends the user's oldest sessions beyond `keep`.
pub async fn revoke_beyond<C: ConnectionTrait>(conn: &C, user: UserId, keep: u64, now_ms: i64) -> Result<u64, DbErr> {
    execute(
        conn,
        "UPDATE sessions SET revoked_ms = $1
         WHERE user_id = $2 AND revoked_ms IS NULL AND id NOT IN (
             SELECT id FROM sessions WHERE user_id = $2 AND revoked_ms IS NULL AND expires_ms > $1
             ORDER BY created_ms DESC, id DESC LIMIT $3)",
        [now_ms.into(), user.to_string().into(), (keep as i64).into()],
    )
    .await
}

pub async fn touch<C: ConnectionTrait>(conn: &C, id: SessionId, now_ms: i64) -> Result<(), DbErr> {
    execute(
        conn,
        "UPDATE sessions SET last_used_ms = $1 WHERE id = $2 AND last_used_ms < $1",
        [now_ms.into(), id.to_string().into()],
    )
    .await
    .map(|_| ())
}

/// Forgets sessions that ran out before this moment.
pub async fn delete_expired<C: ConnectionTrait>(conn: &C, before_ms: i64) -> Result<u64, DbErr> {
    execute(conn, "DELETE FROM sessions WHERE expires_ms < $1", [before_ms.into()]).await
}
