//! The error type: what failed, for which database, and what to do.

mod citus;
mod connect;
#[cfg(feature = "copy")]
mod copy;
#[cfg(feature = "postgis")]
mod geometry;
#[cfg(feature = "migrate")]
mod migrate;
mod pool;
mod server;
mod timescale;
#[cfg(feature = "vector")]
mod vector;

use std::{panic::Location, sync::Arc, time::Duration};

use sea_orm::{DbErr, RuntimeErr};

pub use citus::CitusError;
pub use connect::{ConnectError, ConnectErrorKind};
pub(crate) use connect::{IgnoredSettings, NotPrimary};
#[cfg(feature = "copy")]
pub use copy::{CopyError, CopyFault};
#[cfg(feature = "postgis")]
pub use geometry::GeometryError;
#[cfg(feature = "migrate")]
pub use migrate::MigrateError;
pub use pool::{CutOff, NoStandby, PoolTimeout, SingleConnection};
pub(crate) use server::{server_error, text};
pub use timescale::TimescaleError;
#[cfg(feature = "vector")]
pub use vector::VectorError;

use crate::config::ConfigError;

/// What went wrong, for which database, after how long, and what to do about it.
///
/// SeaORM's traits speak [`DbErr`]. An `Error` of wharf's that had to pass through one is inside
/// it: [`Error::from`] gives it back, and [`Error::of`] looks at it where it is. A statement's
/// error keeps the shape that SeaORM gives it, so [`DbErr::sql_err`] and matches on
/// `DbErr::Query(RuntimeErr::SqlxError(_))` work as they do on SeaORM's own connection.
///
/// ```
/// # fn handle(error: sea_orm::DbErr) {
/// match wharf::Error::from(error) {
///     error if error.is_retryable() => { /* the transaction may be run again */ }
///     wharf::Error::Connect(error) => eprintln!("{error}"),
///     error => eprintln!("{error} (SQLSTATE {:?})", error.sqlstate()),
/// }
/// # }
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file, an override or a value in it is not right.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server for development could not be started, found or stopped.
    #[cfg(feature = "pgserver")]
    #[error(transparent)]
    PgServer(#[from] crate::pgserver::PgServerError),
    /// No entry of the file has this name.
    #[error("no database is named `{name}`{}", nearest(.name, .known))]
    UnknownDatabase {
        /// The name asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A server was to be started, and the file describes none.
    #[cfg(feature = "pgserver")]
    #[error(
        "the file has no section `pgserver:`; add one, such as `pgserver: {{name: shop, version: 17}}`"
    )]
    NoPgServer,
    /// The entry says `pgserver: true`, and the server of the file was not found running.
    #[error(
        "database `{database}`: the file's server is not running ({reason}); start it with `wharf server \
         up`, or give the entry an address"
    )]
    PgServerDown {
        /// Key of the database in the file.
        database: String,
        /// Where it was looked for, and what this build lacks to look elsewhere.
        reason: String,
    },
    /// The entry says `patroni`, and none of its addresses listed the servers of the cluster.
    #[error(
        "database `{database}`: Patroni did not list the servers of the cluster ({reason}); check that it runs, and the \
         addresses below `patroni`"
    )]
    Patroni {
        /// Key of the database in the file.
        database: String,
        /// What each address said.
        reason: String,
    },
    /// A connection could not be opened.
    #[error(transparent)]
    Connect(ConnectError),
    /// Every connection was in use for as long as `pool_timeout`.
    #[error(transparent)]
    PoolTimeout(PoolTimeout),
    /// No standby may serve a read, and the entry says `fallback: error`.
    #[error(transparent)]
    NoStandby(NoStandby),
    /// The embedded engine serves one connection in all, and somebody has it.
    #[error(transparent)]
    SingleConnection(SingleConnection),
    /// What was still at work at the end of [`Pg::close_within`](crate::Pg::close_within) was cut off.
    #[error(transparent)]
    CutOff(CutOff),
    /// The server did not answer for as long as `socket_timeout`, so the connection was closed. A
    /// statement that writes may have been done or not.
    #[error(
        "database `{database}`: no answer within {waited:.0?}, so the connection was closed; check the network \
         path. The statement may have taken effect or not"
    )]
    NoAnswer {
        /// Key of the database in the file.
        database: String,
        /// `socket_timeout`; of a ping, up to `pool_timeout`.
        waited: Duration,
    },
    /// A statement of the session whose future had been dropped did not end, so that its connection
    /// was closed.
    #[error(
        "database `{database}`: this session was rolled back, because a statement whose future was \
         dropped still ran {after:.0?} later and could only be canceled by closing the connection"
    )]
    StatementAbandoned {
        /// Key of the database in the file.
        database: String,
        /// How long it was let run on.
        after: Duration,
    },
    /// A stream or a copy of the session is open, and has kept its connection for longer than `pool_timeout`.
    /// The statement that waited for it was not sent.
    #[error(
        "database `{database}`: this session is busy with a stream or a copy that is still open after \
         {waited:.1?} of waiting; read it to its end or drop it first, or use `Session::cursor` to run \
         statements between its rows: {statement}"
    )]
    StreamOpen {
        /// Key of the database in the file.
        database: String,
        /// How long the connection was waited for.
        waited: Duration,
        /// The text of the stream or copy, with `?` for literals.
        statement: String,
    },
    /// The pool was closed.
    #[error("database `{database}`: its pool is closed")]
    Closed {
        /// Key of the database in the file.
        database: String,
    },
    /// Something that writes was asked of a database, a view of one, or a session that only reads.
    #[error("database `{database}` is read-only here: {what}")]
    ReadOnly {
        /// Key of the database in the file.
        database: String,
        /// What was asked for, and what to do.
        what: String,
    },
    /// A raw statement would have ended or begun a transaction behind the session's back.
    #[error(
        "database `{database}`: {keyword} is not allowed in raw SQL of a session; call the session's \
         commit(), rollback() or begin() instead"
    )]
    TransactionControl {
        /// Key of the database in the file.
        database: String,
        /// The keyword.
        keyword: &'static str,
    },
    /// A statement was not sent, because it would have run too often in one session or scope and the
    /// file says `n_plus_one: error`.
    #[error(
        "database `{database}`: the same statement ran {count} times in one session or scope{}, more than \
         `n_plus_one: error` allows; use one for all of them (a join, a loader, IN (…), insert_many): \
         {statement}", place(.opened_at)
    )]
    NPlusOne {
        /// Key of the database in the file.
        database: String,
        /// How often it would have run, this time included.
        count: u32,
        /// Its text, with `?` for literals.
        statement: String,
        /// Where in the caller's code the session or scope began, where that is known.
        opened_at: Option<&'static Location<'static>>,
    },
    /// Nested sessions, or savepoints in raw SQL, cannot be ended in this order without losing what
    /// another session did. The outermost session can only be rolled back then.
    #[error("database `{database}`: {reason}")]
    NestedSessions {
        /// Key of the database in the file.
        database: String,
        /// Which, with where each was begun and what to do.
        reason: String,
    },
    /// The session, or the one around it, has been committed or rolled back, or its connection was lost by
    /// an earlier statement; nothing of it was committed then.
    #[error(
        "database `{database}`: this session has ended: it was committed or rolled back, or lost its connection"
    )]
    SessionEnded {
        /// Key of the database in the file.
        database: String,
    },
    /// A statement of the session had failed, so the server rolled back in place of committing.
    #[error(
        "database `{database}`: the server rolled back instead of committing, because an earlier \
         statement of the session failed and its error was ignored"
    )]
    RolledBack {
        /// Key of the database in the file.
        database: String,
    },
    /// The connection was lost with a COMMIT on its way: whether it happened is not known, and it
    /// must not be repeated without looking.
    #[error(
        "database `{database}`: the connection was lost during COMMIT ({}); the changes may have been \
         committed or not, so check before you repeat them", server::driver_text(.source)
    )]
    CommitUnknown {
        /// Key of the database in the file.
        database: String,
        /// How it was lost.
        source: Arc<sqlx::Error>,
    },
    /// Migrations came to nothing.
    #[cfg(feature = "migrate")]
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// A schema was named by what cannot be the name of one.
    #[error("database `{database}`: {schema:?} is not a valid schema name: {reason}")]
    Schema {
        /// Key of the database in the file.
        database: String,
        /// The name.
        schema: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Rows that were to be copied into a table were not, none of them.
    #[cfg(feature = "copy")]
    #[error(transparent)]
    Copy(Box<CopyError>),
    /// A file or writer to which rows were to be copied gave an error.
    #[cfg(feature = "copy")]
    #[error("database `{database}`: cannot write to {to}: {source}")]
    Write {
        /// Key of the database in the file.
        database: String,
        /// The file, or that it was a writer.
        to: String,
        /// Why.
        source: std::io::Error,
    },
    /// Something is no geometry, or not one that fits its column.
    #[cfg(feature = "postgis")]
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// Citus is not there, is too old, or refuses something.
    #[error(transparent)]
    Citus(#[from] CitusError),
    /// TimescaleDB is not there, lacks the license, or refuses something.
    #[error(transparent)]
    Timescale(#[from] TimescaleError),
    /// Nothing can be listened to or notified as it was asked for.
    #[error("database `{database}`, notifications: {reason}")]
    Notifications {
        /// Key of the database in the file.
        database: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A vector, an index of vectors or a search among them is not right.
    #[cfg(feature = "vector")]
    #[error(transparent)]
    Vector(#[from] VectorError),
    /// A type, function or operator was not found. An extension has it, in a schema that the search path lacks.
    #[error(
        "database `{database}`: {}; {extensions}, which the search path ({search_path}) lacks; set \
         `schema: {wanted}` in the entry", text(.source)
    )]
    SearchPath {
        /// Key of the database in the file.
        database: String,
        /// The search path, as it is.
        search_path: String,
        /// The extensions that have what was not found, each with its schema.
        extensions: String,
        /// A search path that has them.
        wanted: String,
        /// What was said.
        source: Box<DbErr>,
    },
    /// The entry says `pooler: transaction`, and the text would leave something on a connection of the server, which the pooler
    /// lends to somebody else next. It was not sent.
    #[error(
        "database `{database}`: {what} would stay on a connection that the pooler lends to others next; {instead}{}",
        place(.opened_at)
    )]
    BehindPooler {
        /// Key of the database in the file.
        database: String,
        /// The kind of thing that would stay, such as `a setting`.
        what: &'static str,
        /// The way to have it behind a pooler.
        instead: &'static str,
        /// Where the session was begun, if it was one.
        opened_at: Option<&'static Location<'static>>,
    },
    /// The entry says `pooler: transaction`, and something needs a connection of its own.
    #[error(
        "database `{database}`: {what} needs a connection of its own, and the pooler lends one for a transaction only; add \
         `direct: host:port`, the address of the server itself, to the entry"
    )]
    NeedsDirect {
        /// Key of the database in the file.
        database: String,
        /// The operation that needs it, such as `listening`.
        what: &'static str,
    },
    /// The entry names no pooler, and the error is typical of one that lends its connections for a transaction each.
    #[error(
        "database `{database}`: {}; this looks like a pooler in transaction mode, such as PgBouncer: say `pooler: transaction` \
         in the entry", text(.source)
    )]
    LooksLikePooler {
        /// Key of the database in the file.
        database: String,
        /// The server's error.
        source: Box<DbErr>,
    },
    /// Something that wharf held to be impossible.
    #[error("database `{database}`: {reason}; this is a bug in wharf, please report it")]
    Internal {
        /// Key of the database in the file.
        database: String,
        /// What.
        reason: String,
    },
    /// A statement failed, or SeaORM could not make or read one. The text ends with the server's hint.
    #[error("{}", text(.0))]
    Db(#[source] DbErr),
}

