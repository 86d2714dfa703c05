//! One look at a server.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, QueryResult, Statement};

use crate::Pg;

/// The most statements, locks and kinds of statements that one look takes in.
const MOST: usize = 200;

/// What a server was doing when it was looked at.
#[derive(Clone)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) version: String,
    pub(super) standby: bool,
    pub(super) uptime: Duration,
    pub(super) max_connections: i64,
    /// Clients' connections by their state; those whose state this login may not see are `hidden`.
    pub(super) states: Vec<(String, i64)>,
    pub(super) activity: Vec<Activity>,
    pub(super) locks: Vec<Lock>,
    pub(super) databases: Vec<Database>,
    /// From pg_stat_statements; or why it tells nothing, and what to do.
    pub(super) slowest: Result<Vec<Slow>, String>,
    /// What this login may not see, and what would let it.
    pub(super) blind: Option<String>,
}

/// A connection that does something, or holds something up.
#[derive(Clone)]
pub(super) struct Activity {
    pub(super) pid: i32,
    pub(super) database: String,
    pub(super) user: String,
    pub(super) application: String,
    pub(super) state: String,
    /// Since its statement began; in an idle transaction, since it became idle.
    pub(super) age: Duration,
    pub(super) wait: Option<String>,
    pub(super) blocked_by: Vec<i32>,
    pub(super) query: String,
}

/// Somebody who waits for a lock, and one who keeps him waiting.
#[derive(Clone)]
pub(super) struct Lock {
    pub(super) waiting: i32,
    pub(super) blocking: i32,
    pub(super) mode: String,
    pub(super) on: String,
    pub(super) age: Duration,
    pub(super) blocking_state: String,
    pub(super) waiting_query: String,
    pub(super) blocking_query: String,
}

#[derive(Clone)]
pub(super) struct Database {
    pub(super) name: String,
    pub(super) size: Option<i64>,
    pub(super) connections: i64,
    pub(super) commits: i64,
    pub(super) rollbacks: i64,
    pub(super) hits: i64,
    pub(super) reads: i64,
    pub(super) deadlocks: i64,
    pub(super) temporary: i64,
}

/// One kind of statement, as pg_stat_statements counts.
#[derive(Clone)]
pub(super) struct Slow {
    pub(super) calls: i64,
    pub(super) total: Duration,
    pub(super) mean: Duration,
    pub(super) rows: i64,
    pub(super) query: String,
}

/// In every statement of this file, so that they can be left out of what is shown.
const OWN: &str = "/* wharf top */";

const SERVER: &str = "
SELECT /* wharf top */ current_setting('server_version'), pg_is_in_recovery(),
       extract(epoch FROM now() - pg_postmaster_start_time())::float8,
       current_setting('max_connections')::int8,
       pg_has_role(current_user, 'pg_read_all_stats', 'MEMBER'),
       (SELECT extnamespace::regnamespace::text FROM pg_extension
         WHERE extname = 'pg_stat_statements')";

const STATES: &str = "
SELECT /* wharf top */ coalesce(state, 'hidden'), count(*) FROM pg_stat_activity
 WHERE application_name <> 'wharf top' AND backend_type = 'client backend'
    OR backend_type IS NULL AND usesysid IS NOT NULL AND datid IS NOT NULL
 GROUP BY 1 ORDER BY 1";

/// Who waits for whom is looked up only where somebody waits: it takes the lock manager's own locks.
const ACTIVITY: &str = "
SELECT /* wharf top */ pid, coalesce(datname::text, ''), coalesce(usename::text, ''),
       coalesce(application_name, ''), state,
       greatest(extract(epoch FROM clock_timestamp() -
           CASE state WHEN 'active' THEN query_start ELSE state_change END), 0)::float8,
       CASE WHEN wait_event IS NOT NULL AND state = 'active'
            THEN wait_event_type || ':' || wait_event END,
       CASE WHEN wait_event_type = 'Lock' THEN pg_blocking_pids(pid) ELSE '{}' END,
       query
  FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND application_name <> 'wharf top' AND state <> 'idle'
 ORDER BY 6 DESC, pid LIMIT $1";

const LOCKS: &str = "
SELECT /* wharf top */ l.pid, b.pid, l.mode,
       CASE WHEN l.relation IS NULL THEN l.locktype
            WHEN l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            THEN l.relation::regclass::text
            ELSE 'table ' || l.relation END,
       greatest(extract(epoch FROM clock_timestamp() - w.query_start), 0)::float8,
       coalesce(b.state, 'hidden'), w.query, b.query
  FROM pg_locks l
  JOIN pg_stat_activity w ON w.pid = l.pid
 CROSS JOIN LATERAL unnest(pg_blocking_pids(l.pid)) blocker
  JOIN pg_stat_activity b ON b.pid = blocker
 WHERE NOT l.granted ORDER BY 5 DESC, 1, 2 LIMIT $1";

const DATABASES: &str = "
SELECT /* wharf top */ s.datname::text,
       CASE WHEN has_database_privilege(s.datid, 'CONNECT') THEN pg_database_size(s.datid) END,
       s.numbackends::int8, s.xact_commit, s.xact_rollback, s.blks_hit, s.blks_read, s.deadlocks,
       s.temp_bytes
  FROM pg_stat_database s JOIN pg_database d ON d.oid = s.datid
 WHERE NOT d.datistemplate ORDER BY s.numbackends DESC, 1";

