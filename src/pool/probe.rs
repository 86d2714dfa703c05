//! What a server says of itself: its role, its place in the WAL, and who it is.

use std::{
    hash::BuildHasher as _,
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::fast::FixedState;
use futures_util::FutureExt as _;
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _, postgres::PgRow,
};

use super::{ConnectTo, Host, connector::Connector};
use crate::{
    causal::Position,
    config::{HostPort, Role},
    error::{ConnectError, server_error},
};

/// A server process, until it is restarted: a hash of its address and of when it started, which every login may ask for. Zero
/// is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerId(u64);

/// What a server said of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) is_standby: bool,
    /// Where a primary writes next, or how far a standby has replayed. A standby may not know its timeline, if the login may
    /// not ask for it.
    pub(crate) position: Option<Position>,
    /// The system identifier, which all servers of a cluster have in common. None if the login may not read it.
    pub(crate) cluster: Option<u64>,
    pub(crate) server: ServerId,
}

/// The timeline that a standby is on. `received_tli` is up to date, and shown to members of pg_monitor only. The others are up
/// to date when the standby has written to its control file: at a restartpoint, or when it had to flush a page.
const STANDBY_TIMELINE: &str = "greatest((SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver), \
     (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()), \
     (SELECT min_recovery_end_timeline FROM pg_catalog.pg_control_recovery()))";

/// The same for a login that may not read the control file.
const RECEIVED_TIMELINE: &str = "(SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver)";

pub(super) const SERVER: &str = "concat_ws(' ', extract(epoch FROM pg_catalog.pg_postmaster_start_time()), \
     pg_catalog.inet_server_addr(), pg_catalog.inet_server_port())";

/// How far a standby has replayed, for a check in the message that begins a transaction.
pub(crate) const REPLAYED: &str =
    "SELECT /* wharf pool */ pg_catalog.pg_is_in_recovery(), pg_catalog.pg_last_wal_replay_lsn()";

/// The same with its timeline.
pub(crate) fn replayed_with_timeline() -> String {
    format!("{REPLAYED}, {STANDBY_TIMELINE}")
}

/// Where the primary's WAL ends. A standby refuses it (55000). The file is that of a moment later, which makes no difference
/// to what is read from it: the timeline, and the segments' size.
pub(super) const WRITTEN: &str = "SELECT /* wharf pool */ pg_catalog.pg_current_wal_insert_lsn()::text, \
     pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn())";

fn question(timeline: &str, cluster: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!(
        "SELECT /* wharf pool */ r, l, CASE WHEN r THEN {timeline}::text ELSE pg_catalog.pg_walfile_name(l) END, {cluster}, {SERVER}
           FROM (SELECT r, CASE WHEN r THEN pg_catalog.pg_last_wal_replay_lsn()
                                ELSE pg_catalog.pg_current_wal_insert_lsn() END AS l
                   FROM pg_catalog.pg_is_in_recovery() AS r OFFSET 0) AS of"
    ))
}

impl Said {
    /// Asks. One round trip; two if the login may not read the control file. An error, as in the middle of a promotion, means
    /// that the role is not known.
    pub(super) async fn ask(driver: &mut PgConnection) -> Result<Said, sqlx::Error> {
        const CLUSTER: &str = "(SELECT system_identifier FROM pg_catalog.pg_control_system())";
        let row = match driver.fetch_one(sqlx::raw_sql(question(STANDBY_TIMELINE, CLUSTER))).await {
            Err(error) if server_error(&error).is_some_and(|error| error.code() == "42501") => {
                driver.fetch_one(sqlx::raw_sql(question(RECEIVED_TIMELINE, "NULL"))).await?
            }
            answered => answered?,
        };
        let is_standby = in_recovery(&row)?;
        let position = match is_standby {
            true => replayed(&row),
            false => Some(written(&row, 1).ok_or_else(unclear)?),
        };
        let cluster = text(&row, 3).and_then(|text| text.parse().ok());
        Ok(Said { is_standby, position, cluster, server: ServerId::of(&row, 4) })
    }
}

impl ServerId {
    /// Reads the answer to [`SERVER`].
    pub(super) fn of(row: &PgRow, at: usize) -> ServerId {
        ServerId(text(row, at).map_or(0, |text| FixedState::default().hash_one(text) | 1))
    }

