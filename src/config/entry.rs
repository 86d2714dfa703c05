//! An entry of `databases:` as the file has it, to a checked [`DatabaseConfig`].

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, de::IgnoredAny};

use super::{
    Address, ConfigError, DatabaseConfig, HostPort, MonitorConfig, Origin, PgServerConfig, Pooler,
    Reads, ReplicaLimits, Role, TopologyConfig,
    database::DEFAULT_PORT,
    fields, form, monitor,
    read::{
        self, Count, FallbackName, FileName, Flag, Millis, Own, PoolerName, Port, ReadsName,
        Seconds, Secret, Settings, Size, Span, Ssl, Text, Type,
    },
    source,
    tree::{self, Value},
};

/// Far beyond what one server serves, near enough to catch a slip of the keyboard.
const MAX_CONNECTIONS: u32 = 10_000;
/// PostgreSQL keeps its timeouts as a signed 32-bit number of milliseconds.
const MAX_MILLIS: u128 = i32::MAX as u128;

/// Settings that have a key of their own, or that wharf or its driver relies on.
const ELSEWHERE: [(&str, &str); 14] = [
    ("search_path", "has a key of its own; use `schema`"),
    ("statement_timeout", "has a key of its own; use `statement_timeout` of the entry"),
    ("lock_timeout", "has a key of its own; use `lock_timeout` of the entry"),
    (
        "idle_in_transaction_session_timeout",
        "has a key of its own; use `idle_in_transaction_timeout` of the entry",
    ),
    ("default_transaction_read_only", "has a key of its own; use `readonly`"),
    ("transaction_read_only", "has a key of its own; use `readonly`"),
    ("application_name", "has a key of its own; use `application_name` of the entry"),
    ("role", "changes whose rights hold; log in as that `user`, or use `read_role`"),
    ("session_authorization", "changes whose rights hold; log in as that `user`"),
    ("client_encoding", "must stay UTF8, which the driver reads; remove it"),
    ("datestyle", "must stay ISO, which the driver reads; remove it"),
    ("intervalstyle", "must stay postgres, which the driver reads; remove it"),
    ("bytea_output", "must stay hex, which the driver reads; remove it"),
    ("standard_conforming_strings", "must stay on, so that texts are quoted safely; remove it"),
];

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Entry {
    #[serde(rename = "type")]
    _type: Option<Type>,
    #[serde(rename = "url")]
    _url: Option<Secret>,
    pgserver: Option<Own>,
    host: Option<Text>,
    port: Option<Port>,
    hosts: Option<Vec<Text>>,
    patroni: Option<Vec<Text>>,
    replicas: Option<Vec<Text>>,
    pooler: Option<PoolerName>,
    direct: Option<Text>,
    prepared: Option<Flag>,
    database: Option<Text>,
    user: Option<Text>,
    password: Option<Secret>,
    password_file: Option<FileName>,
    pool_size: Option<Count>,
    max_overflow: Option<Count>,
    min_connections: Option<Count>,
    pool_timeout: Option<Seconds>,
    pool_recycle: Option<Seconds>,
    pool_pre_ping: Option<Flag>,
    connect_timeout: Option<Seconds>,
    socket_timeout: Option<Seconds>,
    leak_detection_threshold: Option<Seconds>,
    readonly: Option<Flag>,
    read_role: Option<EntryRole>,
    reads: Option<ReadsName>,
    replica: Option<EntryReplica>,
    topology: Option<EntryTopology>,
    create_db: Option<Flag>,
    extensions: Option<Vec<Text>>,
    schema: Option<Text>,
    statement_timeout: Option<Millis>,
    lock_timeout: Option<Millis>,
    idle_in_transaction_timeout: Option<Millis>,
    settings: Option<Settings>,
    statement_cache: Option<Count>,
    #[serde(rename = "monitor")]
    _monitor: IgnoredAny,
    application_name: Option<Text>,
    ssl_mode: Option<Ssl>,
    ssl_root_cert: Option<FileName>,
    ssl_cert: Option<FileName>,
    ssl_key: Option<FileName>,
    #[serde(rename = "echo")]
    _echo: IgnoredAny,
    #[serde(rename = "echo_pool")]
    _echo_pool: IgnoredAny,
    #[serde(rename = "expire_on_commit")]
    _expire_on_commit: IgnoredAny,
    #[serde(rename = "autoflush")]
    _autoflush: IgnoredAny,
    #[serde(rename = "pool_use_lifo")]
    _pool_use_lifo: IgnoredAny,
    #[serde(rename = "pool_reset_on_return")]
    _pool_reset_on_return: IgnoredAny,
    #[serde(rename = "auto_reconnect")]
    _auto_reconnect: IgnoredAny,
    #[serde(rename = "max_retries")]
    _max_retries: IgnoredAny,
    #[serde(rename = "retry_delay")]
    _retry_delay: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryRole {
    user: Option<Text>,
    password: Option<Secret>,
    password_file: Option<FileName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryReplica {
    max_lag: Option<Seconds>,
    max_lag_bytes: Option<Size>,
    wait: Option<Seconds>,
    fallback: Option<FallbackName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryTopology {
    interval: Option<Seconds>,
    probe_timeout: Option<Seconds>,
    lazy: Option<Flag>,
}

/// Checks the entry at `path`. What its url says is written into the tree beside the url, so that each
/// of those values has its place there.
pub(super) fn check(
    tree: &mut Value,
    path: &[String],
    server: Option<&PgServerConfig>,
    monitor: &MonitorConfig,
) -> Result<DatabaseConfig, ConfigError> {
    read::known_keys(tree, path, fields::DATABASE)?;
    form::settle_overrides(tree, path);
    form::one(tree, path)?;
    form::expand_url(tree, path)?;
    let entry: Entry = read::section(tree, path)?;
    let monitor = monitor::check_entry(tree, path, monitor.clone())?;
    Checked { tree, path }.entry(entry, server, monitor)
}

/// The entry whose types are right, for the checks that types cannot express.
struct Checked<'a> {
    tree: &'a Value,
    path: &'a [String],
}

impl Checked<'_> {
    fn entry(
        &self,
        entry: Entry,
        server: Option<&PgServerConfig>,
        monitor: MonitorConfig,
    ) -> Result<DatabaseConfig, ConfigError> {
        let own = entry.pgserver.and_then(|own| own.0);
        if own.is_some() && server.is_none() {
            return Err(self.invalid(
                "pgserver",
                "needs the section `pgserver:`, which the file lacks; add it",
            ));
        }
        let server = server.filter(|_| own.is_some());
        if own == Some(Address::PgServerReplica) {
            if !server.is_some_and(|server| server.replica.enabled) {
                return Err(self.invalid(
                    "pgserver",
                    "is `replica`, but the section `pgserver:` has no standby; add \
                     `replica: {enabled: true}` to it",
                ));
            }
            if !entry.readonly.as_ref().is_some_and(|flag| flag.0) {
                return Err(self.invalid(
                    "readonly",
                    "must be true on a standby (`pgserver: replica`); write `readonly: true`",
                ));
            }
        }
        let user = match (self.filled("user", entry.user)?, server) {
            (Some(user), _) => user,
            (None, Some(server)) => server.user.clone(),
            (None, None) => source::system_user().ok_or_else(|| {
                self.invalid("", "has no `user`, and the system user has no name; give one")
            })?,
        };
        let password_file = self.one_password("", &entry.password, entry.password_file)?;
        let password = entry.password.map(|secret| secret.0).or_else(|| {
            // The superuser's password is no one else's.
            let own = server.filter(|server| server.user == user && password_file.is_none());
            own.and_then(|server| server.pass.clone())
        });
        let address = if let Some(own) = own {
            own
        } else if let Some(hosts) = entry.hosts {
            Address::Hosts(self.hosts("hosts", hosts, HostPort::parse)?)
        } else if let Some(patroni) = entry.patroni {
            Address::Patroni(self.hosts("patroni", patroni, HostPort::parse_patroni)?)
        } else {
            let port = entry.port.map_or(DEFAULT_PORT, |port| port.0);
            if port == 0 {
                return Err(self.invalid("port", "must not be 0; PostgreSQL's default is 5432"));
            }
            Address::Host {
                host: self.filled("host", entry.host)?.unwrap_or_else(|| "localhost".to_owned()),
                port,
            }
        };
        let replicas = self.replicas(&address, entry.replicas)?;
        let reads = entry.reads.map(|reads| reads.0).unwrap_or_default();
        if reads != Reads::Primary
            && replicas.is_empty()
            && matches!(address, Address::Host { .. } | Address::PgServerReplica)
        {
            return Err(self.invalid(
                "reads",
                "needs standbys, and the entry names none; add `replicas`, list all servers in `hosts`, or write \
                 `reads: primary`",
            ));
        }
        let pooler = self.pooler(&address, entry.pooler)?;
        let direct = self.direct(&address, pooler, entry.direct)?;
        let readonly = entry.readonly.is_some_and(|flag| flag.0);
        let create_db = entry.create_db.is_some_and(|flag| flag.0);
        if readonly && create_db {
            return Err(self.invalid(
                "create_db",
                "must not be true with `readonly: true`; a read-only entry cannot create its database",
            ));
        }
        let (pool_size, max_overflow) = self.pool(entry.pool_size, entry.max_overflow)?;
        let min_connections = entry.min_connections.map_or(0, |count| count.0);
        if min_connections > pool_size {
            let reason = format!("must be at most `pool_size` ({pool_size})");
            return Err(self.invalid("min_connections", reason));
        }
        let statement_timeout = self.timeout("statement_timeout", entry.statement_timeout)?;
        let socket_timeout = self.off_or("socket_timeout", entry.socket_timeout)?;
        if let (Some(socket), Some(statement)) = (socket_timeout, statement_timeout)
            && socket <= statement
        {
            return Err(self.invalid(
                "socket_timeout",
                format!(
                    "must be longer than `statement_timeout` ({statement:?}), because the server ends a \
                     statement then; add some seconds"
                ),
            ));
        }
        let must_be_primary =
            address == Address::PgServer && server.is_some_and(|server| server.replica.enabled);
        Ok(DatabaseConfig {
            address,
            database: self.filled("database", entry.database)?.unwrap_or_default(),
            user,
            password,
            password_file,
            login_source: None,
            must_be_primary,
            pool_size,
            max_overflow,
            min_connections,
            pool_timeout: self.wait("pool_timeout", entry.pool_timeout, Duration::from_secs(30))?,
            pool_recycle: self.recycle(entry.pool_recycle)?,
            pool_pre_ping: entry.pool_pre_ping.is_none_or(|flag| flag.0),
            connect_timeout: self.wait(
                "connect_timeout",
                entry.connect_timeout,
                Duration::from_secs(10),
            )?,
            socket_timeout,
            leak_detection_threshold: match &entry.leak_detection_threshold {
                None => Some(Duration::from_secs(60)),
                Some(_) => {
                    self.off_or("leak_detection_threshold", entry.leak_detection_threshold)?
                }
            },
            readonly,
            read_role: self.role(entry.read_role)?,
            replicas,
            pooler,
            direct,
            prepared: entry.prepared.is_none_or(|flag| flag.0),
            reads,
            replica: self.limits(entry.replica)?,
            topology: self.topology(entry.topology)?,
            create_db,
            extensions: self.names(entry.extensions.unwrap_or_default())?,
            schema: self.filled("schema", entry.schema)?,
            statement_timeout,
            lock_timeout: self.timeout("lock_timeout", entry.lock_timeout)?,
            idle_in_transaction_timeout: self
                .timeout("idle_in_transaction_timeout", entry.idle_in_transaction_timeout)?,
            settings: super::Settings(self.settings(entry.settings)?),
            statement_cache: entry.statement_cache.map_or(100, |count| count.0),
            monitor,
            application_name: entry.application_name.map_or_else(source::program, |name| name.0),
            ssl_mode: entry.ssl_mode.map(|mode| mode.0).unwrap_or_default(),
            ssl_root_cert: self.file("ssl_root_cert", entry.ssl_root_cert),
            ssl_cert: self.file("ssl_cert", entry.ssl_cert),
            ssl_key: self.file("ssl_key", entry.ssl_key),
        })
    }

    /// `key` is empty for the entry as a whole.
    fn invalid(&self, key: &str, reason: impl Into<String>) -> ConfigError {
        let path: Vec<String> = self
            .path
            .iter()
            .cloned()
            .chain(key.split('.').filter(|key| !key.is_empty()).map(str::to_owned))
            .collect();
        ConfigError::Invalid {
            at: tree::origin_at(self.tree, &path),
            path: path.join("."),
            reason: reason.into(),
        }
    }

    fn filled(&self, key: &str, text: Option<Text>) -> Result<Option<String>, ConfigError> {
        match text {
            Some(Text(text)) if text.is_empty() => {
                Err(self.invalid(key, "is empty; write a value, or remove the key"))
            }
            text => Ok(text.map(|text| text.0)),
        }
    }

    fn pool(
        &self,
        size: Option<Count>,
        overflow: Option<Count>,
    ) -> Result<(u32, u32), ConfigError> {
        let size = size.map_or(5, |count| count.0);
        let overflow = overflow.map_or(10, |count| count.0);
        match pool_limits(size, overflow) {
            Ok(_) => Ok((size, overflow)),
            Err(ConfigError::Invalid { path, reason, .. }) => Err(self.invalid(&path, reason)),
            Err(other) => Err(other),
        }
    }

    fn wait(
        &self,
        key: &str,
        given: Option<Seconds>,
        default: Duration,
    ) -> Result<Duration, ConfigError> {
        match given.map(|given| given.0) {
            None => Ok(default),
            Some(Span::Of(Duration::ZERO)) => Err(self.invalid(key, "must be at least 1ms")),
            Some(Span::Of(duration)) => Ok(duration),
            Some(Span::Never) => Err(self.invalid(key, "must not be negative")),
        }
    }

    fn recycle(&self, given: Option<Seconds>) -> Result<Duration, ConfigError> {
        match given.map(|given| given.0) {
            None => Ok(Duration::from_secs(3600)),
            Some(Span::Of(Duration::ZERO)) => {
                Err(self
                    .invalid("pool_recycle", "must not be 0; write -1 to keep connections forever"))
            }
            Some(Span::Of(duration)) => Ok(duration),
            Some(Span::Never) => Ok(Duration::MAX),
        }
    }

    /// A time, which 0 switches off.
    fn off_or(&self, key: &str, given: Option<Seconds>) -> Result<Option<Duration>, ConfigError> {
        match given.map(|given| given.0) {
            None | Some(Span::Of(Duration::ZERO)) => Ok(None),
            Some(Span::Of(duration)) => Ok(Some(duration)),
            Some(Span::Never) => Err(self.invalid(key, "must not be negative; 0 turns it off")),
        }
    }

    fn timeout(&self, key: &str, given: Option<Millis>) -> Result<Option<Duration>, ConfigError> {
        match given.map(|given| given.0) {
            None => Ok(None),
            Some(Span::Never) => Err(self.invalid(key, "must not be negative; 0 turns it off")),
            Some(Span::Of(duration)) if duration.as_millis() > MAX_MILLIS => Err(self.invalid(
                key,
                format!("must be at most {MAX_MILLIS}ms, PostgreSQL's limit; 0 turns it off"),
            )),
            Some(Span::Of(duration)) if !duration.subsec_nanos().is_multiple_of(1_000_000) => {
                Err(self.invalid(
                    key,
                    "must be a whole number of milliseconds, because PostgreSQL stores those",
                ))
            }
            Some(Span::Of(duration)) => Ok(Some(duration)),
        }
    }

    fn settings(&self, given: Option<Settings>) -> Result<BTreeMap<String, String>, ConfigError> {
        let path = [self.path, &["settings".to_owned()]].concat();
        let settings = read::settings(self.tree, &path, given)?;
        let mut faults = Vec::new();
        for (name, value) in &settings {
            let mut invalid =
                |reason: &str| faults.push(self.invalid(&format!("settings.{name}"), reason));
            // The server splits startup options at white space, of which the driver escapes the space alone.
            if value.contains(|c: char| c.is_ascii_control()) {
                invalid("contains a tab or another control character; remove it");
            }
            let own = |known: &&(&str, &str)| known.0.eq_ignore_ascii_case(name);
            if let Some((_, reason)) = ELSEWHERE.iter().find(own) {
                invalid(reason);
            }
        }
        ConfigError::all(faults)?;
        Ok(settings)
    }

    fn one_password(
        &self,
        of: &str,
        password: &Option<Secret>,
        file: Option<FileName>,
    ) -> Result<Option<PathBuf>, ConfigError> {
        match (password, file) {
            (Some(_), Some(_)) => Err(self.invalid(
                &format!("{of}password_file"),
                "is given with a password; keep one of the two",
            )),
            (_, file) => Ok(self.file(&format!("{of}password_file"), file)),
        }
    }

    /// A file as it was named, relative to the file that names it. A variable and a URL that was given stand in
    /// none: what they name is relative to where the process is.
    fn file(&self, key: &str, name: Option<FileName>) -> Option<PathBuf> {
        let name = name?.0;
        let path: Vec<&str> = self.path.iter().map(String::as_str).chain(key.split('.')).collect();
        Some(match tree::origin_at(self.tree, &path) {
            Origin::File { path, .. } => {
                path.parent().map_or(name.clone(), |folder| folder.join(&name))
            }
            _ => name,
        })
    }

    fn role(&self, role: Option<EntryRole>) -> Result<Option<Role>, ConfigError> {
        let Some(role) = role else { return Ok(None) };
        match self.filled("read_role.user", role.user)? {
            Some(user) => {
                let password_file =
                    self.one_password("read_role.", &role.password, role.password_file)?;
                let password = role.password.map(|secret| secret.0);
                Ok(Some(Role { user, password, password_file }))
            }
            None => Err(self.invalid("read_role", "has no `user`; add one")),
        }
    }

    fn replicas(
        &self,
        address: &Address,
        given: Option<Vec<Text>>,
    ) -> Result<Vec<HostPort>, ConfigError> {
        let Some(given) = given else { return Ok(Vec::new()) };
        let Address::Host { host, port } = address else {
            return Err(self.invalid(
                "replicas",
                "is only for an entry with `host`; `hosts` lists all servers, and the file's own server has its standbys \
                 from `pgserver.replica`. Remove it",
            ));
        };
        let replicas = self.hosts("replicas", given, HostPort::parse)?;
        let primary = HostPort { host: host.clone(), port: *port };
        if let Some(index) = replicas.iter().position(|replica| *replica == primary) {
            let reason = format!("names {primary}, which is the entry's primary; remove it");
            return Err(self.invalid(&format!("replicas.{index}"), reason));
        }
        Ok(replicas)
    }

    fn pooler(&self, address: &Address, given: Option<PoolerName>) -> Result<Pooler, ConfigError> {
        let pooler = given.map(|pooler| pooler.0).unwrap_or_default();
        let is_own = matches!(address, Address::PgServer | Address::PgServerReplica);
        if is_own && pooler != Pooler::None {
            return Err(self.invalid(
                "pooler",
                "is for an entry with an address of its own; there is none before the file's own server. Remove it",
            ));
        }
        Ok(pooler)
    }

    fn direct(
        &self,
        address: &Address,
        pooler: Pooler,
        given: Option<Text>,
    ) -> Result<Option<HostPort>, ConfigError> {
        let Some(text) = self.filled("direct", given)? else { return Ok(None) };
        let direct = HostPort::parse(&text).map_err(|reason| self.invalid("direct", reason))?;
        if pooler == Pooler::None {
            return Err(self.invalid(
                "direct",
                "is the way past a pooler, and the entry has none; add `pooler: transaction` or `session`, or remove it",
            ));
        }
        let is_pooler = match address {
            Address::Host { host, port } => (host, *port) == (&direct.host, direct.port),
            Address::Hosts(hosts) => hosts.contains(&direct),
            _ => false,
        };
        if is_pooler {
            let reason = format!("names {direct}, where the pooler is; name the server behind it");
            return Err(self.invalid("direct", reason));
        }
        Ok(Some(direct))
    }

    fn limits(&self, given: Option<EntryReplica>) -> Result<ReplicaLimits, ConfigError> {
        let default = ReplicaLimits::default();
        let Some(given) = given else { return Ok(default) };
        Ok(ReplicaLimits {
            max_lag: self.wait("replica.max_lag", given.max_lag, default.max_lag)?,
            max_lag_bytes: given.max_lag_bytes.map_or(default.max_lag_bytes, |size| size.0),
            wait: match &given.wait {
                None => default.wait,
                Some(_) => self.off_or("replica.wait", given.wait)?.unwrap_or_default(),
            },
            fallback: given.fallback.map(|fallback| fallback.0).unwrap_or_default(),
        })
    }

    fn topology(&self, given: Option<EntryTopology>) -> Result<TopologyConfig, ConfigError> {
        let default = TopologyConfig::default();
        let Some(given) = given else { return Ok(default) };
        Ok(TopologyConfig {
            interval: self.wait("topology.interval", given.interval, default.interval)?,
            probe_timeout: self.wait(
                "topology.probe_timeout",
                given.probe_timeout,
                default.probe_timeout,
            )?,
            lazy: given.lazy.map_or(default.lazy, |lazy| lazy.0),
        })
    }

    /// Reads a list of hosts at `key`.
    fn hosts(
        &self,
        key: &str,
        given: Vec<Text>,
        parse: impl Fn(&str) -> Result<HostPort, &'static str>,
    ) -> Result<Vec<HostPort>, ConfigError> {
        let mut hosts = Vec::new();
        for (index, text) in given.into_iter().enumerate() {
            let invalid = |reason: String| self.invalid(&format!("{key}.{index}"), reason);
            let host = parse(&text.0).map_err(|reason| invalid(reason.to_owned()))?;
            if hosts.contains(&host) {
                return Err(invalid(format!("names {host} again; name each host once")));
            }
            hosts.push(host);
        }
        if hosts.is_empty() {
            let reason = match key {
                "hosts" => "is empty; name the hosts of the cluster, or use `host`",
                "patroni" => "is empty; name the addresses of Patroni, or use `hosts`",
                _ => "is empty; name the standbys, or remove the key",
            };
            return Err(self.invalid(key, reason));
        }
        Ok(hosts)
    }

    fn names(&self, names: Vec<Text>) -> Result<Vec<String>, ConfigError> {
        names
            .into_iter()
            .enumerate()
            .map(|(index, name)| {
                Ok(self.filled(&format!("extensions.{index}"), Some(name))?.unwrap_or_default())
            })
            .collect()
    }
}

/// How many connections a pool keeps and how many it has at most, if it may have as many.
pub(crate) fn pool_limits(size: u32, overflow: u32) -> Result<(usize, usize), ConfigError> {
    let invalid = |key: &str, reason: String| {
        Err(ConfigError::Invalid { at: Origin::Argument, path: key.to_owned(), reason })
    };
    if size == 0 {
        return invalid("pool_size", "must be at least 1".to_owned());
    }
    if size.saturating_add(overflow) > MAX_CONNECTIONS {
        let key = if size > overflow { "pool_size" } else { "max_overflow" };
        return invalid(
            key,
            format!(
                "must be lower: `pool_size` and `max_overflow` allow more than {MAX_CONNECTIONS} connections"
            ),
        );
    }
    Ok((size as usize, (size + overflow) as usize))
}

/// An entry that consists of nothing but a url.
pub(super) fn from_url(url: &str) -> Result<DatabaseConfig, ConfigError> {
    let mut entry = ::config::Map::new();
    entry.insert("url".to_owned(), tree::value(&Origin::Default, url));
    // A path of the usual shape, since the shapes of fields are known by it.
    let path = ["databases".to_owned(), "url".to_owned()];
    let mut databases = ::config::Map::new();
    databases.insert("url".to_owned(), tree::value(&Origin::Default, entry));
    let mut top = ::config::Map::new();
    top.insert("databases".to_owned(), tree::value(&Origin::Default, databases));
    let monitor = MonitorConfig::default();
    check(&mut tree::value(&Origin::Default, top), &path, None, &monitor).map_err(|error| {
        // There is no file to speak of.
        let at = Origin::Argument;
        let key = |path: String| match path.strip_prefix("databases.url.") {
            Some(key) => key.to_owned(),
            None => "url".to_owned(),
        };
        match error {
            ConfigError::Url { path, reason, .. } => {
                ConfigError::Url { at, path: key(path), reason }
            }
            ConfigError::Invalid { path, reason, .. } => {
                ConfigError::Invalid { at, path: key(path), reason }
            }
            ConfigError::WrongType { path, expected, found, .. } => {
                ConfigError::WrongType { at, path: key(path), expected, found }
            }
            other => other,
        }
    })
}
