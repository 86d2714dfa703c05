//! The capitals of Europe on a map: the nearest to a place, those within a distance, those in a polygon, and
//! GeoJSON of them.
//!
//! `cargo run --example postgis` starts the server of `etc/postgis.yaml`, and stops it in the end.

#![allow(clippy::print_stdout)]
// async_trait takes `SchemaManager<'_>` for another signature than the trait's own `SchemaManager`.
#![allow(elided_lifetimes_in_paths)]

use geo_types::{Point, polygon};
use sea_orm::{
    DbBackend, DbErr, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect, Schema,
    Set,
    sea_query::{Index, IndexType},
};
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};
use wharf::{
    Error, Manager, Pg,
    ext::postgis::{Geography, SpatialExpr},
};

mod capital {
    use sea_orm::entity::prelude::*;
    use wharf::ext::postgis::Geography;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "capital")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
        pub name: String,
        /// geography(Point,4326): longitude and latitude; distances are in metres.
        pub place: Geography<4326, geo_types::Point>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

use capital::Column::{Name, Place};

const CAPITALS: [(&str, f64, f64); 20] = [
    ("Amsterdam", 4.9041, 52.3676),
    ("Athens", 23.7275, 37.9838),
    ("Berlin", 13.4050, 52.5200),
    ("Bern", 7.4474, 46.9480),
    ("Bratislava", 17.1077, 48.1486),
    ("Brussels", 4.3517, 50.8503),
    ("Budapest", 19.0402, 47.4979),
    ("Copenhagen", 12.5683, 55.6761),
    ("Dublin", -6.2603, 53.3498),
    ("Helsinki", 24.9384, 60.1699),
    ("Lisbon", -9.1393, 38.7223),
    ("Ljubljana", 14.5058, 46.0569),
    ("London", -0.1276, 51.5072),
    ("Madrid", -3.7038, 40.4168),
    ("Oslo", 10.7522, 59.9139),
    ("Paris", 2.3522, 48.8566),
    ("Prague", 14.4378, 50.0755),
    ("Rome", 12.4964, 41.9028),
    ("Vienna", 16.3738, 48.2082),
    ("Warsaw", 21.0122, 52.2297),
];

struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(CreateCapital)]
    }
}

struct CreateCapital;

impl MigrationName for CreateCapital {
    fn name(&self) -> &str {
        "m20261125_000001_create_capital"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for CreateCapital {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Schema::new(DbBackend::Postgres).create_table_from_entity(capital::Entity);
        manager.create_table(table).await?;
        let gist = Index::create()
            .name("capital_place")
            .table(capital::Entity)
            .col(Place)
            .index_type(IndexType::Custom("gist".into()))
            .to_owned();
        manager.create_index(gist).await
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt().without_time().with_target(false);
    log.with_env_filter("wharf=info,warn").init();

    let manager = Manager::open("etc/postgis.yaml").await?;
    manager.start_pgserver().await?;

    let done = map(&manager.db("atlas")?).await;

    manager.close().await;
    if let Some(server) = manager.pgserver() {
        server.stop().await?;
    }
    Ok(done?)
}

#[derive(FromQueryResult)]
struct Near {
    name: String,
    metres: f64,
}

async fn map(pg: &Pg) -> Result<(), Error> {
    pg.migrate::<Migrator>().await?;
    load(pg).await?;

    let munich = Geography::<4326, Point>::new((11.5820, 48.1351))?;
    let nearest = capital::Entity::find()
        .select_only()
        .column(Name)
        .column_as(Place.st_distance(munich.clone()), "metres")
        .order_by_asc(Place.knn_distance(munich.clone()))
        .limit(5);
    println!("nearest to Munich:");
    for Near { name, metres } in nearest.into_model::<Near>().all(pg).await? {
        println!("  {:4.0} km  {name}", metres / 1_000.0);
    }

    let within = capital::Entity::find()
        .filter(Place.st_dwithin(munich, 400_000.0))
        .order_by_asc(Name)
        .all(pg)
        .await?;
    println!("within 400 km: {}", names(&within));

    let alps = polygon![
        (x: 5.5, y: 44.0), (x: 8.0, y: 43.8), (x: 15.5, y: 45.5), (x: 16.8, y: 48.3), (x: 9.5, y: 48.0), (x: 6.0, y: 47.5),
    ];
    let alps = Geography::<4326>::new(alps)?;
    let inside = capital::Entity::find()
        .filter(Place.st_intersects(alps))
        .order_by_asc(Name)
        .all(pg)
        .await?;
    println!("in and around the Alps: {}", names(&inside));
    for capital in &inside {
        println!("  {}", capital.place.geojson()?);
    }

    // Longitude comes first; PostGIS would take this for a place in another hemisphere.
    if let Err(error) = Geography::<4326, Point>::new((35.6762, 139.6503)) {
        println!("Tokyo? {error}");
    }
    Ok(())
}

async fn load(pg: &Pg) -> Result<(), Error> {
    let mut rows = Vec::new();
    for (name, longitude, latitude) in CAPITALS {
        let place = Geography::new((longitude, latitude))?;
        rows.push(capital::ActiveModel { name: Set(name.to_owned()), place: Set(place) });
    }
    pg.session()
        .run(async |s| {
            capital::Entity::delete_many().exec(s).await?;
            capital::Entity::insert_many(rows).exec(s).await
        })
        .await?;
    Ok(())
}

fn names(capitals: &[capital::Model]) -> String {
    capitals.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ")
}
