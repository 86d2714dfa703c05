//! Two databases from one file, SeaORM entities, and sessions that keep their word.
//!
//! `cargo run --example quickstart` needs nothing but Rust: it starts the server of
//! `etc/infra.yaml`, and stops it in the end.

#![allow(clippy::print_stdout)]

use entity::{audit::event, shop::customer};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter, Set,
};
use sea_orm_migration::MigratorTrait;
use wharf::{Error, Manager};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt().without_time().with_target(false);
    log.with_env_filter("wharf=info,warn").init();

    let manager = Manager::open("etc/infra.yaml").await?;
    manager.start_pgserver().await?;

    let done = quickstart(&manager).await;

    manager.close().await;
    if let Some(server) = manager.pgserver() {
        server.stop().await?;
    }
    Ok(done?)
}

async fn quickstart(manager: &Manager) -> Result<(), Error> {
    migrate(manager).await?;

    // A Pg is a SeaORM connection, with a pool of its own.
    let shop = manager.db("shop")?;
    let audit = manager.db("audit")?;
    customer::Entity::delete_many().exec(&shop).await?;

    // A session that commits: the closure gave Ok.
    let ada = shop
        .session()
        .run(async |s| {
            customer("Grace Hopper", "grace@example.org").insert(s).await?;
            customer("Ada Lovelace", "ada@example.org").insert(s).await
        })
        .await?;
    event("customer added", &ada.email).insert(&audit).await?;
    println!("committed: {} customers", customer::Entity::find().count(&shop).await?);

    // One that rolls back: the second insert fails, so the first is not kept either.
    let twice = shop
        .session()
        .run(async |s| {
            customer("Katherine Johnson", "katherine@example.org").insert(s).await?;
            customer("Somebody else", "ada@example.org").insert(s).await
        })
        .await;
    match twice {
        Ok(model) => println!("inserted twice? {model:?}"),
        Err(error) => println!("rolled back: {}", one_line(&error)),
    }
    println!("still {} customers", customer::Entity::find().count(&shop).await?);

    // The entry `reports` says `readonly: true`: it reads …
    let reports = manager.db("reports")?;
    let found = customer::Entity::find()
        .filter(customer::Column::Name.eq("Ada Lovelace"))
        .one(&reports)
        .await?;
    println!("read-only finds {:?}", found.map(|customer| customer.email));

    // … and the server refuses that it writes, in a session as well.
    let refused =
        reports.session().run(async |s| customer("Eve", "eve@example.org").insert(s).await).await;
    match refused {
        Ok(model) => println!("a read-only session wrote? {model:?}"),
        Err(error) => println!("refused: {}", one_line(&error)),
    }

    for (name, health) in manager.health().await {
        match health {
            Ok(healthy) => println!("{name:8} PostgreSQL {}", healthy.server_version),
            Err(error) => println!("{name:8} {error}"),
        }
    }
    Ok(())
}

/// SeaORM's migrator names SeaORM's own connection: that is one call away, too.
async fn migrate(manager: &Manager) -> Result<(), Error> {
    let shop = manager.connection("shop")?;
    migration::shop::Migrator::up(&shop, None).await?;
    shop.close().await?;
    let audit = manager.connection("audit")?;
    migration::audit::Migrator::up(&audit, None).await?;
    audit.close().await?;
    Ok(())
}

fn customer(name: &str, email: &str) -> customer::ActiveModel {
    customer::ActiveModel {
        name: Set(name.to_owned()),
        email: Set(email.to_owned()),
        ..Default::default()
    }
}

fn event(kind: &str, email: &str) -> event::ActiveModel {
    event::ActiveModel {
        kind: Set(kind.to_owned()),
        detail: Set(sea_orm::JsonValue::from(email)),
        ..Default::default()
    }
}

fn one_line(error: &DbErr) -> String {
    error.to_string().lines().collect::<Vec<_>>().join(" ")
}
