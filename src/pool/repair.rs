//! Puts right what a connection is in: before it is used, and when it comes back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use super::{
    Check, Lent, Open, Purpose,
    lent::{Wait, is_fatal},
    state::{Failures, Plans, State, Transaction, Work},
};
use crate::{
    monitor::{Context, Outcome},
    statement::{Leaves, Text},
};

/// Longest time for the ping of a connection that has idled; one that takes longer is replaced.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection on which a ping is not answered for as long is taken for lost, with those that have idled longer.
const CONVINCING_SILENCE: Duration = Duration::from_millis(500);

/// How long the end of a statement whose future was dropped is waited for. Most end within
/// milliseconds, and a connection costs the server more than that; one that does not is closed,
/// which has the server cancel the statement.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(100);

/// Longest time for everything else; closing the connection comes to the same for the server.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns to what the connection started with, but keeps its prepared statements. The comments tell `wharf top` whose
/// these are, in pg_stat_statements.
const RESET: &str = "CLOSE /* wharf pool */ ALL; \
                     SET /* wharf pool */ SESSION AUTHORIZATION DEFAULT; \
                     RESET /* wharf pool */ ALL; UNLISTEN /* wharf pool */ *; \
                     SELECT /* wharf pool */ pg_advisory_unlock_all(); \
                     DISCARD /* wharf pool */ TEMP; DISCARD /* wharf pool */ SEQUENCES";

/// The outcome of the check before a connection is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    Lost,
    /// It has not answered within the time that there was.
    Silent,
}

impl Lent {
    /// Whether the connection can be used as it is.
    pub(super) fn is_ready(&self) -> bool {
        let Check { ping, forget_statements } = self.check;
        !ping && !forget_statements
    }

    /// Sees to what has to be seen to before the connection is used.
    pub(super) async fn make_ready(&mut self, deadline: Option<Instant>) -> Readiness {
        if self.is_ready() {
            return Readiness::Ready;
        }
        let Check { forget_statements, .. } = std::mem::take(&mut self.check);
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let longest = self.standby_limit().map_or(PING_TIMEOUT, |limit| limit.min(PING_TIMEOUT));
        let limit = longest.min(left.unwrap_or(longest));
        let checked = tokio::time::timeout(limit, async {
            match forget_statements {
                // Answers as a ping does.
                true => self.forget_statements().await,
                false => self.ping().await,
            }
        });
        match checked.await {
            Ok(Ok(())) => Readiness::Ready,
            Ok(Err(_)) => Readiness::Lost,
            Err(_) => {
                // Where the caller had little time, that says nothing of the connections.
                if limit >= CONVINCING_SILENCE {
                    // The others have idled for longer and are not worth as long a wait each.
                    self.state.work = Work::Broken;
                    self.pool.evict();
                }
                Readiness::Silent
            }
        }
    }

    async fn ping(&mut self) -> Result<(), sqlx::Error> {
        let flight = self.in_flight().map_err(|_| sqlx::Error::PoolClosed)?;
        let answered = flight.wait.until(flight.driver.ping()).await;
        flight.land(answered)
    }

    /// Has the driver prepare every statement anew.
    async fn forget_statements(&mut self) -> Result<(), sqlx::Error> {
        let flight = self.in_flight().map_err(|_| sqlx::Error::PoolClosed)?;
        let forgotten = flight.wait.until(forget(flight.driver)).await;
        flight.land(forgotten)?;
        if self.state.plans.are_stale() {
            self.state.plans = Plans::Renewed;
        }
        if let Some(open) = &mut self.open {
            open.prepares_since = Instant::now();
            open.memory.texts.forget_types();
        }
        Ok(())
    }

    /// Whether the statement that has just failed may be sent again: it did nothing, because it was
    /// prepared for something else than there is now, and the next one is prepared anew.
    ///
    /// `text` is the statement's hash. If it went stale in a scoped view, it is prepared for each schema from then on.
    pub(super) async fn recover_if_stale(&mut self, text: Option<u64>) -> bool {
        if self.state.plans != Plans::Stale || self.state.work == Work::Broken {
            return false;
        }
        if let (Some(text), Some(_)) = (text, self.scope()) {
            self.pool.connector.host.note_difference(text);
        }
        Box::pin(self.recover()).await
    }

    async fn recover(&mut self) -> bool {
        self.pool.queue().distrust_statements();
        if let (true, Some(open)) = (self.is_pooled(), &self.open) {
            self.pool.connector.host.note_stale(open.memory.generation);
        }
        // In a transaction the server takes nothing more before a ROLLBACK.
        if self.state.transaction != Transaction::None || self.forget_statements().await.is_err() {
            return false;
        }
        tracing::debug!(database = %self.pool.name(), "preparing a stale statement again");
        true
    }

