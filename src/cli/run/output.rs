//! Where rows go: CSV and JSON as they come, a table once all of them are there.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::array;
use super::table::Rows;
use crate::cli::args::{Expanded, Run};
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::json;
use crate::pool::{Column, TextRows};

/// How long a row may wait for others before it is written.
const FLUSH: Duration = Duration::from_millis(50);
/// Bytes that are written at once.
const BLOCK: usize = 64 * 1024;

enum Form {
    Table(Expanded),
    Csv,
    Json,
}

/// One statement's rows after the other.
pub(super) struct Output {
    form: Form,
    most: Option<usize>,
    /// A statement that writes has to run to its end.
    pub(super) writes: bool,
    columns: Vec<Column>,
    held: Rows,
    /// Rows of this statement that were taken.
    count: usize,
    has_more: bool,
    buffer: Vec<u8>,
    flushed: Option<Instant>,
    failure: Option<Failure>,
}

impl Output {
    pub(super) fn new(command: &Run, table: usize) -> Output {
        let form = match (command.csv, command.json.json) {
            (true, _) => Form::Csv,
            (_, true) => Form::Json,
            _ => Form::Table(command.expanded),
        };
        let most = match command.limit {
            Some(0) => None,
            Some(limit) => Some(limit),
            None => matches!(form, Form::Table(_)).then_some(table),
        };
        Output {
            form,
            most,
            writes: command.write,
            columns: Vec::new(),
            held: Rows::default(),
            count: 0,
            has_more: false,
            buffer: Vec::new(),
            flushed: None,
            failure: None,
        }
    }

    /// Why writing ended, if it did: nobody reads any more, mostly.
    pub(super) fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// Ends a statement. If it writes, a failure to print is kept until all is committed.
    pub(super) fn end(&mut self, affected: u64) -> Result<(), Failure> {
        match self.print_end(affected) {
            Err(failure) if self.writes => {
                self.failure = Some(failure);
                Ok(())
            }
            printed => printed,
        }
    }

    fn print_end(&mut self, affected: u64) -> Result<(), Failure> {
        if self.failure.is_some() {
            self.buffer.clear();
            return Ok(());
        }
        match self.form {
            Form::Json => {
                let end: &[u8] = if self.count == 0 { b"[]\n" } else { b"\n]\n" };
                self.buffer.extend_from_slice(end);
            }
            Form::Csv => {}
            Form::Table(_) if self.columns.is_empty() => out::line(match affected {
                0 => "done".to_owned(),
                1 => "done: 1 row".to_owned(),
                many => format!("done: {many} rows"),
            })?,
            Form::Table(expanded) => {
                self.held.columns = std::mem::take(&mut self.columns);
                self.held.print(expanded)?;
                self.held.rows.clear();
                let rows = if self.count == 1 { "row" } else { "rows" };
                out::note(format_args!("({} {rows})", self.count));
            }
        }
        self.flush()?;
        if self.has_more {
            let count = self.count;
            out::note(format_args!("there are more than {count} rows; use --limit 0 to see all"));
        }
        (self.count, self.has_more, self.flushed) = (0, false, None);
        self.columns.clear();
        Ok(())
    }

    /// Ends a statement that failed, so that the JSON printed before is valid.
    pub(super) fn break_off(&mut self) {
        if matches!(self.form, Form::Json) && self.count > 0 {
            self.buffer.extend_from_slice(b"\n]\n");
        }
        // The statement's own error matters more than one of printing.
        let _ = self.flush();
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let written = out::stream(&self.buffer);
        self.buffer.clear();
        self.flushed = Some(Instant::now());
        written
    }

    fn csv<'a>(&mut self, values: impl Iterator<Item = Option<&'a str>>) {
        for (at, value) in values.enumerate() {
            if at > 0 {
                self.buffer.push(b',');
            }
            // As PostgreSQL's COPY: nothing is NULL, and an empty text is quoted.
            match value {
                None => {}
                Some(text) if text.is_empty() || text.contains([',', '"', '\n', '\r']) => {
                    let _ = write!(self.buffer, "\"{}\"", text.replace('"', "\"\""));
                }
                Some(text) => self.buffer.extend_from_slice(text.as_bytes()),
            }
        }
        self.buffer.push(b'\n');
    }

    fn json(&mut self, row: &[Option<&str>]) {
        let pairs = self.columns.iter().zip(row).map(|(column, value)| {
            let value = value.map_or_else(|| "null".to_owned(), |text| typed(&column.kind, text));
            (column.name.as_str(), value)
        });
        let object = json::object(pairs);
        let _ = write!(self.buffer, "{}{object}", if self.count == 1 { "[\n" } else { ",\n" });
    }
}

