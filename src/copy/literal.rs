//! Values as constants of a statement's text, because COPY takes no binds.

use std::fmt::{self, Write};

use sea_orm::{
    Value,
    sea_query::{ArrayType, PostgresQueryBuilder, QueryBuilder, QueryStatementWriter, SqlWriter},
};

use super::{column::Kind, text};

/// The text of a statement, in which each value is a constant of the type that the driver would bind.
///
/// SeaORM's own text of a value is another one: `0.1` is a numeric and never equals that real, a NaN is taken
/// for a column's name, and a text for whatever the other side of a comparison is.
pub(super) fn sql_of(statement: &impl QueryStatementWriter) -> String {
    let mut constants = Constants(String::with_capacity(256));
    statement.build_collect_into(PostgresQueryBuilder, &mut constants);
    constants.0
}

/// Collects the text that a query builder writes.
struct Constants(String);

impl SqlWriter for Constants {
    fn push_param<T: QueryBuilder>(&mut self, value: Value, builder: &T) {
        // A type that only SeaORM knows the text of.
        if put(&value, &mut self.0).is_none() {
            self.0.push_str(&builder.value_to_string(&value));
        }
    }

    fn as_writer(&mut self) -> &mut dyn Write {
        self
    }
}

impl Write for Constants {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(text)
    }
}

impl fmt::Display for Constants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Appends a value as a constant; none where it has no type here.
fn put(value: &Value, out: &mut String) -> Option<()> {
    let (name, is_array) = match value {
        Value::Array(element, _) => (type_of_element(element)?, true),
        value => (type_of(value)?, false),
    };
    match text::of(&Kind::Other, value).ok()? {
        Some(text) => quote(&text, out),
        None => out.push_str("NULL"),
    }
    let brackets = if is_array { "[]" } else { "" };
    // Its text is a letter, and not the number.
    if name == CHAR {
        let _ = write!(out, "::int4{brackets}");
    }
    let _ = write!(out, "::{name}{brackets}");
    Some(())
}

/// As SQL reads it however the server is set to read backslashes. A NUL is the server's to refuse; as itself
/// it would end the statement.
fn quote(text: &str, out: &mut String) {
    out.push_str("E'");
    for char in text.chars() {
        match char {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\000"),
            char => out.push(char),
        }
    }
    out.push('\'');
}

const CHAR: &str = "\"char\"";

/// As the driver binds it (sea-query-sqlx).
fn type_of(value: &Value) -> Option<&'static str> {
    Some(match value {
        Value::Bool(_) => "bool",
        Value::TinyInt(_) => CHAR,
        Value::SmallInt(_) | Value::TinyUnsigned(_) => "int2",
        Value::Int(_) | Value::SmallUnsigned(_) => "int4",
        Value::BigInt(_) | Value::Unsigned(_) | Value::BigUnsigned(_) => "int8",
        Value::Float(_) => "float4",
        Value::Double(_) => "float8",
        Value::String(_) | Value::Char(_) | Value::Enum(_) => "text",
        Value::Bytes(_) => "bytea",
        Value::Json(_) => "jsonb",
        Value::Uuid(_) => "uuid",
        Value::IpNetwork(_) => "inet",
        Value::Decimal(_) => "numeric",
        Value::ChronoDate(_) => "date",
        Value::ChronoTime(_) => "time",
        Value::ChronoDateTime(_) => "timestamp",
        Value::ChronoDateTimeUtc(_)
        | Value::ChronoDateTimeLocal(_)
        | Value::ChronoDateTimeWithTimeZone(_) => "timestamptz",
        #[cfg(feature = "with-time")]
        Value::TimeDate(_) => "date",
        #[cfg(feature = "with-time")]
        Value::TimeTime(_) => "time",
        #[cfg(feature = "with-time")]
        Value::TimeDateTime(_) => "timestamp",
        #[cfg(feature = "with-time")]
        Value::TimeDateTimeWithTimeZone(_) => "timestamptz",
        #[cfg(feature = "vector")]
        Value::Vector(_) => "vector",
        // Which there are depends on SeaORM's features.
        #[allow(unreachable_patterns)]
        _ => return None,
    })
}

fn type_of_element(element: &ArrayType) -> Option<&'static str> {
    Some(match element {
        ArrayType::Bool => "bool",
        ArrayType::IpNetwork => "inet",
        ArrayType::TinyInt => CHAR,
        ArrayType::SmallInt | ArrayType::TinyUnsigned => "int2",
        ArrayType::Int | ArrayType::SmallUnsigned => "int4",
        ArrayType::BigInt | ArrayType::Unsigned | ArrayType::BigUnsigned => "int8",
        ArrayType::Float => "float4",
        ArrayType::Double => "float8",
        ArrayType::String | ArrayType::Char | ArrayType::Enum(_) => "text",
        ArrayType::Bytes => "bytea",
        ArrayType::Json => "jsonb",
        ArrayType::Uuid => "uuid",
        ArrayType::Decimal => "numeric",
        ArrayType::ChronoDate => "date",
        ArrayType::ChronoTime => "time",
        ArrayType::ChronoDateTime => "timestamp",
        ArrayType::ChronoDateTimeUtc
        | ArrayType::ChronoDateTimeLocal
        | ArrayType::ChronoDateTimeWithTimeZone => "timestamptz",
        #[cfg(feature = "with-time")]
        ArrayType::TimeDate => "date",
        #[cfg(feature = "with-time")]
        ArrayType::TimeTime => "time",
        #[cfg(feature = "with-time")]
        ArrayType::TimeDateTime => "timestamp",
        #[cfg(feature = "with-time")]
        ArrayType::TimeDateTimeWithTimeZone => "timestamptz",
        // Which there are depends on SeaORM's features.
        #[allow(unreachable_patterns)]
        _ => return None,
    })
}
