//! By which key an engine's machine is known that is reached through SSH.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0018_host_keys"
    }
}

/// The key's line, as `ssh-keyscan` has it after the name; null until a connection has shown one.
const STATEMENT: &str = "ALTER TABLE hosts ADD COLUMN host_key TEXT";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(STATEMENT).await?;
        Ok(())
    }
}
