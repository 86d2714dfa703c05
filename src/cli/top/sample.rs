//! One sample of what a server does.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, QueryResult, Statement};

use crate::{Pg, Session};

/// The most rows of each list in a sample.
pub(super) const MOST: usize = 200;

/// The state of a server at one moment.
#[derive(Clone)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) version: String,
    pub(super) is_standby: bool,
    pub(super) uptime: Duration,
    pub(super) max_connections: i64,
    /// Where the sample was taken.
    pub(super) database: String,
    /// How many transactions of wharf top the counters include.
    pub(super) own_commits: i64,
    /// Clients' connections by their state; those whose state this login may not see are `hidden`.
    pub(super) states: Vec<(String, i64)>,
    pub(super) activity: Vec<Activity>,
    pub(super) locks: Vec<Lock>,
    pub(super) databases: Vec<Database>,
    /// From pg_stat_statements; or why it is not available, and what to do.
    pub(super) slowest: Result<Vec<Slow>, String>,
    /// The counters of every statement of pg_stat_statements, in the first sample only.
    pub(super) baseline: Baseline,
    /// What this login may not see, and what would let it.
    pub(super) blind: Option<String>,
}

/// A connection that runs a statement or has a transaction open.
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

/// A backend that waits for a lock, and one of those that block it.
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
    pub(super) rows_read: i64,
    pub(super) rows_written: i64,
    pub(super) hits: i64,
    pub(super) reads: i64,
    pub(super) deadlocks: i64,
    pub(super) temporary: i64,
}

/// By what pg_stat_statements tells statements apart: database, user, query.
pub(super) type StatementKey = (i64, i64, Option<i64>);

pub(super) type Baseline = HashMap<StatementKey, Counters>;

/// What pg_stat_statements counts of a statement.
#[derive(Clone, Copy)]
pub(super) struct Counters {
    pub(super) calls: i64,
    pub(super) total: Duration,
    pub(super) rows: i64,
}

/// One normalized statement of pg_stat_statements.
#[derive(Clone)]
pub(super) struct Slow {
    pub(super) key: StatementKey,
    pub(super) counters: Counters,
    pub(super) query: String,
}

/// In every statement of this file, so that they can be left out of the screen.
const OWN: &str = "/* wharf top */";

/// In what wharf's pools send on their own account.
const POOL: &str = "/* wharf pool */";

const SERVER: &str = "
SELECT /* wharf top */ current_setting('server_version'), pg_is_in_recovery(),
       extract(epoch FROM now() - pg_postmaster_start_time())::float8,
       current_setting('max_connections')::int8,
       pg_has_role(current_user, 'pg_read_all_stats', 'MEMBER'),
       (SELECT extnamespace::regnamespace::text FROM pg_extension
         WHERE extname = 'pg_stat_statements'), current_database()::text";

const STATES: &str = "
SELECT /* wharf top */ coalesce(state, 'hidden'), count(*) FROM pg_stat_activity
 WHERE application_name <> 'wharf top' AND backend_type = 'client backend'
    OR backend_type IS NULL AND usesysid IS NOT NULL AND datid IS NOT NULL
 GROUP BY 1 ORDER BY 1";

/// Blockers are looked up for waiting backends only, because pg_blocking_pids locks the lock manager.
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
 WHERE NOT l.granted AND w.application_name <> 'wharf top' ORDER BY 5 DESC, 1, 2 LIMIT $1";

const DATABASES: &str = "
SELECT /* wharf top */ s.datname::text,
       CASE WHEN has_database_privilege(s.datid, 'CONNECT') THEN pg_database_size(s.datid) END,
       s.numbackends::int8, s.xact_commit, s.xact_rollback, s.tup_returned,
       s.tup_inserted + s.tup_updated + s.tup_deleted, s.blks_hit, s.blks_read, s.deadlocks,
       s.temp_bytes
  FROM pg_stat_database s JOIN pg_database d ON d.oid = s.datid
 WHERE NOT d.datistemplate ORDER BY s.numbackends DESC, 1";

