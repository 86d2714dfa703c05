//! Statements in a session, and sessions inside it.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use sea_orm::{
    AccessMode, DbBackend, DbErr, QueryResult, Statement, TransactionOptions, TransactionSession,
};
use sqlx::postgres::{PgQueryResult, PgRow};

use super::Session;
use crate::{
    error::Error,
    pool::{self, Lent},
    sql::Author,
    traits::implement_sea_orm,
};

impl Session {
    pub(crate) async fn run(
        &self,
        statement: Statement,
        author: Author,
    ) -> Result<PgQueryResult, DbErr> {
        self.lent(&statement.sql, author).await?.execute(statement).await
    }

    pub(crate) async fn one(
        &self,
        statement: Statement,
        author: Author,
    ) -> Result<Option<PgRow>, DbErr> {
        self.lent(&statement.sql, author).await?.query_one(statement).await
    }

    pub(crate) async fn all(
        &self,
        statement: Statement,
        author: Author,
    ) -> Result<Vec<PgRow>, DbErr> {
        self.lent(&statement.sql, author).await?.query_all(statement).await
    }

    pub(crate) async fn unprepared(&self, sql: &str) -> Result<PgQueryResult, DbErr> {
        if self.is_read_only() {
            // Prepared, a text can hold one statement only, the one that was looked at.
            let statement = Statement::from_string(DbBackend::Postgres, sql);
            return self.run(statement, Author::Caller).await;
        }
        self.lent(sql, Author::Caller).await?.execute_unprepared(sql).await
    }

    /// The session's other statements wait until the stream is dropped.
    async fn rows(
        &self,
        statement: Statement,
        author: Author,
    ) -> Result<BoxStream<'_, Result<QueryResult, DbErr>>, DbErr> {
        let lent = self.lent(&statement.sql, author).await?;
        Ok(pool::rows(lent, statement))
    }

    /// The rows of a session that nobody else has. When they end its transaction is rolled back.
    pub(crate) async fn into_rows(
        self,
        statement: Statement,
        author: Author,
    ) -> Result<BoxStream<'static, Result<QueryResult, DbErr>>, DbErr> {
        drop(self.lent(&statement.sql, author).await?);
        let lent: Box<Lent> = Box::new(self.into_lent().await?);
        Ok(pool::rows(lent, statement))
    }

    /// Rolls back, and gives what was learned before.
    pub(crate) async fn undo_and<T>(self, result: Result<T, DbErr>) -> Result<T, DbErr> {
        let undone = self.rollback().await;
        let value = result?;
        undone?;
        Ok(value)
    }

    async fn open_session(&self, options: TransactionOptions) -> Result<Session, DbErr> {
        let database = || self.shared.database.to_string();
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
        Ok(self.nest(options.access_mode == Some(AccessMode::ReadOnly)).await?)
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
