//! The keys that wharf knows: what stands behind each and how it is called in errors.

/// Sections at the top of the file that are wharf's.
pub(super) const SECTIONS: &[&str] = &["databases", "dbs", "pgserver", "monitor"];

/// What may stand behind a key.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Text,
    /// Text that is never shown.
    Secret,
    /// A url, which may hold a password.
    Url,
    Path,
    Count,
    Port,
    Flag,
    /// A time whose bare number is seconds.
    Seconds,
    /// A time whose bare number is milliseconds.
    Millis,
    /// A number of bytes.
    Size,
    Type,
    SslMode,
    Runtime,
    Pooler,
    /// A host with its port.
    Host,
    Reads,
    Fallback,
    /// The file's own server, or its standby.
    Own,
    NPlusOne,
    Names,
    Hosts,
    Patroni,
    Section(&'static [Field]),
    /// Any key with one value or a list of them.
    Settings,
    /// Read by the Python original only.
    NoEffect,
}

#[derive(Clone, Copy)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
}

const fn field(name: &'static str, shape: Shape) -> Field {
    Field { name, shape }
}

/// An entry of `databases:`, in the order in which it is shown.
pub(super) const DATABASE: &[Field] = &[
    field("type", Shape::Type),
    field("url", Shape::Url),
    field("pgserver", Shape::Own),
    field("host", Shape::Text),
    field("port", Shape::Port),
    field("hosts", Shape::Hosts),
    field("patroni", Shape::Patroni),
    field("replicas", Shape::Hosts),
    field("pooler", Shape::Pooler),
    field("direct", Shape::Host),
    field("prepared", Shape::Flag),
    field("database", Shape::Text),
    field("user", Shape::Text),
    field("password", Shape::Secret),
    field("password_file", Shape::Path),
    field("pool_size", Shape::Count),
    field("max_overflow", Shape::Count),
    field("min_connections", Shape::Count),
    field("pool_timeout", Shape::Seconds),
    field("pool_recycle", Shape::Seconds),
    field("pool_pre_ping", Shape::Flag),
    field("connect_timeout", Shape::Seconds),
    field("socket_timeout", Shape::Seconds),
    field("leak_detection_threshold", Shape::Seconds),
    field("readonly", Shape::Flag),
    field("read_role", Shape::Section(ROLE)),
    field("reads", Shape::Reads),
    field("replica", Shape::Section(REPLICA_LIMITS)),
    field("topology", Shape::Section(TOPOLOGY)),
    field("create_db", Shape::Flag),
    field("extensions", Shape::Names),
    field("schema", Shape::Text),
    field("statement_timeout", Shape::Millis),
    field("lock_timeout", Shape::Millis),
    field("idle_in_transaction_timeout", Shape::Millis),
    field("settings", Shape::Settings),
    field("statement_cache", Shape::Count),
    field("monitor", Shape::Section(MONITOR)),
    field("application_name", Shape::Text),
    field("ssl_mode", Shape::SslMode),
    field("ssl_root_cert", Shape::Path),
    field("ssl_cert", Shape::Path),
    field("ssl_key", Shape::Path),
    field("echo", Shape::NoEffect),
    field("echo_pool", Shape::NoEffect),
    field("expire_on_commit", Shape::NoEffect),
    field("autoflush", Shape::NoEffect),
    field("pool_use_lifo", Shape::NoEffect),
    field("pool_reset_on_return", Shape::NoEffect),
    field("auto_reconnect", Shape::NoEffect),
    field("max_retries", Shape::NoEffect),
    field("retry_delay", Shape::NoEffect),
];

const ROLE: &[Field] = &[
    field("user", Shape::Text),
    field("password", Shape::Secret),
    field("password_file", Shape::Path),
];

/// Which standbys may serve a read of an entry.
pub(super) const REPLICA_LIMITS: &[Field] = &[
    field("max_lag", Shape::Seconds),
    field("max_lag_bytes", Shape::Size),
    field("wait", Shape::Seconds),
    field("fallback", Shape::Fallback),
];

pub(super) const TOPOLOGY: &[Field] = &[
    field("interval", Shape::Seconds),
    field("probe_timeout", Shape::Seconds),
    field("lazy", Shape::Flag),
];

