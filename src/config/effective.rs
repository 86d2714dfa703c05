//! What holds after the file, the overrides and the defaults, and where each value came from.

use std::{collections::BTreeMap, fmt, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Address, Config, DatabaseConfig, MonitorConfig, NPlusOne, Origin, PgServerConfig,
    ReplicaLimits, TopologyConfig,
    fields::{self, Field, Shape},
    tree::{self, Value},
};

const MASK: &str = "***";

/// One value of the effective configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// Its path, as in `databases.production.pool_size`.
    pub path: String,
    /// The value as text; `***` for a secret, `-` for none.
    pub value: String,
    /// Where it came from.
    pub source: Origin,
    /// False for a key that wharf accepts but does not use (SQLAlchemy's `echo`).
    pub has_effect: bool,
}

/// The values of wharf's sections as they hold, secrets masked; see [`Config::effective`].
///
/// It displays as a table of path, value and source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective {
    settings: Vec<Setting>,
}

impl Effective {
    /// The values: databases by name, then the server, each in the order of its documentation.
    #[must_use]
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// The value at a path, as in `databases.production.pool_size`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.path == path)
    }

    /// `tree` has what the file and the overrides say, `section` is the name that the file uses.
    pub(super) fn new(config: &Config, tree: &Value, section: &str) -> Self {
        let mut rows = Rows { tree, settings: Vec::new() };
        for (name, database) in &config.databases {
            let path = [section.to_owned(), name.clone()];
            for field in fields::DATABASE {
                rows.database(&path, field, database, config.pgserver.as_ref());
            }
        }
        if let Some(server) = &config.pgserver {
            for field in fields::PGSERVER {
                rows.server(field, server);
            }
        }
        Self { settings: rows.settings }
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Setting) -> &str| {
            self.settings.iter().map(|setting| of(setting).chars().count()).max().unwrap_or(0)
        };
        let (path, value) = (width(|setting| &setting.path), width(|setting| &setting.value));
        for setting in &self.settings {
            let note = if setting.has_effect { "" } else { " (no effect)" };
            writeln!(
                f,
                "{:path$}  {:value$}  {}{note}",
                setting.path, setting.value, setting.source
            )?;
        }
        Ok(())
    }
}

struct Rows<'a> {
    tree: &'a Value,
    settings: Vec<Setting>,
}

