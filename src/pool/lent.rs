//! A connection while somebody has it, and the one path that every statement takes.

use std::{
    fmt::Write as _,
    hash::{BuildHasher, Hash, Hasher},
    mem::discriminant,
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::fast::FixedState;

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, Statement, Value, metric::Info};
use sqlx::{
    AssertSqlSafe, Executor, PgConnection,
    postgres::{PgDatabaseError, PgQueryResult},
};

use super::{
    Check, Fetch, LocalSettings, Open, Pool,
    checkout::Cut,
    dates,
    fetch::Prepared,
    outcome::{self, Ended},
    slot::Claim,
    state::{Failures, State, Transaction, Work},
};
use crate::{
    error::{Error, server_error},
    monitor::{Context, Ledger, Running, TooOften},
    statement::{Author, Facts, Leaves, Request, Text, Writer},
    view::{Scope, View},
};

/// The protocol counts binds in 16 bits.
const MOST_BINDS: usize = 65_535;

/// A lent connection. Dropping it gives it back if it is clean, and sees to it if it is not.
pub(crate) struct Lent {
    pub(super) pool: Arc<Pool>,
    pub(super) open: Option<Open>,
    pub(super) check: Check,
    pub(super) state: State,
    /// How long it was waited for, and when it came; the first statement tells, which begins then.
    waited: Option<(Duration, Instant)>,
    metric: Option<MetricCallback>,
    view: Option<Arc<View>>,
    pub(super) claim: Option<Claim>,
}

