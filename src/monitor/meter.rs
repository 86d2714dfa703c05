//! Metrics, under OpenTelemetry's names, through the crate `metrics`.
//!
//! Keys are made once for each operation and table, hash included.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use metrics::{Histogram, Key, KeyName, Label, Level, Metadata, SharedString, Unit, with_recorder};

use super::{Digest, Outcome, StatementEvent, ledger::Recordings, subject::OTHER};
use crate::config::{Address, DatabaseConfig};

/// Bounds, in seconds, for every histogram of wharf's that is a time: OpenTelemetry's.
pub const DURATION_BUCKETS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// Bounds for `db.client.response.returned_rows`: OpenTelemetry's.
pub const ROWS_BUCKETS: [f64; 13] =
    [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0];

/// Tables that metrics are labelled with, of one database; with more, the others are `_OTHER`. Labels
/// stay in a recorder for ever, and there are services that make a table a day or a tenant.
const MOST_TABLES: usize = 200;

/// SQLSTATEs that metrics are labelled with, likewise: a function may raise any.
const MOST_SQLSTATES: usize = 100;

pub(super) static METADATA: Metadata<'static> =
    Metadata::new("wharf", Level::INFO, Some(module_path!()));

pub(super) const OPERATION_DURATION: &str = "db.client.operation.duration";
pub(super) const RETURNED_ROWS: &str = "db.client.response.returned_rows";
pub(super) const SLOW_STATEMENTS: &str = "wharf.slow_statements";
pub(super) const N_PLUS_ONE: &str = "wharf.n_plus_one";
pub(super) const CONNECTION_COUNT: &str = "db.client.connection.count";
pub(super) const CONNECTION_MAX: &str = "db.client.connection.max";
pub(super) const CONNECTION_IDLE_MAX: &str = "db.client.connection.idle.max";
pub(super) const CONNECTION_IDLE_MIN: &str = "db.client.connection.idle.min";
pub(super) const PENDING_REQUESTS: &str = "db.client.connection.pending_requests";
pub(super) const TIMEOUTS: &str = "db.client.connection.timeouts";
pub(super) const CREATE_TIME: &str = "db.client.connection.create_time";
pub(super) const WAIT_TIME: &str = "db.client.connection.wait_time";
pub(super) const USE_TIME: &str = "db.client.connection.use_time";
pub(super) const CONNECT_ERRORS: &str = "wharf.connect_errors";
pub(super) const SERVER_UP: &str = "wharf.servers";
pub(super) const REPLICATION_LAG: &str = "wharf.replication_lag";
pub(super) const READS: &str = "wharf.reads";
pub(super) const CONFLICTS: &str = "wharf.standby_conflicts";
pub(super) const FAILOVERS: &str = "wharf.failovers";

