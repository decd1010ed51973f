//! What its owner has been told of a workspace's deletion, and what they want its limits to be.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0003_idle"
    }
}

/// One column to a statement: SQLite adds no more at once.
const STATEMENTS: [&str; 2] = [
    // Written by the keeper: when its owner was last warned that it will be deleted.
    "ALTER TABLE workspaces ADD COLUMN delete_warned_ms BIGINT",
    // Written by the service together with `limits_seq`; `cpu_milli`, `memory_mb` and `pids` are what is in force.
    "ALTER TABLE workspaces ADD COLUMN limits_json TEXT",
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
