//! `wharf run`.

use std::io::Read as _;

use comfy_table::Cell;
use serde_json::{Map, Value, json};

use super::args::Run;
use super::context::{Context, entry, named};
use super::failure::Failure;
use super::out;
use crate::Error;
use crate::pg::Pg;
use crate::pool::{Column, Rows};

/// The most rows of a table, which has to be held to be laid out.
const TABLE: usize = 1000;

pub(super) async fn run(context: &Context, command: Run) -> Result<(), Failure> {
    let manager = context.manager()?;
    let mut words = command.words;
    let Some(sql) = words.pop() else {
        return Err(Failure::Usage("no statement was given: wharf run [NAME] SQL".to_owned()));
    };
    let name = named(&manager, words.pop())?;
    let wanted = entry(&manager, &name)?;
    if command.write && wanted.readonly {
        return Err(Failure::File(format!(
            "database `{name}` is `readonly: true` in the file; give its entry that writes"
        )));
    }
    let sql = match sql.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin().lock().read_to_string(&mut text)?;
            text
        }
        sql => sql.to_owned(),
    };
    let plain = !command.csv && !command.json.json;
    let most = match command.limit {
        Some(0) => None,
        Some(limit) => Some(limit),
        None => plain.then_some(TABLE),
    };
    let pg = manager.db(&name)?;
    let given = rows(&pg, &sql, command.write, most).await;
    manager.close().await;
    let given = given?;
    if command.csv {
        csv(&given)?;
    } else if command.json.json {
        out::json(&Value::from_iter(given.rows.iter().map(|row| object(&given.columns, row))))?;
    } else {
        table(&given)?;
    }
    if given.more {
        out::note(format_args!(
            "there are more than {} rows; --limit 0 shows all of them",
            given.rows.len()
        ));
    }
    Ok(())
}

async fn rows(pg: &Pg, sql: &str, write: bool, most: Option<usize>) -> Result<Rows, Failure> {
    let given = match write {
        true => pg.text_rows(sql, most).await,
        false => {
            let session = pg.session().read_only().await?;
            session.text_rows(sql, most).await
        }
    };
    given.map_err(|error| {
        let error = Error::from(error);
        if let Error::TransactionControl { keyword, .. } = &error {
            return Failure::Failed(format!(
                "{keyword} is not for one statement that runs by itself; `wharf psql NAME` is"
            ));
        }
        let failure = Failure::from(error);
        let hint = match failure.message() {
            Some(said) if said.contains("read-only transaction") => "; --write lets it write",
            Some(said) if said.contains("multiple commands") => {
                "; give one statement, or hand a script to `wharf psql NAME -f FILE`"
            }
            _ => return failure,
        };
        Failure::Failed(format!("{failure}{hint}"))
    })
}

fn table(given: &Rows) -> Result<(), Failure> {
    if given.columns.is_empty() {
        return out::line(match given.affected {
            0 => "done".to_owned(),
            1 => "done: 1 row".to_owned(),
            many => format!("done: {many} rows"),
        });
    }
    let heading: Vec<&str> = given.columns.iter().map(|column| column.name.as_str()).collect();
    let cell = |value: &Option<String>| Cell::new(value.as_deref().unwrap_or("NULL"));
    let rows: Vec<Vec<Cell>> =
        given.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let count = rows.len();
    out::table(&heading, rows)?;
    out::note(if count == 1 { "(1 row)".to_owned() } else { format!("({count} rows)") });
    Ok(())
}

fn csv(given: &Rows) -> Result<(), Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| Failure::Failed(error.to_string());
    if !given.columns.is_empty() {
        writer.write_record(given.columns.iter().map(|column| &column.name)).map_err(failed)?;
    }
    for row in &given.rows {
        let values = row.iter().map(|value| value.as_deref().unwrap_or_default());
        writer.write_record(values).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| Failure::Failed(error.to_string()))?;
    out::raw(&bytes)
}

/// A row by the names of its columns, numbers exactly as PostgreSQL has them.
fn object(columns: &[Column], row: &[Option<String>]) -> Value {
    let pair = |(column, value): (&Column, &Option<String>)| {
        let value = value.as_deref().map_or(Value::Null, |text| typed(&column.kind, text));
        (column.name.clone(), value)
    };
    Value::Object(columns.iter().zip(row).map(pair).collect::<Map<_, _>>())
}

fn typed(kind: &str, text: &str) -> Value {
    let read = match kind {
        "BOOL" => return json!(text == "t"),
        "INT2" | "INT4" | "INT8" | "OID" | "FLOAT4" | "FLOAT8" | "NUMERIC" | "JSON" | "JSONB" => {
            serde_json::from_str(text).ok()
        }
        _ => None,
    };
    // NaN and Infinity are no numbers to JSON.
    read.unwrap_or_else(|| json!(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_type_and_every_digit() {
        assert_eq!(
            typed("NUMERIC", "12345678901234567890.10").to_string(),
            "12345678901234567890.10"
        );
        assert_eq!(typed("FLOAT8", "NaN"), json!("NaN"));
        assert_eq!(typed("BOOL", "t"), json!(true));
        assert_eq!(typed("JSONB", "{\"a\": [1]}"), json!({"a": [1]}));
        assert_eq!(typed("TEXT", "1"), json!("1"));
    }
}
