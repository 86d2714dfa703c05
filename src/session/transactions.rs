//! SeaORM's transactions, the same for a database and for a session inside one.

#[cfg(feature = "schema-sync")]
use sea_orm::DbErr;

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
