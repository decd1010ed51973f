//! Secrets that workspaces use without having them.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0029_secrets"
    }
}

const STATEMENTS: [&str; 2] = [
    "CREATE TABLE secrets (owner_id TEXT NOT NULL, name TEXT NOT NULL, value_sealed TEXT NOT NULL, shape TEXT NOT NULL, hosts_json TEXT NOT NULL, \
     headers_json TEXT NOT NULL, created_ms BIGINT NOT NULL, value_set_ms BIGINT NOT NULL, used_ms BIGINT, \
     PRIMARY KEY (owner_id, name))",
    // By whose certificates a gateway reads a workspace's requests.
    "CREATE TABLE workspace_authorities (workspace_id TEXT NOT NULL PRIMARY KEY, certificate TEXT NOT NULL, \
     key_sealed TEXT NOT NULL)",
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
