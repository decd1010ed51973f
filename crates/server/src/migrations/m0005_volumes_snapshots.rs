//! Homes that outlive their workspaces, and snapshots.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0005_volumes_snapshots"
    }
}

const STATEMENTS: [&str; 8] = [
    "CREATE TABLE volumes ( \
        id TEXT NOT NULL PRIMARY KEY, \
        owner_id TEXT NOT NULL, \
        workspace_id TEXT NOT NULL, \
        host_id TEXT, \
        name TEXT NOT NULL UNIQUE, \
        workspace_name TEXT NOT NULL, \
        state TEXT NOT NULL, \
        size_bytes BIGINT, \
        measured_ms BIGINT, \
        kept_ms BIGINT, \
        purge_after_ms BIGINT, \
        created_ms BIGINT NOT NULL \
    )",
    "CREATE INDEX volumes_by_owner ON volumes (owner_id, id)",
    "CREATE INDEX volumes_by_state ON volumes (state, purge_after_ms)",
    // Workspaces of before have a home each; its id may be theirs.
    "INSERT INTO volumes (id, owner_id, workspace_id, host_id, name, workspace_name, state, created_ms) \
     SELECT id, owner_id, id, host_id, volume, name, 'in_use', created_ms FROM workspaces WHERE deleted_ms IS NULL",
    "CREATE TABLE snapshots ( \
        id TEXT NOT NULL PRIMARY KEY, \
        owner_id TEXT NOT NULL, \
        workspace_id TEXT NOT NULL, \
        workspace_name TEXT NOT NULL, \
        host_id TEXT, \
        name TEXT NOT NULL, \
        state TEXT NOT NULL, \
        reason TEXT, \
        image_ref TEXT, \
        volume TEXT, \
        base_image TEXT NOT NULL, \
        plan_json TEXT NOT NULL, \
        image_bytes BIGINT NOT NULL DEFAULT 0, \
        home_bytes BIGINT NOT NULL DEFAULT 0, \
        pause_ms BIGINT, \
        created_ms BIGINT NOT NULL, \
        ready_ms BIGINT \
    )",
    "CREATE INDEX snapshots_by_owner ON snapshots (owner_id, id)",
    "CREATE INDEX snapshots_by_workspace ON snapshots (workspace_id, state)",
    // Whether anything began as a snapshot.
    "CREATE INDEX workspaces_by_source ON workspaces (source_snapshot)",
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
