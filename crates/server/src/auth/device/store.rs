//! The SQL of machines' sign-ins. One that was used or has run out has no row.

use crate::db::{execute, fetch_one};
use rexec_api::ids::UserId;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};

/// What a person has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Approved,
    Denied,
}

impl Decision {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Denied => "denied",
        }
    }
}

/// A machine that asks.
#[derive(Debug, Clone, FromQueryResult)]
pub struct Request {
    pub device_hash: String,
    pub user_code: String,
    pub client_name: String,
    pub address: String,
    pub created_ms: i64,
    pub expires_ms: i64,
    pub interval_ms: i64,
    pub asked_ms: Option<i64>,
    state: String,
    pub user_id: Option<String>,
    pub token_expires_ms: Option<i64>,
}

impl Request {
    /// `None`: nobody has decided.
    pub fn decision(&self) -> Option<Decision> {
        [Decision::Approved, Decision::Denied].into_iter().find(|decision| decision.as_str() == self.state)
    }
}

/// A request to be kept.
pub struct NewRequest<'a> {
    pub device_hash: &'a str,
    pub user_code: &'a str,
    pub client_name: &'a str,
    pub address: String,
    pub created_ms: i64,
    pub expires_ms: i64,
    pub interval_ms: i64,
}

const SELECT: &str = "SELECT device_hash, user_code, client_name, address, created_ms, expires_ms, interval_ms, asked_ms, \
                      state, user_id, token_expires_ms FROM device_logins";

/// Whether there was room: another may have the user code.
pub async fn insert(conn: &impl ConnectionTrait, new: &NewRequest<'_>) -> Result<bool, DbErr> {
    let inserted = execute(
        conn,
        "INSERT INTO device_logins (device_hash, user_code, client_name, address, state, created_ms, expires_ms, interval_ms) \
         VALUES ($1, $2, $3, $4, 'pending', $5, $6, $7) ON CONFLICT (user_code) DO NOTHING",
        [
            new.device_hash.into(),
            new.user_code.into(),
            new.client_name.into(),
            new.address.clone().into(),
            new.created_ms.into(),
            new.expires_ms.into(),
            new.interval_ms.into(),
        ],
    );
    Ok(inserted.await? == 1)
}

pub async fn count(conn: &impl ConnectionTrait) -> Result<i64, DbErr> {
    #[derive(FromQueryResult)]
    struct Count {
        n: i64,
    }
    let row = fetch_one::<Count, _>(conn, "SELECT COUNT(*) AS n FROM device_logins", []).await?;
    Ok(row.map_or(0, |row| row.n))
}

/// One that is still to be asked after.
pub async fn by_device(conn: &impl ConnectionTrait, hash: &str, now_ms: i64) -> Result<Option<Request>, DbErr> {
    let text = format!("{SELECT} WHERE device_hash = $1 AND expires_ms > $2");
    fetch_one(conn, &text, [hash.into(), now_ms.into()]).await
}

/// One that nobody has decided yet.
pub async fn undecided(conn: &impl ConnectionTrait, user_code: &str, now_ms: i64) -> Result<Option<Request>, DbErr> {
    let text = format!("{SELECT} WHERE user_code = $1 AND state = 'pending' AND expires_ms > $2");
    fetch_one(conn, &text, [user_code.into(), now_ms.into()]).await
}

/// Notes a question, and how long the next is to wait.
pub async fn asked(conn: &impl ConnectionTrait, hash: &str, now_ms: i64, interval_ms: i64) -> Result<(), DbErr> {
    let text = "UPDATE device_logins SET asked_ms = $1, interval_ms = $2 WHERE device_hash = $3";
    execute(conn, text, [now_ms.into(), interval_ms.into(), hash.into()]).await.map(|_| ())
}

/// Writes what a user has decided; `false` where there is nothing to decide any more.
pub async fn decide(
    conn: &impl ConnectionTrait,
    user_code: &str,
    decision: Decision,
    by: UserId,
    token_expires_ms: i64,
    now_ms: i64,
) -> Result<bool, DbErr> {
    let changed = execute(
        conn,
        "UPDATE device_logins SET state = $1, user_id = $2, token_expires_ms = $3 \
         WHERE user_code = $4 AND state = 'pending' AND expires_ms > $5",
        [decision.as_str().into(), by.to_string().into(), token_expires_ms.into(), user_code.into(), now_ms.into()],
    );
    Ok(changed.await? == 1)
}

/// Takes one away; `false` where another has done so before.
pub async fn take(conn: &impl ConnectionTrait, hash: &str) -> Result<bool, DbErr> {
    Ok(execute(conn, "DELETE FROM device_logins WHERE device_hash = $1", [hash.into()]).await? == 1)
}

/// Forgets what a user has approved and no machine has fetched.
pub async fn remove_approved(conn: &impl ConnectionTrait, by: UserId) -> Result<u64, DbErr> {
    let text = "DELETE FROM device_logins WHERE user_id = $1 AND state = 'approved'";
    execute(conn, text, [by.to_string().into()]).await
}

/// Forgets those that have run out.
pub async fn remove_expired(conn: &impl ConnectionTrait, now_ms: i64) -> Result<u64, DbErr> {
    execute(conn, "DELETE FROM device_logins WHERE expires_ms <= $1", [now_ms.into()]).await
}
