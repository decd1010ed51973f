//! How many workspaces a region may have.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0026_regions"
    }
}

// Only regions with a limit have a row.
const STATEMENT: &str = "CREATE TABLE regions ( \
        name TEXT NOT NULL PRIMARY KEY, \
        workspaces_max BIGINT NOT NULL, \
        changed_ms BIGINT NOT NULL \
    )";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(STATEMENT).await?;
        Ok(())
    }
}
