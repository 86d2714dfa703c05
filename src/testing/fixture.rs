//! What a test finds in its tables.

use std::{collections::HashMap, rc::Rc};

use futures_util::future::{BoxFuture, FutureExt as _};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use crate::{
    config::yaml::{self, Kind, Node, Place},
    error::{Error, text},
    json,
    session::Session,
    sql,
};

/// The columns of a row, each with its value.
type Row = Vec<(String, Value)>;

/// A value as it is written.
#[derive(Debug)]
enum Value {
    Null,
    /// `plain`: without quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Value>),
    Map(Row),
}

/// How the server is given the values of a column.
#[derive(Debug)]
enum Reads {
    /// As what YAML makes of them: numbers, booleans, lists, maps.
    Json,
    /// A number as one, so that `1e3` is an integer; all else as it is written.
    Number,
    /// As it is written, which is what the column's type reads: `00501`, `NO`, `1.10`.
    Written,
    List(Box<Reads>),
    /// A composite type's attributes.
    Row(HashMap<String, Reads>),
}

/// The columns of a relation: what each is made of (a domain's base), and of an array its elements.
const COLUMNS: &str = "
WITH RECURSIVE base AS (
    SELECT attname::text AS name, atttypid AS type FROM pg_attribute
     WHERE attrelid = $1::text::oid AND attnum > 0 AND NOT attisdropped
  UNION ALL
    SELECT name, typbasetype FROM base JOIN pg_type ON oid = type WHERE typtype = 'd'
)
SELECT name, t.typcategory::text, t.typname::text, t.typrelid::int8,
       e.typcategory::text, e.typname::text, e.typrelid::int8
  FROM base
  JOIN pg_type t ON t.oid = type AND t.typtype <> 'd'
  LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'";

/// The whole numbers of a table that a sequence gives: an identity, or a default that asks one.
const NUMBERED: &str = "
SELECT DISTINCT a.attname::text, s.seqrelid::int8
  FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
  JOIN pg_depend o ON (o.classid, o.objid) = ('pg_attrdef'::regclass, d.oid)
                      AND o.refclassid = 'pg_class'::regclass
                   OR (o.refclassid, o.refobjid, o.refobjsubid)
                      = ('pg_class'::regclass, a.attrelid, a.attnum)
                      AND o.classid = 'pg_class'::regclass AND o.deptype = 'i'
  JOIN pg_sequence s ON s.seqrelid IN (o.objid, o.refobjid)
 WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped
   AND coalesce(nullif(t.typbasetype, 0), t.oid) IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)";

/// The foreign keys between tables, as their places in a list, that are checked before the list is loaded.
const REFERENCES: &str = "
WITH loaded AS (SELECT name::regclass AS id, at FROM unnest($1::text[]) WITH ORDINALITY AS l(name, at))
SELECT conrelid::regclass::text, conname::text
  FROM pg_constraint
  JOIN loaded one ON one.id = conrelid
  JOIN loaded other ON other.id = confrelid
 WHERE contype = 'f' AND conparentid = 0 AND NOT condeferrable AND other.at >= one.at";

/// Puts the rows of a text into their tables, in its order. The server reads each value as its column's type would be
/// written. Rows may refer to rows that come later.
pub(super) async fn load(session: &Session, yaml: &str) -> Result<(), Error> {
    let tables = tables(yaml)?;
    let references = references(session, &tables).await?;
    for (table, constraint) in &references {
        alter(session, table, constraint, "DEFERRABLE INITIALLY DEFERRED").await?;
    }
    session.execute_unprepared("SET CONSTRAINTS ALL DEFERRED").await?;
    for (table, rows) in &tables {
        let failed = |error: DbErr| {
            Error::from(DbErr::Custom(format!("fixture, table {table}: {}", text(&error))))
        };
        let columns = columns(session, table).await.map_err(failed)?;
        let names = |row: &Row| row.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        // What a row does not name has its default.
        for alike in rows.chunk_by(|a, b| names(a) == names(b)) {
            insert(session, table, &columns, alike).await.map_err(failed)?;
        }
        go_on(session, table).await.map_err(failed)?;
    }
    let checked = session.execute_unprepared("SET CONSTRAINTS ALL IMMEDIATE").await;
    checked.map_err(|error| DbErr::Custom(format!("fixture: {}", text(&error))))?;
    for (table, constraint) in &references {
        alter(session, table, constraint, "NOT DEFERRABLE").await?;
    }
    Ok(())
}

