//! A database as SeaORM sees it.

use async_trait::async_trait;
use futures_util::{future::BoxFuture, stream::BoxStream};
use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement, StatementBuilder,
    StreamTrait, TransactionOptions,
};
use sqlx::postgres::PgRow;

use super::Pg;
use crate::{
    error::Error,
    pool::{self, Lent, Purpose},
    session::{Session, SessionBuilder, implement_transactions},
    sql,
};

/// How a statement goes to the server.
enum Way {
    Direct(Lent),
    /// In a read-only transaction of its own, which is rolled back.
    Sealed(Session),
}

/// Who made a statement.
#[derive(Clone, Copy, PartialEq)]
enum Maker {
    Builder,
    Caller,
}

impl Pg {
    async fn way(&self, sql: &str, maker: Maker, purpose: Purpose) -> Result<Way, Error> {
        if self.is_read_only() && (maker == Maker::Caller || !sql::only_reads(sql)) {
            // What the caller wrote could talk its connection out of being read-only, for itself
            // or for the next; in a sealed transaction that is rolled back it cannot.
            let session = SessionBuilder::new(self.clone(), purpose).await?;
            return Ok(Way::Sealed(session));
        }
        let mut lent = self.lend(self.is_read_only(), purpose).await?;
        if maker == Maker::Caller {
            lent.raw(sql);
        }
        Ok(Way::Direct(lent))
    }

    async fn run(&self, statement: Statement, maker: Maker) -> Result<ExecResult, DbErr> {
        match self.way(&statement.sql, maker, Purpose::Statement).await? {
            Way::Direct(mut lent) => Ok(lent.execute(statement).await?.into()),
            Way::Sealed(session) => {
                let result = session.execute_raw(statement).await;
                session.undo_and(result).await
            }
        }
    }

    async fn one(&self, statement: Statement, maker: Maker) -> Result<Option<QueryResult>, DbErr> {
        match self.way(&statement.sql, maker, Purpose::Statement).await? {
            Way::Direct(mut lent) => Ok(lent.query_one(statement).await?.map(Into::into)),
            Way::Sealed(session) => {
                let row = session.query_one_raw(statement).await;
                session.undo_and(row).await
            }
        }
    }

    async fn all(&self, statement: Statement, maker: Maker) -> Result<Vec<PgRow>, DbErr> {
        match self.way(&statement.sql, maker, Purpose::Statement).await? {
            Way::Direct(mut lent) => lent.query_all(statement).await,
            Way::Sealed(session) => {
                let rows = session.raw_rows(statement).await;
                session.undo_and(rows).await
            }
        }
    }

    async fn built_rows(&self, statement: Statement) -> Result<Vec<PgRow>, DbErr> {
        self.all(statement, Maker::Builder).await
    }

    async fn raw_rows(&self, statement: Statement) -> Result<Vec<PgRow>, DbErr> {
        self.all(statement, Maker::Caller).await
    }

    async fn rows(
        &self,
        statement: Statement,
        maker: Maker,
    ) -> Result<BoxStream<'static, Result<QueryResult, DbErr>>, DbErr> {
        let held = Purpose::Hold("a stream", None);
        let lent = match self.way(&statement.sql, maker, held).await? {
            Way::Direct(lent) => lent,
            Way::Sealed(session) => session.into_lent(&statement.sql).await?,
        };
        Ok(pool::rows(Box::new(lent), statement))
    }

    async fn open_session(&self, options: TransactionOptions) -> Result<Session, DbErr> {
        let held = Purpose::Hold("a session", None);
        Ok(SessionBuilder::new(self.clone(), held).options(options).await?)
    }
}

#[async_trait]
impl ConnectionTrait for Pg {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    async fn execute<S: StatementBuilder>(&self, statement: &S) -> Result<ExecResult, DbErr> {
        self.run(DbBackend::Postgres.build(statement), Maker::Builder).await
    }

    async fn query_one<S: StatementBuilder>(
        &self,
        statement: &S,
    ) -> Result<Option<QueryResult>, DbErr> {
        self.one(DbBackend::Postgres.build(statement), Maker::Builder).await
    }

    async fn query_all<S: StatementBuilder>(
        &self,
        statement: &S,
    ) -> Result<Vec<QueryResult>, DbErr> {
        let rows = self.built_rows(DbBackend::Postgres.build(statement)).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.run(statement, Maker::Caller).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self.way(sql, Maker::Caller, Purpose::Statement).await? {
            Way::Direct(mut lent) => Ok(lent.execute_unprepared(sql).await?.into()),
            Way::Sealed(session) => {
                let result = session.execute_unprepared(sql).await;
                session.undo_and(result).await
            }
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.one(statement, Maker::Caller).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let rows = self.raw_rows(statement).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }
}

impl StreamTrait for Pg {
    /// Holds a connection until it ends or is dropped.
    type Stream<'a> = BoxStream<'a, Result<QueryResult, DbErr>>;

    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    fn stream_raw<'a>(
        &'a self,
        statement: Statement,
    ) -> BoxFuture<'a, Result<Self::Stream<'a>, DbErr>> {
        Box::pin(async move { self.rows(statement, Maker::Caller).await })
    }

    fn stream<'a, S: StatementBuilder + Sync>(
        &'a self,
        statement: &S,
    ) -> BoxFuture<'a, Result<Self::Stream<'a>, DbErr>> {
        let statement = DbBackend::Postgres.build(statement);
        Box::pin(async move { self.rows(statement, Maker::Builder).await })
    }
}

implement_transactions!(Pg);
