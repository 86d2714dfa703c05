//! A session as SeaORM sees it.

use async_trait::async_trait;
use futures_util::{future::BoxFuture, stream::BoxStream};
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement,
    StatementBuilder, StreamTrait, TransactionOptions, TransactionSession,
};

use sqlx::postgres::PgRow;

use super::{Session, implement_transactions};
use crate::{error::Error, pool};

#[async_trait]
impl ConnectionTrait for Session {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    async fn execute<S: StatementBuilder>(&self, statement: &S) -> Result<ExecResult, DbErr> {
        let statement = DbBackend::Postgres.build(statement);
        Ok(self.lent().await?.execute(statement).await?.into())
    }

    async fn query_one<S: StatementBuilder>(
        &self,
        statement: &S,
    ) -> Result<Option<QueryResult>, DbErr> {
        let statement = DbBackend::Postgres.build(statement);
        Ok(self.lent().await?.query_one(statement).await?.map(Into::into))
    }

    async fn query_all<S: StatementBuilder>(
        &self,
        statement: &S,
    ) -> Result<Vec<QueryResult>, DbErr> {
        let rows = self.built_rows(DbBackend::Postgres.build(statement)).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        Ok(self.lent_for(&statement.sql).await?.execute(statement).await?.into())
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let mut lent = self.lent_for(sql).await?;
        let result = match self.is_read_only() {
            // Prepared, a text can hold one statement only, the one that was looked at.
            true => lent.execute(Statement::from_string(DbBackend::Postgres, sql)).await?,
            false => lent.execute_unprepared(sql).await?,
        };
        Ok(result.into())
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let row = self.lent_for(&statement.sql).await?.query_one(statement).await?;
        Ok(row.map(Into::into))
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let rows = self.raw_rows(statement).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }
}

impl StreamTrait for Session {
    /// Holds the session's connection: its other statements wait until the stream is dropped.
    type Stream<'a> = BoxStream<'a, Result<QueryResult, DbErr>>;

    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    fn stream_raw<'a>(
        &'a self,
        statement: Statement,
    ) -> BoxFuture<'a, Result<Self::Stream<'a>, DbErr>> {
        Box::pin(async move {
            let lent = self.lent_for(&statement.sql).await?;
            Ok(pool::rows(lent, statement))
        })
    }

    fn stream<'a, S: StatementBuilder + Sync>(
        &'a self,
        statement: &S,
    ) -> BoxFuture<'a, Result<Self::Stream<'a>, DbErr>> {
        let statement = DbBackend::Postgres.build(statement);
        Box::pin(async move { Ok(pool::rows(self.lent().await?, statement)) })
    }
}

#[async_trait]
impl TransactionSession for Session {
    async fn commit(self) -> Result<(), DbErr> {
        Session::commit(self).await
    }

    async fn rollback(self) -> Result<(), DbErr> {
        Session::rollback(self).await
    }
}

impl Session {
    async fn built_rows(&self, statement: Statement) -> Result<Vec<PgRow>, DbErr> {
        self.lent().await?.query_all(statement).await
    }

    pub(crate) async fn raw_rows(&self, statement: Statement) -> Result<Vec<PgRow>, DbErr> {
        self.lent_for(&statement.sql).await?.query_all(statement).await
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

implement_transactions!(Session);
