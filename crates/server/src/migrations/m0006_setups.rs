//! What runs once after a workspace's first start, step by step.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0006_setups"
    }
}

const STATEMENTS: [&str; 2] = [
    "CREATE TABLE setups ( \
        workspace_id TEXT NOT NULL, \
        position BIGINT NOT NULL, \
        kind TEXT NOT NULL, \
        name TEXT NOT NULL, \
        command TEXT NOT NULL, \
        cwd TEXT, \
        timeout_s BIGINT NOT NULL, \
        state TEXT NOT NULL, \
        exit_code BIGINT, \
        reason TEXT, \
        output TEXT NOT NULL, \
        terminal_id TEXT, \
        started_ms BIGINT, \
        ended_ms BIGINT, \
        PRIMARY KEY (workspace_id, position) \
    )",
    "CREATE INDEX setups_by_state ON setups (state)",
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
