//! What `#[wharf::test]` becomes.

use std::{
    convert::Infallible,
    fmt::{Debug, Display},
    process::ExitCode,
};

use super::TestDatabase;
use crate::error::Error;

/// What a test gives, and why it failed.
#[doc(hidden)]
pub trait Outcome {
    type Failure;

    fn failure(self) -> Option<Self::Failure>;
}

impl Outcome for () {
    type Failure = Infallible;

    fn failure(self) -> Option<Infallible> {
        None
    }
}

impl Outcome for ExitCode {
    type Failure = &'static str;

    fn failure(self) -> Option<&'static str> {
        (self != ExitCode::SUCCESS).then_some("the test gave an exit code of failure")
    }
}

impl<T, E> Outcome for Result<T, E> {
    type Failure = E;

    fn failure(self) -> Option<E> {
        self.err()
    }
}

/// An error of a test, shown as people read it: what the harness shows of a `Result` is for programmers. The method of
/// [`ByDisplay`] goes first, because that of [`ByDebug`] needs one reference more.
#[doc(hidden)]
#[derive(Debug)]
pub struct Failure<E>(pub E);

#[doc(hidden)]
pub trait ByDisplay {
    fn text(&self) -> String;
}

#[doc(hidden)]
pub trait ByDebug {
    fn text(&self) -> String;
}

impl<E: Display> ByDisplay for Failure<E> {
    fn text(&self) -> String {
        // With its causes, for errors that list them so.
        format!("{:#}", self.0)
    }
}

impl<E: Debug> ByDebug for &Failure<E> {
    fn text(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// The runtime of a test.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Flavor {
    CurrentThread,
    /// So many threads; as many as the machine has cores by default.
    MultiThread(Option<usize>),
}

/// Runs a test on a runtime of its own, with a database that is kept if the test fails.
///
/// # Panics
/// Where there is no database: the test has failed.
#[doc(hidden)]
#[allow(clippy::panic)] // A test says so that it failed.
pub fn run<T: Outcome>(
    flavor: Flavor,
    database: impl Future<Output = Result<TestDatabase, Error>>,
    test: impl AsyncFnOnce(&TestDatabase) -> T,
) -> Option<T::Failure> {
    let mut builder = match flavor {
        Flavor::CurrentThread => tokio::runtime::Builder::new_current_thread(),
        Flavor::MultiThread(_) => tokio::runtime::Builder::new_multi_thread(),
    };
    if let Flavor::MultiThread(Some(threads)) = flavor {
        builder.worker_threads(threads);
    }
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("could not create a runtime: {error}"),
    };
    runtime.block_on(async {
        let database = match database.await {
            Ok(database) => database,
            Err(error) => panic!("could not create this test's database: {error}"),
        };
        let failure = test(&database).await.failure();
        if failure.is_some() {
            database.keep();
        }
        failure
    })
}
