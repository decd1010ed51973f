//! Previews of ports that were set up, and the codes that sign in to them.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0009_previews"
    }
}

const STATEMENTS: [&str; 3] = [
    // A port without a row is private. `listen_port` is the server's own, where each preview has one.
    "CREATE TABLE previews ( \
        workspace_id TEXT NOT NULL REFERENCES workspaces (id), \
        port BIGINT NOT NULL, \
        visibility TEXT NOT NULL, \
        expires_ms BIGINT, \
        label TEXT, \
        listen_port BIGINT UNIQUE, \
        created_ms BIGINT NOT NULL, \
        updated_ms BIGINT NOT NULL, \
        PRIMARY KEY (workspace_id, port) \
    )",
    "CREATE TABLE preview_codes ( \
        hash TEXT NOT NULL PRIMARY KEY, \
        session_id TEXT NOT NULL, \
        user_id TEXT NOT NULL, \
        workspace_id TEXT NOT NULL, \
        port BIGINT NOT NULL, \
        expires_ms BIGINT NOT NULL \
    )",
    "CREATE INDEX preview_codes_by_expiry ON preview_codes (expires_ms)",
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