/// SeaORM's own way to be told of a statement.
pub(crate) type MetricCallback = Arc<dyn Fn(&Info<'_>) + Send + Sync>;

impl Lent {
    pub(super) fn new(pool: Arc<Pool>, open: Open, check: Check) -> Lent {
        let state = State::default();
        Lent {
            pool,
            open: Some(open),
            check,
            state,
            waited: None,
            metric: None,
            view: None,
            claim: None,
        }
    }

    pub(super) fn with_claim(mut self, claim: Option<Claim>) -> Lent {
        self.claim = claim;
        self
    }

    pub(super) fn waited(&mut self, waited: Duration, now: Instant) {
        if let Some(open) = &mut self.open {
            self.pool.meter().lent(&mut open.memory.ledger, waited, now);
            open.lent_at = Some(now);
        }
        self.waited = Some((waited, now));
    }

    /// What the entry says of the search path.
    pub(crate) fn search_path(&self) -> Option<&str> {
        self.pool.connector.to.config.schema.as_deref()
    }

    /// Settings that each of its transactions has to bring with it, because the server's connection may be another one each
    /// time.
    pub(crate) fn local_settings(&self) -> Option<&LocalSettings> {
        self.open.as_ref()?.memory.local.as_ref()
    }

    /// Whether its connection of the server may be another one in each transaction.
    pub(super) fn is_pooled(&self) -> bool {
        self.pool.connector.to.is_pooled()
    }

    /// Whether a statement alone needs a transaction around it: for settings that have to come with it, or because a pooler may
    /// prepare it on one connection of the server and run it on another.
    pub(crate) fn needs_transaction(&self) -> bool {
        self.is_pooled()
            && (!self.keeps_statements()
                || self.local_settings().is_some_and(|local| !local.needed.is_empty()))
    }

    pub(crate) fn pool_timeout(&self) -> Duration {
        self.pool.connector.to.config.pool_timeout
    }

    /// Takes the connection out of it, whatever it is in.
    pub(super) fn take(&mut self) -> Option<Open> {
        self.open.take()
    }

    /// Closes the connection, whatever it is in.
    pub(crate) fn close(mut self) {
        if let Some(open) = self.take() {
            self.pool.discard(open);
        }
    }

    /// Tells `metric` of every prepared statement from here on.
    pub(crate) fn observed_by(mut self, metric: Option<MetricCallback>) -> Lent {
        self.metric = metric;
        self
    }

    /// Remembers the view in which its statements run, because a statement is explained in its own view.
    pub(crate) fn set_view(&mut self, view: &Arc<View>) {
        self.view = (!view.is_empty()).then(|| Arc::clone(view));
    }

    pub(super) fn scope(&self) -> Option<&Scope> {
        self.view.as_ref()?.scope()
    }

    /// Sends BEGIN, with what else opens the transaction.
    pub(crate) async fn begin(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        // Before it is sent: if that is dropped half-way, nobody knows.
        self.state.transaction = Transaction::Open;
        let limit = self.standby_limit();
        self.control_within(sql, limit).await
    }

    /// The longest wait for what a standby answers at once, because another server can serve the read.
    pub(super) fn standby_limit(&self) -> Option<Duration> {
        let to = &self.pool.connector.to;
        to.is_standby.then_some(to.config.connect_timeout)
    }

    /// Sends COMMIT or ROLLBACK. The connection is put right before its next use if that fails.
    pub(crate) async fn end(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        self.state.transaction = Transaction::Ending;
        self.control(sql).await?;
        self.state.transaction = Transaction::None;
        Ok(())
    }

    /// Whether a statement has failed on it since it was lent.
    pub(crate) fn has_failed(&self) -> bool {
        self.state.failures > Failures::None
    }

    /// Whether the last statement on it failed, and so did nothing.
    pub(crate) fn last_failed(&self) -> bool {
        self.state.last_failed
    }

    /// Whether a prepared statement on it has failed because it was made for something else.
    pub(crate) fn is_stale(&self) -> bool {
        self.state.plans.are_stale()
    }

    /// Whether a statement has failed on it in a way that another attempt may get past.
    pub(crate) fn failed_by_chance(&self) -> bool {
        self.state.failures == Failures::ByChance
    }

    /// Whether the driver or the server has given it up.
    pub(crate) fn is_broken(&self) -> bool {
        self.state.work == Work::Broken
    }

    /// Whether the future of a statement on it was dropped, and the statement's end not seen yet.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.state.work.is_in_flight()
    }

    /// Whether driver and server do not agree any more on where they are.
    pub(crate) fn is_out_of_step(&self) -> bool {
        self.state.work == Work::OutOfStep
    }

    /// Whether what is in flight is a stream.
    pub(crate) fn streams(&self) -> bool {
        self.state.work == Work::Stream
    }

    /// Runs a prepared statement for what `F` wants of its answer. Its author writes it once more where it
    /// was stale and has to be prepared anew.
    pub(crate) async fn ask<F: Fetch>(
        &mut self,
        mut request: Request<'_>,
    ) -> Result<F::Answer, DbErr> {
        let mut guard = match self.may_lose(request.text()) {
            true => Some(Box::pin(self.guard(request.text())).await?),
            false => None,
        };
        loop {
            let (author, hash) = (request.author, request.text().hash);
            let (flight, query) = self.send(request)?;
            let result = F::drive(flight.driver, flight.wait, query).await;
            match flight.land(result) {
                Err(error)
                    if guard.is_some()
                        && Box::pin(self.recover_if_lost(guard.as_mut(), &error)).await =>
                {
                    request = Request::new(author);
                }
                Err(_) if self.recover_if_stale(Some(hash)).await => request = Request::new(author),
                Err(error) => return Err(self.explained(error, F::failed).await),
                landed => {
                    if let Some(guard) = &guard {
                        Box::pin(self.release(guard)).await?;
                    }
                    return answer::<F>(landed);
                }
            }
        }
    }

    /// Sends a text of one or several statements unprepared: one round trip.
    pub(crate) async fn execute_unprepared(
        &mut self,
        text: Text<'_>,
        writer: Writer,
    ) -> Result<PgQueryResult, DbErr> {
        self.note(text, writer)?;
        let flight = self.statement(text, None)?;
        let query = sqlx::raw_sql(AssertSqlSafe(text.sql.to_owned()));
        let result = flight.wait.until(flight.driver.execute(query)).await;
        match flight.land(result) {
            Ok(done) => Ok(done),
            Err(error) => Err(self.explained(error, DbErr::Exec).await),
        }
    }

    /// Sends `BEGIN`, `COMMIT` and their kin: wharf's own words, which need no scan.
    pub(crate) async fn control(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        self.control_within(sql, None).await
    }

    /// The same, and the answer is waited for at most as long as `limit`, if that is given.
    async fn control_within(
        &mut self,
        sql: &str,
        limit: Option<Duration>,
    ) -> Result<(), sqlx::Error> {
        let flight = self.statement(Text::new(sql), None).map_err(|_| sqlx::Error::PoolClosed)?;
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let result = flight.wait.at_most(limit).until(flight.driver.execute(query)).await;
        flight.land(result).map(|_| ())
    }

    pub(super) fn send<'a>(
        &'a mut self,
        mut request: Request<'a>,
    ) -> Result<(InFlight<'a>, Prepared), DbErr> {
        let Request { statement, author, .. } = &request;
        let binds = statement.values.as_ref().map_or(0, |values| values.0.len());
        if binds > MOST_BINDS {
            return Err(DbErr::Custom(format!(
                "database `{}`: the statement has {binds} binds, and PostgreSQL's protocol allows \
                 {MOST_BINDS}; use `= ANY($1)` with an array, or `insert_many` or `copy_in` of wharf for rows",
                self.pool.name()
            )));
        }
        // Only who wants to be told of the statement pays for a copy of it.
        let watch = self.metric.clone().map(|callback| Watch {
            callback,
            statement: statement.clone(),
            started: Instant::now(),
        });
        let is_kept = self.keeps_statements();
        let mut tag = None;
        let is_foreign = author.writer() != Writer::Wharf;
        let values = statement.values.as_ref().filter(|_| is_kept);
        if let Some(open) = &mut self.open
            && (is_foreign || values.is_some())
        {
            let known = open.memory.texts.of(request.text());
            let facts = known.facts;
            if let Some(values) = values {
                let types = types_of(&values.0);
                tag = known.has_other_types(types).then_some(types);
            }
            if is_foreign {
                self.note_facts(facts)?;
            }
        }
        if let Some(scope) = self.scope()
            && is_kept
            && self.pool.connector.host.differs_by_schema(request.text().hash)
        {
            tag = Some(tagged(tag.unwrap_or_default(), scope.name()));
        }
        if let Some(open) = &mut self.open
            && is_kept
            && self.pool.connector.to.is_pooled()
        {
            // To a pooler, the same text is the same statement, however often it is prepared.
            open.memory.generation = self.pool.connector.host.generation();
            if open.memory.generation != 0 {
                tag = Some(tagged(tag.unwrap_or_default(), open.memory.generation));
            }
        }
        let author = *author;
        // Before the connection counts as in flight, because nothing is sent if they cannot be encoded.
        let arguments = author.binds(request.statement.values.take());
        let arguments =
            arguments.map_err(|error| DbErr::Exec(runtime(sqlx::Error::Encode(error))))?;
        let mut flight = self.statement(request.text(), Some(author))?;
        flight.watch = watch;
        let mut statement = request.statement;
        // The driver keeps a statement by its text alone, and the server one for each list of types and, of those
        // that differ, for each schema.
        if let Some(tag) = tag {
            // Writing to a String cannot fail.
            let _ = write!(statement.sql, " /* types {tag:x} */");
        }
        let query = sqlx::query_with(AssertSqlSafe(statement.sql), arguments);
        Ok((flight, query.persistent(is_kept)))
    }

    /// Whether the driver keeps what it prepares.
    pub(super) fn keeps_statements(&self) -> bool {
        self.pool.connector.to.keeps_statements()
    }

    /// Something is about to be sent that is nobody's statement.
    pub(super) fn in_flight(&mut self) -> Result<InFlight<'_>, DbErr> {
        self.flight(|_, _, _| Ok(None))
    }

    /// A statement is about to be sent. An empty one is a ping.
    pub(super) fn statement<'a>(
        &'a mut self,
        text: Text<'_>,
        author: Option<Author<'a>>,
    ) -> Result<InFlight<'a>, DbErr> {
        if text.sql.is_empty() || !self.pool.meter().monitor().is_enabled() {
            return self.in_flight();
        }
        let (wait, started) = match self.waited.take() {
            Some((wait, came)) => (Some(wait), came),
            None => (None, Instant::now()),
        };
        let context = Context {
            started,
            wait,
            in_transaction: self.state.transaction != Transaction::None,
            read_only: self.pool.connector.to.read_only,
            opened_at: self.open.as_ref().and_then(|open| open.opened_at),
            author,
            view: None,
        };
        self.flight(|pool, ledger, view| {
            let context = Context { view, ..context };
            Ok(Some(pool.meter().monitor().start(ledger, text, context)?))
        })
    }

    fn flight<'a>(
        &'a mut self,
        start: impl FnOnce(
            &'a Pool,
            &'a mut Ledger,
            Option<&'a Arc<View>>,
        ) -> Result<Option<Running<'a>>, TooOften>,
    ) -> Result<InFlight<'a>, DbErr> {
        let Lent { pool, open, state, view, .. } = self;
        let Some(open) = open else {
            return Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed));
        };
        let pool: &Pool = pool;
        if open.cut.is_cut() {
            state.work = Work::Broken;
            let wait = Wait { pool, cut: &open.cut, limit: None };
            return Err(DbErr::Conn(runtime(wait.was_cut())));
        }
        let Open { driver, cut, memory, heard_at, .. } = open;
        let running = start(pool, &mut memory.ledger, view.as_ref());
        let running = running.map_err(|TooOften { count, statement, opened_at }| {
            Error::NPlusOne { database: pool.name(), count, statement, opened_at }
        })?;
        state.work = Work::Statement;
        Ok(InFlight {
            driver,
            state,
            heard_at,
            wait: Wait { pool, cut, limit: None },
            running,
            watch: None,
        })
    }

    /// Notes what a text that is about to be sent may leave on the connection, so that it is reset before the next
    /// borrower has it.
    ///
    /// # Errors
    /// [`Error::BehindPooler`] if it would stay on a connection that somebody else has next.
    pub(crate) fn note(&mut self, text: Text<'_>, writer: Writer) -> Result<(), DbErr> {
        match writer {
            Writer::Wharf => Ok(()),
            _ => {
                let facts = self.facts(text);
                self.note_facts(facts)
            }
        }
    }

    fn note_facts(&mut self, facts: Facts) -> Result<(), DbErr> {
        self.state.has_written |= !facts.only_reads;
        if !self.is_pooled() {
            self.state.leaves = self.state.leaves.max(facts.leaves);
            return Ok(());
        }
        if let Some(lasting) = facts.lasting {
            let (what, instead) = lasting.words();
            let opened_at = self.open.as_ref().and_then(|open| open.opened_at);
            return Err(Error::BehindPooler {
                database: self.pool.name(),
                what,
                instead,
                opened_at,
            }
            .into());
        }
        // A RESET would be for whoever has the connection of the server by then.
        if facts.leaves == Leaves::More {
            self.state.leaves = Leaves::More;
        }
        Ok(())
    }

    /// Returns what is known of a text. A connection scans each text once.
    pub(crate) fn facts(&mut self, text: Text<'_>) -> Facts {
        match &mut self.open {
            Some(open) => open.memory.texts.of(text).facts,
            None => Facts::of(text.sql),
        }
    }
}