impl Sample {
    /// Takes a sample: six queries on one connection.
    pub(super) async fn take(pg: &Pg) -> Result<Sample, DbErr> {
        let server = first(pg, SERVER).await?;
        let sees_all: bool = server.try_get_by(4)?;
        let statements: Option<String> = server.try_get_by(5)?;
        let states = all(pg, STATES, None, |row| Ok((row.try_get_by(0)?, row.try_get_by(1)?)));
        let states = states.await?;
        Ok(Sample {
            at: Instant::now(),
            version: server.try_get_by(0)?,
            standby: server.try_get_by(1)?,
            uptime: span(server.try_get_by(2)?),
            max_connections: server.try_get_by(3)?,
            states,
            activity: all(pg, ACTIVITY, Some(MOST), Activity::read).await?,
            locks: all(pg, LOCKS, Some(MOST), Lock::read).await?,
            databases: all(pg, DATABASES, None, Database::read).await?,
            slowest: slowest(pg, statements).await,
            blind: (!sees_all).then(|| {
                "this login does not see what others run; GRANT pg_monitor to it".to_owned()
            }),
        })
    }

    pub(super) fn connections(&self) -> i64 {
        self.states.iter().map(|(_, count)| count).sum()
    }

    pub(super) fn sum(&self, of: fn(&Database) -> i64) -> i64 {
        self.databases.iter().map(of).sum()
    }
}

/// A sum's growth in a second, between two looks.
pub(super) fn rate(before: Option<&Sample>, now: &Sample, of: fn(&Database) -> i64) -> Option<f64> {
    let before = before?;
    let seconds = now.at.duration_since(before.at).as_secs_f64();
    let grown = now.sum(of) - before.sum(of);
    // One that was restarted counts from 0 again.
    (seconds > 0.0 && grown >= 0).then(|| grown as f64 / seconds)
}

async fn slowest(pg: &Pg, schema: Option<String>) -> Result<Vec<Slow>, String> {
    let Some(schema) = schema else {
        return Err("pg_stat_statements is not in this database; add it to \
                    shared_preload_libraries, restart the server, and run CREATE EXTENSION \
                    pg_stat_statements"
            .to_owned());
    };
    let sql = format!(
        "SELECT {OWN} calls, total_exec_time, mean_exec_time, rows, query FROM {schema}.pg_stat_statements \
         WHERE query NOT LIKE '%' || '{OWN}' || '%' ORDER BY total_exec_time DESC LIMIT $1"
    );
    let slowest = all(pg, &sql, Some(MOST), Slow::read).await;
    slowest.map_err(|error| format!("pg_stat_statements: {}", crate::Error::from(error)))
}

impl Activity {
    fn read(row: &QueryResult) -> Result<Activity, DbErr> {
        Ok(Activity {
            pid: row.try_get_by(0)?,
            database: row.try_get_by(1)?,
            user: row.try_get_by(2)?,
            application: row.try_get_by(3)?,
            state: row.try_get_by(4)?,
            age: span(row.try_get_by(5)?),
            wait: row.try_get_by(6)?,
            blocked_by: row.try_get_by(7)?,
            query: one_line(&row.try_get_by::<String, _>(8)?),
        })
    }
}

impl Lock {
    fn read(row: &QueryResult) -> Result<Lock, DbErr> {
        Ok(Lock {
            waiting: row.try_get_by(0)?,
            blocking: row.try_get_by(1)?,
            mode: row.try_get_by(2)?,
            on: row.try_get_by(3)?,
            age: span(row.try_get_by(4)?),
            blocking_state: row.try_get_by(5)?,
            waiting_query: one_line(&row.try_get_by::<String, _>(6)?),
            blocking_query: one_line(&row.try_get_by::<String, _>(7)?),
        })
    }
}

impl Database {
    fn read(row: &QueryResult) -> Result<Database, DbErr> {
        Ok(Database {
            name: row.try_get_by(0)?,
            size: row.try_get_by(1)?,
            connections: row.try_get_by(2)?,
            commits: row.try_get_by(3)?,
            rollbacks: row.try_get_by(4)?,
            hits: row.try_get_by(5)?,
            reads: row.try_get_by(6)?,
            deadlocks: row.try_get_by(7)?,
            temporary: row.try_get_by(8)?,
        })
    }

    /// How much of what was read was there already, in percent.
    pub(super) fn cache(&self) -> Option<f64> {
        let all = self.hits + self.reads;
        (all > 0).then(|| 100.0 * self.hits as f64 / all as f64)
    }
}

impl Slow {
    fn read(row: &QueryResult) -> Result<Slow, DbErr> {
        Ok(Slow {
            calls: row.try_get_by(0)?,
            total: span(row.try_get_by::<f64, _>(1)? / 1e3),
            mean: span(row.try_get_by::<f64, _>(2)? / 1e3),
            rows: row.try_get_by(3)?,
            query: one_line(&row.try_get_by::<String, _>(4)?),
        })
    }
}

async fn first(pg: &Pg, sql: &str) -> Result<QueryResult, DbErr> {
    let row = pg.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
    row.ok_or_else(|| DbErr::RecordNotFound("the server told nothing of itself".to_owned()))
}

async fn all<T>(
    pg: &Pg,
    sql: &str,
    most: Option<usize>,
    read: fn(&QueryResult) -> Result<T, DbErr>,
) -> Result<Vec<T>, DbErr> {
    let most = most.map(|most| sea_orm::Value::from(most as i64));
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, most);
    pg.query_all_raw(statement).await?.iter().map(read).collect()
}

fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// What is left of a text when its line breaks and runs of blanks are gone.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
