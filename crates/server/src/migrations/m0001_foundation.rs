//! Users, login sessions, settings, hosts, workspaces and events.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0001_foundation"
    }
}

/// Plain SQL that both databases read alike: TEXT ids, BIGINT milliseconds, JSON as TEXT.
const STATEMENTS: [&str; 12] = [
    "CREATE TABLE users (
        id TEXT NOT NULL PRIMARY KEY,
        email TEXT NOT NULL UNIQUE,
        name TEXT,
        password_hash TEXT NOT NULL,
        role TEXT NOT NULL,
        created_ms BIGINT NOT NULL
    )",
    "CREATE TABLE sessions (
        id TEXT NOT NULL PRIMARY KEY,
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        created_ms BIGINT NOT NULL,
        expires_ms BIGINT NOT NULL,
        last_used_ms BIGINT NOT NULL,
        revoked_ms BIGINT,
        user_agent TEXT,
        address TEXT
    )",
    "CREATE INDEX sessions_by_user ON sessions (user_id, created_ms)",
    "CREATE INDEX sessions_by_expiry ON sessions (expires_ms)",
    "CREATE TABLE settings (
        key TEXT NOT NULL PRIMARY KEY,
        value TEXT NOT NULL
    )",
    "CREATE TABLE hosts (
        id TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        address TEXT NOT NULL,
        region TEXT NOT NULL,
        state TEXT NOT NULL,
        total_cpu_milli BIGINT NOT NULL,
        total_memory_mb BIGINT NOT NULL,
        used_cpu_milli BIGINT NOT NULL,
        used_memory_mb BIGINT NOT NULL,
        created_ms BIGINT NOT NULL
    )",
    "CREATE TABLE workspaces (
        id TEXT NOT NULL PRIMARY KEY,
        owner_id TEXT NOT NULL REFERENCES users (id),
        name TEXT NOT NULL,
        image TEXT NOT NULL,
        runtime TEXT NOT NULL,
        cpu_milli BIGINT NOT NULL,
        memory_mb BIGINT NOT NULL,
        env_json TEXT NOT NULL,
        desired TEXT NOT NULL,
        status TEXT NOT NULL,
        status_reason TEXT,
        error_code TEXT,
        host_id TEXT REFERENCES hosts (id),
        generation BIGINT NOT NULL,
        boot_seq BIGINT NOT NULL,
        booted_seq BIGINT NOT NULL,
        volume TEXT NOT NULL,
        guest_key TEXT NOT NULL,
        created_ms BIGINT NOT NULL,
        updated_ms BIGINT NOT NULL,
        started_ms BIGINT,
        deleted_ms BIGINT
    )",
    "CREATE INDEX workspaces_by_owner ON workspaces (owner_id, created_ms)",
    "CREATE INDEX workspaces_by_host ON workspaces (host_id)",
    "CREATE TABLE events (
        id TEXT NOT NULL PRIMARY KEY,
        at_ms BIGINT NOT NULL,
        user_id TEXT,
        workspace_id TEXT,
        kind TEXT NOT NULL,
        data_json TEXT NOT NULL
    )",
    "CREATE INDEX events_by_user ON events (user_id, at_ms)",
    "CREATE INDEX events_by_workspace ON events (workspace_id, at_ms)",
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
