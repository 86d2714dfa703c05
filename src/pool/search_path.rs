//! What an error means where an extension has a schema of its own, as on hosted servers, and the search path lacks that.

use sqlx::{AssertSqlSafe, Executor as _, Row as _, postgres::PgRow};

use super::{Purpose, SPARE_TIMEOUT, lent::Lent, state::Transaction};
use crate::{error::server_error, sql::quote_literal};

impl Lent {
    /// The extensions that have what was not found, with their schemas; the schemas; and the search path, which lacks
    /// them.
    pub(super) async fn lacks(&mut self, error: &sqlx::Error) -> Option<(String, String, String)> {
        // Its search path comes with each transaction, and the look-up has none.
        if self.needs_transaction() {
            return None;
        }
        let (missing, can_ask) = match error {
            // The driver asks for a type's number before it sends the statement.
            sqlx::Error::TypeNotFound { type_name } => (format!("\"{type_name}\""), true),
            // In a transaction, the server accepts nothing after its error.
            error => (not_found(error)?, self.state.transaction == Transaction::None),
        };
        let sql = lookup(&missing);
        if can_ask {
            let found = self.look_up(&sql).await;
            // The statement failed, whatever the look-up returned.
            self.state.last_failed = true;
            return found;
        }
        // The embedded engine has no other connection.
        if self.pool.slot.is_some() {
            return None;
        }
        let other = self.pool.lend(Purpose::Statement);
        let mut other = tokio::time::timeout(SPARE_TIMEOUT, other).await.ok()?.ok()?;
        other.look_up(&sql).await
    }

    async fn look_up(&mut self, sql: &str) -> Option<(String, String, String)> {
        let flight = self.in_flight().ok()?;
        let asked = flight.driver.fetch_one(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())));
        let (landed, row) = match flight.wait.until(asked).await {
            Ok(row) => (Ok(()), Some(row)),
            Err(error) => (Err(error), None),
        };
        flight.land(landed).ok()?;
        let row: PgRow = row?;
        let text = |at: usize| row.try_get_unchecked::<Option<String>, _>(at).ok().flatten();
        Some((text(0)?, text(1)?, text(2)?))
    }
}

/// What the server says where it knows no such type, function or operator.
fn not_found(error: &sqlx::Error) -> Option<String> {
    let error = server_error(error)?;
    matches!(error.code(), "42704" | "42883").then(|| error.message().to_owned())
}

/// Asks for the extensions outside of the search path that have something whose name is in a message: a type in quotes, a
/// function before its bracket, an operator between spaces.
fn lookup(message: &str) -> String {
    let message = quote_literal(message);
    format!(
        "SELECT string_agg(e.extname || ' is in ' || quote_ident(n.nspname), ', ' ORDER BY e.extname),
                string_agg(DISTINCT quote_ident(n.nspname), ', '), current_setting('search_path')
           FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
          WHERE n.nspname <> ALL (current_schemas(true))
            AND EXISTS (
                SELECT FROM pg_catalog.pg_depend d
                  LEFT JOIN pg_catalog.pg_type t
                    ON d.classid = 'pg_catalog.pg_type'::regclass AND t.oid = d.objid
                  LEFT JOIN pg_catalog.pg_proc p
                    ON d.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = d.objid
                  LEFT JOIN pg_catalog.pg_operator o
                    ON d.classid = 'pg_catalog.pg_operator'::regclass AND o.oid = d.objid
                 WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid
                   AND d.deptype = 'e'
                   AND (strpos({message}, '\"' || t.typname || '\"') > 0
                        OR strpos({message}, ' ' || p.proname || '(') > 0
                        OR strpos({message}, ' ' || o.oprname || ' ') > 0))"
    )
}
