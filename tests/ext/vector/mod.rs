//! pgvector.

mod distance;
mod hybrid;
mod index;
mod nearest;
mod types;

use sea_orm::{ConnectionTrait as _, DbBackend, EntityTrait as _, Set, Statement};
use wharf::{Pg, ext::vector::Vector, testing::TestDatabase};

use crate::support::{self, Image};

/// Small vectors, with something to filter by.
mod point {
    use sea_orm::entity::prelude::*;
    use wharf::ext::vector::Vector;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "point")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub rare: bool,
        pub at: Vector<64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A database with a table of points, each of which is near one of 20 centres; the rare ones, 1 in 100, are
/// all near the last of these.
async fn points(count: i32) -> Option<(TestDatabase, Pg)> {
    let database = support::database(Image::Vector).await?;
    let table =
        "CREATE TABLE point (id int PRIMARY KEY, rare bool NOT NULL, at vector(64) NOT NULL)";
    database.execute_unprepared(table).await.unwrap();
    // For a few rows the planner would rather read them all.
    let indexed = format!("ALTER DATABASE {} SET enable_seqscan = off", database.name());
    database.execute_unprepared(&indexed).await.unwrap();
    let (centres, mut dice) = (centres(), Dice(8));
    let points = (0..count).map(|id| {
        let rare = id % 100 == 99;
        let centre = if rare { 19 } else { id % 19 };
        let at = dice.around(&centres[centre as usize]);
        point::ActiveModel { id: Set(id), rare: Set(rare), at: Set(Vector::new(at).unwrap()) }
    });
    point::Entity::insert_many(points).exec(&*database).await.unwrap();
    let pg = Pg::from_url(&database.url()).await.unwrap();
    Some((database, pg))
}

fn centres() -> Vec<[f32; 64]> {
    let mut dice = Dice(7);
    (0..20).map(|_| dice.vector()).collect()
}

/// What is asked for: near one of the centres of what is not rare.
fn question(nth: u64) -> Vec<f32> {
    Dice(nth).around(&centres()[nth as usize % 19])
}

/// The same throws each time.
struct Dice(u64);

impl Dice {
    fn around(&mut self, centre: &[f32; 64]) -> Vec<f32> {
        centre.iter().zip(self.vector()).map(|(at, off)| at + off * 0.3).collect()
    }

    fn vector(&mut self) -> [f32; 64] {
        std::array::from_fn(|_| {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
    }
}

/// How the server would go about it.
async fn plan(db: &impl sea_orm::ConnectionTrait, statement: Statement) -> String {
    let sql = format!("EXPLAIN {}", statement.sql);
    let explain = Statement { sql, values: statement.values, db_backend: DbBackend::Postgres };
    let rows = db.query_all_raw(explain).await.unwrap();
    let lines = rows.iter().map(|row| row.try_get_by_index::<String>(0).unwrap());
    lines.collect::<Vec<_>>().join("\n")
}
