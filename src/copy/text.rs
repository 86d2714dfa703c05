//! Values as PostgreSQL reads them from text: for types that have no binary form here, and for arrays of
//! anything.

use std::fmt::Write as _;

use chrono::{Datelike as _, NaiveDate, NaiveDateTime, TimeDelta, Timelike as _};
use sea_orm::{Value, sea_query::OptionEnum};

use super::{binary, column::Kind};

/// The text of a value; none for NULL.
pub(super) fn of(kind: &Kind, value: &Value) -> Result<Option<String>, String> {
    Ok(match value {
        Value::Bool(value) => value.map(|value| if value { "t" } else { "f" }.to_owned()),
        Value::TinyInt(value) => shown(value),
        Value::SmallInt(value) => shown(value),
        Value::Int(value) => shown(value),
        Value::BigInt(value) => shown(value),
        Value::TinyUnsigned(value) => shown(value),
        Value::SmallUnsigned(value) => shown(value),
        Value::Unsigned(value) => shown(value),
        Value::BigUnsigned(value) => shown(value),
        // The shortest that is read as the same number again.
        Value::Float(value) => value.map(|value| format!("{value:?}")),
        Value::Double(value) => value.map(|value| format!("{value:?}")),
        Value::Decimal(value) => shown(value),
        Value::String(value) => value.clone(),
        Value::Char(value) => shown(value),
        Value::Enum(OptionEnum::Some(value)) => Some(value.value.clone().into_owned()),
        Value::Enum(OptionEnum::None(_)) => None,
        Value::Json(value) => shown(value),
        Value::Uuid(value) => shown(value),
        Value::IpNetwork(value) => shown(value),
        Value::Bytes(value) => value.as_deref().map(|value| hex(kind, value)),
        Value::ChronoDate(value) => value.map(|value| date(value, "")),
        Value::ChronoTime(value) => value.map(|value| value.format("%H:%M:%S%.6f").to_string()),
        Value::ChronoDateTime(value) => value.map(|value| timestamp(value, "")),
        Value::ChronoDateTimeUtc(value) => value.map(|value| timestamp(value.naive_utc(), "+00")),
        Value::ChronoDateTimeLocal(value) => value.map(|value| timestamp(value.naive_utc(), "+00")),
        Value::ChronoDateTimeWithTimeZone(value) => {
            value.map(|value| timestamp(value.naive_utc(), "+00"))
        }
        #[cfg(feature = "with-time")]
        Value::TimeDate(value) => value.map(|value| day(value.to_calendar_date(), "")),
        #[cfg(feature = "with-time")]
        Value::TimeTime(value) => value.map(|value| clock(value.as_hms_micro())),
        #[cfg(feature = "with-time")]
        Value::TimeDateTime(value) => value.map(|value| {
            let more = to_micros(value.assume_utc().unix_timestamp(), value.nanosecond());
            let value = value.checked_add(time::Duration::nanoseconds(more)).unwrap_or(value);
            let clock = clock(value.as_hms_micro());
            day(value.to_calendar_date(), &format!(" {clock}"))
        }),
        #[cfg(feature = "with-time")]
        Value::TimeDateTimeWithTimeZone(value) => value.map(|value| {
            let more = to_micros(value.unix_timestamp(), value.nanosecond());
            let value = value.checked_add(time::Duration::nanoseconds(more)).unwrap_or(value);
            let (clock, zone) = (clock(value.to_hms_micro()), value.offset());
            day(value.to_calendar_date(), &format!(" {clock}{zone}"))
        }),
        #[cfg(feature = "vector")]
        Value::Vector(value) => value.as_ref().map(|value| format!("{:?}", value.as_slice())),
        Value::Array(_, Some(values)) => Some(array(kind, values)?),
        Value::Array(_, None) => None,
        // Which there are depends on SeaORM's features.
        #[allow(unreachable_patterns)]
        value => return Err(format!("{} has no text here", binary::sort(value))),
    })
}

/// As a field of COPY's text format.
pub(super) fn put(kind: &Kind, value: &Value, out: &mut Vec<u8>) -> Result<(), String> {
    let Some(text) = of(kind, value)? else {
        out.extend_from_slice(br"\N");
        return Ok(());
    };
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(br"\\"),
            b'\n' => out.extend_from_slice(br"\n"),
            b'\r' => out.extend_from_slice(br"\r"),
            b'\t' => out.extend_from_slice(br"\t"),
            byte => out.push(byte),
        }
    }
    Ok(())
}

fn shown(value: &Option<impl ToString>) -> Option<String> {
    value.as_ref().map(ToString::to_string)
}

fn hex(kind: &Kind, value: &[u8]) -> String {
    let mut text = String::with_capacity(2 + 2 * value.len());
    // PostGIS's are hexadecimal as they are.
    if *kind != Kind::Place {
        text.push_str("\\x");
    }
    for byte in value {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// PostgreSQL counts years as people do: before 1 came 1 BC.
fn era(year: i32) -> (i32, &'static str) {
    if year > 0 { (year, "") } else { (1 - year, " BC") }
}

fn date(date: NaiveDate, rest: &str) -> String {
    let (year, era) = era(date.year());
    format!("{year:04}-{:02}-{:02}{rest}{era}", date.month(), date.day())
}

/// The same by the crate time, whose month is a type of its own.
#[cfg(feature = "with-time")]
fn day((year, month, day): (i32, impl Into<u8>, u8), rest: &str) -> String {
    let ((year, era), month) = (era(year), month.into());
    format!("{year:04}-{month:02}-{day:02}{rest}{era}")
}

#[cfg(feature = "with-time")]
fn clock((hour, minute, second, micro): (u8, u8, u8, u32)) -> String {
    format!("{hour:02}:{minute:02}:{second:02}.{micro:06}")
}

fn timestamp(at: NaiveDateTime, zone: &str) -> String {
    let more = TimeDelta::nanoseconds(to_micros(at.and_utc().timestamp(), at.nanosecond()));
    let at = at.checked_add_signed(more).unwrap_or(at);
    date(at.date(), &format!(" {}{zone}", at.time().format("%H:%M:%S%.f")))
}

/// The nanoseconds to add for a moment that is of whole microseconds, the same that the driver sends in binary: it
/// cuts off towards 2000, where the server would round a text.
fn to_micros(seconds: i64, nanos: u32) -> i64 {
    const EPOCH: i64 = 946_684_800;
    let over = i64::from(nanos % 1_000);
    match over {
        0 => 0,
        over if seconds < EPOCH => 1_000 - over,
        over => -over,
    }
}

fn array(kind: &Kind, values: &[Value]) -> Result<String, String> {
    let (kind, between) = match kind {
        Kind::Array(element, _) => (&**element, ','),
        Kind::List(between) => (&Kind::Other, *between),
        kind => (kind, ','),
    };
    let mut text = String::from("{");
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            text.push(between);
        }
        match of(kind, value)? {
            Some(value) => {
                text.push('"');
                for char in value.chars() {
                    if matches!(char, '"' | '\\') {
                        text.push('\\');
                    }
                    text.push(char);
                }
                text.push('"');
            }
            None => text.push_str("NULL"),
        }
    }
    text.push('}');
    Ok(text)
}
