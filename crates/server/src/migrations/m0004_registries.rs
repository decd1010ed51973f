//! Credentials for private registries.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0004_registries"
    }
}

const STATEMENTS: [&str; 2] = [
    // `owner` is a user's id, or empty: for everyone.
    "CREATE TABLE registries ( \
        id TEXT NOT NULL PRIMARY KEY, \
        owner TEXT NOT NULL, \
        server TEXT NOT NULL, \
        username TEXT NOT NULL, \
        password_sealed TEXT NOT NULL, \
        created_ms BIGINT NOT NULL \
    )",
    "CREATE UNIQUE INDEX registries_by_owner ON registries (owner, server)",
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
