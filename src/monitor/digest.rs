//! One kind of statement.

use std::sync::Arc;

use super::{
    Fingerprint,
    fingerprint::{self, Outline},
};

/// One kind of statement: what is the same in all that differ only in values and in the length of lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    fingerprint: Fingerprint,
    text: Box<str>,
    operation: &'static str,
    table: Option<Arc<str>>,
    controls_transaction: bool,
    is_cursor_step: bool,
}

impl Digest {
    pub(super) fn new(sql: &str, outline: Outline<'_>) -> Digest {
        const CONTROL: [&str; 8] =
            ["BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"];
        // Statements that work on a declared cursor.
        const CURSOR_STEPS: [&str; 3] = ["FETCH", "MOVE", "CLOSE"];
        Digest {
            is_cursor_step: CURSOR_STEPS.contains(&outline.operation),
            controls_transaction: CONTROL.contains(&outline.operation),
            fingerprint: outline.fingerprint,
            text: fingerprint::normalized(sql).into(),
            operation: outline.operation,
            table: outline.table.map(|name| name.replace('"', "").into()),
        }
    }

    /// What it goes by in the log.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Its text, with `?` for literals and `...` for what repeats itself in a list; cut off after 2,000
    /// bytes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its command, in upper case; after `WITH` the main statement's. `_OTHER` if it is none of
    /// PostgreSQL's.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// The table that it is about, as far as its text tells at a glance: the one behind FROM, INTO or
    /// UPDATE, with its schema where the statement names that.
    pub fn table(&self) -> Option<&str> {
        self.table.as_deref()
    }

    pub(super) fn shared_table(&self) -> Option<&Arc<str>> {
        self.table.as_ref()
    }

    /// Whether it begins or ends a transaction or a part of one.
    pub(super) fn controls_transaction(&self) -> bool {
        self.controls_transaction
    }

    /// Whether it is FETCH, MOVE or CLOSE, which do not count as N+1.
    pub(super) fn is_cursor_step(&self) -> bool {
        self.is_cursor_step
    }

    /// As spans are named by OpenTelemetry's conventions.
    #[cfg(feature = "tracing-spans")]
    pub(super) fn summary(&self) -> String {
        match &self.table {
            Some(table) => format!("{} {table}", self.operation),
            None => self.operation.to_owned(),
        }
    }
}
