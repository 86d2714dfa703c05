//! What a test finds in its tables.

use std::{collections::BTreeSet, rc::Rc};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use crate::{
    config::yaml::{self, Kind, Node, Place},
    error::Error,
    json,
    session::Session,
    sql,
};

/// The columns of a row, each with its value as JSON.
type Row = Vec<(String, String)>;

/// Those of `$2` that a sequence fills.
const NUMBERED: &str = "
SELECT a.attname::text, pg_get_serial_sequence($1, a.attname)
  FROM pg_attribute a WHERE a.attrelid = $1::regclass AND a.attname = ANY($2)
   AND pg_get_serial_sequence($1, a.attname) IS NOT NULL";

/// Puts the rows of a text into their tables, in its order. The server reads each value as its column's
/// type would be written.
pub(super) async fn load(session: &Session, yaml: &str) -> Result<(), Error> {
    for (table, rows) in tables(yaml)? {
        let failed =
            |error: DbErr| Error::from(DbErr::Custom(format!("fixture, table {table}: {error}")));
        let names = |row: &Row| row.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        // What a row does not name has its default.
        for alike in rows.chunk_by(|a, b| names(a) == names(b)) {
            insert(session, &table, alike).await.map_err(failed)?;
        }
        go_on(session, &table, &rows).await.map_err(failed)?;
    }
    Ok(())
}

/// Returns the tables with their rows. Numbers keep every digit.
fn tables(yaml: &str) -> Result<Vec<(String, Vec<Row>)>, DbErr> {
    let root = yaml::parse(yaml, &Place::File("fixture".into()))
        .map_err(|error| DbErr::Custom(format!("the fixture is not valid YAML: {error}")))?;
    let mut tables = Vec::new();
    let Some(entries) = entries(&root) else {
        return Err(DbErr::Custom("the fixture must be a map of tables".to_owned()));
    };
    for (table, rows) in entries {
        let refused = || {
            let line = rows.line;
            let error = format!("line {line}: it must be a list of rows, each `column: value`");
            DbErr::Custom(format!("fixture, table {table}: {error}"))
        };
        let Kind::List(list) = &rows.kind else { return Err(refused()) };
        let mut read = Vec::new();
        for row in list {
            let columns = self::entries(row).ok_or_else(refused)?;
            read.push(columns.into_iter().map(|(name, value)| (name, json_of(&value))).collect());
        }
        tables.push((table, read));
    }
    Ok(tables)
}

/// Returns the entries of a map, with those of the maps merged into it (`<<`); its own take precedence.
fn entries(node: &Node) -> Option<Vec<(String, Rc<Node>)>> {
    let Kind::Map(map) = &node.kind else { return None };
    let mut entries: Vec<(String, Rc<Node>)> = Vec::new();
    let mut merged = Vec::new();
    for (key, value) in map {
        match (&key.text, &value.kind) {
            (Some(_), Kind::List(all)) if key.merge => merged.extend(all.iter().cloned()),
            (Some(_), _) if key.merge => merged.push(Rc::clone(value)),
            (Some(name), _) => entries.push((name.clone(), Rc::clone(value))),
            (None, _) => return None,
        }
    }
    for of in merged {
        for (name, value) in self::entries(&of)? {
            if entries.iter().all(|(known, _)| *known != name) {
                entries.push((name, value));
            }
        }
    }
    Some(entries)
}

/// Returns a value as JSON. A scalar without quotes is a number or a boolean if it looks like one.
fn json_of(node: &Node) -> String {
    match &node.kind {
        Kind::Null => "null".to_owned(),
        Kind::Scalar(text) if node.plain => match text.as_str() {
            "true" | "True" | "TRUE" => "true".to_owned(),
            "false" | "False" | "FALSE" => "false".to_owned(),
            ".inf" | ".Inf" | ".INF" => json::string("Infinity"),
            "-.inf" | "-.Inf" | "-.INF" => json::string("-Infinity"),
            ".nan" | ".NaN" | ".NAN" => json::string("NaN"),
            number if json::is_number(number) => number.to_owned(),
            text => json::string(text),
        },
        Kind::Scalar(text) => json::string(text),
        Kind::List(items) => json::array(items.iter().map(|item| json_of(item))),
        Kind::Map(_) => {
            let entries = entries(node).unwrap_or_default();
            json::object(entries.iter().map(|(name, value)| (name.as_str(), json_of(value))))
        }
    }
}

async fn insert(session: &Session, table: &str, rows: &[Row]) -> Result<(), DbErr> {
    let Some(first) = rows.first() else {
        return Ok(());
    };
    let table = quoted(table);
    let columns: Vec<String> = first.iter().map(|(name, _)| sql::quote_ident(name)).collect();
    let columns = columns.join(", ");
    let insert = match columns.is_empty() {
        true => format!("INSERT INTO {table} SELECT FROM jsonb_array_elements($1::text::jsonb)"),
        false => format!(
            "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE
             SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, $1::text::jsonb)"
        ),
    };
    let object =
        |row: &Row| json::object(row.iter().map(|(name, value)| (name.as_str(), value.clone())));
    let rows = json::array(rows.iter().map(object));
    session
        .execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, insert, [rows.into()]))
        .await?;
    Ok(())
}

/// Advances sequences past the numbers that were given. No sequence is lowered or set to a number outside of its range.
async fn go_on(session: &Session, table: &str, rows: &[Row]) -> Result<(), DbErr> {
    let given: BTreeSet<String> =
        rows.iter().flat_map(|row| row.iter().map(|(name, _)| name.clone())).collect();
    let given: Vec<String> = given.into_iter().collect();
    let table = quoted(table);
    let values = [table.clone().into(), given.into()];
    let numbered = Statement::from_sql_and_values(DbBackend::Postgres, NUMBERED, values);
    for row in session.query_all_raw(numbered).await? {
        let (column, sequence): (String, String) =
            (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let column = sql::quote_ident(&column);
        let set = format!(
            "SELECT setval(seqrelid::regclass, most)
               FROM (SELECT max({column}) AS most FROM {table}) given, pg_sequence
              WHERE seqrelid = $1::regclass AND most BETWEEN seqmin AND seqmax
                AND most > coalesce(pg_sequence_last_value(seqrelid), seqmin - 1)"
        );
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_with_every_digit_and_quotes_make_a_text() {
        let yaml = "
t:
  - {a: 12345678901234567890.10, b: \"1\", c: 01234, d: -0.5e3, e: ~, f: yes, g: True}
  - {a: [1, x], b: {k: 'it''s \"so\"'}, c: \"a\\nb\", d: .nan, e: 1_000, f: +5}
";
        let tables = tables(yaml).unwrap();
        let values = |row: usize| -> Vec<&str> {
            tables[0].1[row].iter().map(|(_, value)| value.as_str()).collect()
        };
        assert_eq!(
            values(0),
            ["12345678901234567890.10", "\"1\"", "\"01234\"", "-0.5e3", "null", "\"yes\"", "true"]
        );
        let text = r#"{"k":"it's \"so\""}"#;
        assert_eq!(values(1), ["[1,\"x\"]", text, r#""a\nb""#, "\"NaN\"", "\"1_000\"", "\"+5\""]);
    }

    #[test]
    fn what_is_merged_is_there_and_the_rows_own_holds() {
        let yaml = "t:\n  - &ada {id: 1, name: Ada}\n  - {<<: *ada, id: 2}\n";
        let rows = &tables(yaml).unwrap()[0].1;
        let own: Vec<_> = rows[1].iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(own, [("id", "2"), ("name", "\"Ada\"")]);
    }
}