/// Returns the foreign keys, each with its table, of rows that may refer to rows that are loaded after them. A table that
/// does not exist is the error of its rows.
async fn references(
    session: &Session,
    tables: &[(String, Vec<Row>)],
) -> Result<Vec<(String, String)>, DbErr> {
    let mut known = Vec::new();
    for (table, _) in tables {
        let table = quoted(table);
        let exists = "SELECT to_regclass($1) IS NOT NULL";
        let exists =
            Statement::from_sql_and_values(DbBackend::Postgres, exists, [table.clone().into()]);
        let row = session.query_one_raw(exists).await?;
        if row.is_some_and(|row| row.try_get_by_index(0).unwrap_or(false)) {
            known.push(table);
        }
    }
    let references =
        Statement::from_sql_and_values(DbBackend::Postgres, REFERENCES, [known.into()]);
    let rows = session.query_all_raw(references).await?;
    rows.iter().map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?))).collect()
}

/// `table` is quoted where it has to be.
async fn alter(session: &Session, table: &str, constraint: &str, to: &str) -> Result<(), DbErr> {
    let constraint = sql::quote_ident(constraint);
    let alter = format!("ALTER TABLE {table} ALTER CONSTRAINT {constraint} {to}");
    session.execute_unprepared(&alter).await.map(drop).map_err(|error| {
        DbErr::Custom(format!(
            "fixture: the check of {constraint} of {table} could not be deferred for rows that refer to later \
             ones; load as the table's owner, or write what is referred to first: {}",
            text(&error)
        ))
    })
}

/// Returns the tables with their rows.
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
            read.push(columns.into_iter().map(|(name, value)| (name, Value::of(&value))).collect());
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

impl Value {
    fn of(node: &Node) -> Value {
        match &node.kind {
            Kind::Null => Value::Null,
            Kind::Scalar(text) => Value::Scalar { text: text.clone(), plain: node.plain },
            Kind::List(items) => Value::List(items.iter().map(|item| Value::of(item)).collect()),
            Kind::Map(_) => {
                let entries = entries(node).unwrap_or_default();
                Value::Map(
                    entries.iter().map(|(name, value)| (name.clone(), Value::of(value))).collect(),
                )
            }
        }
    }

    /// As JSON from which the server makes a value of the column.
    fn json(&self, reads: &Reads) -> String {
        match (self, reads) {
            (Value::Null, _) => "null".to_owned(),
            (Value::Scalar { text, plain: true }, Reads::Json) => typed(text),
            (Value::Scalar { text, plain: true }, Reads::Number) => number(text),
            (Value::Scalar { text, .. }, _) => json::string(text),
            (Value::List(items), Reads::List(of)) => {
                json::array(items.iter().map(|item| match item {
                    // An array of more dimensions.
                    Value::List(_) => item.json(reads),
                    item => item.json(of),
                }))
            }
            (Value::List(items), _) => {
                json::array(items.iter().map(|item| item.json(&Reads::Json)))
            }
            (Value::Map(entries), Reads::Row(attributes)) => {
                object(entries, |name| attributes.get(name))
            }
            (Value::Map(entries), _) => object(entries, |_| Some(&Reads::Json)),
        }
    }
}

/// `reads` gives how a column's values are read; one that is not there is for the server to name.
fn object<'a>(row: &Row, reads: impl Fn(&str) -> Option<&'a Reads>) -> String {
    json::object(
        row.iter().map(|(name, value)| {
            (name.as_str(), value.json(reads(name).unwrap_or(&Reads::Written)))
        }),
    )
}

/// A scalar without quotes as what YAML makes of it.
fn typed(text: &str) -> String {
    match text {
        "true" | "True" | "TRUE" => "true".to_owned(),
        "false" | "False" | "FALSE" => "false".to_owned(),
        text => number(text),
    }
}

/// Every digit is kept.
fn number(text: &str) -> String {
    match text {
        ".inf" | ".Inf" | ".INF" => json::string("Infinity"),
        "-.inf" | "-.Inf" | "-.INF" => json::string("-Infinity"),
        ".nan" | ".NaN" | ".NAN" => json::string("NaN"),
        number if json::is_number(number) => number.to_owned(),
        text => json::string(text),
    }
}

/// The columns of a table, each with how its values are read. A table that does not exist has none.
async fn columns(session: &Session, table: &str) -> Result<HashMap<String, Reads>, DbErr> {
    let id = "SELECT to_regclass($1)::oid::int8";
    let id = Statement::from_sql_and_values(DbBackend::Postgres, id, [quoted(table).into()]);
    match session.query_one_raw(id).await?.map(|row| row.try_get_by_index(0)).transpose()? {
        Some(Some(id)) => attributes(session, id).await,
        _ => Ok(HashMap::new()),
    }
}

