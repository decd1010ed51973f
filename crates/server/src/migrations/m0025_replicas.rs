//! Several servers on one database: who they are, and who of them looks after what.

use sea_orm_migration::prelude::*;

pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0025_replicas"
    }
}

const STATEMENTS: [&str; 3] = [
    // Of a host that one server alone reaches: which (`replicas.id`).
    "ALTER TABLE hosts ADD COLUMN replica TEXT",
    // `run` is another with each start; it counts as there until `until_ms`, by the database's clock.
    "CREATE TABLE replicas ( \
        id TEXT NOT NULL PRIMARY KEY, \
        run TEXT NOT NULL, \
        url TEXT, \
        version TEXT NOT NULL, \
        started_ms BIGINT NOT NULL, \
        until_ms BIGINT NOT NULL \
    )",
    // A lease is its holder's for as long as that counts as there; the epoch rises with each that takes it. `told` is what
    // the holder lets the others know of it.
    "CREATE TABLE leases ( \
        name TEXT NOT NULL PRIMARY KEY, \
        holder TEXT NOT NULL, \
        epoch BIGINT NOT NULL, \
        told TEXT \
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
