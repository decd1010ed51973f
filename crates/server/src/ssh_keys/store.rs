//! The SQL of SSH keys.

use super::public_key;
use crate::db::{execute, fetch_all, fetch_one, sql};
use rexec_api::ids::{SshKeyId, UserId};
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKey {
    pub id: SshKeyId,
    pub user: UserId,
    pub name: String,
    pub kind: String,
    /// The key as it goes over the wire, in base64.
    pub blob: String,
    pub fingerprint: String,
    pub created_ms: i64,
    pub last_used_ms: Option<i64>,
}

#[derive(FromQueryResult)]
struct Row {
    id: String,
    user_id: String,
    name: String,
    kind: String,
    blob: String,
    fingerprint: String,
    created_ms: i64,
    last_used_ms: Option<i64>,
}

impl TryFrom<Row> for SshKey {
    type Error = DbErr;

    fn try_from(row: Row) -> Result<Self, DbErr> {
        let broken = |what: &str| DbErr::Type(format!("SSH key {} has an unreadable {what}", row.id));
        Ok(Self {
            id: row.id.parse().map_err(|_| broken("id"))?,
            user: row.user_id.parse().map_err(|_| broken("user"))?,
            name: row.name,
            kind: row.kind,
            blob: row.blob,
            fingerprint: row.fingerprint,
            created_ms: row.created_ms,
            last_used_ms: row.last_used_ms,
        })
    }
}

const COLUMNS: &str = "id, user_id, name, kind, blob, fingerprint, created_ms, last_used_ms";

/// A key that is there already, whoever's, breaks a uniqueness.
pub async fn insert(conn: &impl ConnectionTrait, key: &SshKey) -> Result<(), DbErr> {
    execute(
        conn,
        "INSERT INTO ssh_keys (id, user_id, name, kind, blob, fingerprint, created_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        [
            key.id.to_string().into(),
            key.user.to_string().into(),
            key.name.clone().into(),
            key.kind.clone().into(),
            key.blob.clone().into(),
            key.fingerprint.clone().into(),
            key.created_ms.into(),
        ],
    )
    .await
    .map(|_| ())
}

/// The user's keys, newest first.
pub async fn list(conn: &impl ConnectionTrait, user: UserId, limit: u32) -> Result<Vec<SshKey>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM ssh_keys WHERE user_id = $1 ORDER BY id DESC LIMIT $2");
    let rows = fetch_all::<Row, _>(conn, &text, [user.to_string().into(), i64::from(limit).into()]).await?;
    rows.into_iter().map(SshKey::try_from).collect()
}

pub async fn count(conn: &impl ConnectionTrait, user: UserId) -> Result<i64, DbErr> {
    #[derive(FromQueryResult)]
    struct Count {
        n: i64,
    }
    let text = "SELECT COUNT(*) AS n FROM ssh_keys WHERE user_id = $1";
    Ok(fetch_one::<Count, _>(conn, text, [user.to_string().into()]).await?.map_or(0, |row| row.n))
}

pub async fn by_fingerprint(conn: &impl ConnectionTrait, fingerprint: &str) -> Result<Option<SshKey>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM ssh_keys WHERE fingerprint = $1");
    fetch_one::<Row, _>(conn, &text, [fingerprint.into()]).await?.map(SshKey::try_from).transpose()
}

/// Whose key this is, as it came over the wire: what the SSH gateway asks. That whoever sent it has its
/// private half is for the gateway to see.
pub async fn by_blob(conn: &impl ConnectionTrait, blob: &[u8]) -> Result<Option<SshKey>, DbErr> {
    by_fingerprint(conn, &public_key::fingerprint(blob)).await
}

/// Notes that a key let somebody in.
pub async fn touch(conn: &impl ConnectionTrait, id: SshKeyId, now_ms: i64) -> Result<(), DbErr> {
    execute(conn, "UPDATE ssh_keys SET last_used_ms = $1 WHERE id = $2", [now_ms.into(), id.to_string().into()])
        .await
        .map(|_| ())
}

/// The user's key that was removed by this.
pub async fn remove(conn: &impl ConnectionTrait, user: UserId, id: SshKeyId) -> Result<Option<SshKey>, DbErr> {
    let text = format!("DELETE FROM ssh_keys WHERE id = $1 AND user_id = $2 RETURNING {COLUMNS}");
    let values = [id.to_string().into(), user.to_string().into()];
    fetch_one::<Row, _>(conn, &text, values).await?.map(SshKey::try_from).transpose()
}

/// Whether a key has not been deleted.
pub async fn is_there(conn: &impl ConnectionTrait, id: SshKeyId) -> Result<bool, DbErr> {
    let statement = sql(conn, "SELECT id FROM ssh_keys WHERE id = $1", [id.to_string().into()]);
    Ok(conn.query_one_raw(statement).await?.is_some())
}
