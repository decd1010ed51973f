//! Machines that are made and removed with demand: each is recorded before it is asked for.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0022_elastic"
    }
}

const STATEMENTS: [&str; 1] = [
    // `id` is that of the host that it becomes.
    "CREATE TABLE elastic_machines (
        id TEXT PRIMARY KEY NOT NULL,
        name TEXT NOT NULL UNIQUE,
        region TEXT NOT NULL,
        state TEXT NOT NULL,
        provider_id BIGINT,
        action_id BIGINT,
        material_sealed TEXT,
        drained_ms BIGINT,
        created_ms BIGINT NOT NULL
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
