//! The schema's history: one append-only list for both databases.
//!
//! Invariant: all pending steps run in one transaction under a lock that excludes other servers
//! (an advisory lock on PostgreSQL, the write lock on SQLite). Of two servers that start together
//! one migrates, the other waits and finds the work done; a failed step leaves nothing behind.

mod m0001_foundation;
mod m0002_workspaces_full;
mod m0003_idle;
mod m0004_registries;
mod m0005_volumes_snapshots;
mod m0006_setups;
mod m0007_stats;
mod m0009_previews;
mod m0010_announcements;
mod m0011_git_credentials;
mod m0012_api_tokens;
mod m0013_ssh_keys;
mod m0014_ssh_host_keys;
mod m0016_device_logins;
mod m0017_machines;
mod m0018_host_keys;
mod m0020_fleet;
mod m0022_elastic;
mod m0023_pool;
mod m0024_moves;
mod m0025_replicas;
mod m0026_regions;
mod m0027_made_from;
mod m0028_egress;
mod m0029_secrets;
mod m0030_model_use;

use crate::db::{self, Db, OpenError};
use sea_orm::DbErr;
use sea_orm_migration::{MigrationTrait, MigratorTrait};

/// "rexec" in ASCII: the advisory lock that serialises migrations.
const ADVISORY_LOCK: i64 = 0x72_6578_6563;

struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_foundation::Migration),
            Box::new(m0002_workspaces_full::Migration),
            Box::new(m0003_idle::Migration),
            Box::new(m0004_registries::Migration),
            Box::new(m0005_volumes_snapshots::Migration),
            Box::new(m0006_setups::Migration),
            Box::new(m0007_stats::Migration),
            Box::new(m0009_previews::Migration),
            Box::new(m0010_announcements::Migration),
            Box::new(m0011_git_credentials::Migration),
            Box::new(m0012_api_tokens::Migration),
            Box::new(m0013_ssh_keys::Migration),
            Box::new(m0014_ssh_host_keys::Migration),
            Box::new(m0016_device_logins::Migration),
            Box::new(m0017_machines::Migration),
            Box::new(m0018_host_keys::Migration),
            Box::new(m0020_fleet::Migration),
            Box::new(m0022_elastic::Migration),
            Box::new(m0023_pool::Migration),
            Box::new(m0024_moves::Migration),
            Box::new(m0025_replicas::Migration),
            Box::new(m0026_regions::Migration),
            Box::new(m0027_made_from::Migration),
            Box::new(m0028_egress::Migration),
            Box::new(m0029_secrets::Migration),
            Box::new(m0030_model_use::Migration),
        ]
    }
}

/// Brings the schema up to date.
pub async fn run(db: &Db) -> Result<(), OpenError> {
    let tx = db.begin().await.map_err(OpenError::Migrate)?;
    if db.is_postgres() {
        db::execute(&tx, "SELECT pg_advisory_xact_lock($1)", [ADVISORY_LOCK.into()])
            .await
            .map_err(OpenError::Migrate)?;
    }
    refuse_newer(&tx).await?;
    Migrator::up(&tx, None).await.map_err(OpenError::Migrate)?;
    tx.commit().await.map_err(OpenError::Migrate)
}

/// Names of the steps that are still to run; empty when the schema is up to date.
pub async fn pending(db: &Db) -> Result<Vec<String>, DbErr> {
    let pending = Migrator::get_pending_migrations_read_only(db.read()).await?;
    Ok(pending.iter().map(|m| m.name().to_owned()).collect())
}

async fn refuse_newer(tx: &sea_orm::DatabaseTransaction) -> Result<(), OpenError> {
    let known = Migrator::migrations();
    let applied = Migrator::get_migration_models(tx).await.map_err(OpenError::Migrate)?;
    match applied.into_iter().find(|a| !known.iter().any(|k| k.name() == a.version)) {
        Some(newer) => Err(OpenError::Newer(newer.version)),
        None => Ok(()),
    }
}
