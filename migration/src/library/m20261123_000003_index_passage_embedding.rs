//! Indexes `passage.embedding` for the nearest by cosine distance (`<=>`).
//!
//! HNSW needs no training on data, so the index can be made while the table is empty.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let index = Index::create()
            .name("passage_embedding_idx")
            .table("passage")
            .index_type(IndexType::Custom("hnsw".into_iden()))
            .col("embedding".into_index_column().with_operator_class("vector_cosine_ops"))
            .to_owned();
        manager.create_index(index).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name("passage_embedding_idx").to_owned()).await
    }
}
