//! Workspaces that move from one host to another.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0024_moves"
    }
}

const STATEMENTS: [&str; 4] = [
    // What its owner sees of its last move (`workspaces/moving`), until it has run at the new place.
    "ALTER TABLE workspaces ADD COLUMN move_json TEXT",
    // The id is also that of the home's other record, and of the image that is made at the new place.
    "CREATE TABLE moves ( \
        id TEXT NOT NULL PRIMARY KEY, \
        workspace_id TEXT NOT NULL, \
        from_host TEXT NOT NULL, \
        to_host TEXT NOT NULL, \
        from_volume TEXT NOT NULL, \
        to_volume TEXT NOT NULL, \
        from_snapshot TEXT NOT NULL, \
        from_generation BIGINT NOT NULL, \
        held_disk_mb BIGINT NOT NULL, \
        state TEXT NOT NULL, \
        created_ms BIGINT NOT NULL \
    )",
    "CREATE INDEX moves_by_workspace ON moves (workspace_id, state)",
    "CREATE INDEX moves_by_source ON moves (from_host, state)",
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
