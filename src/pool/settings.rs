//! The settings of an entry, and how its connections get them: as startup parameters where there is no pooler, by one statement
//! after connecting behind one that lends for a session, and with each BEGIN behind one that lends for a transaction.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, Executor as _, PgConnection, Row as _,
    postgres::{PgConnectOptions, PgRow},
};

use super::{
    ConnectTo, ServerId,
    probe::{SERVER, in_recovery, text},
    slot,
};
use crate::{
    config::{Pooler, Reads},
    error::{Error, IgnoredSettings, NotPrimary},
    sql::quote_literal,
    view::set_config,
};

/// How the server looks after a client: whether it still is there while a statement runs, so that
/// one whose future was dropped is cancelled (PostgreSQL 14 has it on Linux, later ones on other
/// systems too); and whether its machine is, so that a transaction left open by one that lost its
/// power or its network is not kept for hours. The driver's own socket cannot be told to.
const LOOKED_AFTER: [(&str, &str); 4] = [
    (CHECK_INTERVAL, CHECKED_EVERY),
    ("tcp_keepalives_idle", "60"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
];

const CHECK_INTERVAL: &str = "client_connection_check_interval";
const CHECKED_EVERY: &str = "500ms";

/// A parameter of wharf's own that each connection starts with. Where the server does not have it, something between dropped
/// the startup parameters in silence.
const MARK: (&str, &str) = ("wharf.is_direct", "on");

/// The same, and the server looks after its client.
pub(super) fn with_liveness_checks(options: PgConnectOptions) -> PgConnectOptions {
    options.options(LOOKED_AFTER)
}

/// Whether the server is too old for that.
pub(super) fn rejects_liveness_params(error: &dyn sqlx::error::DatabaseError) -> bool {
    let said = error.message();
    LOOKED_AFTER.iter().any(|(name, _)| said.contains(name))
}

/// The facts about a new connection.
#[derive(Default)]
pub(super) struct Settled {
    /// Of a standby's connection, the server that it leads to.
    pub(super) server: ServerId,
    pub(super) local: Option<LocalSettings>,
}

/// Settings that have to come with each transaction, because the connections of the server are lent by a pooler.
#[derive(Clone)]
pub(crate) struct LocalSettings {
    /// Calls of `set_config`, separated by commas.
    pub(crate) calls: Arc<str>,
    /// The names of those that the entry asks for, so that no statement runs without them.
    pub(crate) needed: String,
}

impl ConnectTo {
    /// Whether connections of the server change hands between transactions.
    pub(crate) fn is_pooled(&self) -> bool {
        self.config.pooler == Pooler::Transaction
    }

    /// The startup parameters of a connection without a pooler.
    pub(super) fn startup_settings(&self) -> Vec<(&str, String)> {
        let mut settings = self.settings();
        // A startup option would not do, because the driver sends TimeZone=UTC after the options.
        settings.retain(|(name, _)| !is_time_zone(name));
        if slot::of(&self.host, self.port).is_none() {
            settings.insert(0, (MARK.0, MARK.1.to_owned()));
        }
        settings
    }

    /// The settings that the entry asks for.
    fn settings(&self) -> Vec<(&str, String)> {
        let config = &*self.config;
        let millis = |limit: &Duration| limit.as_millis().to_string();
        let mut settings = Vec::new();
        let mut set = |name, value: Option<String>| {
            if let Some(value) = value {
                settings.push((name, value));
            }
        };
        set("search_path", config.schema.as_deref().map(crate::sql::with_public));
        set("statement_timeout", config.statement_timeout.as_ref().map(millis));
        set("lock_timeout", config.lock_timeout.as_ref().map(millis));
        set(
            "idle_in_transaction_session_timeout",
            config.idle_in_transaction_timeout.as_ref().map(millis),
        );
        for (name, value) in config.settings.iter() {
            set(name, Some(value.clone()));
        }
        // Last, so that nothing before it (PGOPTIONS included) has the last word.
        set("default_transaction_read_only", self.read_only.then(|| "on".to_owned()));
        settings
    }

    /// The statement that sets up a connection after it was opened, where startup parameters cannot. A RESET has to be followed by it, too.
    pub(crate) fn set_after(&self) -> Option<String> {
        match self.config.pooler {
            Pooler::None => {
                let settings = self.config.settings.iter();
                let zone = settings.into_iter().find(|(name, _)| is_time_zone(name))?;
                Some(format!("SET TimeZone = {}", quote_literal(zone.1)))
            }
            Pooler::Session => {
                let mut calls: Vec<String> = self
                    .settings()
                    .iter()
                    .map(|(name, value)| set_config(name, value, false))
                    .collect();
                // Before PostgreSQL 14 there is none.
                calls.push(format!(
                    "CASE WHEN current_setting('{CHECK_INTERVAL}', true) IS NOT NULL THEN {} END",
                    set_config(CHECK_INTERVAL, CHECKED_EVERY, false)
                ));
                Some(format!("SELECT /* wharf pool */ {}", calls.join(", ")))
            }
            Pooler::Transaction => None,
        }
    }

    /// Sets up a new connection where startup parameters cannot, and asks, in one round trip, whether those that were sent are in force, whether the
    /// server is the one that is wanted, and which one it is. Another round trip where PostgreSQL writes a value otherwise than
    /// the file (`64MB` and `65536kB`); four more for the first connection through a pooler, which has to prove that it keeps
    /// prepared statements.
    pub(super) async fn settle(&self, driver: &mut PgConnection) -> Result<Settled, sqlx::Error> {
        let wanted = match self.config.pooler {
            Pooler::None => self.startup_settings(),
            // Setting them would have failed.
            Pooler::Session => Vec::new(),
            Pooler::Transaction => self.settings(),
        };
        let (asks_role, asks_server) = (self.needs_primary(), self.is_standby);
        let set = self.set_after();
        if wanted.is_empty() && !asks_role && !asks_server && !self.is_pooled() {
            if let Some(set) = set {
                driver.execute(sqlx::raw_sql(AssertSqlSafe(set))).await?;
            }
            return Ok(Settled::default());
        }
        let ask = self.question(&wanted, asks_role, asks_server);
        let sql = set.into_iter().chain([ask]).collect::<Vec<_>>().join("; ");
        let rows = driver.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
        let Some(row) = rows.last() else { return Err(sqlx::Error::RowNotFound) };
        if asks_role && in_recovery(row)? {
            let said = format!("{} is a standby", self.at());
            return Err(sqlx::Error::Configuration(Box::new(NotPrimary(said))));
        }
        let server = if asks_server { ServerId::of(row, 1) } else { ServerId::default() };
        let mut settled = Settled { server, local: None };
        if self.is_pooled() {
            settled.local = local_settings(row, &wanted);
            self.prove_statements(driver).await?;
        } else {
            check_in_force(driver, row, &wanted).await?;
        }
        Ok(settled)
    }

    /// Where SeaORM's own connection goes, whose transactions wharf does not begin: past a pooler, if something would have to
    /// come with each of them.
    pub(super) fn for_sea_orm(self) -> Result<ConnectTo, Error> {
        match self.is_pooled() && !(self.keeps_statements() && self.settings().is_empty()) {
            true => {
                self.direct("SeaORM's own connection of an entry with settings or `prepared: off`")
            }
            false => Ok(self),
        }
    }

    /// Whether statements are prepared once and kept.
    pub(super) fn keeps_statements(&self) -> bool {
        self.config.prepared && self.config.statement_cache > 0
    }

    /// Whether a connection to a standby would be taken for one to the primary: of an entry with several hosts, of the file's
    /// server with standbys, and of an entry whose reads depend on it.
    fn needs_primary(&self) -> bool {
        let config = &self.config;
        !self.is_standby
            && (self.has_hosts() || config.must_be_primary || config.reads == Reads::Causal)
    }

    /// A SELECT of the role, the server, whether it can check its client, and the value of each setting; behind a pooler,
    /// whether each is what the server has for everybody.
    fn question(&self, wanted: &[(&str, String)], asks_role: bool, asks_server: bool) -> String {
        let of = |asks, what: &str| if asks { what.to_owned() } else { "NULL".to_owned() };
        let mut columns = vec![
            of(asks_role, "pg_catalog.pg_is_in_recovery()"),
            of(asks_server, SERVER),
            // Reads `known` before any of the settings is set.
            of(
                self.is_pooled(),
                &format!("EXISTS (SELECT FROM known WHERE name = '{CHECK_INTERVAL}')"),
            ),
        ];
        for (name, value) in wanted {
            let name = quote_literal(name);
            let now = format!("current_setting({name}, true)");
            columns.push(match self.is_pooled() {
                // What another client's SET has left says nothing of the next transaction.
                true => format!(
                    "{now} IS NOT DISTINCT FROM set_config({name}, {}, true) AND EXISTS (SELECT FROM known \
                     WHERE name = lower({name}) AND source NOT IN ('client', 'interactive', 'session', 'test'))",
                    quote_literal(value)
                ),
                false => now,
            });
        }
        let known = match self.is_pooled() {
            true => format!(
                "WITH known AS MATERIALIZED (SELECT lower(name) AS name, source FROM pg_catalog.pg_settings \
                 WHERE lower(name) IN ({})) ",
                names(wanted.iter().map(|(name, _)| *name).chain([CHECK_INTERVAL]))
            ),
            false => String::new(),
        };
        format!("{known}SELECT /* wharf pool */ {}", columns.join(", "))
    }

    /// Has a pooler prove that a prepared statement is its client's own. One that passes the names on as they are gives a client
    /// another client's statement, and with it the rows of that.
    async fn prove_statements(&self, driver: &mut PgConnection) -> Result<(), sqlx::Error> {
        const NAMES: &str = "SELECT /* wharf pool */ name FROM pg_catalog.pg_prepared_statements WHERE name LIKE 'sqlx\\_s\\_%'";
        if !self.keeps_statements() || self.statements_are_proved.load(Ordering::Relaxed) {
            return Ok(());
        }
        driver.execute(sqlx::raw_sql("BEGIN")).await?;
        let found: Result<Option<String>, sqlx::Error> =
            sqlx::query_scalar(NAMES).fetch_optional(&mut *driver).await;
        let end = match &found {
            // It is in the way of whoever gets that connection next.
            Ok(Some(name)) => format!("ROLLBACK; DEALLOCATE \"{name}\""),
            _ => "ROLLBACK".to_owned(),
        };
        driver.execute(sqlx::raw_sql(AssertSqlSafe(end))).await?;
        match found {
            Ok(None) => {
                self.statements_are_proved.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) if error.as_database_error().is_none() => Err(error),
            Ok(Some(_)) | Err(_) => Err(sqlx::Error::Configuration(Box::new(IgnoredSettings(
                "prepared statements are not kept for each client, as PgBouncer does from 1.21 on with \
                 max_prepared_statements; say `prepared: off`, or `pooler: session` or `none` if that is what is there"
                    .to_owned(),
            )))),
        }
    }
}

/// The settings that each BEGIN has to bring with it, because the server does not have them for everybody.
fn local_settings(row: &PgRow, wanted: &[(&str, String)]) -> Option<LocalSettings> {
    let is_true = |at: usize| text(row, at).as_deref() == Some("t");
    let missing = wanted.iter().enumerate().filter(|(at, _)| !is_true(3 + at));
    let missing: Vec<_> = missing.map(|(_, it)| it).collect();
    let mut calls: Vec<String> =
        missing.iter().map(|(name, value)| set_config(name, value, true)).collect();
    let needed = missing.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    if is_true(2) {
        calls.push(set_config(CHECK_INTERVAL, CHECKED_EVERY, true));
    }
    (!calls.is_empty()).then(|| LocalSettings { calls: calls.join(", ").into(), needed })
}

/// Refuses a connection on which settings that were sent are not in force.
async fn check_in_force(
    driver: &mut PgConnection,
    row: &PgRow,
    wanted: &[(&str, String)],
) -> Result<(), sqlx::Error> {
    let mut differing = Vec::new();
    let mut is_dropped = false;
    for (at, (name, value)) in wanted.iter().enumerate() {
        let found: Option<String> = row.try_get(3 + at)?;
        if *name == MARK.0 {
            is_dropped = found.is_none();
        } else if !found.as_ref().is_some_and(|found| is_same(found, value)) {
            differing.push((*name, value, found));
        }
    }
    if !is_dropped && !differing.is_empty() {
        // Where the value came with this connection, PostgreSQL only writes it otherwise.
        let sql = format!(
            "SELECT lower(name) FROM pg_settings WHERE source = 'client' AND lower(name) IN ({})",
            names(differing.iter().map(|(name, ..)| *name))
        );
        let rows = driver.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
        let taken: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        differing.retain(|(name, ..)| !taken.iter().any(|taken| taken.eq_ignore_ascii_case(name)));
    }
    if !is_dropped && differing.is_empty() {
        return Ok(());
    }
    let dropped = is_dropped
        .then(|| "the parameters that the connection starts with were dropped".to_owned());
    let listed = differing.iter().map(|(name, value, found)| match found {
        Some(found) => format!("{name} is `{found}` in place of `{value}`"),
        None => format!("{name} is not set in place of `{value}`"),
    });
    let said = dropped.into_iter().chain(listed).collect::<Vec<_>>().join(", ");
    Err(sqlx::Error::Configuration(Box::new(IgnoredSettings(said))))
}

/// As a list of literals.
fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| quote_literal(&name.to_ascii_lowercase())).collect::<Vec<_>>().join(", ")
}

fn is_time_zone(name: &str) -> bool {
    name.eq_ignore_ascii_case("timezone")
}

/// Whether the server's value is the one that was sent: the same text, or the same time in another unit.
fn is_same(found: &str, sent: &str) -> bool {
    found.eq_ignore_ascii_case(sent)
        || sent.parse().is_ok_and(|sent: u64| milliseconds(found) == Some(sent))
}

/// A time as PostgreSQL shows it: `0`, `250ms`, `30s`, `5min`, `1h`, `2d`.
fn milliseconds(shown: &str) -> Option<u64> {
    let (number, unit) =
        shown.split_at(shown.find(|c: char| !c.is_ascii_digit()).unwrap_or(shown.len()));
    let factor = match unit {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_the_same_in_another_unit() {
        for (found, sent) in [
            ("on", "ON"),
            ("5s", "5000"),
            ("1min", "60000"),
            ("250ms", "250"),
            ("0", "0"),
            ("2d", "172800000"),
        ] {
            assert!(is_same(found, sent), "{found} {sent}");
        }
        for (found, sent) in [("off", "on"), ("5s", "5001"), ("4MB", "4"), ("", "0")] {
            assert!(!is_same(found, sent), "{found} {sent}");
        }
    }
}
