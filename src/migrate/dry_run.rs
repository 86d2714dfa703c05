//! What the pending migrations would do.

use std::fmt;

use sea_orm::ConnectionTrait as _;
use sea_orm_migration::{MigrationTrait, MigratorTrait, SchemaManager};

use super::{
    heard::Heard,
    lint::{self, Finding, Linter},
    run::Run,
    step::{self, Direction},
    transaction::Transaction,
};
use crate::{error::Error, pg::Pg};

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

/// Runs the pending migrations on the database itself, in one transaction that is rolled back.
pub(super) async fn on_target<M: MigratorTrait>(run: &Run<M>) -> Result<DryRun, Error> {
    let mut planned = DryRun::default();
    let mut linter = Linter::default();
    // Asked first, because the transaction has the only connection.
    let pending = run.pending().await?;
    let transaction = Transaction::begin(&run.db, &run.reset).await?;
    // In their schema, if it exists; else the server says that there is none.
    for migration in pending {
        let heard = Heard::default();
        transaction.open().execute_unprepared("SAVEPOINT dry_run").await?;
        let manager = SchemaManager::new(transaction.open());
        let done = async {
            step::call(&*migration, Direction::Up, &manager, Some(&heard)).await?;
            transaction.reset().await
        };
        let mut error = done.await.err();
        let mut goes_on = true;
        if error.is_some() {
            let back = "ROLLBACK TO SAVEPOINT dry_run";
            // A raw COMMIT or ROLLBACK has ended the transaction, and with it the dry run.
            goes_on = transaction.open().execute_unprepared(back).await.is_ok();
        } else if let Err(ended) = transaction.open().execute_unprepared("SAVEPOINT dry_run").await
        {
            (error, goes_on) = (Some(ended), false);
        }
        let statements = heard.statements();
        let mut findings = Vec::new();
        if goes_on {
            findings = linter.findings(transaction.open(), &statements).await?;
            lint::measure(transaction.open(), &mut findings).await?;
        }
        planned.add(&*migration, error.map(Error::from), statements, findings);
        if !goes_on {
            break;
        }
    }
    transaction.roll_back().await;
    Ok(planned)
}

/// Applies to a scratch database what is applied to `target`, then the pending migrations. Only reads from `target`, if
/// that exists.
pub(super) async fn on_scratch<M: MigratorTrait>(
    run: &Run<M>,
    target: Option<&Pg>,
    applied: &[String],
) -> Result<DryRun, Error> {
    let mut planned = DryRun::default();
    let mut linter = Linter::default();
    run.provision().await?;
    // A migration that was applied after one that is pending stays behind it.
    let (before, pending): (Vec<_>, Vec<_>) = run
        .pending()
        .await?
        .into_iter()
        .partition(|it| applied.iter().any(|name| name == it.name()));
    run.install().await?;
    for migration in before {
        let heard = Heard::default();
        run.steps().run(&*migration, Direction::Up, Some(&heard)).await?;
        linter.learn(&run.db, &heard.statements()).await?;
    }
    if let Some(target) = target {
        linter.learn_from(target, &run.db).await?;
    }
    for migration in pending {
        let heard = Heard::default();
        let done = run.steps().run(&*migration, Direction::Up, Some(&heard)).await;
        let statements = heard.statements();
        let mut findings = linter.findings(&run.db, &statements).await?;
        if let Some(target) = target {
            lint::measure(target, &mut findings).await?;
        }
        let failed = done.is_err();
        planned.add(&*migration, done.err(), statements, findings);
        if failed {
            break;
        }
    }
    Ok(planned)
}

impl DryRun {
    fn add(
        &mut self,
        migration: &dyn MigrationTrait,
        error: Option<Error>,
        statements: Vec<String>,
        findings: Vec<Finding>,
    ) {
        self.migrations.push(Planned {
            name: migration.name().to_owned(),
            in_transaction: step::is_in_transaction(migration),
            error: error.map(|error| error.to_string()),
            findings,
            statements,
        });
    }
}
