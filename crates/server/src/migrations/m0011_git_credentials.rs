//! Credentials say what they are for: images, or repositories.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0011_git_credentials"
    }
}

const STATEMENTS: [&str; 3] = [
    // `image` or `git`.
    "ALTER TABLE registries ADD COLUMN purpose TEXT NOT NULL DEFAULT 'image'",
    "DROP INDEX registries_by_owner",
    "CREATE UNIQUE INDEX registries_by_purpose ON registries (purpose, owner, server)",
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
