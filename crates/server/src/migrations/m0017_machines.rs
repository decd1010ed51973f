//! Machines that were joined, and the tokens by which they join.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0017_machines"
    }
}

const STATEMENTS: [&str; 4] = [
    // What a joined machine says of itself; null: a workspace with a container.
    "ALTER TABLE workspaces ADD COLUMN machine_json TEXT",
    // Gone with the machine.
    "CREATE TABLE machine_credentials ( \
        workspace_id TEXT NOT NULL PRIMARY KEY REFERENCES workspaces (id), \
        hash TEXT NOT NULL UNIQUE \
    )",
    // One that was used has no row.
    "CREATE TABLE join_tokens ( \
        id TEXT NOT NULL PRIMARY KEY, \
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE, \
        name TEXT, \
        hint TEXT NOT NULL, \
        hash TEXT NOT NULL UNIQUE, \
        created_ms BIGINT NOT NULL, \
        expires_ms BIGINT NOT NULL \
    )",
    "CREATE INDEX join_tokens_by_user ON join_tokens (user_id)",
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