    /// Waits until a statement whose future was dropped has ended, if it has within `limit`.
    ///
    /// An error of that statement is nobody's here: only that the transaction has failed is known
    /// from then on ([`last_failed`](Lent::last_failed)).
    pub(crate) async fn drain(&mut self, limit: Option<Duration>) -> Result<(), sqlx::Error> {
        if self.state.work == Work::Copy {
            return Err(sqlx::Error::PoolTimedOut);
        }
        let flight = self.in_flight().map_err(|_| sqlx::Error::PoolClosed)?;
        let mut failures = Vec::new();
        let ended = end(flight.driver, flight.wait, &mut failures);
        let ended = match limit {
            Some(limit) => tokio::time::timeout(limit, ended).await,
            None => Ok(ended.await),
        };
        flight.land(ended.map_err(|_| sqlx::Error::PoolTimedOut)?)?;
        self.state.dropped = true;
        failures.iter().for_each(|failure| self.state.note(failure));
        self.state.last_failed = !failures.is_empty();
        Ok(())
    }

    /// Whether dropping it ends its transaction then and there, without a task: nothing is in it but
    /// an open transaction, whose last statement's answer was read to its end.
    pub(crate) fn rolls_back_when_dropped(&self) -> bool {
        let State { work, transaction, failures, leaves, plans, dropped, .. } = self.state;
        let is_open = work == Work::Idle && transaction == Transaction::Open && !dropped;
        let only = failures == Failures::None && leaves == Leaves::Nothing && !plans.are_stale();
        // The embedded engine's goes to another pool, which closes it.
        is_open && only && self.claim.is_none() && !self.was_refused_write()
    }

    /// Ends the transaction without waiting for the answer. Whether that could be sent.
    fn roll_back_unheard(&self, open: &mut Open) -> bool {
        const ROLLBACK: &str = "ROLLBACK";
        let monitor = self.pool.meter().monitor();
        let context = Context {
            started: Instant::now(),
            wait: None,
            in_transaction: true,
            read_only: self.pool.connector.to.read_only,
            opened_at: open.opened_at,
            author: None,
            view: None,
        };
        let Open { driver, memory, .. } = open;
        let running = monitor
            .is_enabled()
            .then(|| monitor.start(&mut memory.ledger, Text::new(ROLLBACK), context));
        let sent = send_rollback(driver, ROLLBACK);
        if let (true, Some(Ok(running))) = (sent, running) {
            running.end(Outcome::Done, None);
        }
        sent
    }

    /// Puts the connection right off the caller's path, or closes it.
    fn repair_in_background(mut self, runtime: tokio::runtime::Handle) {
        let before = self.state;
        // A runtime that shuts down drops the task unrun: then the connection is to be closed, not
        // to be repaired in a task of its own once more.
        self.state.work = Work::Broken;
        if let Some(claim) = &self.claim {
            claim.ends_by_itself();
        }
        if let Some(open) = &mut self.open {
            self.pool.given_back(open, Instant::now());
            self.pool.queue().enter_anew(open, Purpose::CleanUp);
        }
        runtime.spawn(async move {
            let repaired = tokio::time::timeout(REPAIR_TIMEOUT, self.repair(before)).await;
            if !matches!(repaired, Ok(Ok(()))) {
                self.close();
            }
        });
    }

    async fn repair(&mut self, before: State) -> Result<(), sqlx::Error> {
        if before.work.is_in_flight() {
            self.drain(Some(DRAIN_TIMEOUT)).await?;
        }
        let set_after = self.pool.connector.to.set_after();
        let mut sql = Vec::new();
        let rolls_back = self.has_transaction(before).await?;
        if rolls_back {
            sql.push("ROLLBACK");
        }
        if before.leaves == Leaves::Settings {
            sql.push(RESET);
            sql.extend(set_after.as_deref());
        }
        if !sql.is_empty() {
            // The transaction was the caller's, and all else is nobody's statement.
            let seen = if rolls_back { "ROLLBACK" } else { "" };
            self.clean_up(&sql.join("; "), seen).await?;
        }
        let is_leftover = before.dropped || self.state.dropped;
        if is_leftover && self.is_pooled() {
            // Its statements are the pooler's to count, and a connection to that costs little.
            return Err(sqlx::Error::PoolClosed);
        }
        if is_leftover && self.has_unknown_statements().await? {
            self.forget_statements().await?;
            self.clean_up("DEALLOCATE ALL", "").await?;
        } else if before.plans.are_stale() || self.state.plans.are_stale() {
            self.forget_statements().await?;
        }
        self.state = State { failures: before.failures, ..State::default() };
        if self.leave_standby().await {
            return Err(sqlx::Error::PoolClosed);
        }
        self.state = State::default();
        Ok(())
    }

