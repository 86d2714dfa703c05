//! What a running server tells of itself.

use std::time::{Duration, Instant};

use sqlx::postgres::PgRow;
use sqlx::{Connection as _, Row as _};

use super::error::PgServerError;
use super::server::{Endpoint, PgServer};
use crate::config::Runtime;

/// What a running server tells of itself; see [`PgServer::report`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// PostgreSQL's version in full.
    pub version: String,
    /// How long the login took.
    pub login: Duration,
    /// How long it has been running.
    pub uptime: Duration,
    /// Clients' connections, this one included.
    pub connections: u32,
    /// Of those, the ones that run a statement.
    pub active: u32,
    /// Of those, the ones that sit in a transaction.
    pub idle_in_transaction: u32,
    /// Its setting `max_connections`.
    pub max_connections: u32,
    /// The databases in the order of their names, templates left out.
    pub databases: Vec<DatabaseReport>,
    /// The extensions that can be created on it.
    pub extensions: Vec<String>,
    /// Who follows it.
    pub standbys: Vec<StandbyReport>,
}

/// One database of a server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DatabaseReport {
    /// Its name.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// Clients' connections to it.
    pub connections: u32,
}

/// A standby that follows a server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StandbyReport {
    /// What it calls itself.
    pub name: String,
    /// Its port, at the server's host, if that is known.
    pub port: Option<u16>,
    /// `streaming`, `catchup`, …, or `disconnected` where only its slot is there.
    pub state: String,
    /// How much of the log it has not replayed yet, in bytes; `None` if nobody knows.
    pub lag_bytes: Option<u64>,
    /// How long ago what it replayed last was written, as measured with the last changes; `None`
    /// where nothing was written lately.
    pub lag: Option<Duration>,
}

const SERVER: &str = "
SELECT current_setting('server_version'),
       extract(epoch FROM now() - pg_postmaster_start_time())::float8,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       (SELECT count(*) FROM pg_stat_activity
         WHERE backend_type = 'client backend' AND state = 'active'),
       (SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'),
       current_setting('max_connections')::int8,
       ARRAY(SELECT name::text FROM pg_available_extensions ORDER BY name)";

const DATABASES: &str = "
SELECT datname::text, pg_database_size(oid),
       (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid)
  FROM pg_database d WHERE NOT datistemplate ORDER BY datname";

const STANDBYS: &str = "
SELECT coalesce(nullif(application_name, ''), slot_name::text, '?'),
       coalesce(state, 'disconnected'),
       pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(replay_lsn, restart_lsn))::int8,
       extract(epoch FROM replay_lag)::float8
  FROM pg_stat_replication r
  FULL JOIN pg_replication_slots s ON s.active_pid = r.pid
 WHERE s.slot_type IS DISTINCT FROM 'logical'
 ORDER BY 1";

impl PgServer {
    /// What the server that runs tells of itself: one login and three queries. `None` if nobody can
    /// log in to it now; see [`status`](PgServer::status).
    ///
    /// # Errors
    /// As [`status`](PgServer::status); [`PgServerError::Failed`] if a query fails. On the embedded
    /// engine it takes the one connection for a moment.
    pub async fn report(&self) -> Result<Option<Report>, PgServerError> {
        let Some(at) = self.running().await? else {
            return Ok(None);
        };
        let begun = Instant::now();
        let failed =
            |error: sqlx::Error| self.request.failed("could not read its state", begun, error);
        let Ok(mut connection) = at.login().connect().await else {
            return Ok(None);
        };
        let login = begun.elapsed();
        let server = sqlx::query(SERVER).fetch_one(&mut connection).await.map_err(failed)?;
        let databases = sqlx::query(DATABASES).fetch_all(&mut connection).await.map_err(failed)?;
        // An engine that was started for reading only, or a standby, has nobody to follow it.
        let standbys = sqlx::query(STANDBYS).fetch_all(&mut connection).await.unwrap_or_default();
        let _ = connection.close().await;
        let report = Report::read(&at, login, &server, &databases, &standbys);
        report.map(Some).map_err(failed)
    }
}

/// The port of a standby: the only one, the one that its name ends with, or in Docker that of its number.
fn port_of(at: &Endpoint, name: &str) -> Option<u16> {
    let (start, end) = name.rsplit_once('-')?;
    match at.replica_ports.as_slice() {
        [only] => Some(*only),
        several if at.runtime == Runtime::Docker && end == "replica" => several.first().copied(),
        several if at.runtime == Runtime::Docker => {
            let number = end.parse::<usize>().ok().filter(|_| start.ends_with("-replica"))?;
            several.get(number.checked_sub(1)?).copied()
        }
        several => end.parse().ok().filter(|port| several.contains(port)),
    }
}

impl Report {
    fn read(
        at: &Endpoint,
        login: Duration,
        server: &PgRow,
        databases: &[PgRow],
        standbys: &[PgRow],
    ) -> sqlx::Result<Report> {
        let count = |row: &PgRow, at: usize| -> sqlx::Result<u32> {
            Ok(u32::try_from(row.try_get::<i64, _>(at)?).unwrap_or(0))
        };
        let database = |row: &PgRow| -> sqlx::Result<DatabaseReport> {
            Ok(DatabaseReport {
                name: row.try_get(0)?,
                size: u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or(0),
                connections: count(row, 2)?,
            })
        };
        let standby = |row: &PgRow| -> sqlx::Result<StandbyReport> {
            let lag_bytes: Option<i64> = row.try_get(2)?;
            let lag: Option<f64> = row.try_get(3)?;
            let name: String = row.try_get(0)?;
            Ok(StandbyReport {
                port: port_of(at, &name),
                name,
                state: row.try_get(1)?,
                lag_bytes: lag_bytes.map(|bytes| u64::try_from(bytes).unwrap_or(0)),
                lag: lag.and_then(|lag| Duration::try_from_secs_f64(lag).ok()),
            })
        };
        let uptime: f64 = server.try_get(1)?;
        let full: String = server.try_get(0)?;
        let version = full.split(' ').next().filter(|version| !version.is_empty());
        Ok(Report {
            version: version.unwrap_or(&at.version).to_owned(),
            login,
            uptime: Duration::try_from_secs_f64(uptime).unwrap_or_default(),
            connections: count(server, 2)?,
            active: count(server, 3)?,
            idle_in_transaction: count(server, 4)?,
            max_connections: count(server, 5)?,
            extensions: server.try_get(6)?,
            databases: databases.iter().map(database).collect::<Result<_, _>>()?,
            standbys: standbys.iter().map(standby).collect::<Result<_, _>>()?,
        })
    }
}
