//! What a table's columns are, as the server says.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};

/// A column of the table.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// Its type, for a cast, which is to know nothing of a length: it would cut off what is longer.
    pub(super) declared: String,
    /// The numbers, in the server's catalog, of what it is made of and of an array of that.
    pub(super) oid: u32,
    pub(super) array_oid: u32,
    /// Its value is the server's to make.
    pub(super) generated: bool,
    /// Its table has parts, among which the server distributes rows: partitions, chunks of a hypertable.
    pub(super) in_parts: bool,
    pub(super) kind: Kind,
}

/// What stands in a column, as far as the binary format tells it apart. A domain is what it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    /// Whatever goes as its text: enums too.
    Text,
    Json,
    Jsonb,
    Bytea,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Uuid,
    /// With how many bits; without a number, it may vary.
    Bit(Option<usize>),
    Vector(Option<usize>),
    Halfvec(Option<usize>),
    /// PostGIS's, as EWKB.
    Place,
    /// Of these, which have this number in the server's catalog.
    Array(Box<Kind>, u32),
    /// An array of what has no binary form here, with the character between its elements: a comma, but for `box`.
    List(char),
    /// What has no binary form here, so that it goes as text.
    Other,
}

/// A domain's columns are followed down to what it is made of.
const COLUMNS: &str = "\
WITH RECURSIVE base AS (
    SELECT attnum, attname, format_type(atttypid, -1) AS declared,
           attgenerated <> '' AS generated, atttypid AS type, atttypmod AS typmod
    FROM pg_catalog.pg_attribute
    WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
  UNION ALL
    SELECT attnum, attname, declared, generated, typbasetype,
           CASE typmod WHEN -1 THEN typtypmod ELSE typmod END
    FROM base JOIN pg_catalog.pg_type ON oid = type
    WHERE typtype = 'd'
)
SELECT attname::text, declared, generated, typmod, t.typname::text, t.typtype::text,
       e.oid::int8, coalesce(d.typname, e.typname)::text, coalesce(d.typtype, e.typtype)::text,
       t.oid::int8, t.typarray::int8, e.typdelim::text,
       EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = to_regclass($1) AND (c.relkind = 'p'
               OR EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhparent = c.oid)
               OR EXISTS (SELECT FROM pg_catalog.pg_trigger
                          WHERE tgrelid = c.oid AND tgname = 'ts_insert_blocker')))
FROM base
JOIN pg_catalog.pg_type t ON t.oid = type AND t.typtype <> 'd'
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
LEFT JOIN pg_catalog.pg_type d ON d.oid = e.typbasetype
ORDER BY attnum";

/// The columns of `table`, a quoted name; none where there is no such table. One round trip.
pub(super) async fn of_table(on: &impl ConnectionTrait, table: &str) -> Result<Vec<Column>, DbErr> {
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, COLUMNS, [table.into()]);
    on.query_all_raw(statement).await?.iter().map(Column::read).collect()
}

impl Column {
    fn read(row: &QueryResult) -> Result<Column, DbErr> {
        let oid = |at| row.try_get_by_index(at).map(|oid: i64| u32::try_from(oid).unwrap_or(0));
        let typmod: i32 = row.try_get_by_index(3)?;
        let (name, form): (String, String) = (row.try_get_by_index(4)?, row.try_get_by_index(5)?);
        let element: Option<i64> = row.try_get_by_index(6)?;
        let kind = match element.and_then(|oid| u32::try_from(oid).ok()) {
            Some(oid) => {
                let name: String = row.try_get_by_index(7)?;
                let form: String = row.try_get_by_index(8)?;
                match Kind::new(&name, &form, typmod) {
                    Kind::Other => {
                        let between: String = row.try_get_by_index(11)?;
                        Kind::List(between.chars().next().unwrap_or(','))
                    }
                    kind => Kind::Array(Box::new(kind), oid),
                }
            }
            None => Kind::new(&name, &form, typmod),
        };
        Ok(Column {
            name: row.try_get_by_index(0)?,
            declared: row.try_get_by_index(1)?,
            oid: oid(9)?,
            array_oid: oid(10)?,
            generated: row.try_get_by_index(2)?,
            in_parts: row.try_get_by_index(12)?,
            kind,
        })
    }
}