    /// Sends `sql`, of which the monitor sees `seen`.
    async fn clean_up(&mut self, sql: &str, seen: &str) -> Result<(), sqlx::Error> {
        let flight = self.statement(Text::new(seen), None).map_err(|_| sqlx::Error::PoolClosed)?;
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let result = flight.wait.until(flight.driver.execute(query)).await;
        flight.land(result).map(|_| ())
    }

    /// Whether the server keeps prepared statements that the driver does not know. One round trip.
    async fn has_unknown_statements(&mut self) -> Result<bool, sqlx::Error> {
        const COUNT: &str = "SELECT /* wharf pool */ count(*) FROM pg_prepared_statements WHERE name LIKE 'sqlx\\_s\\_%'";
        let flight = self.in_flight().map_err(|_| sqlx::Error::PoolClosed)?;
        let known = flight.driver.cached_statements_size();
        let counted = flight.driver.fetch_one(sqlx::raw_sql(COUNT));
        let (landed, kept) = match flight.wait.until(counted).await {
            Ok(row) => (Ok(()), row.try_get_unchecked::<String, _>(0)?.parse()),
            Err(error) => (Err(error), Ok(0)),
        };
        flight.land(landed)?;
        Ok(kept.is_ok_and(|kept: usize| kept > known))
    }

    /// Whether the server has a transaction open. A ROLLBACK where it has none would be a warning in its log.
    async fn has_transaction(&mut self, before: State) -> Result<bool, sqlx::Error> {
        let answered = match before.transaction {
            Transaction::None => return Ok(false),
            Transaction::Open => return Ok(true),
            // Its answer, which nobody waited for, was read just now.
            Transaction::Ending if before.work.is_in_flight() && !self.state.last_failed => {
                return Ok(false);
            }
            Transaction::Ending => self.clean_up("SELECT /* wharf pool */ 1", "").await,
        };
        match answered {
            Ok(()) => Ok(false),
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("25P02") => {
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }
}

/// Has the driver forget its statements and the types that it knows by name; the server answers.
async fn forget(driver: &mut PgConnection) -> Result<(), sqlx::Error> {
    let answers = driver.cached_statements_size() > 0;
    driver.clear_cached_statements().await?;
    match answers {
        true => Ok(()),
        false => driver.ping().await,
    }
}

/// Sends `sql`, and leaves its answer to be read by whoever uses the connection next, before
/// their own: there is nothing in it that anybody waits for. Whether it was sent.
fn send_rollback(driver: &mut PgConnection, sql: &'static str) -> bool {
    let answered = driver.execute(sqlx::raw_sql(sql)).now_or_never();
    answered.is_none_or(|answer| answer.is_ok()) && !driver.should_flush()
}

/// Reads on until the server has nothing more to say to what it was sent.
async fn end(
    driver: &mut PgConnection,
    wait: Wait<'_>,
    failures: &mut Vec<sqlx::Error>,
) -> Result<(), sqlx::Error> {
    loop {
        match wait.until(driver.ping()).await {
            Err(error) if !is_fatal(&error) => failures.push(error),
            ended => return ended,
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(mut open) = self.take() else { return };
        let State { work, transaction, leaves, plans, dropped, .. } = self.state;
        if work == Work::Broken {
            self.pool.distrust_idle();
        }
        if matches!(work, Work::Broken | Work::OutOfStep | Work::Copy)
            || leaves == Leaves::More
            || open.cut.is_cut()
        {
            return self.pool.discard(open);
        }
        let is_clean = work == Work::Idle
            && transaction == Transaction::None
            && leaves == Leaves::Nothing
            && !plans.are_stale()
            && !dropped
            && !self.was_refused_write();
        if is_clean {
            // A single statement's has nothing else to do after it.
            let heard = open.lent_at.is_some_and(|lent_at| open.heard_at >= lent_at);
            let now = if heard { open.heard_at } else { Instant::now() };
            return self.pool.take_back(open, now);
        }
        // Where there is nobody to wait for an answer, closing it does as well.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return self.pool.discard(open);
        };
        if self.rolls_back_when_dropped() {
            return match self.roll_back_unheard(&mut open) {
                true => self.pool.take_back(open, Instant::now()),
                false => self.pool.discard(open),
            };
        }
        let mut lent = Lent::new(Arc::clone(&self.pool), open, Check::default());
        (lent.state, lent.claim) = (self.state, self.claim.take());
        lent.repair_in_background(runtime);
    }
}
