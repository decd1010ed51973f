//! What workspaces may reach, and what they did.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0028_egress"
    }
}

const STATEMENTS: [&str; 10] = [
    // Absent of those that are older: they reach what they reached.
    "ALTER TABLE workspaces ADD COLUMN egress_json TEXT",
    "ALTER TABLE workspaces ADD COLUMN egress_seq BIGINT NOT NULL DEFAULT 1",
    // Those that the gateway was told last.
    "ALTER TABLE workspaces ADD COLUMN egress_applied_seq BIGINT NOT NULL DEFAULT 0",
    // Its own on the closed network of its host, of those that were started there last.
    "ALTER TABLE workspaces ADD COLUMN address TEXT",
    // And where its gateway listens there.
    "ALTER TABLE workspaces ADD COLUMN gateway TEXT",
    "CREATE UNIQUE INDEX workspaces_by_address ON workspaces (host_id, address)",
    // What was decided within a minute, all of one kind.
    "CREATE TABLE egress_log (workspace_id TEXT NOT NULL, minute_ms BIGINT NOT NULL, how TEXT NOT NULL, host TEXT NOT NULL, \
     port INTEGER NOT NULL, allowed INTEGER NOT NULL, why TEXT NOT NULL, count BIGINT NOT NULL, bytes_up BIGINT NOT NULL, \
     bytes_down BIGINT NOT NULL, last_ms BIGINT NOT NULL, \
     PRIMARY KEY (workspace_id, minute_ms, how, host, port, allowed, why))",
    "CREATE INDEX egress_log_by_last ON egress_log (workspace_id, last_ms)",
    "CREATE INDEX egress_log_by_minute ON egress_log (minute_ms)",
    "CREATE TABLE egress_totals (workspace_id TEXT NOT NULL PRIMARY KEY, allowed BIGINT NOT NULL, denied BIGINT NOT NULL, \
     bytes_up BIGINT NOT NULL, bytes_down BIGINT NOT NULL, untold BIGINT NOT NULL)",
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
