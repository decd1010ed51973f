//! API tokens.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0012_api_tokens"
    }
}

const STATEMENTS: [&str; 2] = [
    // `hash` is the token's SHA-256 in hexadecimal digits; `scopes` and `workspaces` are words with spaces between.
    // `workspaces` is NULL where the token is not limited, `expires_ms` where it has no end.
    "CREATE TABLE api_tokens ( \
        id TEXT NOT NULL PRIMARY KEY, \
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE, \
        name TEXT NOT NULL, \
        hash TEXT NOT NULL UNIQUE, \
        hint TEXT NOT NULL, \
        scopes TEXT NOT NULL, \
        workspaces TEXT, \
        created_ms BIGINT NOT NULL, \
        expires_ms BIGINT, \
        last_used_ms BIGINT \
    )",
    "CREATE INDEX api_tokens_by_user ON api_tokens (user_id)",
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
