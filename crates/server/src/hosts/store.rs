//! The SQL of hosts, and of the settings that say which installation this is.

use crate::db;
use rexec_api::ids::HostId;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};

/// A host as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub id: HostId,
    /// The key that its machine showed by SSH.
    pub host_key: Option<String>,
}

#[derive(FromQueryResult)]
struct Row {
    id: String,
    host_key: Option<String>,
}

/// The row of the local host, made when it is not there; safe for two servers at once. At another address it is another
/// machine: the key of the one before is forgotten.
pub async fn ensure_local(conn: &impl ConnectionTrait, name: &str, address: &str, now_ms: i64) -> Result<Kept, DbErr> {
    db::execute(
        conn,
        "INSERT INTO hosts (id, name, address, region, state, total_cpu_milli, total_memory_mb, used_cpu_milli, \
         used_memory_mb, created_ms) VALUES ($1, $2, $3, 'local', 'active', 0, 0, 0, 0, $4) ON CONFLICT (name) DO NOTHING",
        [HostId::new().to_string().into(), name.into(), address.into(), now_ms.into()],
    )
    .await?;
    db::execute(
        conn,
        "UPDATE hosts SET address = $2, host_key = NULL WHERE name = $1 AND address <> $2",
        [name.into(), address.into()],
    )
    .await?;
    let row = db::fetch_one::<Row, _>(conn, "SELECT id, host_key FROM hosts WHERE name = $1", [name.into()]).await?;
    let kept = row.and_then(|row| Some(Kept { id: row.id.parse().ok()?, host_key: row.host_key }));
    kept.ok_or_else(|| DbErr::Type("the local host has no readable id".into()))
}

/// Keeps the key that a host showed.
pub async fn keep_host_key(conn: &impl ConnectionTrait, id: HostId, key: &str) -> Result<(), DbErr> {
    db::execute(conn, "UPDATE hosts SET host_key = $2 WHERE id = $1", [id.to_string().into(), key.into()]).await?;
    Ok(())
}

/// The name of this installation on the engines that it uses: made once, kept in the database.
pub async fn ensure_instance(conn: &impl ConnectionTrait) -> Result<String, DbErr> {
    #[derive(FromQueryResult)]
    struct Value {
        value: String,
    }
    db::execute(
        conn,
        "INSERT INTO settings (key, value) VALUES ('instance', $1) ON CONFLICT (key) DO NOTHING",
        [uuid::Uuid::new_v4().to_string().into()],
    )
    .await?;
    let row = db::fetch_one::<Value, _>(conn, "SELECT value FROM settings WHERE key = 'instance'", []).await?;
    row.map(|row| row.value).ok_or_else(|| DbErr::Type("the installation has no name".into()))
}
