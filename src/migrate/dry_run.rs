//! What the pending migrations would do.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use sea_orm::{ConnectionTrait, TransactionTrait};
use sea_orm_migration::{MigratorTrait, SchemaManager};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    instrument::WithSubscriber as _,
    span,
};

use super::{lint, lint::Finding, run::Run};
use crate::error::Error;

/// What the pending migrations would do; see [`Migrate::dry_run`](super::Migrate::dry_run).
///
/// It displays as SQL, the findings as comments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DryRun {
    /// The pending migrations, in their order.
    pub migrations: Vec<Planned>,
}

/// A migration that is still to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// Its statements.
    pub statements: Vec<String>,
    /// Whether it runs in a transaction.
    pub in_transaction: bool,
    /// Why it did not come to its end here; it may, where those before it have been committed.
    pub error: Option<String>,
    /// What is unsafe in it while others use the database.
    pub findings: Vec<Finding>,
}

impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for migration in &self.migrations {
            writeln!(f, "-- {}", migration.name)?;
            if !migration.in_transaction {
                writeln!(f, "-- outside of a transaction")?;
            }
            for finding in &migration.findings {
                writeln!(f, "-- unsafe: {finding}")?;
            }
            for statement in &migration.statements {
                writeln!(f, "{};", statement.trim().trim_end_matches(';'))?;
            }
            if let Some(error) = &migration.error {
                writeln!(f, "-- incomplete, because the migration failed here: {error}")?;
            }
        }
        Ok(())
    }
}

pub(super) async fn of<M: MigratorTrait>(run: &Run<M>) -> Result<DryRun, Error> {
    let pending = run.pending().await?;
    let mut all = M::migrations();
    all.retain(|migration| pending.iter().any(|(name, _)| name == migration.name()));
    let mut planned = DryRun::default();
    let transaction = run.db.begin().await?;
    // In their schema, where it is there; else the server says that there is none.
    for (migration, (name, in_transaction)) in all.iter().zip(pending) {
        let heard = Heard::default();
        transaction.execute_unprepared("SAVEPOINT dry_run").await?;
        let manager = SchemaManager::new(&transaction);
        let done = migration.up(&manager).with_subscriber(heard.clone()).await;
        if done.is_err() {
            transaction.execute_unprepared("ROLLBACK TO SAVEPOINT dry_run").await?;
        }
        let statements = heard.statements();
        let findings = lint::of(&transaction, &statements).await?;
        planned.migrations.push(Planned {
            name,
            in_transaction,
            error: done.err().map(|error| Error::from(error).to_string()),
            findings,
            statements,
        });
    }
    transaction.rollback().await?;
    Ok(planned)
}

/// Hears what the driver says of the statements of one future; everything else goes unheard there.
#[derive(Clone, Default)]
pub(super) struct Heard {
    statements: Arc<Mutex<Vec<String>>>,
}

impl Heard {
    fn statements(&self) -> Vec<String> {
        let all = self.statements.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // What SeaORM asks of the catalogs for the migration changes nothing.
        let asks = |statement: &String| {
            let lower = statement.to_ascii_lowercase();
            lower.starts_with("select")
                && (lower.contains("information_schema") || lower.contains("pg_"))
        };
        all.into_iter().filter(|statement| !asks(statement)).collect()
    }
}

impl Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
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
        statements.push(whole.trim().to_owned());
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