impl Kind {
    fn new(name: &str, form: &str, typmod: i32) -> Kind {
        if form == "e" {
            return Kind::Text;
        }
        let size = usize::try_from(typmod).ok();
        match (form, name) {
            ("b", "bool") => Kind::Bool,
            ("b", "int2") => Kind::Int2,
            ("b", "int4") => Kind::Int4,
            ("b", "int8") => Kind::Int8,
            ("b", "float4") => Kind::Float4,
            ("b", "float8") => Kind::Float8,
            ("b", "numeric") => Kind::Numeric,
            ("b", "text" | "varchar" | "bpchar" | "name" | "citext" | "xml") => Kind::Text,
            ("b", "json") => Kind::Json,
            ("b", "jsonb") => Kind::Jsonb,
            ("b", "bytea") => Kind::Bytea,
            ("b", "date") => Kind::Date,
            ("b", "time") => Kind::Time,
            ("b", "timestamp") => Kind::Timestamp,
            ("b", "timestamptz") => Kind::Timestamptz,
            ("b", "uuid") => Kind::Uuid,
            ("b", "bit") => Kind::Bit(size),
            ("b", "varbit") => Kind::Bit(None),
            ("b", "vector") => Kind::Vector(size),
            ("b", "halfvec") => Kind::Halfvec(size),
            ("b", "geometry" | "geography") => Kind::Place,
            _ => Kind::Other,
        }
    }

    /// Whether a value of this sort, empty or not, can be written as this in binary.
    pub(super) fn takes(&self, value: &Value) -> bool {
        use Value::{
            BigInt, BigUnsigned, Bool, Bytes, Char, ChronoDate, ChronoDateTime,
            ChronoDateTimeLocal, ChronoDateTimeUtc, ChronoDateTimeWithTimeZone, ChronoTime,
            Decimal, Double, Enum, Float, Int, Json, SmallInt, SmallUnsigned, String, TinyInt,
            TinyUnsigned, Unsigned, Uuid,
        };
        #[cfg(feature = "with-time")]
        if let (Kind::Date, Value::TimeDate(_))
        | (Kind::Time, Value::TimeTime(_))
        | (Kind::Timestamp, Value::TimeDateTime(_))
        | (Kind::Timestamptz, Value::TimeDateTimeWithTimeZone(_)) = (self, value)
        {
            return true;
        }
        let integer = matches!(
            value,
            TinyInt(_)
                | SmallInt(_)
                | Int(_)
                | BigInt(_)
                | TinyUnsigned(_)
                | SmallUnsigned(_)
                | Unsigned(_)
                | BigUnsigned(_)
        );
        match self {
            Kind::Bool => matches!(value, Bool(_)),
            Kind::Int2 | Kind::Int4 | Kind::Int8 => integer,
            Kind::Float4 | Kind::Float8 => matches!(value, Float(_) | Double(_)),
            Kind::Numeric => integer || matches!(value, Decimal(_)),
            Kind::Text => matches!(value, String(_) | Char(_) | Enum(_)),
            Kind::Json | Kind::Jsonb => matches!(value, Json(_) | String(_)),
            Kind::Bytea | Kind::Place => matches!(value, Bytes(_)),
            Kind::Date => matches!(value, ChronoDate(_)),
            Kind::Time => matches!(value, ChronoTime(_)),
            Kind::Timestamp => matches!(value, ChronoDateTime(_)),
            Kind::Timestamptz => matches!(
                value,
                ChronoDateTimeUtc(_) | ChronoDateTimeLocal(_) | ChronoDateTimeWithTimeZone(_)
            ),
            Kind::Uuid => matches!(value, Uuid(_)),
            Kind::Bit(_) => matches!(value, String(_)),
            #[cfg(feature = "vector")]
            Kind::Vector(_) | Kind::Halfvec(_) => matches!(value, Value::Vector(_)),
            #[cfg(not(feature = "vector"))]
            Kind::Vector(_) | Kind::Halfvec(_) => false,
            Kind::Array(element, _) => match value {
                Value::Array(_, None) => true,
                Value::Array(_, Some(values)) => values.iter().all(|value| element.takes(value)),
                _ => false,
            },
            Kind::List(_) | Kind::Other => false,
        }
    }
}
