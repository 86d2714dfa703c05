//! Single statements, and how each goes to the server.

use futures_util::stream::BoxStream;
use sea_orm::{DbErr, IsolationLevel, QueryResult, Statement, TransactionOptions};
use sqlx::postgres::PgQueryResult;

use super::Pg;
use crate::{
    error::Error,
    pool::{self, Fetch, Lent, Purpose},
    session::{Session, SessionBuilder, implement_sea_orm},
    statement::{Author, Request, Text, Writer},
    topology::Reason,
};

/// How a statement goes to the server.
enum Way {
    Direct(Lent),
    /// In a transaction of its own: sealed, and rolled back, where nothing may be written; else kept.
    Alone(Session),
}

impl Pg {
    async fn way(&self, text: Text<'_>, writer: Writer, purpose: Purpose) -> Result<Way, Error> {
        if self.database.route.on_standby {
            return Box::pin(self.way_to_read(text, writer, purpose)).await;
        }
        let read_only = self.is_read_only();
        // What the caller wrote could talk a read-only connection out of being that, for itself or
        // for the next; in a sealed transaction that is rolled back it cannot. And a view's schema and
        // settings hold for one transaction.
        if read_only && writer == Writer::Caller || !self.view().is_empty() {
            return Ok(Way::Alone(self.alone(purpose).await?));
        }
        let mut lent = self.database.lend(read_only, purpose).await?;
        let is_guarded = read_only && writer == Writer::Builder && !lent.facts(text).only_reads;
        if is_guarded || lent.needs_transaction() {
            let session = SessionBuilder::new(self.database.clone(), purpose);
            return Ok(Way::Alone(Box::pin(session.begin_with(lent, read_only)).await?));
        }
        Ok(Way::Direct(lent))
    }

    /// The same for a view that may read on a standby.
    async fn way_to_read(
        &self,
        text: Text<'_>,
        writer: Writer,
        purpose: Purpose,
    ) -> Result<Way, Error> {
        let (mut lent, check) = self.database.lend_to_read(purpose).await?;
        let is_direct = check.is_none()
            && self.view().is_empty()
            && !lent.needs_transaction()
            && writer != Writer::Caller
            && (writer == Writer::Wharf || lent.facts(text).only_reads);
        if is_direct {
            return Ok(Way::Direct(lent));
        }
        let session = SessionBuilder::new(self.database.clone(), purpose);
        // For one statement, no other isolation level makes a difference, and the check is a shorter message in this one.
        let session = session.isolation(IsolationLevel::ReadCommitted);
        Ok(Way::Alone(session.begin_to_read(lent, check).await?))
    }

    /// A session of one statement.
    async fn alone(&self, purpose: Purpose) -> Result<Session, Error> {
        SessionBuilder::new(self.database.clone(), purpose).await
    }

    pub(crate) async fn ask<F: Fetch>(&self, author: Author<'_>) -> Result<F::Answer, DbErr> {
        let request = Request::new(author);
        match self.way(request.text(), author.writer(), Purpose::Statement).await? {
            Way::Direct(mut lent) => match lent.ask::<F>(request).await {
                Err(error) if lent.was_refused_write() => {
                    Box::pin(self.ask_elsewhere::<F>(lent, author, error)).await
                }
                Err(error) if lent.was_lost_on_standby() => {
                    Box::pin(self.ask_primary::<F>(lent, author, error)).await
                }
                answer => answer,
            },
            Way::Alone(session) => Box::pin(self.ask_alone::<F>(session, request)).await,
        }
    }

    /// Sends a built statement to the primary if a standby refused it. It had no effect there.
    async fn ask_elsewhere<F: Fetch>(
        &self,
        mut lent: Lent,
        author: Author<'_>,
        error: DbErr,
    ) -> Result<F::Answer, DbErr> {
        if author.writer() == Writer::Caller || !lent.leave_standby().await {
            return Err(error);
        }
        drop(lent);
        let read_only = self.is_read_only();
        let lent = self.database.lend(read_only, Purpose::Statement).await?;
        self.ask_on::<F>(lent, author, read_only).await
    }

    /// Runs a built statement on a connection that was lent for it.
    async fn ask_on<F: Fetch>(
        &self,
        mut lent: Lent,
        author: Author<'_>,
        read_only: bool,
    ) -> Result<F::Answer, DbErr> {
        if !lent.needs_transaction() {
            return lent.ask::<F>(Request::new(author)).await;
        }
        let session = SessionBuilder::new(self.database.clone(), Purpose::Statement);
        let session = session.begin_with(lent, read_only).await?;
        let result = session.ask::<F>(author).await;
        session.finish_with(result, || author.may_write()).await
    }

