//! What adds up over the statements of one kind.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{Outcome, StatementEvent};

/// How exact percentiles are: to two digits. Memory grows with the longest time seen: 3 kB for 10 ms,
/// 8 kB for 10 s.
const DIGITS: u8 = 2;

#[derive(Clone)]
pub(super) struct Figures {
    pub(super) calls: u64,
    pub(super) errors: u64,
    pub(super) dropped: u64,
    pub(super) slow: u64,
    pub(super) rows: u64,
    pub(super) wait: Duration,
    pub(super) total: Duration,
    pub(super) max: Duration,
    pub(super) last_seen: Option<Instant>,
    /// In µs; there is none if the crate says that there can be none with so many digits.
    times: Option<Histogram<u32>>,
}

impl Figures {
    pub(super) fn new() -> Figures {
        Figures {
            calls: 0,
            errors: 0,
            dropped: 0,
            slow: 0,
            rows: 0,
            wait: Duration::ZERO,
            total: Duration::ZERO,
            max: Duration::ZERO,
            last_seen: None,
            times: Histogram::new(DIGITS).ok(),
        }
    }

    #[inline]
    pub(super) fn record(&mut self, event: &StatementEvent<'_>, slow: bool, now: Instant) {
        self.calls += 1;
        match event.outcome {
            Outcome::Done => {}
            Outcome::Failed { .. } => self.errors += 1,
            Outcome::Dropped => self.dropped += 1,
        }
        self.slow += u64::from(slow);
        self.rows = self.rows.saturating_add(event.rows.unwrap_or(0));
        self.wait = self.wait.saturating_add(event.wait.unwrap_or_default());
        self.total = self.total.saturating_add(event.elapsed);
        self.max = self.max.max(event.elapsed);
        self.last_seen = Some(now);
        let micros = u64::try_from(event.elapsed.as_micros()).unwrap_or(u64::MAX);
        if let Some(times) = &mut self.times {
            // It grows as it needs to.
            let _ = times.record(micros);
        }
    }

    /// The time within which this share of the statements was done.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        let micros = self.times.as_ref().map_or(0, |times| times.value_at_quantile(share));
        // Rounded up to the last digit that counts, it would come out above the greatest.
        Duration::from_micros(micros).min(self.max)
    }
}
