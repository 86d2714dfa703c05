//! The statements of a migration, as the driver logs them.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::lint;

const DRIVER: &str = "sqlx::query";
/// Where a step for Citus says that it does nothing, because the database has no Citus.
const CITUS: &str = "wharf::ext::citus";

/// Stands before a statement that runs only in a database with Citus.
pub(super) const CITUS_ONLY: &str = "-- with Citus: ";

/// Hears what the driver says of the statements of one future; everything else goes unheard there.
#[derive(Clone, Default)]
pub(super) struct Heard {
    statements: Arc<Mutex<Vec<String>>>,
}

impl Heard {
    pub(super) fn statements(&self) -> Vec<String> {
        let all = self.statements.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // What SeaORM asks of the catalogs for the migration changes nothing.
        let asks = |statement: &String| {
            let lower = statement.to_ascii_lowercase();
            lower.starts_with("select")
                && !lint::tells_citus(&lower)
                && (lower.contains("information_schema") || lower.contains("pg_"))
        };
        all.into_iter().filter(|statement| !asks(statement)).collect()
    }
}

impl Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == DRIVER || metadata.target().starts_with(CITUS)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut statement = Statement::default();
        event.record(&mut statement);
        let mut statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        // The whole text, where the summary is not it.
        let whole = match statement.whole.trim().is_empty() {
            true => statement.summary,
            false => statement.whole,
        };
        // A comment ends with its line.
        statements.push(match event.metadata().target() == DRIVER {
            true => whole.trim().to_owned(),
            false => format!("{CITUS_ONLY}{}", whole.replace('\n', " ")),
        });
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Statement {
    summary: String,
    whole: String,
}

impl Visit for Statement {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.whole),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