    /// Sends a built statement that only reads to the primary, if a standby canceled it or was lost.
    async fn ask_primary<F: Fetch>(
        &self,
        lent: Lent,
        author: Author<'_>,
        error: DbErr,
    ) -> Result<F::Answer, DbErr> {
        let has_waited =
            matches!(Error::of(&error), Some(Error::NoAnswer { .. } | Error::Closed { .. }));
        if author.writer() == Writer::Caller || has_waited {
            return Err(error);
        }
        drop(lent);
        let lent = self.database.lend_after(Reason::Conflict, Purpose::Statement).await?;
        self.ask_on::<F>(lent, author, true).await
    }

    /// One statement in a transaction of its own. Where its plan was stale, nothing of it was kept, so the
    /// whole is run again, as a statement without a transaction is.
    async fn ask_alone<F: Fetch>(
        &self,
        mut session: Session,
        request: Request<'_>,
    ) -> Result<F::Answer, DbErr> {
        let author = request.author;
        let mut result = session.send::<F>(request).await;
        if result.is_err() && session.is_stale().await {
            session.roll_back_quietly().await;
            session = self.alone(Purpose::Statement).await?;
            result = session.ask::<F>(author).await;
        } else if result.is_err()
            && author.writer() != Writer::Caller
            && session.was_refused_write().await
        {
            if !session.ends_on_standby().await {
                return result;
            }
            session = self.alone(Purpose::Statement).await?;
            result = session.ask::<F>(author).await;
        } else if let Err(error) = &result
            && author.writer() != Writer::Caller
            && session.was_lost_on_standby().await
            && !matches!(Error::of(error), Some(Error::NoAnswer { .. } | Error::Closed { .. }))
        {
            session.roll_back_quietly().await;
            let lent = self.database.lend_after(Reason::Conflict, Purpose::Statement).await?;
            let again = SessionBuilder::new(self.database.clone(), Purpose::Statement);
            session = again.begin_with(lent, true).await?;
            result = session.ask::<F>(author).await;
        }
        session.finish_with(result, || author.may_write()).await
    }

    async fn unprepared(&self, sql: &str) -> Result<PgQueryResult, DbErr> {
        let text = Text::new(sql);
        match self.way(text, Writer::Caller, Purpose::Statement).await? {
            Way::Direct(mut lent) => lent.execute_unprepared(text, Writer::Caller).await,
            Way::Alone(session) => {
                let alone = async {
                    let result = session.unprepared(sql).await;
                    session.finish_with(result, || true).await
                };
                Box::pin(alone).await
            }
        }
    }

    async fn rows(
        &self,
        statement: Statement,
        writer: Writer,
    ) -> Result<BoxStream<'static, Result<QueryResult, DbErr>>, DbErr> {
        match self.way(Text::new(&statement.sql), writer, Purpose::Hold("a stream", None)).await? {
            Way::Direct(lent) => Ok(pool::rows(Box::new(lent), statement)),
            Way::Alone(session) if session.is_read_only() => {
                session.into_rows(statement, writer).await
            }
            Way::Alone(session) => session.into_kept_rows(statement, writer).await,
        }
    }

    /// The bytes of a COPY … TO STDOUT of wharf's own, which only reads.
    #[cfg(feature = "copy")]
    pub(crate) async fn copied(
        &self,
        sql: String,
    ) -> Result<BoxStream<'static, Result<bytes::Bytes, DbErr>>, Error> {
        match self.way(Text::new(&sql), Writer::Wharf, Purpose::Hold("a copy", None)).await? {
            Way::Direct(lent) => Ok(pool::copied(Box::new(lent), sql)),
            Way::Alone(session) => session.into_copied(sql).await,
        }
    }

    async fn open_session(&self, options: TransactionOptions) -> Result<Session, DbErr> {
        let held = Purpose::Hold("a session", None);
        Ok(SessionBuilder::new(self.database.clone(), held).options(options).await?)
    }
}

implement_sea_orm!(Pg);

#[cfg(feature = "cli")]
impl Pg {
    /// One statement's rows as text, outside of any transaction.
    pub(crate) async fn text_rows(
        &self,
        sql: &str,
        rows: &mut dyn pool::TextRows,
    ) -> Result<u64, DbErr> {
        let mut lent = self.database.lend(self.is_read_only(), Purpose::Statement).await?;
        if lent.needs_transaction() {
            let database = self.name().to_owned();
            return Err(Error::NeedsDirect {
                database,
                what: "a statement outside of a transaction",
            }
            .into());
        }
        lent.note(Text::new(sql), Writer::Caller)?;
        lent.text_rows(sql, rows).await
    }
}
