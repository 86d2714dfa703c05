//! Tests with a database each: run them by `cargo test --example testing`, or, as a program,
//! `cargo run --example testing`, which shows what one costs.
//!
//! The server is `TEST_DATABASE_URL`, or one that is started for all tests and stays.

#![allow(clippy::print_stdout, missing_docs)]

use std::time::Instant;

use entity::shop::customer;
use migration::shop::Migrator;
use sea_orm::{EntityTrait, PaginatorTrait};
use wharf::{Error, testing::TestDatabase};

const SHOP: &str = "
customer:
  - {id: 1, name: Ada, email: ada@example.org}
  - {id: 2, name: Grace, email: grace@example.org}
purchase:
  - {customer_id: 1, item: compass, quantity: 1, price: 49.90}
  - {customer_id: 1, item: chart, quantity: 2, price: 12.50}
";

#[tokio::main]
async fn main() -> Result<(), Error> {
    for what in ["the first, which migrates the template", "the second", "the third"] {
        let begun = Instant::now();
        let database = TestDatabase::new::<Migrator>().await?;
        let made = begun.elapsed();
        database.load_yaml(SHOP).await?;
        let customers = customer::Entity::find().count(&*database).await?;
        println!("{what}: {} in {made:.0?}, {customers} customers", database.name());
    }
    let begun = Instant::now();
    let all = (0..40).map(async |_| {
        let database = TestDatabase::new::<Migrator>().await?;
        database.load_yaml(SHOP).await
    });
    futures_util::future::try_join_all(all).await?;
    println!("40 at once, filled and dropped, in {:.0?}", begun.elapsed());
    Ok(())
}

#[cfg(test)]
mod tests {
    use entity::shop::purchase;
    use sea_orm::{ActiveModelTrait, Set};
    use wharf::Pg;

    use super::*;

    #[wharf::test(Migrator)]
    async fn a_customer_has_purchases(database: &TestDatabase) -> Result<(), Error> {
        database.load_yaml(SHOP).await?;
        let ada = customer::Entity::find_by_id(1).find_with_related(purchase::Entity);
        let found = ada.all(&**database).await?;
        assert_eq!(found[0].1.len(), 2);
        Ok(())
    }

    #[wharf::test(Migrator)]
    async fn nobody_sees_what_another_test_did(pg: Pg) -> Result<(), Error> {
        let ada = customer::ActiveModel {
            name: Set("Ada".to_owned()),
            email: Set("ada@example.org".to_owned()),
            ..Default::default()
        };
        ada.insert(&pg).await?;
        assert_eq!(customer::Entity::find().count(&pg).await?, 1);
        Ok(())
    }
}