crate::debug::debug_is_message!(Error);

impl Error {
    /// The error of wharf's that passed through SeaORM inside this one, if one did.
    pub fn of(error: &DbErr) -> Option<&Error> {
        match error {
            DbErr::Conn(RuntimeErr::SqlxError(error))
            | DbErr::Exec(RuntimeErr::SqlxError(error))
            | DbErr::Query(RuntimeErr::SqlxError(error)) => match &**error {
                sqlx::Error::Io(error) => error.get_ref()?.downcast_ref(),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the SQLSTATE, if the server sent one.
    pub fn sqlstate(&self) -> Option<String> {
        Some(self.database_error()?.code()?.into_owned())
    }

    /// Whether the whole transaction may be run again: serialization failure (40001), deadlock (40P01),
    /// or ended by the server because the session was idle (25P03). Never after
    /// [`CommitUnknown`](Error::CommitUnknown).
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Error::CommitUnknown { .. })
            && matches!(self.sqlstate().as_deref(), Some("40001" | "40P01" | "25P03"))
    }

    /// Whether a unique constraint was violated (23505).
    pub fn is_unique_violation(&self) -> bool {
        self.sqlstate().as_deref() == Some("23505")
    }

    /// Whether a foreign key was violated (23503).
    pub fn is_foreign_key_violation(&self) -> bool {
        self.sqlstate().as_deref() == Some("23503")
    }

    /// Whether a CHECK constraint was violated (23514).
    pub fn is_check_violation(&self) -> bool {
        self.sqlstate().as_deref() == Some("23514")
    }

    /// Whether a NOT NULL constraint was violated (23502).
    pub fn is_not_null_violation(&self) -> bool {
        self.sqlstate().as_deref() == Some("23502")
    }

    /// Whether an EXCLUDE constraint was violated (23P01).
    pub fn is_exclusion_violation(&self) -> bool {
        self.sqlstate().as_deref() == Some("23P01")
    }

    /// Whether the server canceled the statement, by `statement_timeout` or on request (57014).
    pub fn is_query_canceled(&self) -> bool {
        self.sqlstate().as_deref() == Some("57014")
    }

    /// Whether a lock was not available: `lock_timeout`, or NOWAIT (55P03).
    pub fn is_lock_not_available(&self) -> bool {
        self.sqlstate().as_deref() == Some("55P03")
    }

    /// Whether a write was refused because the session is read-only, by wharf or by the server (25006).
    pub fn is_read_only_violation(&self) -> bool {
        matches!(self.inner(), Error::ReadOnly { .. })
            || self.sqlstate().as_deref() == Some("25006")
    }

    /// The constraint that was violated, as the server names it.
    pub fn constraint(&self) -> Option<&str> {
        self.database_error()?.constraint()
    }

    /// The table that the error is about, as the server names it.
    pub fn table(&self) -> Option<&str> {
        self.database_error()?.table()
    }

    /// Returns the column that the error is about, as the server names it.
    pub fn column(&self) -> Option<&str> {
        self.server_error()?.column()
    }

    /// Returns the server's HINT: a suggestion what to do.
    pub fn hint(&self) -> Option<&str> {
        self.server_error()?.hint()
    }

    /// Returns the server's DETAIL, which may quote values of the row.
    pub fn detail(&self) -> Option<&str> {
        self.server_error()?.detail()
    }

    fn server_error(&self) -> Option<&sqlx::postgres::PgDatabaseError> {
        self.database_error()?.try_downcast_ref()
    }

    /// Itself, or the error of wharf's inside what SeaORM made of it.
    fn inner(&self) -> &Error {
        match self {
            Error::Db(error) => Error::of(error).unwrap_or(self),
            error => error,
        }
    }

    /// What the server said, if it said something.
    fn database_error(&self) -> Option<&(dyn sqlx::error::DatabaseError + 'static)> {
        let source = match self {
            Error::Connect(error) => error.source.as_deref(),
            Error::CommitUnknown { source, .. } => Some(&**source),
            #[cfg(feature = "copy")]
            Error::Copy(error) => match &error.reason {
                CopyFault::Server(error) => driver_error(error),
                _ => None,
            },
            Error::SearchPath { source, .. } | Error::LooksLikePooler { source, .. } => {
                driver_error(source)
            }
            Error::Citus(error) => error.said().and_then(driver_error),
            Error::Timescale(error) => error.said().and_then(driver_error),
            Error::Db(error) => match Error::of(error) {
                Some(inner) => return inner.database_error(),
                None => driver_error(error),
            },
            _ => None,
        };
        source?.as_database_error()
    }
}

pub(crate) fn driver_error(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}

impl From<DbErr> for Error {
    /// Gives back the error of wharf's that is inside, if there is one.
    fn from(error: DbErr) -> Error {
        if Error::of(&error).is_none() {
            return Error::Db(error);
        }
        let (DbErr::Conn(RuntimeErr::SqlxError(shared))
        | DbErr::Exec(RuntimeErr::SqlxError(shared))
        | DbErr::Query(RuntimeErr::SqlxError(shared))) = error
        else {
            return Error::Db(error);
        };
        match Arc::try_unwrap(shared) {
            Ok(sqlx::Error::Io(io)) => match io.downcast::<Error>() {
                Ok(error) => error,
                Err(io) => Error::Db(DbErr::Conn(RuntimeErr::SqlxError(Arc::new(io.into())))),
            },
            Ok(other) => Error::Db(DbErr::Conn(RuntimeErr::SqlxError(Arc::new(other)))),
            // Somebody else still looks at it: it stays where it is, for `Error::of`.
            Err(shared) => Error::Db(DbErr::Conn(RuntimeErr::SqlxError(shared))),
        }
    }
}

#[cfg(feature = "copy")]
impl From<CopyError> for Error {
    fn from(error: CopyError) -> Error {
        Error::Copy(Box::new(error))
    }
}

impl From<Error> for DbErr {
    /// Wraps an error of wharf's so that SeaORM passes it through, message and all.
    fn from(error: Error) -> DbErr {
        match error {
            Error::Db(error) => error,
            error => {
                let inside = sqlx::Error::Io(std::io::Error::other(error));
                DbErr::Conn(RuntimeErr::SqlxError(Arc::new(inside)))
            }
        }
    }
}

fn place(opened_at: &Option<&'static Location<'static>>) -> String {
    opened_at.map(|place| format!(" (begun at {place})")).unwrap_or_default()
}

/// The name that is nearest in spelling, or all that there are.
fn nearest(name: &str, known: &[String]) -> String {
    let best = known
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    match best {
        Some((_, best)) => format!("; the nearest is `{best}`"),
        None if known.is_empty() => "; the file names none".to_owned(),
        None => format!("; the file has {}", known.join(", ")),
    }
}
