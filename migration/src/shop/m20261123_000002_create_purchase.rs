//! Creates `purchase`, many to a customer.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("purchase")
            .col(big_pk_auto("id"))
            .col(big_integer("customer_id"))
            .col(text("item"))
            .col(integer("quantity").check(Expr::col("quantity").gt(0)))
            .col(decimal_len("price", 12, 2))
            .col(timestamp_with_time_zone_default_now("created_at"))
            .foreign_key(
                ForeignKey::create()
                    .name("purchase_customer_id_fkey")
                    .from("purchase", "customer_id")
                    .to("customer", "id"),
            )
            .to_owned();
        manager.create_table(table).await?;
        // PostgreSQL indexes the referenced side alone; a customer's purchases are looked up by this.
        let index = Index::create()
            .name("purchase_customer_id_idx")
            .table("purchase")
            .col("customer_id")
            .to_owned();
        manager.create_index(index).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("purchase").to_owned()).await
    }
}
