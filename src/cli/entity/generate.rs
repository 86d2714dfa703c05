//! SeaORM's generator, on a database that has its tables.

use sea_orm_codegen::{
    BannerVersion, BigIntegerType, DateTimeCrate, EntityFormat, EntityTransformer,
    EntityWriterContext, OutputFile, WithPrelude, WithSerde,
};
use sea_schema::postgres::def::{ArrayDef, Schema, Type};
use sea_schema::postgres::discovery::SchemaDiscovery;

use super::catalog::{Catalog, Typed};
use super::patch;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::pool::SeaOrm;
use crate::{Error, Pg};

/// The files of a database's entities, by name.
pub(super) async fn files(
    pg: &Pg,
    serde: bool,
    lib: bool,
) -> Result<Vec<(String, String)>, Failure> {
    let to = pg.database().connect_to(false).await?;
    let sea_orm = SeaOrm::connect_to(&to).await?;
    let connection = sea_orm.connection();
    let pool = connection.get_postgres_connection_pool().clone();
    let files = async {
        let failed =
            |error: sqlx::Error| Failure::Failed(format!("cannot read the tables: {error}"));
        let schema: String = sqlx::query_scalar("SELECT current_schema()::text")
            .fetch_one(&pool)
            .await
            .map_err(failed)?;
        let catalog = Catalog::read(&pool).await.map_err(failed)?;
        // The generator panics at what it has not heard of.
        let reading = async move {
            let schema = SchemaDiscovery::new(pool, &schema).discover().await.map_err(failed)?;
            written(schema, &catalog, serde, lib)
        };
        tokio::spawn(reading).await.unwrap_or_else(|error| {
            Err(Failure::Failed(format!("sea-orm-codegen failed on these tables: {error}")))
        })
    };
    let files = files.await;
    sea_orm.close().await;
    files
}

fn written(
    schema: Schema,
    catalog: &Catalog,
    serde: bool,
    lib: bool,
) -> Result<Vec<(String, String)>, Failure> {
    let mut tables = Vec::new();
    for mut table in schema.tables {
        if !catalog.tables.contains(&table.info.name) {
            continue;
        }
        if table.primary_key_constraints.is_empty() {
            let name = &table.info.name;
            out::note(format_args!(
                "table {name} gets no entity, because it has no primary key, which SeaORM needs"
            ));
            continue;
        }
        // Nobody writes those.
        table.columns.retain(|column| column.generated.is_none());
        // A partial one does not make a column unique.
        table.unique_constraints.retain(|constraint| !constraint.is_partial);
        for column in &mut table.columns {
            let key = (table.info.name.clone(), column.name.clone());
            match catalog.columns.get(&key) {
                Some(Typed::Text { array: true, .. }) => {
                    let text = Some(Type::Text.into());
                    column.col_type = Type::Array(ArrayDef { col_type: text });
                }
                Some(Typed::Text { .. }) => column.col_type = Type::Text,
                Some(Typed::Vector(_)) | None => {}
            }
        }
        tables.push(table.write());
    }
    let serde = if serde { WithSerde::Both } else { WithSerde::None };
    let nothing = Vec::new;
    let context = EntityWriterContext::new(
        EntityFormat::Dense,
        WithPrelude::All,
        serde,
        false,
        DateTimeCrate::Chrono,
        BigIntegerType::I64,
        None,
        lib,
        false,
        false,
        nothing(),
        nothing(),
        nothing(),
        nothing(),
        nothing(),
        false,
        true,
        BannerVersion::Minor,
    );
    let writer = EntityTransformer::transform(tables)
        .map_err(|error| Failure::Failed(format!("sea-orm-codegen: {error}")))?;
    let files = writer.generate(&context).files.into_iter();
    files
        .map(|OutputFile { name, content }| Ok((name, patch::patched(&content, catalog)?)))
        .collect()
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Failure {
        Failure::from(Error::from(sea_orm::DbErr::Query(sea_orm::RuntimeErr::SqlxError(
            error.into(),
        ))))
    }
}