/// A statement on its way. Dropping it before it has landed leaves its mark on the connection.
pub(super) struct InFlight<'a> {
    pub(super) driver: &'a mut PgConnection,
    pub(super) state: &'a mut State,
    pub(super) heard_at: &'a mut Instant,
    pub(super) wait: Wait<'a>,
    pub(super) running: Option<Running<'a>>,
    pub(super) watch: Option<Watch>,
}

/// A statement that somebody wants to be told of.
pub(super) struct Watch {
    callback: MetricCallback,
    statement: Statement,
    started: Instant,
}

/// How an answer is waited for: while the pool is there, and as long as `socket_timeout`.
#[derive(Clone, Copy)]
pub(crate) struct Wait<'a> {
    pool: &'a Pool,
    cut: &'a Cut,
    /// Shorter than `socket_timeout`, for this answer.
    limit: Option<Duration>,
}

impl Wait<'_> {
    pub(super) fn has_limit(self) -> bool {
        self.limit().is_some()
    }

    /// The same wait, which ends after `limit` at the latest, if that is given.
    pub(super) fn at_most(self, limit: Option<Duration>) -> Self {
        Wait { limit, ..self }
    }

    fn limit(self) -> Option<Duration> {
        let socket_timeout = self.pool.connector.to.config.socket_timeout;
        self.limit.into_iter().chain(socket_timeout).min()
    }

    pub(super) async fn until<T>(
        self,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let answer = self.cut.unless_cut(work);
        let answered = match self.limit() {
            None => answer.await,
            Some(limit) => match tokio::time::timeout(limit, answer).await {
                Ok(answered) => answered,
                Err(_) => return Err(self.no_answer(limit)),
            },
        };
        answered.unwrap_or_else(|| Err(self.was_cut()))
    }

    fn was_cut(self) -> sqlx::Error {
        inside(Error::Closed { database: self.pool.name() })
    }

    fn no_answer(self, waited: Duration) -> sqlx::Error {
        inside(Error::NoAnswer { database: self.pool.name(), waited })
    }
}

