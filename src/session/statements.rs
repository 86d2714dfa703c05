//! Statements in a session, and sessions inside it.

use async_stream::try_stream;
use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use sea_orm::{
    AccessMode, DbBackend, DbErr, QueryResult, Statement, TransactionOptions, TransactionSession,
};
use sqlx::postgres::PgQueryResult;

use super::{Session, failed, implement_sea_orm};
use crate::{
    error::Error,
    pool::{self, Effect, Fetch, Lent},
    statement::{Author, Request, Text, Writer},
};

impl Session {
    pub(crate) async fn ask<F: Fetch>(&self, author: Author<'_>) -> Result<F::Answer, DbErr> {
        self.send::<F>(Request::new(author)).await
    }

    /// The same, where its author has written it already.
    pub(crate) async fn send<F: Fetch>(&self, request: Request<'_>) -> Result<F::Answer, DbErr> {
        self.to_its_end(async {
            let mut lent = self.lent(request.text(), request.author.writer()).await?;
            lent.ask::<F>(request).await
        })
        .await
    }

    pub(crate) async fn unprepared(&self, sql: &str) -> Result<PgQueryResult, DbErr> {
        if self.is_read_only() {
            // Prepared, a text can hold one statement only, the one that was looked at.
            let statement = Statement::from_string(DbBackend::Postgres, sql);
            return self.ask::<Effect>(Author::Caller(&statement)).await;
        }
        self.to_its_end(async {
            let text = Text::new(sql);
            self.lent(text, Writer::Caller).await?.execute_unprepared(text, Writer::Caller).await
        })
        .await
    }

    /// Runs a statement of wharf's own, which leaves nothing on its connection.
    pub(crate) async fn own(&self, sql: &str) -> Result<(), DbErr> {
        let run = async {
            Ok(self
                .lent(Text::new(sql), Writer::Wharf)
                .await?
                .control(sql)
                .await
                .map_err(failed)?)
        };
        self.to_its_end(run).await
    }

    /// The session's other statements wait until the stream is dropped, up to `pool_timeout`.
    async fn rows(
        &self,
        statement: Statement,
        writer: Writer,
    ) -> Result<BoxStream<'_, Result<QueryResult, DbErr>>, DbErr> {
        let lent = self.lent(Text::new(&statement.sql), writer).await?;
        let lent = lent.streams(&self.shared, &statement.sql);
        Ok(pool::rows(lent, statement))
    }

    /// The rows of a session that nobody else has. When they end its transaction is rolled back.
    pub(crate) async fn into_rows(
        self,
        statement: Statement,
        writer: Writer,
    ) -> Result<BoxStream<'static, Result<QueryResult, DbErr>>, DbErr> {
        drop(self.lent(Text::new(&statement.sql), writer).await?);
        let lent: Box<Lent> = Box::new(self.into_lent().await?);
        Ok(pool::rows(lent, statement))
    }

    /// The same, and when they have all been read its transaction is committed; if they are dropped
    /// before that, or fail, it is rolled back.
    pub(crate) async fn into_kept_rows(
        self,
        statement: Statement,
        writer: Writer,
    ) -> Result<BoxStream<'static, Result<QueryResult, DbErr>>, DbErr> {
        let kept = try_stream! {
            let mut rows = self.rows(statement, writer).await?;
            while let Some(row) = rows.try_next().await? {
                yield row;
            }
            drop(rows);
            self.commit().await?;
        };
        Ok(kept.boxed())
    }

    /// Ends a session of one statement, and gives what that gave: commits if it went well, else rolls back,
    /// as where nothing may be written. A view may write in a SELECT, so that is committed, too; but where
    /// its COMMIT is lost, its rows are not.
    pub(crate) async fn finish_with<T>(
        self,
        result: Result<T, DbErr>,
        may_write: impl FnOnce() -> bool,
    ) -> Result<T, DbErr> {
        let commits = result.is_ok() && !self.is_read_only();
        let ended = match self.end(commits).await {
            Err(Error::CommitUnknown { .. }) if !may_write() => Ok(()),
            ended => ended,
        };
        let value = result?;
        ended?;
        Ok(value)
    }

    /// Whether a statement failed because it was prepared for something else than there is now.
    pub(crate) async fn is_stale(&self) -> bool {
        self.shared.lent.lock().await.as_ref().is_some_and(Lent::is_stale)
    }

    /// A COPY … FROM STDIN of wharf's own.
    #[cfg(feature = "copy")]
    pub(crate) async fn feed(
        &self,
        sql: &str,
        source: &mut impl pool::Source,
    ) -> Result<u64, pool::Stopped> {
        self.to_its_end(async {
            let lent = self.lent(Text::new(sql), Writer::Wharf).await;
            // What it is fed from may be a query of the session's own.
            let mut lent = lent.map_err(pool::Stopped::Source)?.streams(&self.shared, sql);
            lent.copy_in(sql, source).await
        })
        .await
    }

    /// The bytes of a COPY … TO STDOUT of wharf's own. The session's other statements wait until the
    /// stream is dropped, up to `pool_timeout`.
    #[cfg(feature = "copy")]
    pub(crate) async fn copied(
        &self,
        sql: String,
    ) -> Result<BoxStream<'_, Result<bytes::Bytes, DbErr>>, Error> {
        let lent = self.lent(Text::new(&sql), Writer::Wharf).await?.streams(&self.shared, &sql);
        Ok(pool::copied(lent, sql))
    }

    /// The same of a session that nobody else has. When they end its transaction is rolled back.
    #[cfg(feature = "copy")]
    pub(crate) async fn into_copied(
        self,
        sql: String,
    ) -> Result<BoxStream<'static, Result<bytes::Bytes, DbErr>>, Error> {
        let lent: Box<Lent> = Box::new(self.into_lent().await?);
        Ok(pool::copied(lent, sql))
    }

    async fn open_session(&self, options: TransactionOptions) -> Result<Session, DbErr> {
        let database = || self.shared.database.name().to_string();
        if options.isolation_level.is_some() {
            return Err(DbErr::Custom(format!(
                "database `{}`: a nested session has the isolation level of the outermost; set it \
                 there",
                database()
            )));
        }
        if self.is_read_only() && options.access_mode == Some(AccessMode::ReadWrite) {
            let what = "a nested session cannot write where the session around it only reads";
            return Err(Error::ReadOnly { database: database(), what: what.to_owned() }.into());
        }
        Ok(self.nest(options.access_mode == Some(AccessMode::ReadOnly), None).await?)
    }
}

implement_sea_orm!(Session);

#[async_trait]
impl TransactionSession for Session {
    async fn commit(self) -> Result<(), DbErr> {
        Session::commit(self).await
    }

    async fn rollback(self) -> Result<(), DbErr> {
        Session::rollback(self).await
    }
}

#[cfg(feature = "cli")]
impl Session {
    /// One statement's rows as text. It is one: sent alone, nothing that follows it could end the
    /// transaction first.
    pub(crate) async fn text_rows(
        &self,
        sql: &str,
        rows: &mut dyn pool::TextRows,
    ) -> Result<u64, DbErr> {
        self.to_its_end(async {
            self.lent(Text::new(sql), Writer::Caller).await?.text_rows(sql, rows).await
        })
        .await
    }
}
