//! What `#[wharf::test]` becomes.

use std::process::ExitCode;

use super::TestDatabase;
use crate::error::Error;

/// What a test gives, and whether that is a failure.
pub trait Outcome {
    #[doc(hidden)]
    fn is_failure(&self) -> bool;
}

impl Outcome for () {
    fn is_failure(&self) -> bool {
        false
    }
}

impl Outcome for ExitCode {
    fn is_failure(&self) -> bool {
        *self != ExitCode::SUCCESS
    }
}

impl<T, E> Outcome for Result<T, E> {
    fn is_failure(&self) -> bool {
        self.is_err()
    }
}

/// Runs a test on a runtime of its own, with a database that is kept if the test fails.
///
/// # Panics
/// Where there is no database: the test has failed.
#[doc(hidden)]
#[allow(clippy::panic)] // A test says so that it failed.
pub fn run<T: Outcome>(
    database: impl Future<Output = Result<TestDatabase, Error>>,
    test: impl AsyncFnOnce(&TestDatabase) -> T,
) -> T {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("could not create a runtime: {error}"),
    };
    runtime.block_on(async {
        let database = match database.await {
            Ok(database) => database,
            Err(error) => panic!("could not create this test's database: {error}"),
        };
        let outcome = test(&database).await;
        if outcome.is_failure() {
            database.keep();
        }
        outcome
    })
}
