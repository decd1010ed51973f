//! The SQL of host keys.

use crate::db::{execute, fetch_all};
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};

/// A host key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct HostKeyRow {
    /// Such as `ssh-ed25519`; there is one key of each kind.
    pub kind: String,
    /// A line as in a file that ends in `.pub`.
    pub public_key: String,
    pub private_sealed: String,
    pub created_ms: i64,
}

const COLUMNS: &str = "kind, public_key, private_sealed, created_ms";

/// Every host key; there is one to a kind.
pub async fn list(conn: &impl ConnectionTrait) -> Result<Vec<HostKeyRow>, DbErr> {
    fetch_all(conn, &format!("SELECT {COLUMNS} FROM ssh_host_keys ORDER BY kind"), []).await
}

/// Keeps a key unless there is one of its kind: of two servers that start together, one's is kept.
pub async fn insert_first(conn: &impl ConnectionTrait, row: &HostKeyRow) -> Result<(), DbErr> {
    let text = format!("INSERT INTO ssh_host_keys ({COLUMNS}) VALUES ($1, $2, $3, $4) ON CONFLICT (kind) DO NOTHING");
    execute(conn, &text, values(row)).await.map(|_| ())
}

/// Keeps a key in place of the one of its kind.
pub async fn put(conn: &impl ConnectionTrait, row: &HostKeyRow) -> Result<(), DbErr> {
    let text = format!(
        "INSERT INTO ssh_host_keys ({COLUMNS}) VALUES ($1, $2, $3, $4) ON CONFLICT (kind) DO UPDATE SET \
         public_key = excluded.public_key, private_sealed = excluded.private_sealed, created_ms = excluded.created_ms"
    );
    execute(conn, &text, values(row)).await.map(|_| ())
}

/// Removes a key that nobody can open, unless another has taken its place.
pub async fn remove_sealed(conn: &impl ConnectionTrait, private_sealed: &str) -> Result<(), DbErr> {
    execute(conn, "DELETE FROM ssh_host_keys WHERE private_sealed = $1", [private_sealed.into()]).await.map(|_| ())
}

fn values(row: &HostKeyRow) -> [sea_orm::Value; 4] {
    [row.kind.clone().into(), row.public_key.clone().into(), row.private_sealed.clone().into(), row.created_ms.into()]
}