impl Rows<'_> {
    fn given(&self, path: &[String]) -> Option<&Value> {
        path.iter()
            .try_fold(self.tree, |value, key| tree::child(value, key))
            .filter(|value| !matches!(value.kind, tree::ValueKind::Nil))
    }

    fn push(&mut self, path: &[String], value: String) {
        let source = self.given(path).map_or(Origin::Default, tree::origin);
        self.settings.push(Setting { path: path.join("."), value, source, has_effect: true });
    }

    fn database(
        &mut self,
        entry: &[String],
        field: &Field,
        database: &DatabaseConfig,
        server: Option<&PgServerConfig>,
    ) {
        let path = [entry, &[field.name.to_owned()]].concat();
        let by_server = matches!(database.address, Address::PgServer | Address::PgServerReplica);
        if let Shape::NoEffect = field.shape {
            if let Some(value) = self.given(&path) {
                let source = tree::origin(value);
                self.settings.push(Setting {
                    path: path.join("."),
                    value: UNREAD.to_owned(),
                    source,
                    has_effect: false,
                });
            }
            return;
        }
        let value = match (field.name, &database.address) {
            ("type", _) => "postgresql".to_owned(),
            ("url", address @ (Address::Host { .. } | Address::Hosts(_)))
                if self.given(&path).is_some() =>
            {
                let mask = if database.password.is_some() { ":***" } else { "" };
                let servers = address.servers().unwrap_or_default();
                format!("postgresql://{}{mask}@{servers}/{}", database.user, database.database)
            }
            ("pgserver", Address::PgServer) => "true".to_owned(),
            ("pgserver", Address::PgServerReplica) => "replica".to_owned(),
            ("host", Address::Host { host, .. }) => host.clone(),
            ("port", Address::Host { port, .. }) => port.to_string(),
            ("hosts", Address::Hosts(hosts)) => list(hosts),
            ("patroni", Address::Patroni(addresses)) => {
                list(&addresses.iter().map(|at| format!("http://{at}")).collect::<Vec<_>>())
            }
            ("url" | "pgserver" | "host" | "port" | "hosts", _) => return,
            ("replicas", Address::Host { .. }) => list(&database.replicas),
            ("pooler", _) => database.pooler.as_str().to_owned(),
            ("direct", _) => text(database.direct.as_ref().map(ToString::to_string).as_deref()),
            ("prepared", _) => database.prepared.to_string(),
            ("reads", _) => database.reads.as_str().to_owned(),
            ("replica", _) => return self.limits(&path, &database.replica),
            ("topology", _) => return self.topology(&path, &database.topology),
            ("database", _) => database.database.clone(),
            ("user", _) => database.user.clone(),
            ("password", _) => secret(database.password.as_ref()),
            ("password_file", _) => file(database.password_file.as_deref()),
            ("pool_size", _) => database.pool_size.to_string(),
            ("max_overflow", _) => database.max_overflow.to_string(),
            ("min_connections", _) => database.min_connections.to_string(),
            ("pool_timeout", _) => time(Some(database.pool_timeout)),
            ("pool_recycle", _) => time(Some(database.pool_recycle)),
            ("pool_pre_ping", _) => database.pool_pre_ping.to_string(),
            ("connect_timeout", _) => time(Some(database.connect_timeout)),
            ("socket_timeout", _) => time(database.socket_timeout),
            ("leak_detection_threshold", _) => {
                time(Some(database.leak_detection_threshold.unwrap_or_default()))
            }
            ("readonly", _) => database.readonly.to_string(),
            ("read_role", _) => return self.role(&path, database),
            ("create_db", _) => database.create_db.to_string(),
            ("extensions", _) => list(&database.extensions),
            ("schema", _) => text(database.schema.as_deref()),
            ("statement_timeout", _) => time(database.statement_timeout),
            ("lock_timeout", _) => time(database.lock_timeout),
            ("idle_in_transaction_timeout", _) => time(database.idle_in_transaction_timeout),
            ("settings", _) => return self.postgres(&path, &database.settings),
            ("statement_cache", _) => database.statement_cache.to_string(),
            ("monitor", _) => return self.monitor(&path, &database.monitor),
            ("application_name", _) => database.application_name.clone(),
            ("ssl_mode", _) => database.ssl_mode.as_str().to_owned(),
            ("ssl_root_cert", _) => file(database.ssl_root_cert.as_deref()),
            ("ssl_cert", _) => file(database.ssl_cert.as_deref()),
            ("ssl_key", _) => file(database.ssl_key.as_deref()),
            _ => return,
        };
        self.push(&path, value);
        // An entry on the file's own server takes its login from there, and so does the source of it.
        let inherited = match field.name {
            "user" => Some("user"),
            "password" if server.is_some_and(|server| server.user == database.user) => Some("pass"),
            _ => None,
        };
        if by_server
            && self.given(&path).is_none()
            && let Some(key) = inherited
            && let Some(value) = self.given(&["pgserver".to_owned(), key.to_owned()])
        {
            let source = tree::origin(value);
            if let Some(last) = self.settings.last_mut() {
                last.source = source;
            }
        }
    }

    fn role(&mut self, path: &[String], database: &DatabaseConfig) {
        match &database.read_role {
            None => self.push(path, text(None)),
            Some(role) => {
                self.push(&[path, &["user".to_owned()]].concat(), role.user.clone());
                self.push(
                    &[path, &["password".to_owned()]].concat(),
                    secret(role.password.as_ref()),
                );
                self.push(
                    &[path, &["password_file".to_owned()]].concat(),
                    file(role.password_file.as_deref()),
                );
            }
        }
    }

    fn limits(&mut self, path: &[String], limits: &ReplicaLimits) {
        let rows = [
            ("max_lag", time(Some(limits.max_lag))),
            ("max_lag_bytes", limits.max_lag_bytes.to_string()),
            ("wait", time(Some(limits.wait))),
            ("fallback", limits.fallback.as_str().to_owned()),
        ];
        self.below(path, rows);
    }

    fn topology(&mut self, path: &[String], topology: &TopologyConfig) {
        let rows = [
            ("interval", time(Some(topology.interval))),
            ("probe_timeout", time(Some(topology.probe_timeout))),
            ("lazy", topology.lazy.to_string()),
        ];
        self.below(path, rows);
    }

    fn below(&mut self, path: &[String], rows: impl IntoIterator<Item = (&'static str, String)>) {
        for (key, value) in rows {
            self.push(&[path, &[key.to_owned()]].concat(), value);
        }
    }

    fn monitor(&mut self, path: &[String], monitor: &MonitorConfig) {
        for field in fields::MONITOR {
            let value = match field.name {
                "enabled" => monitor.enabled.to_string(),
                "slow_statement_threshold" => {
                    time(Some(monitor.slow_statement_threshold.unwrap_or_default()))
                }
                "log_bind_values" => monitor.log_bind_values.to_string(),
                "explain" => monitor.explain.to_string(),
                "top_statements" => monitor.top_statements.to_string(),
                "n_plus_one" => n_plus_one(monitor.n_plus_one).to_owned(),
                "n_plus_one_threshold" => monitor.n_plus_one_threshold.to_string(),
                _ => continue,
            };
            let own = [path, &[field.name.to_owned()]].concat();
            let shared = ["monitor".to_owned(), field.name.to_owned()];
            let given = self.given(&own).or_else(|| self.given(&shared));
            let source = given.map_or(Origin::Default, tree::origin);
            self.settings.push(Setting { path: own.join("."), value, source, has_effect: true });
        }
    }

    fn server(&mut self, field: &Field, server: &PgServerConfig) {
        let path = ["pgserver".to_owned(), field.name.to_owned()];
        let value = match field.name {
            "version" => text(server.version.as_deref()),
            "image" => text(server.image.as_deref()),
            "name" => server.name.clone(),
            "host" => server.host.clone(),
            "port" => server.port.map_or("(chosen at start)".to_owned(), |port| port.to_string()),
            "user" => server.user.clone(),
            "pass" => secret(server.pass.as_ref()),
            "runtime" => server.runtime.as_str().to_owned(),
            "shm_size" => {
                server.shm_size.map_or("(the engine's)".to_owned(), |size| size.to_string())
            }
            "replica" => {
                let below = |key: &str| [path.as_slice(), &[key.to_owned()]].concat();
                let port = server
                    .replica
                    .port
                    .map_or("(chosen at start)".to_owned(), |port| port.to_string());
                self.push(&below("enabled"), server.replica.enabled.to_string());
                self.push(&below("count"), server.replica.count.to_string());
                let old = ["pgserver".to_owned(), "port_r".to_owned()];
                let place = if self.given(&old).is_some() { old.to_vec() } else { below("port") };
                return self.push(&place, port);
            }
            "postgres_conf" => return self.postgres(&path, &server.postgres_conf),
            _ => return,
        };
        self.push(&path, value);
    }

    /// Settings of PostgreSQL's.
    fn postgres(&mut self, path: &[String], settings: &BTreeMap<String, String>) {
        for (name, value) in settings {
            let value = match super::pgserver::holds_secret(name) {
                true => MASK.to_owned(),
                false => value.clone(),
            };
            self.push(&[path, std::slice::from_ref(name)].concat(), value);
        }
    }
}

/// In place of a value that nothing reads and whose kind is therefore not known.
const UNREAD: &str = "(given)";

fn secret(secret: Option<&SecretString>) -> String {
    match secret {
        None => text(None),
        Some(secret) if secret.expose_secret().is_empty() => "(empty)".to_owned(),
        Some(_) => MASK.to_owned(),
    }
}

fn list(items: &[impl ToString]) -> String {
    format!("[{}]", items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

fn text(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

fn file(path: Option<&std::path::Path>) -> String {
    path.map_or("-".to_owned(), |path| path.display().to_string())
}

fn time(time: Option<Duration>) -> String {
    match time {
        None => text(None),
        Some(Duration::MAX) => "never".to_owned(),
        Some(Duration::ZERO) => "off".to_owned(),
        Some(time) => format!("{time:?}"),
    }
}

fn n_plus_one(action: NPlusOne) -> &'static str {
    match action {
        NPlusOne::Off => "off",
        NPlusOne::Warn => "warn",
        NPlusOne::Error => "error",
    }
}