/// Tells the recorder that is installed what the metrics mean. Called whenever a database is first
/// connected to; to be called again by whoever installs a recorder later.
///
/// | metric | kind, unit | labels besides `db.system.name` |
/// |---|---|---|
/// | `db.client.operation.duration` | histogram, s | `db.namespace`, `db.operation.name`, `db.collection.name`, `server.address`, `server.port` (an entry with several hosts has all of them in `server.address` and no port); of failures `error.type` (of dropped futures `dropped`) and `db.response.status_code` |
/// | `db.client.response.returned_rows` | histogram, {row} | the same, without those of failures |
/// | `wharf.slow_statements` | counter, {statement} | the same |
/// | `wharf.n_plus_one` | counter, {statement} | the same |
/// | `db.client.connection.count` | gauge, {connection} | `db.client.connection.pool.name`, `db.client.connection.state` (`idle`, `used`) |
/// | `db.client.connection.max`, `.idle.max`, `.idle.min` | gauge, {connection} | `db.client.connection.pool.name` |
/// | `db.client.connection.pending_requests` | gauge, {request} | the same |
/// | `db.client.connection.timeouts` | counter, {timeout} | the same |
/// | `db.client.connection.create_time`, `.wait_time`, `.use_time` | histogram, s | the same |
/// | `wharf.connect_errors` | counter, {error} | the same, and `error.type` |
/// | `wharf.standby_conflicts` | counter, {conflict}: reads that a standby canceled because of its recovery (40001) | the same, without `error.type` |
/// | `wharf.servers` | gauge, {server}: 1 for the role that it has, else 0 | `wharf.database`, `server.address`, `server.port`, `wharf.server.role` (`primary`, `standby`, `unknown`) |
/// | `wharf.replication_lag` | gauge, By: how far a standby is behind | the same, without the role |
/// | `wharf.reads` | counter, {read} of `Pg::read` | `wharf.database`, `wharf.read.target` (`standby`, `primary`), `wharf.read.reason` |
/// | `wharf.failovers` | counter, {failover} | `wharf.database` |
///
/// The reason of a read on a standby is that it was seen to have what was written (`proven`), was asked (`checked`) or waited
/// for (`waited`); on the primary, that no standby has it (`behind`, `old_timeline`), that its position is not known yet
/// (`pending`, after a single statement), that no standby may serve it (`no_standby`, `no_primary`, `other_cluster`), that one
/// canceled it (`conflict`), or that no standby can (`isolation`).
///
/// Gauges are sampled once a second while a pool has connections or is trying to open one. The pool
/// of an entry has the entry's name; the one that it reads with, if it also writes, has `.reader`
/// behind that. A recorder that renders `.` as `_` (Prometheus) makes `db_client_operation_duration`
/// of the first.
///
/// Labels are bounded: the operation is one of PostgreSQL's commands, of tables 200 are told apart, of
/// SQLSTATEs 100; others are `_OTHER`. Statements are no label.
pub fn describe_metrics() {
    with_recorder(|recorder| {
        let histograms = [
            (OPERATION_DURATION, Unit::Seconds, "Duration of database client operations."),
            (RETURNED_ROWS, Unit::Count, "Rows returned by a statement."),
            (CREATE_TIME, Unit::Seconds, "Time to open a connection."),
            (WAIT_TIME, Unit::Seconds, "Time to acquire a connection from the pool."),
            (USE_TIME, Unit::Seconds, "Time between acquiring and releasing a connection."),
        ];
        for (name, unit, text) in histograms {
            recorder.describe_histogram(KeyName::from_const_str(name), Some(unit), text.into());
        }
        let gauges = [
            (CONNECTION_COUNT, "Open connections, by state."),
            (CONNECTION_MAX, "Maximum number of connections."),
            (CONNECTION_IDLE_MAX, "Idle connections that are kept."),
            (CONNECTION_IDLE_MIN, "Connections opened eagerly."),
            (PENDING_REQUESTS, "Callers waiting for a connection."),
            (SERVER_UP, "Servers of a database, by role."),
            (REPLICATION_LAG, "Bytes of WAL that a standby is behind the primary."),
        ];
        for (name, text) in gauges {
            recorder.describe_gauge(KeyName::from_const_str(name), Some(Unit::Count), text.into());
        }
        let counters = [
            (TIMEOUTS, "Callers that got no connection within pool_timeout."),
            (SLOW_STATEMENTS, "Statements slower than slow_statement_threshold."),
            (N_PLUS_ONE, "Statements repeated in one session or scope."),
            (CONNECT_ERRORS, "Failed attempts to connect."),
            (READS, "Reads by Pg::read, by target and reason."),
            (CONFLICTS, "Reads that a standby canceled because of its recovery."),
            (FAILOVERS, "Changes of the primary."),
        ];
        for (name, text) in counters {
            recorder.describe_counter(
                KeyName::from_const_str(name),
                Some(Unit::Count),
                text.into(),
            );
        }
    });
}

pub(super) fn record(key: &Key, time: Duration) {
    with_recorder(|recorder| {
        recorder.register_histogram(key, &METADATA).record(time.as_secs_f64());
    });
}

/// Which recorder is there, as far as one connection has looked.
///
/// Asking a recorder for its handle of a histogram takes it a lock, a look-up and a count of references,
/// which other threads want as well: so handles are kept. But one recorder may be installed after
/// another, and in tests even where the other was: so they are asked for anew when its address is another,
/// and after a second.
#[derive(Default)]
pub(super) struct Recorder {
    address: usize,
    looked: Option<Instant>,
    /// Raised when handles are to be asked for anew.
    epoch: u64,
}

const KEPT: Duration = Duration::from_secs(1);

