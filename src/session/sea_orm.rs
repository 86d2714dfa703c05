//! A session as SeaORM sees it.

use async_trait::async_trait;
use futures_util::{future::BoxFuture, stream::BoxStream};
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement,
    StatementBuilder, StreamTrait, TransactionOptions, TransactionSession,
};

use sqlx::postgres::PgRow;

use super::Session;
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

/// SeaORM's transactions, for a type that has `async fn open_session(&self, TransactionOptions)`; and,
/// under the names that `DatabaseConnection` and `DatabaseTransaction` have, what people call on
/// those besides the traits.
macro_rules! implement_transactions {
    ($type:ty) => {
        const _: () = {
            use std::{fmt, pin::Pin};

            use ::sea_orm::{
                AccessMode, DbBackend, DbErr, IsolationLevel, Schema, SchemaBuilder,
                TransactionError, TransactionOptions, TransactionTrait,
            };
            use $crate::session::Session;

            #[::async_trait::async_trait]
            impl TransactionTrait for $type {
                type Transaction = Session;

                async fn begin(&self) -> Result<Session, DbErr> {
                    self.open_session(TransactionOptions::default()).await
                }

                async fn begin_with_config(
                    &self,
                    isolation_level: Option<IsolationLevel>,
                    access_mode: Option<AccessMode>,
                ) -> Result<Session, DbErr> {
                    let sqlite_transaction_mode = None;
                    self.open_session(TransactionOptions {
                        isolation_level,
                        access_mode,
                        sqlite_transaction_mode,
                    })
                    .await
                }

                async fn begin_with_options(
                    &self,
                    options: TransactionOptions,
                ) -> Result<Session, DbErr> {
                    self.open_session(options).await
                }

                async fn transaction<F, T, E>(&self, callback: F) -> Result<T, TransactionError<E>>
                where
                    F: for<'c> FnOnce(
                            &'c Session,
                        )
                            -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>
                        + Send,
                    T: Send,
                    E: fmt::Display + fmt::Debug + Send,
                {
                    self.transaction_with_config(callback, None, None).await
                }

                async fn transaction_with_config<F, T, E>(
                    &self,
                    callback: F,
                    isolation_level: Option<IsolationLevel>,
                    access_mode: Option<AccessMode>,
                ) -> Result<T, TransactionError<E>>
                where
                    F: for<'c> FnOnce(
                            &'c Session,
                        )
                            -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>
                        + Send,
                    T: Send,
                    E: fmt::Display + fmt::Debug + Send,
                {
                    let session = self.begin_with_config(isolation_level, access_mode).await?;
                    let result = callback(&session).await;
                    session.settle(result).await
                }
            }

            impl $type {
                /// Always [`DbBackend::Postgres`].
                pub fn get_database_backend(&self) -> DbBackend {
                    DbBackend::Postgres
                }

                /// A builder that makes or completes a schema from entities.
                pub fn get_schema_builder(&self) -> SchemaBuilder {
                    Schema::new(DbBackend::Postgres).builder()
                }

                /// The same, with every registered entity of the modules below `prefix`.
                #[cfg(feature = "entity-registry")]
                pub fn get_schema_registry(&self, prefix: &str) -> SchemaBuilder {
                    let schema = Schema::new(DbBackend::Postgres);
                    ::sea_orm::EntityRegistry::build_schema(schema, prefix)
                }

                /// As [`TransactionTrait::transaction`], with an async closure.
                pub async fn transaction_async<F, T, E>(
                    &self,
                    callback: F,
                ) -> Result<T, TransactionError<E>>
                where
                    F: for<'c> AsyncFnOnce(&'c Session) -> Result<T, E> + Send,
                    T: Send,
                    E: fmt::Display + fmt::Debug + Send,
                {
                    self.transaction_with_config_async(callback, None, None).await
                }

                /// As [`TransactionTrait::transaction_with_config`], with an async closure.
                pub async fn transaction_with_config_async<F, T, E>(
                    &self,
                    callback: F,
                    isolation_level: Option<IsolationLevel>,
                    access_mode: Option<AccessMode>,
                ) -> Result<T, TransactionError<E>>
                where
                    F: for<'c> AsyncFnOnce(&'c Session) -> Result<T, E> + Send,
                    T: Send,
                    E: fmt::Display + fmt::Debug + Send,
                {
                    let session = self.begin_with_config(isolation_level, access_mode).await?;
                    let result = callback(&session).await;
                    session.settle(result).await
                }
            }

            #[cfg(feature = "schema-sync")]
            #[::async_trait::async_trait]
            impl ::sea_schema::Connection for $type {
                async fn query_all(
                    &self,
                    select: ::sea_orm::sea_query::SelectStatement,
                ) -> Result<Vec<::sea_schema::sqlx_types::SqlxRow>, ::sqlx::Error> {
                    let rows = self.built_rows(DbBackend::Postgres.build(&select)).await;
                    $crate::session::schema_rows(rows)
                }

                async fn query_all_raw(
                    &self,
                    sql: String,
                ) -> Result<Vec<::sea_schema::sqlx_types::SqlxRow>, ::sqlx::Error> {
                    let statement = ::sea_orm::Statement::from_string(DbBackend::Postgres, sql);
                    let rows = self.raw_rows(statement).await;
                    $crate::session::schema_rows(rows)
                }
            }
        };
    };
}
pub(crate) use implement_transactions;

implement_transactions!(Session);

/// Rows in the shape in which SeaORM's schema discovery takes them.
#[cfg(feature = "schema-sync")]
pub(crate) fn schema_rows(
    rows: Result<Vec<sqlx::postgres::PgRow>, DbErr>,
) -> Result<Vec<sea_schema::sqlx_types::SqlxRow>, sqlx::Error> {
    match rows {
        Ok(rows) => Ok(rows.into_iter().map(sea_schema::sqlx_types::SqlxRow::Postgres).collect()),
        Err(error) => Err(sqlx::Error::Io(std::io::Error::other(error))),
    }
}
