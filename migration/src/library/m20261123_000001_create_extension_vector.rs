//! Creates the extension `vector`.
//!
//! pgvector must be installed on the server. Where the role may not create extensions, one who may
//! does it first, and this finds it there.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        db.execute_unprepared("CREATE EXTENSION IF NOT EXISTS vector").await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Without CASCADE: columns that others made of this type are not ours to drop.
        let db = manager.get_connection();
        db.execute_unprepared("DROP EXTENSION IF EXISTS vector").await?;
        Ok(())
    }
}
