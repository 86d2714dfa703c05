//! How long: a bucket's width, a chunk's, an age.

use std::{fmt, time::Duration};

const SECOND: u128 = 1_000_000;
const DAY: u128 = 24 * 60 * 60 * SECOND;

/// A span of time as PostgreSQL counts it: months, which differ in length, or a [`Duration`], in whole
/// microseconds (what is less is cut off).
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
