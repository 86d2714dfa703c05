//! A schema for each tenant, over one pool: made, migrated, used side by side, and dropped.
//!
//! `cargo run --example multi_tenant` needs nothing but Rust: it starts the server of
//! `etc/infra.yaml`, and stops it in the end.

#![allow(clippy::print_stdout)]

use entity::shop::customer;
use futures_util::future::try_join_all;
use migration::shop::Migrator;
use sea_orm::{ActiveModelTrait, EntityTrait, PaginatorTrait, Set};
use wharf::{Error, Manager, Pg};

const TENANTS: [&str; 3] = ["tenant_ada", "tenant_bob", "O'Neil & Sons; DROP TABLE customer"];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt().without_time().with_target(false);
    log.with_env_filter("wharf=warn").init();

    let manager = Manager::open("etc/infra.yaml").await?;
    manager.start_pgserver().await?;

    let done = tenants(&manager.db("shop")?).await;

    manager.close().await;
    if let Some(server) = manager.pgserver() {
        server.stop().await?;
    }
    Ok(done?)
}

async fn tenants(shop: &Pg) -> Result<(), Error> {
    // Each gets its schema and its own account of migrations; one that fails keeps none of the others
    // from it.
    println!("{}", shop.migrate::<Migrator>().schemas(TENANTS).await);

    // The same entity, the same few connections, and every tenant sees its own.
    let visits = (0..30).map(async |visit| {
        let tenant = shop.scoped(TENANTS[visit % TENANTS.len()])?;
        let session = tenant.session().await?;
        let name = format!("customer {visit}");
        let customer = customer::ActiveModel {
            email: Set(format!("{visit}@example.org")),
            name: Set(name),
            ..Default::default()
        };
        customer.insert(&session).await?;
        session.commit().await
    });
    try_join_all(visits).await?;
    for tenant in TENANTS {
        let customers = customer::Entity::find().count(&shop.scoped(tenant)?).await?;
        println!("{tenant}: {customers} customers");
    }
    let stats = shop.stats().writer;
    println!("{} connections were enough, of at most {}", stats.open, stats.max);

    for tenant in TENANTS {
        shop.drop_schema(tenant).await?;
    }
    Ok(())
}
