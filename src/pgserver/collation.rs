//! Whether a server's data was sorted by the rules that its system has now.

use sqlx::{Connection as _, Row as _};

use super::request::Request;
use super::server::Endpoint;

/// Databases whose text was sorted by other rules than those that the server's system has now. PostgreSQL records them
/// from version 15 on.
const CHANGED: &str = "
SELECT datname::text FROM pg_database
 WHERE datallowconn AND datcollversion <> pg_database_collation_actual_version(oid) ORDER BY 1";

/// Warns of databases whose indexes of text may be wrong, because their order was made by another version of the system.
pub(super) async fn check(at: &Endpoint, request: &Request) {
    for database in changed(at).await.unwrap_or_default() {
        let name = crate::sql::quote_ident(&database);
        tracing::warn!(
            "pgserver `{}`: the system's order of text has changed since database `{database}` was created, so indexes of \
             text may miss rows; run in it: REINDEX DATABASE {name}; ALTER DATABASE {name} REFRESH COLLATION VERSION",
            request.name(),
        );
    }
}

async fn changed(at: &Endpoint) -> Option<Vec<String>> {
    let mut connection = at.login().connect().await.ok()?;
    // Before 15, there is no such function.
    let rows = sqlx::query(CHANGED).fetch_all(&mut connection).await.ok();
    let _ = connection.close().await;
    rows?.iter().map(|row| row.try_get(0).ok()).collect()
}
