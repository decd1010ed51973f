//! More hosts than one: how each is reached, what it may be given, and what workspaces hold of it.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0020_fleet"
    }
}

const STATEMENTS: [&str; 16] = [
    // 0: without a limit, as with cores and memory.
    "ALTER TABLE hosts ADD COLUMN total_disk_mb BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE hosts ADD COLUMN used_disk_mb BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE hosts ADD COLUMN used_workspaces BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE hosts ADD COLUMN workspaces_max BIGINT",
    "ALTER TABLE hosts ADD COLUMN labels_json TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE hosts ADD COLUMN runtimes_json TEXT",
    // How it is reached, secrets included; absent of the local one.
    "ALTER TABLE hosts ADD COLUMN access_sealed TEXT",
    // What each workspace holds of its host: `used_` of a host is the sum of these.
    "ALTER TABLE workspaces ADD COLUMN held_cpu_milli BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE workspaces ADD COLUMN held_memory_mb BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE workspaces ADD COLUMN held_disk_mb BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE workspaces ADD COLUMN held_place BIGINT NOT NULL DEFAULT 0",
    "UPDATE workspaces SET held_place = 1, held_disk_mb = disk_mb \
     WHERE deleted_ms IS NULL AND host_id IS NOT NULL AND machine_json IS NULL",
    "UPDATE workspaces SET held_cpu_milli = cpu_milli, held_memory_mb = memory_mb \
     WHERE held_place = 1 AND desired IN ('running', 'paused')",
    "UPDATE hosts SET used_cpu_milli = (SELECT COALESCE(SUM(held_cpu_milli), 0) FROM workspaces WHERE host_id = hosts.id), \
     used_memory_mb = (SELECT COALESCE(SUM(held_memory_mb), 0) FROM workspaces WHERE host_id = hosts.id)",
    "UPDATE hosts SET used_disk_mb = (SELECT COALESCE(SUM(held_disk_mb), 0) FROM workspaces WHERE host_id = hosts.id), \
     used_workspaces = (SELECT COALESCE(SUM(held_place), 0) FROM workspaces WHERE host_id = hosts.id)",
    "CREATE INDEX snapshots_by_host ON snapshots (host_id)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in STATEMENTS {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
