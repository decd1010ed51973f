//! What the SSH gateway proves itself with.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0014_ssh_host_keys"
    }
}

const STATEMENTS: [&str; 1] = [
    // One key of each kind, the same for every server on this database; its private half is encrypted.
    "CREATE TABLE ssh_host_keys ( \
        kind TEXT NOT NULL PRIMARY KEY, \
        public_key TEXT NOT NULL, \
        private_sealed TEXT NOT NULL, \
        created_ms BIGINT NOT NULL \
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
