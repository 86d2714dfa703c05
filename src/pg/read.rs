//! Reading on standbys.

use std::time::Instant;

use super::Pg;
use crate::{causal::CausalToken, error::Error, topology::ServerStatus};

impl Pg {
    /// Returns the same database for reading, on a standby where the entry says so: a view that is
    /// [read-only](Pg::read_only), and whose statements and sessions may each run on another server.
    ///
    /// | `reads` | a read runs on |
    /// |---|---|
    /// | `primary`, the default | the primary |
    /// | `causal` | a standby that has what was written before, by this process or, within [`causal`](crate::causal()), by that scope; else the primary |
    /// | `eventual` | a standby that is no further behind than `replica.max_lag` and `max_lag_bytes`; else the primary |
    ///
    /// The same code runs on one server and on many. What another process or SeaORM's own connection
    /// ([`Manager::connection`](crate::Manager::connection)) has written is not known here: pass a
    /// [token](Pg::causal_token) on. Two reads may run on two standbys, of which the second is further behind; one
    /// session has one server.
    ///
    /// ```no_run
    /// # async fn doc(pg: wharf::Pg) -> Result<(), wharf::Error> {
    /// use sea_orm::{ConnectionTrait, DbBackend, Statement};
    /// pg.execute_unprepared("INSERT INTO visit DEFAULT VALUES").await?;
    /// let count = Statement::from_string(DbBackend::Postgres, "SELECT count(*) FROM visit");
    /// let row = pg.read().query_one_raw(count).await?;       // sees the visit, wherever it runs
    /// # Ok(()) }
    /// ```
    ///
    /// # What it costs
    /// A standby that was seen to have replayed far enough costs nothing more. Else its position is asked in the message that
    /// begins a transaction, and a statement without a session gets one: one round trip more. Up to `replica.wait` it is
    /// asked again. A COMMIT tells its position in its own answer. That of a single statement is not known before the primary
    /// was asked again, 50 ms later at the earliest; the reads until then run on the primary.
    ///
    /// # Where a standby fails
    /// A standby that cannot be reached is passed over. A built single statement that a standby cancels (40001, because its
    /// recovery needs a lock or a row version) or whose connection is lost runs again on the primary; so does a session with
    /// [`retry`](crate::SessionBuilder::retry). While there is no primary, standbys serve the reads that they are known to be
    /// far enough for.
    pub fn read(&self) -> Pg {
        let mut pg = self.read_only();
        pg.database.route.on_standby = true;
        pg
    }

    /// Returns the same database, whose [reads](Pg::read) see what `token` is about.
    ///
    /// A token of the future, which nobody can have got from this cluster, counts as the moment in which it came; one of another
    /// cluster sends reads to the primary.
    ///
    /// ```no_run
    /// # fn doc(pg: wharf::Pg, cookie: Option<&str>) {
    /// // A cookie may be anything; without a token, reads see what this process has written.
    /// let token = cookie.and_then(|text| text.parse::<wharf::CausalToken>().ok());
    /// let pg = token.map_or(pg.read(), |token| pg.read().at_least(token));
    /// # }
    /// ```
    pub fn at_least(&self, token: CausalToken) -> Pg {
        let mut pg = self.clone();
        let now = Instant::now();
        let before = pg.database.route.at_least.filter(|(known, _)| known.cluster == token.cluster);
        let token = match before {
            Some((known, _)) => {
                CausalToken { position: known.position.merge(token.position), ..token }
            }
            None => token,
        };
        pg.database.route.at_least = Some((token, now));
        pg
    }

    /// Returns what was written so far, by this process or within [`causal`](crate::causal()) by that scope, for reads in
    /// another process. A token that was given to [`at_least`](Pg::at_least) counts, too. None if there is nothing, or if the
    /// entry does not say `reads: causal`.
    ///
    /// No round trip after a COMMIT; one to the primary after a single statement, whose position is not known.
    ///
    /// # Errors
    /// As a statement's.
    pub async fn causal_token(&self) -> Result<Option<CausalToken>, Error> {
        self.database.causal_token().await
    }

    /// Asks each server of the entry for its role and how far it is behind, at the same time, within
    /// `topology.probe_timeout`: for health checks. Empty for an entry that reads on its primary.
    ///
    /// Opens a connection to each server, and closes it.
    ///
    /// # Errors
    /// [`Error::PgServerDown`] if the file's server is not found.
    pub async fn servers(&self) -> Result<Vec<ServerStatus>, Error> {
        match self.database.topology().await? {
            Some(topology) => Ok(topology.ask_all().await),
            None => Ok(Vec::new()),
        }
    }
}