impl Sample {
    /// Takes a sample in one transaction: six queries on one connection, and a seventh for the
    /// `baseline`. `own_commits` is how many samples were taken before.
    pub(super) async fn take(
        pg: &Pg,
        own_commits: i64,
        with_baseline: bool,
    ) -> Result<Sample, DbErr> {
        let pg = pg.session().await?;
        let server = first(&pg, SERVER).await?;
        let sees_all: bool = server.try_get_by(4)?;
        let schema: Option<String> = server.try_get_by(5)?;
        let states = all(&pg, STATES, None, |row| Ok((row.try_get_by(0)?, row.try_get_by(1)?)));
        let states = states.await?;
        let mut sample = Sample {
            at: Instant::now(),
            version: server.try_get_by(0)?,
            is_standby: server.try_get_by(1)?,
            uptime: span(server.try_get_by(2)?),
            max_connections: server.try_get_by(3)?,
            database: server.try_get_by(6)?,
            own_commits,
            states,
            activity: all(&pg, ACTIVITY, Some(MOST), Activity::read).await?,
            locks: all(&pg, LOCKS, Some(MOST), Lock::read).await?,
            databases: all(&pg, DATABASES, None, Database::read).await?,
            slowest: Ok(Vec::new()),
            baseline: Baseline::new(),
            blind: (!sees_all).then(|| {
                "this login does not see what others run; GRANT pg_monitor to it".to_owned()
            }),
        };
        // Comes last, because an error ends the transaction.
        match slowest(&pg, schema.as_deref(), with_baseline).await {
            Ok((slowest, baseline)) => (sample.slowest, sample.baseline) = (Ok(slowest), baseline),
            Err(reason) => sample.slowest = Err(reason),
        }
        if sample.slowest.is_ok() || schema.is_none() {
            pg.commit().await?;
        }
        Ok(sample)
    }

    pub(super) fn connections(&self) -> i64 {
        self.states.iter().map(|(_, count)| count).sum()
    }
}

async fn slowest(
    pg: &Session,
    schema: Option<&str>,
    with_baseline: bool,
) -> Result<(Vec<Slow>, Baseline), String> {
    let Some(schema) = schema else {
        return Err("pg_stat_statements is not in this database; add it to \
                    shared_preload_libraries, restart the server, and run CREATE EXTENSION \
                    pg_stat_statements"
            .to_owned());
    };
    let read = async {
        let sql = format!(
            "SELECT {OWN} dbid::int8, userid::int8, queryid, sum(calls)::int8, \
                    sum(total_exec_time)::float8, sum(rows)::int8, min(query) \
               FROM {schema}.pg_stat_statements WHERE query NOT LIKE '%{OWN}%' AND query NOT LIKE '%{POOL}%' \
              GROUP BY 1, 2, 3 ORDER BY 5 DESC LIMIT $1"
        );
        let slowest = all(pg, &sql, Some(MOST), |row| {
            let query = one_line(&row.try_get_by::<String, _>(6)?);
            Ok(Slow { key: key(row)?, counters: Counters::read(row)?, query })
        });
        let slowest = slowest.await?;
        let baseline = if with_baseline { baseline(pg, schema).await? } else { Baseline::new() };
        Ok::<_, DbErr>((slowest, baseline))
    };
    read.await.map_err(|error| format!("pg_stat_statements: {}", crate::Error::from(error)))
}

/// The counters of every statement, without the texts: those are large and slow to read.
async fn baseline(pg: &Session, schema: &str) -> Result<Baseline, DbErr> {
    let sql = format!(
        "SELECT {OWN} dbid::int8, userid::int8, queryid, sum(calls)::int8, \
                sum(total_exec_time)::float8, sum(rows)::int8 \
           FROM {schema}.pg_stat_statements(false) GROUP BY 1, 2, 3"
    );
    let counters = all(pg, &sql, None, |row| Ok((key(row)?, Counters::read(row)?))).await?;
    Ok(counters.into_iter().collect())
}

fn key(row: &QueryResult) -> Result<StatementKey, DbErr> {
    Ok((row.try_get_by(0)?, row.try_get_by(1)?, row.try_get_by(2)?))
}

impl Counters {
    fn read(row: &QueryResult) -> Result<Counters, DbErr> {
        Ok(Counters {
            calls: row.try_get_by(3)?,
            total: span(row.try_get_by::<f64, _>(4)? / 1e3),
            rows: row.try_get_by(5)?,
        })
    }

    pub(super) fn mean(&self) -> Duration {
        span(self.total.as_secs_f64() / self.calls.max(1) as f64)
    }
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
            rows_read: row.try_get_by(5)?,
            rows_written: row.try_get_by(6)?,
            hits: row.try_get_by(7)?,
            reads: row.try_get_by(8)?,
            deadlocks: row.try_get_by(9)?,
            temporary: row.try_get_by(10)?,
        })
    }

    /// The share of blocks that were read from shared buffers, in percent.
    pub(super) fn cache(&self) -> Option<f64> {
        let all = self.hits + self.reads;
        (all > 0).then(|| 100.0 * self.hits as f64 / all as f64)
    }
}

async fn first(pg: &Session, sql: &str) -> Result<QueryResult, DbErr> {
    let row = pg.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
    row.ok_or_else(|| DbErr::RecordNotFound("the server returned no row about itself".to_owned()))
}

async fn all<T>(
    pg: &Session,
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

/// The text with each run of white space as one blank.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