/// An error of wharf's as the driver's, for those who speak that.
fn inside(error: Error) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other(error))
}

impl InFlight<'_> {
    pub(super) fn land<T: Ended>(self, result: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        let ended_at =
            self.running.map_or_else(Instant::now, |running| outcome::tell(running, &result));
        if result.as_ref().err().is_none_or(|error| matches!(error, sqlx::Error::Database(_))) {
            *self.heard_at = ended_at;
        }
        self.state.work = Work::Idle;
        self.state.last_failed = result.is_err();
        if let Err(error) = &result {
            self.state.note(error);
            self.wait.pool.note_conflict(error);
        }
        // In a transaction, nothing is written before its COMMIT.
        if self.state.has_written && self.state.transaction == Transaction::None {
            self.wait.pool.note_pending();
        }
        if let Some(Watch { callback, statement, started }) = self.watch {
            let (elapsed, failed) = (started.elapsed(), result.is_err());
            callback(&Info { elapsed, statement: &statement, failed });
        }
        result
    }
}

/// Whether a prepared statement is of no use any more: the server does not know it, it gives other columns than it
/// did, or it has binds of a type that was dropped, whose number the driver or the statement remembers.
pub(super) fn is_stale(error: &sqlx::Error) -> bool {
    server_error(error).is_some_and(|error| match error.code() {
        "26000" => true,
        // The message is in the server's language; the place in its source is not.
        "0A000" => error.routine() == Some("RevalidateCachedQuery"),
        // That of an internal error is in English everywhere.
        "XX000" => {
            error.message().starts_with("cache lookup failed for type ") && is_of_statement(error)
        }
        "42704" => error.routine() == Some("lookup_type_cache") && is_of_statement(error),
        _ => false,
    })
}

