//! SeaORM's traits, the same for a database and for a session.

#[cfg(feature = "schema-sync")]
use sea_orm::DbErr;

/// SeaORM's traits, and the names that its `DatabaseConnection` and `DatabaseTransaction` have
/// besides, for a type that has
/// ```text
/// async fn ask<F: Fetch>(&self, Author) -> Result<F::Answer, DbErr>
/// async fn rows(&self, Statement, Writer) -> Result<BoxStream<Result<QueryResult, DbErr>>, DbErr>
/// async fn unprepared(&self, &str) -> Result<PgQueryResult, DbErr>
/// async fn open_session(&self, TransactionOptions) -> Result<Session, DbErr>
/// ```
macro_rules! implement_sea_orm {
    ($type:ty) => {
        const _: () = {
            use std::{fmt, pin::Pin};

            use ::futures_util::{future::BoxFuture, stream::BoxStream};
            use ::sea_orm::{
                AccessMode, ConnectionTrait, DbBackend, DbErr, ExecResult, IsolationLevel,
                QueryResult, Schema, SchemaBuilder, Statement, StatementBuilder, StreamTrait,
                TransactionError, TransactionOptions, TransactionTrait,
            };
            use $crate::{
                pool::{AllRows, Effect, FirstRow},
                session::Session,
                statement::{Author, Writer},
            };

            const POSTGRES: DbBackend = DbBackend::Postgres;

            #[::async_trait::async_trait]
            impl ConnectionTrait for $type {
                fn get_database_backend(&self) -> DbBackend {
                    POSTGRES
                }

                async fn execute<S: StatementBuilder>(
                    &self,
                    statement: &S,
                ) -> Result<ExecResult, DbErr> {
                    Ok(self.ask::<Effect>(Author::Builder(statement)).await?.into())
                }

                async fn query_one<S: StatementBuilder>(
                    &self,
                    statement: &S,
                ) -> Result<Option<QueryResult>, DbErr> {
                    let row = self.ask::<FirstRow>(Author::Builder(statement)).await?;
                    Ok(row.map(Into::into))
                }

                async fn query_all<S: StatementBuilder>(
                    &self,
                    statement: &S,
                ) -> Result<Vec<QueryResult>, DbErr> {
                    let rows = self.ask::<AllRows>(Author::Builder(statement)).await?;
                    Ok(rows.into_iter().map(Into::into).collect())
                }

                async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
                    Ok(self.ask::<Effect>(Author::Caller(&statement)).await?.into())
                }

                async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
                    Ok(self.unprepared(sql).await?.into())
                }

                async fn query_one_raw(
                    &self,
                    statement: Statement,
                ) -> Result<Option<QueryResult>, DbErr> {
                    Ok(self.ask::<FirstRow>(Author::Caller(&statement)).await?.map(Into::into))
                }

                async fn query_all_raw(
                    &self,
                    statement: Statement,
                ) -> Result<Vec<QueryResult>, DbErr> {
                    let rows = self.ask::<AllRows>(Author::Caller(&statement)).await?;
                    Ok(rows.into_iter().map(Into::into).collect())
                }
            }

            impl StreamTrait for $type {
                /// Holds the connection until it ends or is dropped: a session can do nothing else
                /// meanwhile ([`Session::cursor`](crate::Session::cursor) lets it). Rows are read from the
                /// socket one by one, so memory is that of two rows, or 13 kB where they are narrow, however
                /// many they are and however late they are read; what is not read waits at the server.
                type Stream<'a> = BoxStream<'a, Result<QueryResult, DbErr>>;

                fn get_database_backend(&self) -> DbBackend {
                    POSTGRES
                }

                fn stream_raw<'a>(
                    &'a self,
                    statement: Statement,
                ) -> BoxFuture<'a, Result<Self::Stream<'a>, DbErr>> {
                    Box::pin(async move { self.rows(statement, Writer::Caller).await })
                }

                fn stream<'a, S: StatementBuilder + Sync>(
                    &'a self,
                    statement: &S,
                ) -> BoxFuture<'a, Result<Self::Stream<'a>, DbErr>> {
                    let statement = POSTGRES.build(statement);
                    Box::pin(async move { self.rows(statement, Writer::Builder).await })
                }
            }

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
                    POSTGRES
                }

                /// A builder that makes or completes a schema from entities.
                pub fn get_schema_builder(&self) -> SchemaBuilder {
                    Schema::new(POSTGRES).builder()
                }

                /// The same, with every registered entity of the modules below `prefix`.
                #[cfg(feature = "entity-registry")]
                pub fn get_schema_registry(&self, prefix: &str) -> SchemaBuilder {
                    let schema = Schema::new(POSTGRES);
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
                    let rows = self.ask::<AllRows>(Author::Builder(&select)).await;
                    $crate::session::schema_rows(rows)
                }

                async fn query_all_raw(
                    &self,
                    sql: String,
                ) -> Result<Vec<::sea_schema::sqlx_types::SqlxRow>, ::sqlx::Error> {
                    let statement = Statement::from_string(POSTGRES, sql);
                    $crate::session::schema_rows(
                        self.ask::<AllRows>(Author::Caller(&statement)).await,
                    )
                }
            }
        };
    };
}
pub(crate) use implement_sea_orm;

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
