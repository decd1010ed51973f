//! What its owner was told of a workspace's deletion, and what failed snapshots failed of.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0010_announcements"
    }
}

/// One column to a statement: SQLite adds no more at once.
const STATEMENTS: [&str; 2] = [
    // Written by the keeper together with `delete_warned_ms`: when it was said to be deleted.
    "ALTER TABLE workspaces ADD COLUMN delete_told_ms BIGINT",
    "ALTER TABLE snapshots ADD COLUMN error_code TEXT",
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
