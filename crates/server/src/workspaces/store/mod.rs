//! The SQL of workspaces.
//!
//! Two writers share a row and never a column: the service writes what is wanted (`desired`,
//! `want_by`, `want_reason`, `boot_seq`, `name`), the workspace's driver writes what is so (`status`, `generation`, ...).
//! The keeper of idleness writes wants, as the service does, and what it has seen of use.

mod row;
mod write;

pub use row::{HomeState, Pooled, SourceState, Want, WantBy, Wished, Workspace};
pub use write::{
    Adoption, Observation, adopt_repository, bury, drop_found_image, forget_env, forget_envs, grant_limits, insert,
    lies_on, note_machine, note_use, observe, refuse_limits, rename, set_disk, set_guest_key, set_home_state, set_idle,
    take_found_image, tell_of_deletion, want, want_if, wish_limits,
};

use crate::db;
use crate::page;
use rexec_api::ids::{HostId, UserId, WorkspaceId};
use row::{COLUMNS, Row};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, FromQueryResult};

/// Any workspace that is not buried, for the driver and for checks of ownership.
pub async fn find(conn: &impl ConnectionTrait, id: WorkspaceId) -> Result<Option<Workspace>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM workspaces WHERE id = $1 AND deleted_ms IS NULL");
    db::fetch_one::<Row, _>(conn, &text, [id.to_string().into()]).await?.map(Workspace::try_from).transpose()
}

/// The last workspace that is buried and had this home.
pub async fn find_buried(conn: &impl ConnectionTrait, volume: &str) -> Result<Option<Workspace>, DbErr> {
    let text = format!(
        "SELECT {COLUMNS} FROM workspaces WHERE volume = $1 AND deleted_ms IS NOT NULL ORDER BY deleted_ms DESC, id DESC LIMIT 1"
    );
    db::fetch_one::<Row, _>(conn, &text, [volume.into()]).await?.map(Workspace::try_from).transpose()
}

/// A page of an owner's workspaces, newest first, those before `before` in that order; `only` these.
pub async fn list(
    conn: &impl ConnectionTrait,
    owner: UserId,
    only: Option<&[WorkspaceId]>,
    before: Option<WorkspaceId>,
) -> Result<Vec<Workspace>, DbErr> {
    // By when they became their owner's: the id of one out of a pool is older than that.
    let only = db::among("id", only);
    let text = format!(
        "SELECT {COLUMNS} FROM workspaces WHERE owner_id = $1 AND deleted_ms IS NULL AND desired <> 'deleted' \
         AND (NOT EXISTS (SELECT 1 FROM workspaces b WHERE b.id = $2) \
         OR (created_ms, id) < (SELECT b.created_ms, b.id FROM workspaces b WHERE b.id = $2)) {only} \
         ORDER BY created_ms DESC, id DESC LIMIT $3"
    );
    let values = [owner.to_string().into(), page::before(before).into(), page::FETCH.into()];
    db::fetch_all::<Row, _>(conn, &text, values).await?.into_iter().map(Workspace::try_from).collect()
}

/// How many other workspaces of its owner have the same name.
pub async fn namesakes(conn: &impl ConnectionTrait, row: &Workspace) -> Result<u64, DbErr> {
    #[derive(FromQueryResult)]
    struct Count {
        n: i64,
    }
    let text = "SELECT COUNT(*) AS n FROM workspaces WHERE owner_id = $1 AND name = $2 AND id <> $3 \
                AND deleted_ms IS NULL AND desired <> 'deleted'";
    let values = [row.owner.to_string().into(), row.name.clone().into(), row.id.to_string().into()];
    Ok(db::fetch_one::<Count, _>(conn, text, values).await?.map_or(0, |row| row.n.unsigned_abs()))
}

/// An owner's workspaces of this name, of `only` these; two are enough to know that it says too little.
pub async fn named(
    conn: &impl ConnectionTrait,
    owner: UserId,
    only: Option<&[WorkspaceId]>,
    name: &str,
) -> Result<Vec<WorkspaceId>, DbErr> {
    #[derive(FromQueryResult)]
    struct Id {
        id: String,
    }
    let only = db::among("id", only);
    let text = format!(
        "SELECT id FROM workspaces WHERE owner_id = $1 AND name = $2 AND deleted_ms IS NULL \
         AND desired <> 'deleted' {only} ORDER BY id LIMIT 2"
    );
    let rows = db::fetch_all::<Id, _>(conn, &text, [owner.to_string().into(), name.into()]).await?;
    Ok(rows.into_iter().filter_map(|row| row.id.parse().ok()).collect())
}

