//! Schemas: a tenant in each, in one database.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};
use sea_orm::ConnectionTrait as _;

use crate::{error::Error, pg::Pg, sql, view::Scope};

/// PostgreSQL cuts longer names short, and two of them might become one.
const NAME_MAX: usize = 63;

/// The schema of a view, if PostgreSQL takes its name for no other.
fn checked(database: &str, name: &str) -> Result<Scope, Error> {
    let refuse = |reason: &str| {
        Err(Error::Schema {
            database: database.to_owned(),
            schema: name.to_owned(),
            reason: reason.to_owned(),
        })
    };
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > NAME_MAX {
        return refuse("it has more than 63 bytes, and PostgreSQL would cut it short");
    }
    if name.contains('\0') {
        return refuse("it contains a NUL");
    }
    // Quoted or not, the search path takes it for the schema of whoever is logged in.
    if name == "$user" {
        return refuse("in a search path it means whoever is logged in");
    }
    if name.starts_with("pg_") || name == "information_schema" {
        return refuse("names like this are PostgreSQL's own");
    }
    Ok(Scope::new(name))
}

impl Pg {
    /// Returns the same database seen from one schema, such as a tenant's. Everything unqualified is
    /// created and looked up there. If the entry has a `schema:`, that and `public` follow in the search
    /// path, for what tenants share: with `schema: public`, they see the types of extensions there. A table
    /// that a tenant lacks is then looked up there, too, so keep tables of tenants out of it.
    ///
    /// ```no_run
    /// # async fn doc(pg: wharf::Pg) -> Result<(), wharf::Error> {
    /// use sea_orm::ConnectionTrait;
    /// let tenant = pg.scoped("tenant_a")?;
    /// tenant.session().run(async |s| {
    ///     s.execute_unprepared("INSERT INTO invoice (cents) VALUES (900)").await
    /// }).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// A view is a name and a reference count; thousands of them share the connections of `self`. It
    /// works by `SET LOCAL` in a transaction, which ends with it whatever happens: an error, a panic,
    /// a dropped future, a raw `SET` (which is undone before the next one has the connection).
    ///
    /// A session costs no round trip more than on `self`: the setting goes with BEGIN. A single
    /// statement is such a session too, so it costs two more; several belong into one session. What
    /// cannot run in a transaction (VACUUM, CREATE INDEX CONCURRENTLY) needs a
    /// [dedicated](Pg::dedicated) pool.
    ///
    /// Tenants' tables may differ in a column's type, as while they are migrated one by one. In a session, the first
    /// statement that meets the difference fails (0A000; [`retry`](crate::SessionBuilder::retry) runs it again), and
    /// from then on this process prepares its text for each schema.
    ///
    /// This keeps honest code of one tenant from another's rows. It is no boundary against SQL that
    /// was let in, which can name any schema that its login may use.
    ///
    /// # Errors
    /// [`Error::Schema`] for a name that PostgreSQL would take for another: one that is empty, of more
    /// than 63 bytes, holds a NUL, or is PostgreSQL's own. Any other name works, whatever it holds.
    /// Whether it is there is not looked at: see [`ensure_schema`](Pg::ensure_schema).
    pub fn scoped(&self, schema: &str) -> Result<Pg, Error> {
        let scope = checked(self.name(), schema)?;
        Ok(self.in_scope(Some(scope)))
    }

