//! The SQL of hosts, and of the settings that say which installation this is.

use crate::db;
use rexec_api::ids::HostId;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};

#[derive(FromQueryResult)]
struct Id {
    id: String,
}

/// The row of the local host, made when it is not there; safe for two servers at once.
pub async fn ensure_local(
    conn: &impl ConnectionTrait,
    name: &str,
    address: &str,
    now_ms: i64,
) -> Result<HostId, DbErr> {
    db::execute(
        conn,
        "INSERT INTO hosts (id, name, address, region, state, total_cpu_milli, total_memory_mb, used_cpu_milli, \
         used_memory_mb, created_ms) VALUES ($1, $2, $3, 'local', 'active', 0, 0, 0, 0, $4) ON CONFLICT (name) DO NOTHING",
        [HostId::new().to_string().into(), name.into(), address.into(), now_ms.into()],
    )
    .await?;
    let row = db::fetch_one::<Id, _>(conn, "SELECT id FROM hosts WHERE name = $1", [name.into()]).await?;
    row.and_then(|row| row.id.parse().ok()).ok_or_else(|| DbErr::Type("the local host has no readable id".into()))
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
