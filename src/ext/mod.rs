//! What PostgreSQL's extensions add, for entities and queries.

pub mod citus;
#[cfg(feature = "postgis")]
pub mod postgis;
pub mod timescale;
#[cfg(feature = "vector")]
pub mod vector;

use sea_orm::sea_query::{SchemaName, TableName, TableRef};

use crate::sql::quote_ident;

/// A table's name with its schema's, if it has one, for people; and quoted, as an identifier.
fn names_of(table: &TableRef) -> (String, String) {
    let (schema, name) = match table {
        TableRef::Table(TableName(schema, name), _) => {
            (schema.as_ref().map(|SchemaName(_, name)| name.to_string()), name.to_string())
        }
        // No table is named so, which the server will say.
        other => (None, other.sea_orm_table().to_string()),
    };
    let parts = || schema.iter().chain([&name]);
    let quoted = parts().map(|part| quote_ident(part)).collect::<Vec<_>>().join(".");
    (parts().map(String::as_str).collect::<Vec<_>>().join("."), quoted)
}
