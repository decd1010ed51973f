//! The last day of what workspaces used, in spans of ten minutes.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0007_stats"
    }
}

const STATEMENTS: [&str; 2] = [
    "CREATE TABLE workspace_stats ( \
        workspace_id TEXT NOT NULL, \
        at_ms BIGINT NOT NULL, \
        covered_ms BIGINT NOT NULL, \
        cpu_ms BIGINT NOT NULL, \
        memory_bytes BIGINT NOT NULL, \
        disk_bytes BIGINT, \
        rx_bytes BIGINT NOT NULL, \
        tx_bytes BIGINT NOT NULL, \
        pids BIGINT NOT NULL, \
        PRIMARY KEY (workspace_id, at_ms) \
    )",
    "CREATE INDEX workspace_stats_by_time ON workspace_stats (at_ms)",
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
