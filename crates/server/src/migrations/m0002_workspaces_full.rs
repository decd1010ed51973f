//! What a workspace is made from, who wants it as it is, its limits, and when it was last at work.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0002_workspaces_full"
    }
}

/// One column to a statement: SQLite adds no more at once.
const STATEMENTS: [&str; 20] = [
    // Written by the service.
    "ALTER TABLE workspaces ADD COLUMN template TEXT",
    // Resolved once, so that later edits of a template change nothing.
    "ALTER TABLE workspaces ADD COLUMN plan_json TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE workspaces ADD COLUMN git_url TEXT",
    "ALTER TABLE workspaces ADD COLUMN git_branch TEXT",
    "ALTER TABLE workspaces ADD COLUMN source_snapshot TEXT",
    // 0: no limit.
    "ALTER TABLE workspaces ADD COLUMN disk_mb BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE workspaces ADD COLUMN pids BIGINT NOT NULL DEFAULT 4096",
    "ALTER TABLE workspaces ADD COLUMN nested TEXT",
    // Written together with `desired`.
    "ALTER TABLE workspaces ADD COLUMN want_reason TEXT",
    "ALTER TABLE workspaces ADD COLUMN want_by TEXT",
    "ALTER TABLE workspaces ADD COLUMN idle_json TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE workspaces ADD COLUMN limits_seq BIGINT NOT NULL DEFAULT 0",
    // Written by the driver.
    "ALTER TABLE workspaces ADD COLUMN home_state TEXT NOT NULL DEFAULT 'ready'",
    "ALTER TABLE workspaces ADD COLUMN source_state TEXT NOT NULL DEFAULT 'none'",
    "ALTER TABLE workspaces ADD COLUMN image_found TEXT",
    "ALTER TABLE workspaces ADD COLUMN limits_applied_seq BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE workspaces ADD COLUMN last_active_ms BIGINT",
    "ALTER TABLE workspaces ADD COLUMN stopped_ms BIGINT",
    // The list is in the order of ids, which the index of times cannot serve.
    "CREATE INDEX workspaces_by_owner_id ON workspaces (owner_id, id)",
    "DROP INDEX workspaces_by_owner",
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
