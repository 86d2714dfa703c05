//! The log of slow statements, which cannot be flooded.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sea_orm::Values;

use super::{Fingerprint, StatementEvent};

/// In this time one line of each kind of statement is logged, and then how many more there were.
const WINDOW: Duration = Duration::from_secs(10);

/// Most lines in that time, and most kinds of which is known how many more there were.
const MOST_LINES: usize = 20;

/// How many characters of the values are shown.
const MOST_VALUES: usize = 1_000;

#[derive(Default)]
pub(super) struct SlowLog {
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    began: Option<Instant>,
    /// Those of which a line was logged.
    logged: HashMap<Fingerprint, Folded>,
    /// All others.
    others: Folded,
}

/// What was not logged line by line.
#[derive(Default)]
struct Folded {
    text: String,
    number: u64,
    slowest: Duration,
}

impl Folded {
    fn add(&mut self, elapsed: Duration) {
        self.number += 1;
        self.slowest = self.slowest.max(elapsed);
    }
}

impl SlowLog {
    /// `values` are shown where there are any.
    pub(super) fn tell(&self, event: &StatementEvent<'_>, values: Option<Values>, now: Instant) {
        let past = {
            let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            let past = window.past(now);
            if !window.opens(event, now) {
                drop(window);
                return past.into_iter().for_each(|past| past.log(event.database));
            }
            past
        };
        past.into_iter().for_each(|past| past.log(event.database));
        log(event, values);
    }

    /// Tells what was folded, whether its time is over or not.
    pub(super) fn end(&mut self, database: &str) {
        let window = self.window.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(window).log(database);
    }

    pub(super) fn tick(&self, database: &str, now: Instant) {
        let past = {
            let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            window.past(now)
        };
        past.into_iter().for_each(|past| past.log(database));
    }
}

impl Window {
    /// The window, if it is over; a new one begins with the next slow statement.
    fn past(&mut self, now: Instant) -> Option<Window> {
        let over = self.began.is_some_and(|began| now.saturating_duration_since(began) >= WINDOW);
        over.then(|| std::mem::take(self))
    }

    /// Whether the statement gets a line.
    fn opens(&mut self, event: &StatementEvent<'_>, now: Instant) -> bool {
        self.began.get_or_insert(now);
        let fingerprint = event.digest.fingerprint();
        if let Some(folded) = self.logged.get_mut(&fingerprint) {
            folded.add(event.elapsed);
            return false;
        }
        if self.logged.len() >= MOST_LINES {
            self.others.add(event.elapsed);
            return false;
        }
        let text = event.digest.text().to_owned();
        self.logged.insert(fingerprint, Folded { text, ..Folded::default() });
        true
    }

    fn log(self, database: &str) {
        for (fingerprint, Folded { text, number, slowest }) in self.logged {
            if number > 0 {
                tracing::warn!(
                    %database, %fingerprint, number, slowest = format_args!("{slowest:.1?}"),
                    "{number} more slow statements of this kind within {WINDOW:?}: {text}",
                );
            }
        }
        let Folded { number, slowest, .. } = self.others;
        if number > 0 {
            tracing::warn!(
                %database, number, slowest = format_args!("{slowest:.1?}"),
                "{number} more slow statements within {WINDOW:?}, beyond the {MOST_LINES} kinds that were logged",
            );
        }
    }
}

fn log(event: &StatementEvent<'_>, values: Option<Values>) {
    let values = values.map(|Values(values)| {
        let mut shown = format!("{values:?}");
        if let Some((at, _)) = shown.char_indices().nth(MOST_VALUES) {
            shown.truncate(at);
            shown.push('…');
        }
        shown
    });
    tracing::warn!(
        database = %event.database,
        fingerprint = %event.digest.fingerprint(),
        elapsed = format_args!("{:.1?}", event.elapsed),
        wait = event.wait.map(|wait| tracing::field::display(format!("{wait:.1?}"))),
        rows = event.rows,
        error = event.error_type(),
        in_transaction = event.in_transaction,
        read_only = event.read_only,
        opened_at = event.opened_at.map(tracing::field::display),
        values,
        "slow statement: {}",
        event.digest.text(),
    );
}
