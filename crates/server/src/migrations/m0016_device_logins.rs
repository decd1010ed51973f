//! Sign-ins of machines that wait for a person's decision.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0016_device_logins"
    }
}

const STATEMENTS: [&str; 1] = [
    // `device_hash` is the device code's SHA-256 in hexadecimal digits; `state` is pending, approved or denied.
    // A user stands there once one has approved, with the time at which the token to come runs out.
    "CREATE TABLE device_logins ( \
        device_hash TEXT NOT NULL PRIMARY KEY, \
        user_code TEXT NOT NULL UNIQUE, \
        client_name TEXT NOT NULL, \
        address TEXT NOT NULL, \
        state TEXT NOT NULL, \
        created_ms BIGINT NOT NULL, \
        expires_ms BIGINT NOT NULL, \
        interval_ms BIGINT NOT NULL, \
        asked_ms BIGINT, \
        user_id TEXT REFERENCES users (id) ON DELETE CASCADE, \
        token_expires_ms BIGINT \
    )",
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