    /// Whether both are known and the same.
    pub(crate) fn is(self, other: ServerId) -> bool {
        self == other && self.0 != 0
    }
}

#[cfg(test)]
impl From<u64> for ServerId {
    fn from(id: u64) -> ServerId {
        ServerId(id)
    }
}

/// The simple protocol answers in text.
pub(super) fn text(row: &PgRow, at: usize) -> Option<String> {
    row.try_get_unchecked(at).ok()?
}

/// Reads `pg_is_in_recovery()` from the first column. NULL is an error, because a server whose role is not known must not be
/// taken for the primary.
pub(super) fn in_recovery(row: &PgRow) -> Result<bool, sqlx::Error> {
    match row.try_get_unchecked::<Option<String>, _>(0)?.as_deref() {
        Some("t") => Ok(true),
        Some("f") => Ok(false),
        _ => Err(unclear()),
    }
}

/// Reads the answer to [`WRITTEN`] from the columns from `at` on.
pub(super) fn written(row: &PgRow, at: usize) -> Option<Position> {
    Position::record_end(&text(row, at)?, &text(row, at + 1)?)
}

/// Reads how far a standby has replayed, from an answer with its timeline.
pub(super) fn replayed(row: &PgRow) -> Option<Position> {
    Position::new(text(row, 2)?.parse().ok()?, &text(row, 1)?)
}

/// Reads the answer to [`REPLAYED`] of a standby that is on `timeline`.
pub(super) fn replayed_on(row: &PgRow, timeline: u32) -> Option<Position> {
    Position::new(timeline, &text(row, 1)?)
}

fn unclear() -> sqlx::Error {
    sqlx::Error::Protocol("the server's answer does not say whether it is the primary".to_owned())
}

/// Asks whether the server is a standby. One round trip.
pub(super) async fn is_standby(driver: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let row = driver
        .fetch_one(sqlx::raw_sql("SELECT /* wharf pool */ pg_catalog.pg_is_in_recovery()"))
        .await?;
    in_recovery(&row)
}

/// Asks one server again and again, on a connection of its own.
pub(crate) struct Probe {
    connector: Connector,
    driver: Option<PgConnection>,
}

impl Probe {
    /// Opens nothing yet.
    pub(crate) fn new(to: &ConnectTo, at: &HostPort) -> Probe {
        let mut config = (*to.config).clone();
        config.connect_timeout = config.connect_timeout.min(config.topology.probe_timeout);
        let to = ConnectTo { read_only: false, config: Arc::new(config), ..to.alone(at) };
        Probe { connector: Connector::new(Arc::new(Host::new(to)), false), driver: None }
    }

    /// Asks, within `limit`. The first time, and after an error, it opens a connection. If the future is dropped, the
    /// connection is closed.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn ask(&mut self, limit: Duration) -> Result<Said, ConnectError> {
        let (started, to) = (Instant::now(), self.connector.current());
        let mut user = to.config.user.clone();
        let asked = tokio::time::timeout(limit, async {
            let mut driver = match self.driver.take() {
                Some(driver) => driver,
                None => {
                    let login = to.login().await;
                    let login = login.map_err(|error| to.no_login(started.elapsed(), error))?;
                    user.clone_from(&login.user);
                    self.open(&to, &login, started).await?
                }
            };
            let said = Said::ask(&mut driver).await;
            let said = said.map_err(|error| to.failed(&user, started.elapsed(), error))?;
            Ok((said, driver))
        });
        match asked.await {
            Ok(Ok((said, driver))) => {
                self.driver = Some(driver);
                Ok(said)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(to.timed_out(started.elapsed())),
        }
    }

    async fn open(
        &self,
        to: &ConnectTo,
        login: &Role,
        started: Instant,
    ) -> Result<PgConnection, ConnectError> {
        let opened = self.connector.connect_as_libpq(to, login).await;
        opened
            .map(|(driver, _)| driver)
            .map_err(|error| to.failed(&login.user, started.elapsed(), error))
    }

    /// Closes its connection, so that an idle server can suspend.
    pub(crate) fn rest(&mut self) {
        if let Some(driver) = self.driver.take() {
            let _ = driver.close().now_or_never();
        }
    }
}
