//! What a sensor measured.

use sea_orm::{ConnectionTrait, entity::prelude::*};

use crate::support::TestDatabase;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "reading")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i32,
    #[sea_orm(column_type = "Text")]
    pub sensor: String,
    #[sea_orm(column_type = "Float")]
    pub value: Option<f32>,
    pub at: DateTimeWithTimeZone,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

pub use Entity as Reading;

/// A reading that is like no other.
pub fn reading(id: i32) -> Model {
    let at = DateTimeUtc::from_timestamp(1_700_000_000 + i64::from(id), 250_000_000).unwrap();
    let value = (id % 10 != 0).then_some(id as f32 / 4.0);
    Model { id, sensor: format!("sensor {}\t\\é\n", id % 100), value, at: at.into() }
}

/// A database with their table, empty.
pub async fn table() -> TestDatabase {
    let database = TestDatabase::new().await;
    let table = "CREATE TABLE reading (id serial PRIMARY KEY, sensor text NOT NULL, value real,
                     at timestamptz NOT NULL DEFAULT now())";
    database.pg().await.execute_unprepared(table).await.unwrap();
    database
}
