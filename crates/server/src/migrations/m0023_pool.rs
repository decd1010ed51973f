//! Workspaces that run before anyone has asked for them.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0023_pool"
    }
}

const STATEMENTS: [&str; 5] = [
    // What it can become (`pool/key.rs`), until somebody has it.
    "ALTER TABLE workspaces ADD COLUMN pool_key TEXT",
    // The id of the image that it was made from.
    "ALTER TABLE workspaces ADD COLUMN pool_image TEXT",
    "CREATE INDEX workspaces_by_pool ON workspaces (host_id, pool_key) WHERE pool_key IS NOT NULL",
    "CREATE INDEX workspaces_by_host_time ON workspaces (host_id, created_ms)",
    // Whose they are until then: nobody can sign in as this one, as no password has this hash.
    "INSERT INTO users (id, email, password_hash, role, created_ms) \
     VALUES ('00000000-0000-0000-0000-000000000000', 'pool@rexec.invalid', '', 'user', 0)",
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