/// Whether the server could not make sense of the statement or its binds. An error in a function has a context,
/// which may have done something before; that of a bind alone does not count.
fn is_of_statement(error: &PgDatabaseError) -> bool {
    error.r#where().is_none()
        || matches!(error.routine(), Some("getTypeInputInfo" | "getTypeBinaryInputInfo"))
}

/// Whether the connection is of no use after this error.
pub(crate) fn is_fatal(error: &sqlx::Error) -> bool {
    use sqlx::postgres::PgSeverity::{Fatal, Panic};
    match error {
        sqlx::Error::Database(_) => {
            server_error(error).is_some_and(|error| matches!(error.severity(), Fatal | Panic))
        }
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) => true,
        _ => false,
    }
}

/// A hash of `types` and of another thing that a text is prepared for: a schema, a generation.
fn tagged(types: u64, what: impl Hash) -> u64 {
    FixedState::default().hash_one((types, what))
}

/// A hash of the types of binds. NULL has its column's type.
fn types_of(values: &[Value]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    for value in values {
        discriminant(value).hash(&mut hasher);
        if let Value::Array(of, _) = value {
            discriminant(of).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// The answer as SeaORM has it, without values at which the driver would panic.
pub(super) fn answer<F: Fetch>(landed: Result<F::Answer, sqlx::Error>) -> Result<F::Answer, DbErr> {
    let answer = landed.map_err(|error| F::failed(runtime(error)))?;
    dates::check(F::rows(&answer))?;
    Ok(answer)
}

/// The shape in which SeaORM's users expect the driver's errors.
pub(crate) fn runtime(error: sqlx::Error) -> RuntimeErr {
    RuntimeErr::SqlxError(error.into())
}
