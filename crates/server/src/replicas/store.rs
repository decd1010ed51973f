//! The SQL of replicas and leases; PostgreSQL only, as SQLite has one server. All times are the database's.

use super::ReplicaId;
use super::table::{Lease, Replica, Table};
use crate::db;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};
use uuid::Uuid;

/// The database's clock, in milliseconds since 1970.
pub const NOW: &str = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT";

/// Says that this replica is there, from now on as this run.
pub async fn join(
    conn: &impl ConnectionTrait,
    id: ReplicaId,
    run: Uuid,
    url: Option<&str>,
    term_ms: i64,
) -> Result<(), DbErr> {
    let text = format!(
        "INSERT INTO replicas (id, run, url, version, started_ms, until_ms) VALUES ($1, $2, $3, $4, {NOW}, {NOW} + $5) \
         ON CONFLICT (id) DO UPDATE SET run = $2, url = $3, version = $4, started_ms = {NOW}, until_ms = {NOW} + $5"
    );
    let version = env!("CARGO_PKG_VERSION");
    let values =
        [id.to_string().into(), run.to_string().into(), url.map(str::to_owned).into(), version.into(), term_ms.into()];
    db::execute(conn, &text, values).await.map(|_| ())
}

/// Prolongs the term. `false`: another process runs as this replica, which it must not, or its row is gone.
pub async fn renew(conn: &impl ConnectionTrait, id: ReplicaId, run: Uuid, term_ms: i64) -> Result<bool, DbErr> {
    let text = format!("UPDATE replicas SET until_ms = {NOW} + $3 WHERE id = $1 AND run = $2");
    Ok(db::execute(conn, &text, [id.to_string().into(), run.to_string().into(), term_ms.into()]).await? > 0)
}

/// The same for a replica whose row is gone or whose term has ended. `false`: another process runs as this replica.
pub async fn join_anew(
    conn: &impl ConnectionTrait,
    id: ReplicaId,
    run: Uuid,
    url: Option<&str>,
    term_ms: i64,
) -> Result<bool, DbErr> {
    let text = format!(
        "INSERT INTO replicas (id, run, url, version, started_ms, until_ms) VALUES ($1, $2, $3, $4, {NOW}, {NOW} + $5) \
         ON CONFLICT (id) DO UPDATE SET run = $2, url = $3, version = $4, until_ms = {NOW} + $5 \
         WHERE replicas.until_ms <= {NOW}"
    );
    let version = env!("CARGO_PKG_VERSION");
    let values =
        [id.to_string().into(), run.to_string().into(), url.map(str::to_owned).into(), version.into(), term_ms.into()];
    Ok(db::execute(conn, &text, values).await? > 0)
}

/// Those that have long been gone are forgotten, and leases of what is not there any more.
pub async fn forget(conn: &impl ConnectionTrait, gone_ms: i64) -> Result<(), DbErr> {
    let text = format!(
        "DELETE FROM replicas WHERE until_ms < {NOW} - $1 \
         AND NOT EXISTS (SELECT 1 FROM hosts WHERE hosts.replica = replicas.id AND hosts.state <> 'removed')"
    );
    db::execute(conn, &text, [gone_ms.into()]).await?;
    let leases = "DELETE FROM leases WHERE (name LIKE 'machine:%' AND NOT EXISTS (SELECT 1 FROM workspaces \
                  WHERE 'machine:' || workspaces.id = leases.name AND workspaces.deleted_ms IS NULL)) \
                  OR (name LIKE 'host:%' AND NOT EXISTS (SELECT 1 FROM hosts \
                  WHERE 'host:' || hosts.id = leases.name AND hosts.state <> 'removed'))";
    db::execute(conn, leases, []).await.map(|_| ())
}

/// Gives up all at once: the others need not wait for the term's end.
pub async fn leave(conn: &impl ConnectionTrait, id: ReplicaId, run: Uuid) -> Result<(), DbErr> {
    let values = || [id.to_string().into(), run.to_string().into()];
    let text = "UPDATE leases SET holder = '' WHERE holder = $1 AND EXISTS (SELECT 1 FROM replicas WHERE id = $1 AND run = $2)";
    db::execute(conn, text, values()).await?;
    db::execute(conn, "UPDATE replicas SET until_ms = 0 WHERE id = $1 AND run = $2", values()).await.map(|_| ())
}

