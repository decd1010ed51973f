//! Public SSH keys of users.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0013_ssh_keys"
    }
}

const STATEMENTS: [&str; 2] = [
    // `blob` is the key as it goes over the wire, in base64; `fingerprint` is its hash, so one key has one account.
    "CREATE TABLE ssh_keys ( \
        id TEXT NOT NULL PRIMARY KEY, \
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE, \
        name TEXT NOT NULL, \
        kind TEXT NOT NULL, \
        blob TEXT NOT NULL, \
        fingerprint TEXT NOT NULL UNIQUE, \
        created_ms BIGINT NOT NULL, \
        last_used_ms BIGINT \
    )",
    "CREATE INDEX ssh_keys_by_user ON ssh_keys (user_id)",
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