impl TextRows for Output {
    fn columns(&mut self, columns: Vec<Column>) {
        self.columns = match self.form {
            Form::Json => distinct(columns),
            _ => columns,
        };
        if matches!(self.form, Form::Csv) && !self.columns.is_empty() {
            let names: Vec<String> =
                self.columns.iter().map(|column| column.name.clone()).collect();
            self.csv(names.iter().map(|name| Some(name.as_str())));
        }
    }

    fn row(&mut self, row: &[Option<&str>]) -> bool {
        if self.most.is_some_and(|most| self.count >= most) {
            self.has_more = true;
            return self.writes;
        }
        if self.failure.is_some() {
            return self.writes;
        }
        self.count += 1;
        match self.form {
            Form::Table(_) => {
                self.held.rows.push(row.iter().map(|value| value.map(str::to_owned)).collect());
                return true;
            }
            Form::Csv => self.csv(row.iter().copied()),
            Form::Json => self.json(row),
        }
        let is_due = self.flushed.is_none_or(|flushed| flushed.elapsed() > FLUSH);
        if is_due || self.buffer.len() > BLOCK || io::stdout().is_terminal() {
            self.failure = self.flush().err();
        }
        self.writes || self.failure.is_none()
    }
}

/// Columns of the same name get a number: `name`, `name_2`.
fn distinct(columns: Vec<Column>) -> Vec<Column> {
    let mut taken: Vec<String> = Vec::new();
    let named = columns.into_iter().map(|mut column| {
        let mut name = column.name.clone();
        let mut number = 1;
        while taken.contains(&name) {
            number += 1;
            name = format!("{}_{number}", column.name);
        }
        taken.push(name.clone());
        column.name = name;
        column
    });
    named.collect()
}

/// Returns a value as JSON, with the server's own digits and order of keys.
fn typed(kind: &str, text: &str) -> String {
    // A box has commas of its own, and its arrays another separator.
    if let Some(element) = kind.strip_suffix("[]").filter(|element| *element != "BOX") {
        let array = array::json(text, &|text| typed(element, text));
        return array.unwrap_or_else(|| json::string(text));
    }
    match kind {
        "BOOL" => (text == "t").to_string(),
        "INT2" | "INT4" | "INT8" | "OID" | "FLOAT4" | "FLOAT8" | "NUMERIC"
            // NaN and Infinity are no numbers to JSON.
            if json::is_number(text) =>
        {
            text.to_owned()
        }
        "JSON" | "JSONB" if json::is_valid(text) => on_one_line(text),
        _ => json::string(text),
    }
}

/// JSON without the white space between its tokens.
fn on_one_line(json: &str) -> String {
    let (mut line, mut in_text, mut escaped) = (String::with_capacity(json.len()), false, false);
    for c in json.chars() {
        if !in_text && c.is_ascii_whitespace() {
            continue;
        }
        in_text ^= c == '"' && !escaped;
        escaped = in_text && c == '\\' && !escaped;
        line.push(c);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_type_and_every_digit() {
        for (kind, text, json) in [
            ("NUMERIC", "12345678901234567890.10", "12345678901234567890.10"),
            ("FLOAT8", "1e+20", "1e+20"),
            ("FLOAT8", "NaN", "\"NaN\""),
            ("BOOL", "t", "true"),
            (
                "JSONB",
                "{\"b\": [1.10], \"a\": \"x  \\\" y\"}",
                "{\"b\":[1.10],\"a\":\"x  \\\" y\"}",
            ),
            ("JSON", "{\n \"a\" : 1e400 }", "{\"a\":1e400}"),
            ("TEXT", "1", "\"1\""),
            ("INT4[]", "{1,NULL}", "[1,null]"),
            ("TEXT[]", "{1,a}", "[\"1\",\"a\"]"),
        ] {
            assert_eq!(typed(kind, text), json, "{kind}");
            assert!(json::is_valid(json), "{json}");
        }
    }
}
