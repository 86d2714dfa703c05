//! The program, and the migrations that it knows.

use std::process::ExitCode;

use sea_orm_migration::MigratorTrait;

use super::args::Cli;
use super::migrate::{Known, Migrations};
use super::{complete, log, out, run};

/// The program `wharf` with a project's migrations in it: the `main` of the crate `migration`.
///
/// ```no_run
/// # use sea_orm_migration::{MigrationTrait, MigratorTrait};
/// # struct Migrator;
/// # impl MigratorTrait for Migrator {
/// #     fn migrations() -> Vec<Box<dyn MigrationTrait>> { Vec::new() }
/// # }
/// fn main() -> std::process::ExitCode {
///     wharf::cli::Program::new().migrations::<Migrator>("shop").main()
/// }
/// ```
///
/// `wharf migrate …` and `wharf entity …` build it and hand over to it. It is whole by itself, too: a
/// deployment runs it as `migration migrate up`, without cargo.
#[derive(Debug, Default)]
pub struct Program {
    pub(super) migrations: Vec<Known>,
}

impl Program {
    /// One that knows no migrations.
    #[must_use]
    pub fn new() -> Program {
        Program::default()
    }

    /// The migrations of a database, by its name in the file.
    #[must_use]
    pub fn migrations<M: MigratorTrait + 'static>(mut self, database: &str) -> Program {
        self.migrations
            .push(Known { database: database.to_owned(), migrations: Migrations::of::<M>() });
        self
    }

    /// Runs the command that the process was started with.
    ///
    /// It sets up a runtime, a log and signal handlers, so it is to be called from `main` and by nobody
    /// else.
    #[must_use]
    pub fn main(self) -> ExitCode {
        complete::answer();
        let cli = Cli::read();
        let json = cli.command.wants_json();
        log::listen(cli.verbose);
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                out::error(&format!("could not create a runtime: {error}"));
                return ExitCode::FAILURE;
            }
        };
        let done = runtime.block_on(run(cli, &self));
        // Whoever reads standard input reads on until there is some.
        runtime.shutdown_background();
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                failure.report(json);
                failure.code()
            }
        }
    }
}