impl Recorder {
    #[inline]
    pub(super) fn look(&mut self, now: Instant) -> u64 {
        let address = with_recorder(|recorder| std::ptr::from_ref(recorder).addr());
        let kept = |looked| now.saturating_duration_since(looked) < KEPT;
        if self.address != address || !self.looked.is_some_and(kept) {
            (self.address, self.looked) = (address, Some(now));
            self.epoch += 1;
        }
        self.epoch
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// A recorder's handle of one histogram, kept by who alone records by it.
pub(super) struct Recording {
    histogram: Histogram,
    epoch: u64,
}

impl Default for Recording {
    fn default() -> Self {
        Recording { histogram: Histogram::noop(), epoch: 0 }
    }
}

impl Recording {
    #[inline]
    pub(super) fn record(&mut self, epoch: u64, key: &Key, value: f64) {
        if self.epoch != epoch {
            self.histogram = with_recorder(|recorder| recorder.register_histogram(key, &METADATA));
            self.epoch = epoch;
        }
        self.histogram.record(value);
    }
}

pub(super) fn count(key: &Key) {
    with_recorder(|recorder| recorder.register_counter(key, &METADATA).increment(1));
}

pub(super) fn set(key: &Key, value: usize) {
    with_recorder(|recorder| recorder.register_gauge(key, &METADATA).set(value as f64));
}

/// Where statements go, in the labels of all of them.
pub(super) struct Target {
    pub(super) namespace: SharedString,
    pub(super) address: SharedString,
    /// None for several hosts, of which `address` has all, with their ports.
    pub(super) port: Option<u16>,
}

impl Target {
    pub(super) fn new(config: &DatabaseConfig) -> Target {
        let namespace = match &config.schema {
            Some(schema) => format!("{}|{schema}", config.database),
            None => config.database.clone(),
        };
        let (address, port) = match &config.address {
            Address::Host { host, port } => (host.clone(), Some(*port)),
            address => (address.servers().unwrap_or_default(), None),
        };
        Target { namespace: namespace.into(), address: address.into(), port }
    }

    fn labels(&self) -> Vec<Label> {
        let mut labels = vec![
            Label::from_static_parts("db.system.name", "postgresql"),
            Label::new("db.namespace", self.namespace.clone()),
            Label::new("server.address", self.address.clone()),
        ];
        labels.extend(self.port.map(|port| Label::new("server.port", port.to_string())));
        labels
    }
}

/// Those of one database.
#[derive(Default)]
pub(super) struct Meters {
    meters: HashMap<(&'static str, Option<Arc<str>>), Arc<Meter>>,
    tables: HashSet<Arc<str>>,
    sqlstates: Arc<Mutex<HashSet<String>>>,
}

impl Meters {
    pub(super) fn get(&mut self, digest: &Digest, target: Option<&Target>) -> Arc<Meter> {
        let operation = digest.operation();
        let table = digest.shared_table().map(|table| match self.tables.get(table) {
            Some(known) => Arc::clone(known),
            None if self.tables.len() < MOST_TABLES => {
                self.tables.insert(Arc::clone(table));
                Arc::clone(table)
            }
            None => Arc::from(OTHER),
        });
        let make = || {
            let mut labels = target.map(Target::labels).unwrap_or_default();
            labels.push(Label::from_static_parts("db.operation.name", operation));
            if let Some(table) = &table {
                labels
                    .push(Label::new("db.collection.name", SharedString::from(Arc::clone(table))));
            }
            Arc::new(Meter::new(labels, Arc::clone(&self.sqlstates)))
        };
        Arc::clone(self.meters.entry((operation, table.clone())).or_insert_with(make))
    }
}

/// The metrics of one operation on one table.
pub(super) struct Meter {
    labels: Vec<Label>,
    duration: Key,
    rows: Key,
    slow: Key,
    n_plus_one: Key,
    /// Those that have been seen in the database.
    sqlstates: Arc<Mutex<HashSet<String>>>,
}

impl Meter {
    fn new(labels: Vec<Label>, sqlstates: Arc<Mutex<HashSet<String>>>) -> Meter {
        let key = |name| Key::from_parts(KeyName::from_const_str(name), labels.clone());
        Meter {
            duration: key(OPERATION_DURATION),
            rows: key(RETURNED_ROWS),
            slow: key(SLOW_STATEMENTS),
            n_plus_one: key(N_PLUS_ONE),
            labels,
            sqlstates,
        }
    }

    #[inline]
    pub(super) fn statement(
        &self,
        event: &StatementEvent<'_>,
        Recordings { duration, rows }: &mut Recordings,
        epoch: u64,
    ) {
        match event.outcome {
            Outcome::Done => duration.record(epoch, &self.duration, event.elapsed.as_secs_f64()),
            _ => self.failed(event),
        }
        if let (true, Some(number)) = (event.returned, event.rows) {
            rows.record(epoch, &self.rows, number as f64);
        }
    }

    fn failed(&self, event: &StatementEvent<'_>) {
        let mut labels = self.labels.clone();
        let (mut error_type, mut sqlstate) = (event.error_type(), event.sqlstate());
        if sqlstate.is_some_and(|sqlstate| !self.knows(sqlstate)) {
            (error_type, sqlstate) = (Some(OTHER), Some(OTHER));
        }
        if let Some(error_type) = error_type {
            labels.push(Label::new("error.type", error_type.to_owned()));
        }
        if let Some(sqlstate) = sqlstate {
            labels.push(Label::new("db.response.status_code", sqlstate.to_owned()));
        }
        let key = Key::from_parts(KeyName::from_const_str(OPERATION_DURATION), labels);
        record(&key, event.elapsed);
    }

    fn knows(&self, sqlstate: &str) -> bool {
        let mut known = self.sqlstates.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(sqlstate)
            || (known.len() < MOST_SQLSTATES && known.insert(sqlstate.to_owned()))
    }

    pub(super) fn slow(&self) {
        count(&self.slow);
    }

    pub(super) fn n_plus_one(&self) {
        count(&self.n_plus_one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_hosts_are_one_address() {
        let labels = |url| {
            let labels = Target::new(&DatabaseConfig::from_url(url).unwrap()).labels();
            let of_server = labels.iter().filter(|label| label.key().starts_with("server."));
            of_server.map(|label| label.value().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(labels("postgres://a@pg1:6000/b"), ["pg1", "6000"]);
        assert_eq!(labels("postgres://a@pg1,pg2:6000/b"), ["pg1:5432,pg2:6000"]);
    }
}
