//! A query with its values in its text, because COPY takes no binds.

use sea_orm::{
    Value,
    sea_query::{ArrayType, PostgresQueryBuilder, QueryBuilder as _, SelectStatement},
};

use super::{column::Kind, text};
use crate::sql::{Token, Tokens, quote_literal};

/// Returns the text of a query that finds what the ORM finds: each value is a literal of the type with which the ORM binds
/// it. Without the type, 0.1 would be a numeric, which no REAL is equal to, and NaN a column's name.
pub(super) fn query(select: &SelectStatement) -> String {
    let (sql, values) = select.build(PostgresQueryBuilder);
    let mut text = String::with_capacity(sql.len());
    let (mut tokens, mut end) = (Tokens::new(&sql), 0);
    while let Some(token) = tokens.next() {
        let (start, next) = tokens.span();
        let number = match token {
            Token::Parameter => sql[start..next].trim_start_matches('$').parse::<usize>().ok(),
            _ => None,
        };
        let Some(value) = number.and_then(|number| values.0.get(number.checked_sub(1)?)) else {
            continue;
        };
        text.push_str(&sql[end..start]);
        text.push_str(&literal(value));
        end = next;
    }
    text.push_str(&sql[end..]);
    text
}

fn literal(value: &Value) -> String {
    let kind = match value {
        Value::Array(..) => Kind::Array(Box::new(Kind::Text), 0),
        _ => Kind::Text,
    };
    match (type_of(value), text::of(&kind, value)) {
        (Some(declared), Ok(Some(text))) => format!("{}::{declared}", quote_literal(&text)),
        (Some(declared), Ok(None)) => format!("NULL::{declared}"),
        // SeaORM's own form, of the sorts that have a type of their own there.
        _ => PostgresQueryBuilder.value_to_string(value),
    }
}

/// Returns the type with which the ORM binds a value.
fn type_of(value: &Value) -> Option<String> {
    let name = match value {
        Value::Bool(_) => "boolean",
        Value::TinyInt(_) | Value::SmallInt(_) | Value::TinyUnsigned(_) => "smallint",
        Value::Int(_) | Value::SmallUnsigned(_) => "integer",
        Value::BigInt(_) | Value::Unsigned(_) | Value::BigUnsigned(_) => "bigint",
        Value::Float(_) => "real",
        Value::Double(_) => "double precision",
        Value::Decimal(_) => "numeric",
        Value::String(_) | Value::Char(_) | Value::Enum(_) => "text",
        Value::Bytes(_) => "bytea",
        Value::Json(_) => "jsonb",
        Value::Uuid(_) => "uuid",
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
        Value::Array(of, _) => return element(of).map(|element| format!("{element}[]")),
        // Which there are depends on SeaORM's features.
        #[allow(unreachable_patterns)]
        _ => return None,
    };
    Some(name.to_owned())
}

fn element(of: &ArrayType) -> Option<&'static str> {
    Some(match of {
        ArrayType::Bool => "boolean",
        ArrayType::TinyInt | ArrayType::SmallInt | ArrayType::TinyUnsigned => "smallint",
        ArrayType::Int | ArrayType::SmallUnsigned => "integer",
        ArrayType::BigInt | ArrayType::Unsigned | ArrayType::BigUnsigned => "bigint",
        ArrayType::Float => "real",
        ArrayType::Double => "double precision",
        ArrayType::Decimal => "numeric",
        ArrayType::String | ArrayType::Char => "text",
        ArrayType::Bytes => "bytea",
        ArrayType::Json => "jsonb",
        ArrayType::Uuid => "uuid",
        ArrayType::ChronoDate => "date",
        ArrayType::ChronoTime => "time",
        ArrayType::ChronoDateTime => "timestamp",
        ArrayType::ChronoDateTimeUtc
        | ArrayType::ChronoDateTimeLocal
        | ArrayType::ChronoDateTimeWithTimeZone => "timestamptz",
        // Enums, whose type the ORM names around them, and what only some builds have.
        _ => return None,
    })
}
