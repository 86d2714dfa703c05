//! How long: a bucket's width, a chunk's, an age.

use std::{fmt, time::Duration};

const SECOND: u128 = 1_000_000;
const DAY: u128 = 24 * 60 * 60 * SECOND;

/// A span of time as PostgreSQL counts it: months, which differ in length, or a [`Duration`], in whole
/// microseconds (what is less is cut off). One that is above 0 and below a microsecond, or longer than PostgreSQL's
/// longest interval, is refused where it is sent, as is 0 where it means nothing.
///
/// ```
/// use std::time::Duration;
/// use wharf::ext::timescale::Interval;
/// assert_eq!(Interval::from(Duration::from_secs(900)).to_string(), "900 seconds");
/// assert_eq!(Interval::days(7).to_string(), "7 days");
/// assert_eq!(Interval::months(1).to_string(), "1 months");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interval(Span);

/// The shortest span that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Least {
    Zero,
    Microsecond,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Span {
    Months(u32),
    Fixed(Duration),
}

impl Interval {
    /// So many minutes.
    #[must_use]
    pub const fn minutes(minutes: u32) -> Interval {
        Interval(Span::Fixed(Duration::from_secs(minutes as u64 * 60)))
    }

    /// So many hours.
    #[must_use]
    pub const fn hours(hours: u32) -> Interval {
        Interval(Span::Fixed(Duration::from_secs(hours as u64 * 3_600)))
    }

    /// So many days of 24 hours.
    #[must_use]
    pub const fn days(days: u32) -> Interval {
        Interval(Span::Fixed(Duration::from_secs(days as u64 * 86_400)))
    }

    /// So many months of the calendar.
    #[must_use]
    pub const fn months(months: u32) -> Interval {
        Interval(Span::Months(months))
    }

    /// Refuses what PostgreSQL would read as another span, or not at all. `least` says whether 0 is one.
    pub(super) fn check(self, what: &str, least: Least) -> Result<(), String> {
        let (is_zero, is_less, is_more) = match self.0 {
            Span::Months(months) => (months == 0, false, months > i32::MAX.unsigned_abs()),
            Span::Fixed(duration) => {
                let micros = duration.as_micros();
                let is_less = micros == 0 && !duration.is_zero();
                (duration.is_zero(), is_less, micros > u128::from(i64::MAX.unsigned_abs()))
            }
        };
        let given = match self.0 {
            Span::Months(_) => self.to_string(),
            Span::Fixed(duration) => format!("{duration:?}"),
        };
        match least {
            _ if is_more => Err(format!(
                "{what} is {given}, longer than PostgreSQL's longest interval; give a shorter one"
            )),
            Least::Microsecond if is_zero || is_less => {
                Err(format!("{what} is {given}; give at least a microsecond"))
            }
            Least::Zero if is_less => Err(format!(
                "{what} is {given}, less than PostgreSQL's smallest interval; give 0 or at least a microsecond"
            )),
            _ => Ok(()),
        }
    }

    /// As a literal; nothing in it needs quoting.
    pub(super) fn sql(self) -> String {
        format!("INTERVAL '{self}'")
    }
}

impl From<Duration> for Interval {
    fn from(duration: Duration) -> Interval {
        Interval(Span::Fixed(duration))
    }
}

impl fmt::Display for Interval {
    /// As PostgreSQL reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = match self.0 {
            Span::Months(months) => return write!(f, "{months} months"),
            Span::Fixed(duration) => duration.as_micros(),
        };
        if micros > 0 && micros.is_multiple_of(DAY) {
            write!(f, "{} days", micros / DAY)
        } else if micros.is_multiple_of(SECOND) {
            write!(f, "{} seconds", micros / SECOND)
        } else {
            write!(f, "{micros} microseconds")
        }
    }
}
