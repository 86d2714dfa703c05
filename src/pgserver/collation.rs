//! Whether a server's data was sorted by the rules that its system has now.

use sqlx::{Connection as _, Row as _};

use super::error::PgServerError;
use super::request::Request;
use super::server::Endpoint;

/// Databases whose text was sorted by other rules than those that the server's system has now. PostgreSQL records them
/// from version 15 on. C and C.UTF-8, which wharf's servers have, are the same everywhere and have no version.
const CHANGED: &str = "
SELECT datname::text, datcollversion, pg_database_collation_actual_version(oid) FROM pg_database
 WHERE datallowconn AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid) ORDER BY 1";

/// A database whose indexes of text may be wrong.
struct Changed {
    database: String,
    /// The version of the rules when it was created, and now.
    versions: (Option<String>, Option<String>),
}

/// Warns of databases whose order was made by another version of the system.
///
/// # Errors
/// [`PgServerError::Invalid`] where it was made by another C library, which is known from one of the two having no
/// versions, as musl's.
pub(super) async fn check(at: &Endpoint, request: &Request) -> Result<(), PgServerError> {
    for Changed { database, versions } in changed(at).await.unwrap_or_default() {
        let (Some(created), Some(current)) = versions else {
            return Err(request.invalid(format!(
                "database `{database}` was created with another C library (glibc or musl) than the server has now, which sorts text otherwise, so its indexes would miss rows; run it with the image that created it; to move, run `wharf server backup` for each database with that image, then `wharf server clean`, and `up` and `restore` with the new one"
            )));
        };
        let name = crate::sql::quote_ident(&database);
        tracing::warn!(
            "pgserver `{}`: the system's order of text has changed from {created} to {current} since database `{database}` was \
             created, so indexes of text may miss rows; run in it: REINDEX DATABASE {name}; ALTER DATABASE {name} REFRESH \
             COLLATION VERSION",
            request.name(),
        );
    }
    Ok(())
}

async fn changed(at: &Endpoint) -> Option<Vec<Changed>> {
    let mut connection = at.login().connect().await.ok()?;
    // Before 15, there is no such function.
    let rows = sqlx::query(CHANGED).fetch_all(&mut connection).await.ok();
    let _ = connection.close().await;
    let read = |row: &sqlx::postgres::PgRow| {
        let versions = (row.try_get(1).ok()?, row.try_get(2).ok()?);
        Some(Changed { database: row.try_get(0).ok()?, versions })
    };
    rows?.iter().map(read).collect()
}
