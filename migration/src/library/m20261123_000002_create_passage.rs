//! Creates `passage`.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("passage")
            .col(big_pk_auto("id"))
            .col(text("topic"))
            .col(text_uniq("text"))
            .col(
                // 384 is what all-MiniLM-L6-v2 gives. The server refuses vectors of another length.
                ColumnDef::new_with_type("embedding", ColumnType::Vector(Some(384))).not_null(),
            )
            .to_owned();
        manager.create_table(table).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("passage").to_owned()).await
    }
}
