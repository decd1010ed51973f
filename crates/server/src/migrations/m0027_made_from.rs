//! What a workspace was made from, once it is of another image.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0027_made_from"
    }
}

// Of a workspace that has been moved, which has an image of its own since.
const STATEMENT: &str = "ALTER TABLE workspaces ADD COLUMN made_from TEXT";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(STATEMENT).await?;
        Ok(())
    }
}
