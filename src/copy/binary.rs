//! Values in PostgreSQL's binary format.

use sea_orm::{Value, sea_query::OptionEnum};
use sqlx::{Encode, Postgres, encode::IsNull, postgres::PgArgumentBuffer};

use super::column::Kind;

/// What the data begins with: signature, no flags, no extension of the header.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
pub(super) const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// Appends a field: its length and its bytes. What it says where it cannot is for the caller of the copy.
pub(super) fn put(kind: &Kind, value: &Value, out: &mut PgArgumentBuffer) -> Result<(), String> {
    let start = out.len();
    out.extend_from_slice(&NULL);
    if bytes(kind, value, out)? {
        let length = i32::try_from(out.len() - start - NULL.len());
        let length = length.map_err(|_| "longer than 2 GiB".to_owned())?;
        if let Some(place) = out.get_mut(start..start + NULL.len()) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
    Ok(())
}

/// Appends the bytes of a value, unless it is NULL; whether it is not.
fn bytes(kind: &Kind, value: &Value, out: &mut PgArgumentBuffer) -> Result<bool, String> {
    match (kind, value) {
        (Kind::Bool, Value::Bool(value)) => plain(value, out),
        (Kind::Int2, value) => integer::<i16>(kind, value, out),
        (Kind::Int4, value) => integer::<i32>(kind, value, out),
        (Kind::Int8, value) => integer::<i64>(kind, value, out),
        (Kind::Float4, Value::Float(value)) => plain(value, out),
        (Kind::Float4, Value::Double(value)) => match value {
            // Rounded, as the server would; not what is too large for it.
            Some(value) if value.is_finite() && !(*value as f32).is_finite() => {
                Err(format!("{value} is out of the range of a real"))
            }
            value => plain(&value.map(|value| value as f32), out),
        },
        (Kind::Float8, Value::Double(value)) => plain(value, out),
        (Kind::Float8, Value::Float(value)) => plain(&value.map(f64::from), out),
        (Kind::Numeric, Value::Decimal(value)) => plain(value, out),
        (Kind::Numeric, value) => match whole(value) {
            Some(value) => plain(&value.map(sea_orm::prelude::Decimal::from), out),
            None => Err(unfit(kind, value)),
        },
        (Kind::Text | Kind::Json, Value::String(value)) => Ok(text(value.as_deref(), out)),
        (Kind::Text, Value::Enum(value)) => Ok(text(
            match value {
                OptionEnum::Some(value) => Some(&*value.value),
                OptionEnum::None(_) => None,
            },
            out,
        )),
        (Kind::Text, Value::Char(value)) => {
            Ok(text(value.map(|value| value.encode_utf8(&mut [0; 4]).to_owned()).as_deref(), out))
        }
        (Kind::Json, Value::Json(value)) => json(None, value.as_deref(), out),
        (Kind::Jsonb, Value::Json(value)) => json(Some(JSONB_VERSION), value.as_deref(), out),
        (Kind::Jsonb, Value::String(value)) => {
            if value.is_some() {
                out.push(JSONB_VERSION);
            }
            Ok(text(value.as_deref(), out))
        }
        (Kind::Bytea | Kind::Place, Value::Bytes(value)) => match value {
            Some(value) => {
                out.extend_from_slice(value);
                Ok(true)
            }
            None => Ok(false),
        },
        (Kind::Date, Value::ChronoDate(value)) => plain(value, out),
        (Kind::Time, Value::ChronoTime(value)) => plain(value, out),
        (Kind::Timestamp, Value::ChronoDateTime(value)) => plain(value, out),
        (Kind::Timestamptz, Value::ChronoDateTimeUtc(value)) => plain(value, out),
        (Kind::Timestamptz, Value::ChronoDateTimeLocal(value)) => plain(value, out),
        (Kind::Timestamptz, Value::ChronoDateTimeWithTimeZone(value)) => plain(value, out),
        #[cfg(feature = "with-time")]
        (Kind::Date, Value::TimeDate(value)) => plain(value, out),
        #[cfg(feature = "with-time")]
        (Kind::Time, Value::TimeTime(value)) => plain(value, out),
        #[cfg(feature = "with-time")]
        (Kind::Timestamp, Value::TimeDateTime(value)) => plain(value, out),
        #[cfg(feature = "with-time")]
        (Kind::Timestamptz, Value::TimeDateTimeWithTimeZone(value)) => plain(value, out),
        (Kind::Uuid, Value::Uuid(value)) => plain(value, out),
        (Kind::Bit(size), Value::String(value)) => match value {
            Some(value) => bits(*size, value, out),
            None => Ok(false),
        },
        #[cfg(feature = "vector")]
        (Kind::Vector(size) | Kind::Halfvec(size), Value::Vector(value)) => {
            let Some(value) = value else { return Ok(false) };
            if let Some(size) = size
                && *size != value.as_slice().len()
            {
                let has = value.as_slice().len();
                return Err(format!("the vector has {has} dimensions, the column takes {size}"));
            }
            match kind {
                Kind::Vector(_) => plain(&Some(value), out),
                _ => plain(&Some(pgvector::HalfVector::from_f32_slice(value.as_slice())), out),
            }
        }
        (Kind::Array(element, oid), Value::Array(_, value)) => match value {
            Some(values) => array(element, *oid, values, out),
            None => Ok(false),
        },
        (kind, value) => Err(unfit(kind, value)),
    }
}

const JSONB_VERSION: u8 = 1;

/// By the driver.
fn plain<'a, T>(value: &Option<T>, out: &mut PgArgumentBuffer) -> Result<bool, String>
where
    T: Encode<'a, Postgres>,
{
    let Some(value) = value else { return Ok(false) };
    match value.encode_by_ref(out) {
        Ok(is_null) => Ok(matches!(is_null, IsNull::No)),
        Err(error) => Err(error.to_string()),
    }
}

fn text(value: Option<&str>, out: &mut PgArgumentBuffer) -> bool {
    out.extend_from_slice(value.unwrap_or_default().as_bytes());
    value.is_some()
}

fn json(
    version: Option<u8>,
    value: Option<&sea_orm::JsonValue>,
    out: &mut PgArgumentBuffer,
) -> Result<bool, String> {
    let Some(value) = value else { return Ok(false) };
    out.extend(version);
    use std::io::Write as _;
    let out: &mut Vec<u8> = out;
    write!(out, "{value}").map_err(|error| error.to_string())?;
    Ok(true)
}

/// Any of the integers, as the widest.
fn whole(value: &Value) -> Option<Option<i128>> {
    Some(match value {
        Value::TinyInt(value) => value.map(i128::from),
        Value::SmallInt(value) => value.map(i128::from),
        Value::Int(value) => value.map(i128::from),
        Value::BigInt(value) => value.map(i128::from),
        Value::TinyUnsigned(value) => value.map(i128::from),
        Value::SmallUnsigned(value) => value.map(i128::from),
        Value::Unsigned(value) => value.map(i128::from),
        Value::BigUnsigned(value) => value.map(i128::from),
        _ => return None,
    })
}

fn integer<T>(kind: &Kind, value: &Value, out: &mut PgArgumentBuffer) -> Result<bool, String>
where
    T: TryFrom<i128> + for<'a> Encode<'a, Postgres>,
{
    let value = whole(value).ok_or_else(|| unfit(kind, value))?;
    let fit = |value| T::try_from(value).map_err(|_| format!("{value} is out of range"));
    plain(&value.map(fit).transpose()?, out)
}

fn bits(size: Option<usize>, value: &str, out: &mut PgArgumentBuffer) -> Result<bool, String> {
    if let Some(odd) = value.chars().find(|bit| !matches!(bit, '0' | '1')) {
        return Err(format!("a bit is 0 or 1, not {odd:?}"));
    }
    if let Some(size) = size
        && size != value.len()
    {
        return Err(format!("it has {} bits, the column takes {size}", value.len()));
    }
    let length = i32::try_from(value.len()).map_err(|_| "too many bits".to_owned())?;
    out.extend_from_slice(&length.to_be_bytes());
    let byte = |bits: &[u8]| {
        bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | ((bit - b'0') << (7 - at)))
    };
    out.extend(value.as_bytes().chunks(8).map(byte));
    Ok(true)
}

/// What the bytes of an array begin with, of one dimension that is counted from 1.
pub(super) fn begin_array(
    element: u32,
    length: usize,
    out: &mut PgArgumentBuffer,
) -> Result<(), String> {
    let dimensions = i32::from(length > 0);
    let length = i32::try_from(length).map_err(|_| "too many elements".to_owned())?;
    let has_nulls = 1_i32;
    for word in [dimensions, has_nulls, element.cast_signed()] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    if length > 0 {
        for word in [length, 1] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
    Ok(())
}

fn array(
    kind: &Kind,
    element: u32,
    values: &[Value],
    out: &mut PgArgumentBuffer,
) -> Result<bool, String> {
    begin_array(element, values.len(), out)?;
    for value in values {
        put(kind, value, out)?;
    }
    Ok(true)
}

fn unfit(kind: &Kind, value: &Value) -> String {
    format!("{} does not fit the column's type ({kind:?})", sort(value))
}

/// The value's kind, never the value: it may be a secret.
pub(super) fn sort(value: &Value) -> String {
    let shown = format!("{value:?}");
    let name = shown.split('(').next().unwrap_or_default();
    format!("a value of SeaORM's kind {name}")
}
