//! The error of a statement, with its cause where that is likely to be elsewhere.

use sea_orm::{DbErr, RuntimeErr};

use super::lent::{Lent, runtime};
use crate::{
    config::Pooler,
    error::{Error, server_error},
};

/// Words of PgBouncer, which has one code (08P01) for all that it says itself.
const OF_PGBOUNCER: [&str; 2] = ["pgbouncer", "query_wait_timeout"];

impl Lent {
    /// A failure as SeaORM has it; or, where something of an extension was not found because the search path lacks its
    /// schema, wharf's error that says which search path has it. The latter costs a round trip; in a transaction, which
    /// the server's error has ended, it is made on another connection of the pool, if one is free soon.
    pub(super) async fn explained(
        &mut self,
        error: sqlx::Error,
        failed: fn(RuntimeErr) -> DbErr,
    ) -> DbErr {
        if self.is_from_pooler(&error) {
            let database = self.pool.name();
            let source = Box::new(failed(runtime(error)));
            return Error::LooksLikePooler { database, source }.into();
        }
        match Box::pin(self.lacks(&error)).await {
            None => failed(runtime(error)),
            Some((extensions, schemas, search_path)) => {
                let shared = self.search_path().unwrap_or("public");
                Error::SearchPath {
                    database: self.pool.name(),
                    search_path,
                    extensions,
                    wanted: format!("{shared}, {schemas}"),
                    source: Box::new(failed(runtime(error))),
                }
                .into()
            }
        }
    }

    /// Whether the entry names no pooler, and the error is that of a client whose prepared statements are mixed up with another
    /// client's, or PgBouncer's own.
    fn is_from_pooler(&self, error: &sqlx::Error) -> bool {
        let has_none = self.pool.connector.to.config.pooler == Pooler::None;
        has_none
            && server_error(error).is_some_and(|error| match error.code() {
                "26000" | "42P05" => true,
                "08P01" => OF_PGBOUNCER.iter().any(|said| error.message().contains(said)),
                _ => false,
            })
    }
}