/// The lease's new epoch, if it is free, its holder's term has ended, or it was ours; or whoever has it (`from_anyone`).
pub async fn acquire(
    conn: &impl ConnectionTrait,
    name: &str,
    id: ReplicaId,
    from_anyone: bool,
) -> Result<Option<i64>, DbErr> {
    #[derive(FromQueryResult)]
    struct Epoch {
        epoch: i64,
    }
    let free = match from_anyone {
        true => String::new(),
        false => format!(
            "WHERE leases.holder IN ('', $2) OR NOT EXISTS \
             (SELECT 1 FROM replicas WHERE replicas.id = leases.holder AND replicas.until_ms > {NOW})"
        ),
    };
    let text = format!(
        "INSERT INTO leases (name, holder, epoch) VALUES ($1, $2, 1) ON CONFLICT (name) \
         DO UPDATE SET holder = $2, epoch = leases.epoch + 1, told = NULL {free} RETURNING epoch"
    );
    let row = db::fetch_one::<Epoch, _>(conn, &text, [name.into(), id.to_string().into()]).await?;
    Ok(row.map(|row| row.epoch))
}

pub async fn release(conn: &impl ConnectionTrait, name: &str, id: ReplicaId, epoch: i64) -> Result<(), DbErr> {
    let text = "UPDATE leases SET holder = '', told = NULL WHERE name = $1 AND holder = $2 AND epoch = $3";
    db::execute(conn, text, [name.into(), id.to_string().into(), epoch.into()]).await.map(|_| ())
}

/// What the holder lets the others know.
pub async fn tell(conn: &impl ConnectionTrait, name: &str, id: ReplicaId, epoch: i64, told: &str) -> Result<(), DbErr> {
    let text = "UPDATE leases SET told = $4 WHERE name = $1 AND holder = $2 AND epoch = $3";
    db::execute(conn, text, [name.into(), id.to_string().into(), epoch.into(), told.into()]).await.map(|_| ())
}

/// Whether the lease is still held so; it is not taken by anyone before the transaction has ended.
pub async fn stands(conn: &impl ConnectionTrait, name: &str, id: ReplicaId, epoch: i64) -> Result<bool, DbErr> {
    let text = "SELECT 1 FROM leases WHERE name = $1 AND holder = $2 AND epoch = $3 FOR SHARE";
    let statement = db::sql(conn, text, [name.into(), id.to_string().into(), epoch.into()]);
    Ok(conn.query_one_raw(statement).await?.is_some())
}

/// All of both.
pub async fn table(conn: &impl ConnectionTrait) -> Result<Table, DbErr> {
    #[derive(FromQueryResult)]
    struct ReplicaRow {
        id: String,
        url: Option<String>,
        version: String,
        alive: bool,
    }
    #[derive(FromQueryResult)]
    struct LeaseRow {
        name: String,
        holder: String,
        epoch: i64,
        told: Option<String>,
    }
    let text = format!("SELECT id, url, version, until_ms > {NOW} AS alive FROM replicas");
    let replicas = db::fetch_all::<ReplicaRow, _>(conn, &text, []).await?.into_iter().filter_map(|row| {
        let id: ReplicaId = row.id.parse().ok()?;
        Some((id, Replica { id, url: row.url, version: row.version, alive: row.alive }))
    });
    let replicas = replicas.collect();
    let leases = db::fetch_all::<LeaseRow, _>(conn, "SELECT name, holder, epoch, told FROM leases", []).await?;
    let leases = leases.into_iter().map(|row| {
        let lease = Lease { holder: row.holder.parse().ok(), epoch: row.epoch, told: row.told.map(Into::into) };
        (row.name, lease)
    });
    Ok(Table { replicas, leases: leases.collect() })
}
