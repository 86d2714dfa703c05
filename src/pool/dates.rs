//! Dates and times that Rust's types do not hold: the driver would panic where somebody reads one.

use sea_orm::DbErr;
use sqlx::{
    Column as _, Row as _, ValueRef as _,
    postgres::{PgRow, PgValueFormat, PgValueRef},
};

/// The days that chrono can represent (years -262142 to 262141), counted from 2000-01-01 as PostgreSQL does. The crate
/// `time` can represent more, with its feature `large-dates`, which `with-time` switches on.
const DAYS: std::ops::RangeInclusive<i64> = -96_475_000..=95_015_000;

const MICROSECONDS_A_DAY: i64 = 86_400_000_000;

/// PostgreSQL's numbers of the types, from its catalog `pg_type.dat`.
#[derive(Clone, Copy)]
enum Dated {
    /// `date`: days in 32 bits.
    Days,
    /// `timestamp` and `timestamptz`: microseconds in 64 bits.
    Microseconds,
    DaysArray,
    MicrosecondsArray,
}

impl Dated {
    fn of(oid: u32) -> Option<Dated> {
        match oid {
            1082 => Some(Dated::Days),
            1114 | 1184 => Some(Dated::Microseconds),
            1182 => Some(Dated::DaysArray),
            1115 | 1185 => Some(Dated::MicrosecondsArray),
            _ => None,
        }
    }
}

/// Refuses rows of one result that hold `infinity` or a year that no Rust type holds. Looks at the columns of the
/// first row once, and at each value of a column with dates.
pub(super) fn check(rows: &[PgRow]) -> Result<(), DbErr> {
    let Some(first) = rows.first() else { return Ok(()) };
    let dated = first.columns().iter().filter_map(|column| {
        let oid = column.type_info().oid()?;
        Some((column.ordinal(), column.name(), Dated::of(oid.0)?))
    });
    for (at, name, dated) in dated {
        for row in rows {
            // A value that cannot be had is the error of whoever reads it.
            let Ok(value) = row.try_get_raw(at) else { continue };
            if let Some(day) = beyond(&value, dated) {
                return Err(DbErr::Type(format!(
                    "column `{name}` holds {day}, which no Rust date type can hold; select it as text, or as NULL \
                     by `CASE WHEN isfinite({name}) THEN {name} END`"
                )));
            }
        }
    }
    Ok(())
}

/// Describes a value that no Rust type can represent; `None` for any other.
fn beyond(value: &PgValueRef<'_>, dated: Dated) -> Option<String> {
    if value.is_null() || value.format() != PgValueFormat::Binary {
        return None;
    }
    let bytes = value.as_bytes().ok()?;
    match dated {
        Dated::Days => day(bytes),
        Dated::Microseconds => moment(bytes),
        Dated::DaysArray => elements(bytes).find_map(day),
        Dated::MicrosecondsArray => elements(bytes).find_map(moment),
    }
}

fn day(bytes: &[u8]) -> Option<String> {
    let days = i32::from_be_bytes(bytes.try_into().ok()?);
    match days {
        i32::MAX => Some("`infinity`".to_owned()),
        i32::MIN => Some("`-infinity`".to_owned()),
        days => too_far(days.into()),
    }
}

fn moment(bytes: &[u8]) -> Option<String> {
    let microseconds = i64::from_be_bytes(bytes.try_into().ok()?);
    match microseconds {
        i64::MAX => Some("`infinity`".to_owned()),
        i64::MIN => Some("`-infinity`".to_owned()),
        some => too_far(some.div_euclid(MICROSECONDS_A_DAY)),
    }
}

fn too_far(days: i64) -> Option<String> {
    let year = 2000 + days * 400 / 146_097;
    (!DAYS.contains(&days)).then(|| format!("a day in the year {year}"))
}

/// The elements of an array but its NULLs: dimensions, flags and type stand before them, each has its length.
fn elements(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let number = |at: usize| -> Option<usize> {
        let bytes = bytes.get(at..at + 4)?;
        i32::from_be_bytes(bytes.try_into().ok()?).try_into().ok()
    };
    let mut rest =
        number(0).and_then(|dimensions| bytes.get(12 + 8 * dimensions..)).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        // A NULL has the length -1.
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        let element = after.get(..length)?;
        rest = &after[length..];
        Some(element)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_where_the_types_end() {
        assert!(moment(&0i64.to_be_bytes()).is_none());
        assert!(day(&2_900_000i32.to_be_bytes()).is_none());
        assert_eq!(moment(&i64::MAX.to_be_bytes()).unwrap(), "`infinity`");
        assert_eq!(day(&i32::MIN.to_be_bytes()).unwrap(), "`-infinity`");
        assert_eq!(day(&107_000_000i32.to_be_bytes()).unwrap(), "a day in the year 294956");
    }

    #[test]
    fn an_array_is_read_element_by_element() {
        let one = [8i32.to_be_bytes().to_vec(), i64::MAX.to_be_bytes().to_vec()].concat();
        let null = (-1i32).to_be_bytes().to_vec();
        let head: Vec<u8> = [1i32, 1, 1184, 2, 1].iter().flat_map(|n| n.to_be_bytes()).collect();
        let array = [head, null, one].concat();
        let lengths: Vec<usize> = elements(&array).map(<[u8]>::len).collect();
        assert_eq!(lengths, [0, 8]);
        assert_eq!(elements(&array).find_map(moment).unwrap(), "`infinity`");
        assert_eq!(elements(&[0, 0]).count(), 0);
    }
}
