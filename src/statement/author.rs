//! Who wrote a statement, which decides how far it is trusted.

use sea_orm::{DbBackend, Statement, StatementBuilder, Values};
use sea_query_sqlx::SqlxValues;
use sqlx::{IntoArguments as _, error::BoxDynError, postgres::PgArguments};

use super::Facts;

/// The author of a statement, who can write it once more.
///
/// SeaORM hands what its builders make to the plain methods of its traits, and what its caller
/// wrote to the `_raw` ones.
#[derive(Clone, Copy)]
pub(crate) enum Author<'a> {
    /// A query builder: one statement of a known kind.
    Builder(&'a dyn StatementBuilder),
    /// The caller: whatever it is.
    Caller(&'a Statement),
    /// wharf.
    Wharf(&'a Statement),
    /// wharf, with binds that SeaORM has no form of.
    #[cfg(feature = "copy")]
    Bound { sql: &'a str, binds: &'a dyn Bind },
}

impl Author<'_> {
    pub(crate) fn write(self) -> Statement {
        match self {
            Author::Builder(builder) => builder.build(&DbBackend::Postgres),
            Author::Caller(statement) | Author::Wharf(statement) => statement.clone(),
            #[cfg(feature = "copy")]
            Author::Bound { sql, .. } => Statement::from_string(DbBackend::Postgres, sql),
        }
    }

    pub(crate) fn writer(self) -> Writer {
        match self {
            Author::Builder(_) => Writer::Builder,
            Author::Caller(_) => Writer::Caller,
            Author::Wharf(_) => Writer::Wharf,
            #[cfg(feature = "copy")]
            Author::Bound { .. } => Writer::Wharf,
        }
    }

    /// Returns the statement's binds as the driver takes them; `values` are SeaORM's.
    pub(crate) fn binds(self, values: Option<Values>) -> Result<PgArguments, BoxDynError> {
        match self {
            #[cfg(feature = "copy")]
            Author::Bound { binds, .. } => binds.bind(),
            _ => Ok(SqlxValues(values.unwrap_or_else(|| Values(Vec::new()))).into_arguments()),
        }
    }

    /// Whether the statement may write. Writes it once more and scans the text, so only for rare paths.
    pub(crate) fn may_write(self) -> bool {
        self.writer() == Writer::Caller || !Facts::of(&self.write().sql).only_reads
    }
}

/// Makes a statement's binds, where SeaORM has no form of them; once more where it is prepared anew.
#[cfg(feature = "copy")]
pub(crate) trait Bind: Sync {
    fn bind(&self) -> Result<PgArguments, BoxDynError>;
}

/// Tells who wrote the text of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    /// The user of wharf: it may be any SQL.
    Caller,
    /// A query builder: one statement of a known kind, whose functions are the caller's.
    Builder,
    /// wharf, which leaves nothing behind.
    Wharf,
}