/// Those of a table or a composite type.
fn attributes(
    session: &Session,
    relation: i64,
) -> BoxFuture<'_, Result<HashMap<String, Reads>, DbErr>> {
    async move {
        let relation = [relation.to_string().into()];
        let columns = Statement::from_sql_and_values(DbBackend::Postgres, COLUMNS, relation);
        let mut all = HashMap::new();
        for row in session.query_all_raw(columns).await? {
            let element: Option<String> = row.try_get_by_index(4)?;
            let at = if element.is_some() { 4 } else { 1 };
            let (category, name, relation): (String, String, i64) = (
                row.try_get_by_index(at)?,
                row.try_get_by_index(at + 1)?,
                row.try_get_by_index(at + 2)?,
            );
            let reads = match (category.as_str(), name.as_str()) {
                (_, "json" | "jsonb") => Reads::Json,
                ("N", _) => Reads::Number,
                ("C", _) => Reads::Row(attributes(session, relation).await?),
                _ => Reads::Written,
            };
            let reads = if element.is_some() { Reads::List(Box::new(reads)) } else { reads };
            all.insert(row.try_get_by_index(0)?, reads);
        }
        Ok(all)
    }
    .boxed()
}

async fn insert(
    session: &Session,
    table: &str,
    reads: &HashMap<String, Reads>,
    rows: &[Row],
) -> Result<(), DbErr> {
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
    let rows = json::array(rows.iter().map(|row| object(row, |name| reads.get(name))));
    session
        .execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, insert, [rows.into()]))
        .await?;
    Ok(())
}

/// Has each sequence of a table go on behind the highest number of its column, or before the lowest if it counts down. None
/// goes back, or to a number outside of its range.
async fn go_on(session: &Session, table: &str) -> Result<(), DbErr> {
    let table = quoted(table);
    let numbered =
        Statement::from_sql_and_values(DbBackend::Postgres, NUMBERED, [table.clone().into()]);
    for row in session.query_all_raw(numbered).await? {
        let (column, sequence): (String, i64) =
            (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let column = sql::quote_ident(&column);
        let set = format!(
            "SELECT setval(seqrelid::regclass, CASE WHEN seqincrement > 0 THEN most ELSE least END)
               FROM (SELECT max({column}) AS most, min({column}) AS least FROM {table}) given,
                    pg_sequence, pg_sequence_last_value(seqrelid) AS last
              WHERE seqrelid = $1::text::oid
                AND CASE WHEN seqincrement > 0
                         THEN most BETWEEN seqmin AND seqmax AND (last IS NULL OR most > last)
                         ELSE least BETWEEN seqmin AND seqmax AND (last IS NULL OR least < last) END"
        );
        let sequence = [sequence.to_string().into()];
        let set = Statement::from_sql_and_values(DbBackend::Postgres, set, sequence);
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
    fn values_are_as_written_but_for_numbers_and_json() {
        let yaml = "
t:
  - {a: 12345678901234567890.10, b: \"1\", c: 01234, d: -0.5e3, e: ~, f: yes, g: True}
  - {a: [1, x], b: {k: 'it''s \"so\"'}, c: \"a\\nb\", d: .nan, e: 1_000, f: +5}
";
        let tables = tables(yaml).unwrap();
        let values = |row: usize, reads: &Reads| -> Vec<String> {
            tables[0].1[row].iter().map(|(_, value)| value.json(reads)).collect()
        };
        assert_eq!(
            values(0, &Reads::Json),
            ["12345678901234567890.10", "\"1\"", "\"01234\"", "-0.5e3", "null", "\"yes\"", "true"]
        );
        assert_eq!(
            values(0, &Reads::Written),
            [
                "\"12345678901234567890.10\"",
                "\"1\"",
                "\"01234\"",
                "\"-0.5e3\"",
                "null",
                "\"yes\"",
                "\"True\""
            ]
        );
        let text = r#"{"k":"it's \"so\""}"#;
        assert_eq!(
            values(1, &Reads::Number),
            ["[1,\"x\"]", text, r#""a\nb""#, "\"NaN\"", "\"1_000\"", "\"+5\""]
        );
    }

    #[test]
    fn what_is_merged_is_there_and_the_rows_own_holds() {
        let yaml = "t:\n  - &ada {id: 1, name: Ada}\n  - {<<: *ada, id: 2}\n";
        let rows = &tables(yaml).unwrap()[0].1;
        let own: Vec<_> =
            rows[1].iter().map(|(k, v)| (k.as_str(), v.json(&Reads::Number))).collect();
        assert_eq!(own, [("id", "2".to_owned()), ("name", "\"Ada\"".to_owned())]);
    }
}
