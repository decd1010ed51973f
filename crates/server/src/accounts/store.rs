//! The SQL of users.

use crate::db::{execute, fetch_one};
use rexec_api::ids::UserId;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};

/// A user as it is kept.
#[derive(Debug, Clone, FromQueryResult)]
pub struct UserRow {
    pub id: String,
    /// In its one spelling.
    pub email: String,
    pub name: Option<String>,
    pub password_hash: String,
    /// `admin` or `user`.
    pub role: String,
    pub created_ms: i64,
}

/// Claims the place of the first account; whether it was still free. On PostgreSQL a concurrent
/// claim waits here for the outcome of the first.
pub async fn claim_first<C: ConnectionTrait>(conn: &C, user: UserId) -> Result<bool, DbErr> {
    let changed = execute(
        conn,
        "INSERT INTO settings (key, value) VALUES ('first_account', $1)
         ON CONFLICT (key) DO NOTHING",
        [user.to_string().into()],
    )
    .await?;
    Ok(changed == 1)
}

pub async fn is_first_free<C: ConnectionTrait>(conn: &C) -> Result<bool, DbErr> {
    let statement = crate::db::sql(conn, "SELECT value FROM settings WHERE key = 'first_account'", []);
    Ok(conn.query_one_raw(statement).await?.is_none())
}

/// Fails as a duplicate when the e-mail is taken.
pub async fn insert<C: ConnectionTrait>(conn: &C, row: &UserRow) -> Result<(), DbErr> {
    execute(
        conn,
        "INSERT INTO users (id, email, name, password_hash, role, created_ms)
         VALUES ($1, $2, $3, $4, $5, $6)",
        [
            row.id.clone().into(),
            row.email.clone().into(),
            row.name.clone().into(),
            row.password_hash.clone().into(),
            row.role.clone().into(),
            row.created_ms.into(),
        ],
    )
    .await
    .map(|_| ())
}

pub async fn by_email<C: ConnectionTrait>(conn: &C, email: &str) -> Result<Option<UserRow>, DbErr> {
    fetch_one(
        conn,
        "SELECT id, email, name, password_hash, role, created_ms FROM users WHERE email = $1",
        [email.into()],
    )
    .await
}

pub async fn by_id<C: ConnectionTrait>(conn: &C, id: UserId) -> Result<Option<UserRow>, DbErr> {
    fetch_one(
        conn,
        "SELECT id, email, name, password_hash, role, created_ms FROM users WHERE id = $1",
        [id.to_string().into()],
    )
    .await
}