/// All that lie on a host, by name.
pub async fn on_host(conn: &impl ConnectionTrait, host: HostId) -> Result<Vec<Workspace>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM workspaces WHERE host_id = $1 AND deleted_ms IS NULL ORDER BY name, id");
    db::fetch_all::<Row, _>(conn, &text, [host.to_string().into()])
        .await?
        .into_iter()
        .map(Workspace::try_from)
        .collect()
}

/// Those on a host that are up with an address on its closed network.
pub async fn behind_gateway(conn: &impl ConnectionTrait, host: HostId) -> Result<Vec<Workspace>, DbErr> {
    let text = format!(
        "SELECT {COLUMNS} FROM workspaces WHERE host_id = $1 AND address IS NOT NULL AND deleted_ms IS NULL \
         AND status NOT IN ('pending', 'stopping', 'stopped', 'deleted')"
    );
    let rows = db::fetch_all::<Row, _>(conn, &text, [host.to_string().into()]).await?;
    rows.into_iter().map(Workspace::try_from).collect()
}

/// Has nobody change a host's workspaces before the transaction has ended. SQLite's is alone anyway.
pub async fn lock_on_host(tx: &DatabaseTransaction, host: HostId) -> Result<(), DbErr> {
    if tx.get_database_backend() == DbBackend::Postgres {
        let text = "SELECT id FROM workspaces WHERE host_id = $1 AND deleted_ms IS NULL ORDER BY id FOR UPDATE";
        tx.query_all_raw(db::sql(tx, text, [host.to_string().into()])).await?;
    }
    Ok(())
}

/// The ids of all workspaces that need a driver.
pub async fn living(conn: &impl ConnectionTrait) -> Result<Vec<WorkspaceId>, DbErr> {
    #[derive(FromQueryResult)]
    struct Id {
        id: String,
    }
    let rows =
        db::fetch_all::<Id, _>(conn, "SELECT id FROM workspaces WHERE deleted_ms IS NULL ORDER BY id", []).await?;
    Ok(rows.into_iter().filter_map(|row| row.id.parse().ok()).collect())
}

/// Those on one host.
pub async fn living_on(conn: &impl ConnectionTrait, host: HostId) -> Result<Vec<WorkspaceId>, DbErr> {
    ids(conn, "deleted_ms IS NULL AND machine_json IS NULL AND host_id = $1", vec![host.to_string().into()]).await
}

/// Joined machines.
pub async fn machines(conn: &impl ConnectionTrait) -> Result<Vec<WorkspaceId>, DbErr> {
    ids(conn, "deleted_ms IS NULL AND machine_json IS NOT NULL", Vec::new()).await
}

async fn ids(
    conn: &impl ConnectionTrait,
    which: &'static str,
    values: Vec<sea_orm::Value>,
) -> Result<Vec<WorkspaceId>, DbErr> {
    #[derive(FromQueryResult)]
    struct Id {
        id: String,
    }
    let text = format!("SELECT id FROM workspaces WHERE {which} ORDER BY id");
    let rows = db::fetch_all::<Id, _>(conn, &text, values).await?;
    Ok(rows.into_iter().filter_map(|row| row.id.parse().ok()).collect())
}

/// How many workspaces there are that are not on their way out; joined machines are none of the server's making, and
/// warm ones are nobody's yet.
pub async fn count(conn: &impl ConnectionTrait) -> Result<i64, DbErr> {
    #[derive(FromQueryResult)]
    struct Count {
        n: i64,
    }
    let text = "SELECT COUNT(*) AS n FROM workspaces WHERE deleted_ms IS NULL AND desired <> 'deleted' \
                AND machine_json IS NULL AND pool_key IS NULL";
    Ok(db::fetch_one::<Count, _>(conn, text, []).await?.map_or(0, |row| row.n))
}

/// How many machines a user has joined.
pub async fn count_machines(conn: &impl ConnectionTrait, owner: UserId) -> Result<i64, DbErr> {
    #[derive(FromQueryResult)]
    struct Count {
        n: i64,
    }
    let text = "SELECT COUNT(*) AS n FROM workspaces WHERE owner_id = $1 AND deleted_ms IS NULL \
                AND desired <> 'deleted' AND machine_json IS NOT NULL";
    Ok(db::fetch_one::<Count, _>(conn, text, [owner.to_string().into()]).await?.map_or(0, |row| row.n))
}
