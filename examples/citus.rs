//! Invoices of many tenants, distributed by tenant, and currencies that every node has.
//!
//! `cargo run --example citus` starts the server of `etc/citus.yaml`, and stops it in the end. Where no Docker engine has
//! the image, it says so and ends. `CITUS_URL` names another server.

#![allow(clippy::print_stdout)]
// async_trait takes `SchemaManager<'_>` for another signature than the trait's own `SchemaManager`.
#![allow(elided_lifetimes_in_paths)]

use sea_orm::{
    ActiveModelTrait, ColumnTrait, DbBackend, DbErr, EntityTrait, FromQueryResult, QueryFilter,
    QueryOrder, QuerySelect, Schema, Set,
};
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};
use wharf::{
    Error, Manager, Pg,
    ext::citus::{self, DistributedTable, ReferenceTable},
};

mod currency {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "currency")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
        pub code: String,
        pub digits: i16,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

mod tenant {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "tenant")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        #[sea_orm(column_type = "Text")]
        pub name: String,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

mod invoice {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "invoice")]
    pub struct Model {
        // A distributed table's primary key contains its distribution column.
        #[sea_orm(primary_key, auto_increment = false)]
        pub tenant_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub number: i64,
        #[sea_orm(column_type = "Text")]
        pub currency_code: String,
        pub amount: i64,
        #[sea_orm(belongs_to, from = "tenant_id", to = "id")]
        pub tenant: BelongsTo<super::tenant::Entity>,
        #[sea_orm(belongs_to, from = "currency_code", to = "code")]
        pub currency: BelongsTo<super::currency::Entity>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(CreateInvoice)]
    }
}

struct CreateInvoice;

impl MigrationName for CreateInvoice {
    fn name(&self) -> &str {
        "m20261128_000001_create_invoice"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for CreateInvoice {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let schema = Schema::new(DbBackend::Postgres);
        manager.create_table(schema.create_table_from_entity(currency::Entity)).await?;
        manager.create_table(schema.create_table_from_entity(tenant::Entity)).await?;
        manager.create_table(schema.create_table_from_entity(invoice::Entity)).await?;

        // Those first that foreign keys refer to.
        let db = manager.get_connection();
        ReferenceTable::new(currency::Entity).create(db).await?;
        DistributedTable::new(tenant::Entity, tenant::Column::Id).create(db).await?;
        DistributedTable::new(invoice::Entity, invoice::Column::TenantId)
            .colocate_with(tenant::Entity)
            .create(db)
            .await
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt().without_time().with_target(false);
    log.with_env_filter("wharf=info,warn").init();

    if let Ok(url) = std::env::var("CITUS_URL") {
        let pg = Pg::from_url(&url).await?;
        let done = billing(&pg).await;
        pg.close().await?;
        return Ok(done?);
    }
    let manager = Manager::open("etc/citus.yaml").await?;
    if let Err(error) = manager.start_pgserver().await {
        println!("the example did not run, because there is no server with Citus: {error}");
        return Ok(());
    }

    let done = billing(&manager.db("billing")?).await;

    manager.close().await;
    if let Some(server) = manager.pgserver() {
        server.stop().await?;
    }
    Ok(done?)
}

#[derive(FromQueryResult)]
struct Total {
    name: String,
    currency_code: String,
    amount: i64,
}

pub(crate) async fn billing(pg: &Pg) -> Result<(), Error> {
    pg.migrate::<Migrator>().await?;
    match citus::version(pg).await? {
        Some(version) => println!("Citus {version}"),
        None => println!("no Citus here: the same tables, all on this server"),
    }
    fill(pg).await?;

    // Served by one node, because the query names the tenant.
    let due = invoice::Entity::find().filter(invoice::Column::TenantId.eq(2));
    let due = due.order_by_asc(invoice::Column::Number).all(pg).await?;
    println!("{} invoices of tenant 2, the last of {}", due.len(), due[due.len() - 1].amount);

    // Served by all nodes: each joins its own tenants and invoices, because they are colocated.
    let totals = invoice::Entity::find()
        .select_only()
        .column(tenant::Column::Name)
        .column(invoice::Column::CurrencyCode)
        .column_as(invoice::Column::Amount.max(), "amount")
        .inner_join(tenant::Entity)
        .group_by(tenant::Column::Name)
        .group_by(invoice::Column::CurrencyCode)
        .order_by_asc(tenant::Column::Name)
        .order_by_asc(invoice::Column::CurrencyCode)
        .into_model::<Total>()
        .all(pg)
        .await?;
    for Total { name, currency_code, amount } in totals {
        println!("  {name:8} {amount:>6} {currency_code} at most");
    }
    Ok(())
}

/// Two currencies, three tenants, ten invoices of each, in place of what was there.
async fn fill(pg: &Pg) -> Result<(), Error> {
    pg.session()
        .run(async |s| {
            invoice::Entity::delete_many().exec(s).await?;
            tenant::Entity::delete_many().exec(s).await?;
            currency::Entity::delete_many().exec(s).await?;
            for (code, digits) in [("EUR", 2), ("JPY", 0)] {
                let currency =
                    currency::ActiveModel { code: Set(code.to_owned()), digits: Set(digits) };
                currency.insert(s).await?;
            }
            for (id, name) in [(1, "Ada"), (2, "Grace"), (3, "Edsger")] {
                let tenant = tenant::ActiveModel { id: Set(id), name: Set(name.to_owned()) };
                tenant.insert(s).await?;
                let invoices = (1..=10).map(|number| invoice::ActiveModel {
                    tenant_id: Set(id),
                    number: Set(number),
                    currency_code: Set(if number % 2 == 0 { "EUR" } else { "JPY" }.to_owned()),
                    amount: Set(id * 1000 + number),
                });
                invoice::Entity::insert_many(invoices).exec(s).await?;
            }
            Ok::<_, DbErr>(())
        })
        .await
        .map_err(Error::from)
}
