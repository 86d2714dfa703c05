//! Accounts, and the migration that creates them. A project of your own has them in its crates `entity` and
//! `migration`.

use sea_orm::entity::prelude::*;
use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "account")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    #[sea_orm(column_type = "Text")]
    pub owner: String,
    pub cents: i64,
}

impl ActiveModelBehavior for ActiveModel {}

#[derive(Clone, Copy, Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(CreateAccount)]
    }
}

struct CreateAccount;

impl MigrationName for CreateAccount {
    fn name(&self) -> &str {
        "m20260101_000001_create_account"
    }
}

#[allow(elided_lifetimes_in_paths)] // async_trait takes `SchemaManager<'_>` for another signature
#[async_trait::async_trait]
impl MigrationTrait for CreateAccount {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("account")
            .col(big_pk_auto("id"))
            .col(text("owner"))
            .col(big_integer("cents").check(Expr::col("cents").gte(0)))
            .to_owned();
        manager.create_table(table).await?;
        let insert = "INSERT INTO account (owner, cents) \
                      SELECT 'owner ' || n, 10000 FROM generate_series(1, 25) AS n";
        manager.get_connection().execute_unprepared(insert).await.map(|_| ())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("account").to_owned()).await
    }
}