    /// The same as [`scoped`](Pg::scoped), with connections of its own: as many as the entry says, for
    /// this schema alone. Statements cost one round trip again, and what cannot run in a transaction
    /// can run; a server has room for a few of these, not for thousands.
    ///
    /// Its name, in errors and metrics, is `NAME.SCHEMA`. Close it as any other.
    ///
    /// # Errors
    /// As [`scoped`](Pg::scoped).
    pub fn dedicated(&self, schema: &str) -> Result<Pg, Error> {
        let scope = checked(self.name(), schema)?;
        let (whole, view) = (self.in_scope(None), self.view().clone());
        let name = format!("{}.{schema}", self.name());
        let monitor = self.monitor().config().clone();
        let locate = move || -> BoxFuture<'static, _> {
            let (whole, scope) = (whole.clone(), scope.clone());
            async move {
                let mut config = (*whole.database().located(false).await?.config).clone();
                config.schema = Some(scope.path(config.schema.as_deref()));
                Ok(config)
            }
            .boxed()
        };
        let dedicated = Pg::located(&name, self.is_read_only(), monitor, Arc::new(locate));
        Ok(dedicated.with_view(view.in_scope(None)))
    }

    /// Returns the same database with a setting of PostgreSQL's for every statement, such as the tenant that
    /// policies of row-level security ask for. It adds to the settings of `self`, and to its schema.
    ///
    /// ```no_run
    /// # async fn doc(pg: wharf::Pg) -> Result<(), wharf::Error> {
    /// use sea_orm::ConnectionTrait;
    /// // CREATE POLICY own ON invoice USING (tenant_id = current_setting('app.tenant_id')::bigint)
    /// let tenant = pg.with_local("app.tenant_id", "42");
    /// tenant.execute_unprepared("DELETE FROM invoice WHERE paid").await?; // only those of tenant 42
    /// # Ok(()) }
    /// ```
    ///
    /// It works and costs as a [scoped](Pg::scoped) view: `SET LOCAL` in a transaction, which is sent with BEGIN. A
    /// session costs no round trip more, a single statement two. Nobody else sees the setting, whatever ends the
    /// transaction. A list is written as in `postgresql.conf`. A session's own
    /// [`set_local`](crate::SessionBuilder::set_local) has the last word.
    ///
    /// Row-level security binds no superuser, no role with BYPASSRLS, and the owner of a table only under
    /// `ALTER TABLE … FORCE ROW LEVEL SECURITY`. SQL that was let in can call `set_config` itself.
    /// Migrations and [`Manager::connection`](crate::Manager::connection) do not have the setting.
    ///
    /// A setting that the server does not know, or a value that it does not take, is the error of each statement.
    #[must_use]
    pub fn with_local(&self, name: impl Into<String>, value: impl Into<String>) -> Pg {
        self.clone().with_view(self.view().with_setting(name.into(), value.into()))
    }

    /// The schema of a [scoped](Pg::scoped) view.
    pub fn schema(&self) -> Option<&str> {
        self.scope().map(Scope::name)
    }

    /// Makes a schema, if it is not there; whether it was made. However many do it at once: see
    /// [`ensure_object`](Pg::ensure_object).
    ///
    /// # Errors
    /// As [`scoped`](Pg::scoped), and what the server says.
    pub async fn ensure_schema(&self, schema: &str) -> Result<bool, Error> {
        let scope = checked(self.name(), schema)?;
        let key = format!("wharf schema {}", scope.name());
        self.ensure_object(&key, async |s| {
            let there = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
            let there = sea_orm::Statement::from_sql_and_values(
                sea_orm::DbBackend::Postgres,
                there,
                [scope.name().into()],
            );
            let there = s.query_one_raw(there).await?;
            if there.map(|row| row.try_get_by_index::<bool>(0)).transpose()? == Some(true) {
                return Ok(false);
            }
            let create = format!("CREATE SCHEMA {}", sql::quote_ident(scope.name()));
            s.execute_unprepared(&create).await?;
            Ok(true)
        })
        .await
    }

    /// Drops a schema **with everything in it**; fine if it is not there.
    ///
    /// # Errors
    /// As [`scoped`](Pg::scoped), and what the server says: it waits for those who use what is in it
    /// as long as `lock_timeout` allows.
    pub async fn drop_schema(&self, schema: &str) -> Result<(), Error> {
        let scope = checked(self.name(), schema)?;
        let drop = format!("DROP SCHEMA IF EXISTS {} CASCADE", sql::quote_ident(scope.name()));
        self.in_scope(None).execute_unprepared(&drop).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::checked;

    #[test]
    fn a_name_that_postgresql_would_take_for_another_is_refused() {
        let long = "x".repeat(64);
        for name in ["", "$user", "pg_temp", "pg_catalog", "information_schema", "a\0b", &long] {
            assert!(checked("shop", name).is_err(), "{name:?}");
        }
        for name in ["tenant_a", "a\"b", "a, b", "'; DROP", "ä ö", "PUBLIC", &"x".repeat(63)] {
            assert!(checked("shop", name).is_ok(), "{name:?}");
        }
    }
}
