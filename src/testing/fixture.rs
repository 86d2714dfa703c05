//! What a test finds in its tables.

use std::collections::BTreeSet;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use serde_json::{Map, Value};

use crate::{error::Error, session::Session, sql};

type Row = Map<String, Value>;

/// Those of `$2` that a sequence fills.
const NUMBERED: &str = "
SELECT a.attname::text, pg_get_serial_sequence($1, a.attname)
  FROM pg_attribute a WHERE a.attrelid = $1::regclass AND a.attname = ANY($2)
   AND pg_get_serial_sequence($1, a.attname) IS NOT NULL";

/// Puts the rows of a text into their tables, in its order. The server reads each value as its column's
/// type would be written.
pub(super) async fn load(session: &Session, yaml: &str) -> Result<(), Error> {
    let tables: Map<String, Value> = serde_saphyr::from_str(yaml)
        .map_err(|error| DbErr::Custom(format!("the fixture is not valid YAML: {error}")))?;
    for (table, rows) in tables {
        let failed =
            |error: String| Error::from(DbErr::Custom(format!("fixture, table {table}: {error}")));
        let rows: Vec<Row> = serde_json::from_value(rows).map_err(|error| {
            failed(format!("it must be a list of rows, each `column: value`: {error}"))
        })?;
        // What a row does not name has its default.
        for alike in rows.chunk_by(|a, b| a.keys().eq(b.keys())) {
            insert(session, &table, alike).await.map_err(|error| failed(error.to_string()))?;
        }
        go_on(session, &table, &rows).await.map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

async fn insert(session: &Session, table: &str, rows: &[Row]) -> Result<(), DbErr> {
    let Some(first) = rows.first() else {
        return Ok(());
    };
    let table = quoted(table);
    let columns: Vec<String> = first.keys().map(|name| sql::quote_ident(name)).collect();
    let columns = columns.join(", ");
    let insert = match columns.is_empty() {
        true => format!("INSERT INTO {table} SELECT FROM jsonb_array_elements($1)"),
        false => format!(
            "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE
             SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, $1)"
        ),
    };
    let rows = serde_json::to_value(rows).map_err(|error| DbErr::Custom(error.to_string()))?;
    let rows = sea_orm::Value::Json(Some(Box::new(rows)));
    session
        .execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, insert, [rows]))
        .await?;
    Ok(())
}

/// Lets sequences go on behind the numbers that were given.
async fn go_on(session: &Session, table: &str, rows: &[Row]) -> Result<(), DbErr> {
    let given: BTreeSet<String> = rows.iter().flat_map(|row| row.keys().cloned()).collect();
    let given: Vec<String> = given.into_iter().collect();
    let table = quoted(table);
    let values = [table.clone().into(), given.into()];
    let numbered = Statement::from_sql_and_values(DbBackend::Postgres, NUMBERED, values);
    for row in session.query_all_raw(numbered).await? {
        let (column, sequence): (String, String) =
            (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let column = sql::quote_ident(&column);
        let set = format!("SELECT setval($1::regclass, max({column})) FROM {table}");
        let set = Statement::from_sql_and_values(DbBackend::Postgres, set, [sequence.into()]);
        session.query_one_raw(set).await?;
    }
    Ok(())
}

/// `shop.order`: a schema, if there is a dot, and a table.
fn quoted(table: &str) -> String {
    let parts = table.splitn(2, '.').map(sql::quote_ident);
    parts.collect::<Vec<_>>().join(".")
}
