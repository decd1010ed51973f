//! What workspaces used of models.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0030_model_use"
    }
}

const STATEMENTS: [&str; 2] = [
    "CREATE TABLE model_use (owner_id TEXT NOT NULL, workspace_id TEXT NOT NULL, day_ms BIGINT NOT NULL, model TEXT NOT NULL, \
     requests BIGINT NOT NULL, estimated BIGINT NOT NULL, input BIGINT NOT NULL, cached BIGINT NOT NULL, \
     output BIGINT NOT NULL, PRIMARY KEY (workspace_id, day_ms, model))",
    "CREATE INDEX model_use_of_owner ON model_use (owner_id, day_ms)",
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