/// The section `monitor:`, of the file and of an entry.
pub(super) const MONITOR: &[Field] = &[
    field("enabled", Shape::Flag),
    field("slow_statement_threshold", Shape::Seconds),
    field("log_bind_values", Shape::Flag),
    field("explain", Shape::Flag),
    field("top_statements", Shape::Count),
    field("n_plus_one", Shape::NPlusOne),
    field("n_plus_one_threshold", Shape::Count),
];

/// What may stand at the top although the file does not have it.
const TOP: &[Field] = &[field("monitor", Shape::Section(MONITOR))];

/// The section `pgserver:`.
pub(super) const PGSERVER: &[Field] = &[
    field("version", Shape::Text),
    field("image", Shape::Text),
    field("name", Shape::Text),
    field("host", Shape::Text),
    field("port", Shape::Port),
    field("user", Shape::Text),
    field("pass", Shape::Secret),
    field("postgres_conf", Shape::Settings),
    field("shm_size", Shape::Size),
    field("replica", Shape::Section(REPLICA)),
    field("port_r", Shape::Port),
    field("runtime", Shape::Runtime),
];

const REPLICA: &[Field] =
    &[field("enabled", Shape::Flag), field("count", Shape::Count), field("port", Shape::Port)];

/// A map of the file, by what its keys may be.
#[derive(Clone, Copy)]
pub(super) enum Level {
    Root,
    Databases,
    Section(&'static [Field]),
    Settings,
    /// Not ours, or one value.
    Other,
}

impl Level {
    /// What stands behind a key of this map.
    pub(super) fn below(self, key: &str) -> Self {
        match self {
            Self::Root if key == "pgserver" => Self::Section(PGSERVER),
            Self::Root if key == "monitor" => Self::Section(MONITOR),
            Self::Root if SECTIONS.contains(&key) => Self::Databases,
            Self::Databases => Self::Section(DATABASE),
            Self::Section(fields) => match shape(fields, key) {
                Some(Shape::Section(fields)) => Self::Section(fields),
                Some(Shape::Settings) => Self::Settings,
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }

    /// The keys that may stand here although the file does not have them.
    pub(super) fn known(self) -> &'static [Field] {
        match self {
            Self::Root => TOP,
            Self::Section(fields) => fields,
            _ => &[],
        }
    }
}

pub(super) fn shape(fields: &[Field], name: &str) -> Option<Shape> {
    fields.iter().find(|field| field.name == name).map(|field| field.shape)
}

/// The shape of the value at a path from the top of the file; `None` if it is no field of ours.
pub(super) fn shape_at<S: AsRef<str>>(path: &[S]) -> Option<Shape> {
    let (last, above) = path.split_last()?;
    let level = above.iter().fold(Level::Root, |level, key| level.below(key.as_ref()));
    shape(level.known(), last.as_ref())
}

impl Shape {
    pub(super) fn is_secret(self) -> bool {
        matches!(self, Self::Secret | Self::Url)
    }

    /// What should stand there, for errors.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Secret => "text (a password)",
            Self::Url => "text (a url, `postgresql://user:password@host:port/database`)",
            Self::Path => "a file name",
            Self::Count => "an integer ≥ 0",
            Self::Port => "a port (0 to 65535)",
            Self::Flag => "true or false",
            Self::Seconds => {
                "a time, 0 or more: seconds, or a number with a unit (500ms, 30s, 5min, 1h, 1d)"
            }
            Self::Millis => {
                "a time, 0 or more: milliseconds, or a number with a unit (500ms, 30s, 5min, 1h, 1d)"
            }
            Self::Size => "a size above 0 with a unit (64MB, 1GB; also kB, TB)",
            Self::Type => "`postgresql`, the only type so far",
            Self::SslMode => "one of disable, allow, prefer, require, verify-ca, verify-full",
            Self::NPlusOne => "one of off, warn, error",
            Self::Pooler => "one of none, session, transaction",
            Self::Host => "a host, such as pg1:5432",
            Self::Reads => "one of primary, causal, eventual",
            Self::Fallback => "primary or error",
            Self::Own => "true, false or replica",
            Self::Runtime => "one of auto, docker, native, embedded",
            Self::Names => "a list of names, such as [vector, pg_trgm]",
            Self::Hosts => "a list of hosts, such as [pg1:5432, pg2]",
            Self::Patroni => "a list of addresses, such as [http://pg1:8008, http://pg2:8008]",
            Self::Section(_) => "a map",
            Self::Settings => "a map of settings, each with one value or a list of them",
            Self::NoEffect => "anything",
        }
    }
}
