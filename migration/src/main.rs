//! The program `wharf` with these migrations in it: `wharf migrate` builds and runs it.

use migration::{audit, library, shop};

fn main() -> std::process::ExitCode {
    wharf::cli::Program::new()
        .migrations::<shop::Migrator>("shop")
        .migrations::<audit::Migrator>("audit")
        .migrations::<library::Migrator>("library")
        .main()
}
