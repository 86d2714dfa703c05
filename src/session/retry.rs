//! Running a whole transaction again.

use std::time::Duration;

use super::{Session, SessionBuilder};
use crate::{
    error::{Error, driver_error},
    pool::is_fatal,
};

/// The first pause; each further one is twice as long, up to the longest. Each is shortened by up
/// to a half at random, so that two transactions that met do not meet again.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A session whose work is run again where that may help.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before it is run"]
pub struct Retry {
    pub(super) session: SessionBuilder,
    pub(super) retries: u32,
}

impl Retry {
    /// As [`SessionBuilder::run`]; and where the transaction failed by a serialization failure
    /// (40001), a deadlock (40P01), a prepared statement gone stale (0A000, 26000, XX000 of a type that was made
    /// anew), a write that a standby refused (25006), or a connection lost before COMMIT was
    /// sent, runs `work` from its beginning in a new session, after a
    /// pause of 5 to 10 ms that doubles each time up to 1 s. So `work` must have no effect but through its session, and may be called
    /// `retries` + 1 times.
    ///
    /// What counts is how the session's own statements failed, whatever error `work` makes of it.
    ///
    /// ```no_run
    /// # async fn doc(pg: wharf::Pg) -> Result<(), wharf::Error> {
    /// use sea_orm::{ConnectionTrait, IsolationLevel::Serializable};
    /// pg.session()
    ///     .isolation(Serializable)
    ///     .retry(5)
    ///     .run(async |s| s.execute_unprepared("UPDATE stock SET left = left - 1").await)
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # In a task or an axum handler
    /// A closure that borrows from around it makes a future that the compiler cannot prove to be `Send`
    /// ("implementation of `Send` is not general enough"), so `tokio::spawn` and axum refuse it. Move owned values
    /// in, and give each call its own copy:
    /// ```no_run
    /// # fn is_handler<F: Future<Output = Result<(), wharf::Error>> + Send>(_: fn(wharf::Pg, Order) -> F) {}
    /// # #[derive(Clone)] struct Order { item: String }
    /// # async fn buy(s: &wharf::Session, order: Order) -> Result<(), wharf::Error> { Ok(()) }
    /// async fn handler(pg: wharf::Pg, order: Order) -> Result<(), wharf::Error> {
    ///     pg.session().retry(3).run(async move |s| buy(s, order.clone()).await).await
    /// }
    /// # fn main() { is_handler(handler) }
    /// ```
    ///
    /// # Errors
    /// Those of the last attempt. [`Error::CommitUnknown`] is never tried again.
    pub async fn run<T, E, F>(mut self, work: F) -> Result<T, E>
    where
        F: AsyncFn(&Session) -> Result<T, E>,
        E: From<Error>,
    {
        let mut pause = PAUSE;
        for _ in 0..self.retries {
            match attempt(&self.session, &work).await {
                Attempt::Done(result) => return result,
                Attempt::Again => {
                    tokio::time::sleep(pause.mul_f64(1.0 - fastrand::f64() / 2.0)).await;
                    pause = LONGEST_PAUSE.min(pause * 2);
                    self.session = self.session.after_conflict();
                }
            }
        }
        self.session.run(work).await
    }
}

enum Attempt<T, E> {
    Done(Result<T, E>),
    Again,
}

/// Whether a session that could not be committed, for this reason, may go well in another attempt.
fn is_worth_another(error: &Error, failed_by_chance: bool) -> bool {
    match error {
        Error::CommitUnknown { .. } => false,
        // Of a statement whose error the work passed over.
        Error::RolledBack { .. } | Error::SessionEnded { .. } => failed_by_chance,
        // Lost before COMMIT was sent: afterwards it would be unknown.
        Error::Db(lost) if driver_error(lost).is_some_and(is_fatal) => true,
        error => error.is_retryable(),
    }
}

async fn attempt<T, E, F>(session: &SessionBuilder, work: &F) -> Attempt<T, E>
where
    F: AsyncFn(&Session) -> Result<T, E>,
    E: From<Error>,
{
    let session = match session.clone().await {
        Ok(session) => session,
        Err(error) => return Attempt::Done(Err(error.into())),
    };
    match work(&session).await {
        Ok(value) => {
            let by_chance = session.failed_by_chance().await;
            match session.end(true).await {
                Ok(()) => Attempt::Done(Ok(value)),
                Err(error) if is_worth_another(&error, by_chance) => Attempt::Again,
                Err(error) => Attempt::Done(Err(error.into())),
            }
        }
        Err(error) => {
            if session.was_refused_write().await {
                let again = session.ends_on_standby().await;
                return if again { Attempt::Again } else { Attempt::Done(Err(error)) };
            }
            let again = session.failed_by_chance().await;
            session.roll_back_quietly().await;
            if again { Attempt::Again } else { Attempt::Done(Err(error)) }
        }
    }
}
