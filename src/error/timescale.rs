//! What TimescaleDB refuses, and what to do about it.

use sea_orm::DbErr;

/// Why something of TimescaleDB's was not done.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TimescaleError {
    /// The server's build of TimescaleDB is the Apache one, which lacks what was asked for.
    #[error(
        "{subject}: {feature} needs TimescaleDB under its community license, but this server runs the Apache \
         build or setting (timescaledb.license); run the image timescale/timescaledb without `-oss`, or \
         install the community packages and set timescaledb.license = 'timescale' in postgresql.conf"
    )]
    Licence {
        /// The hypertable or aggregate.
        subject: String,
        /// What was asked for.
        feature: &'static str,
        /// The server's words.
        source: DbErr,
    },
    /// The database has no TimescaleDB, or one before 2.13.
    #[error(
        "{subject}: this database has no TimescaleDB 2.13 or later; add `extensions: [timescaledb]` to its \
         entry and migrate, or run CREATE EXTENSION timescaledb, on a server that has it (image \
         timescale/timescaledb, or shared_preload_libraries = 'timescaledb')"
    )]
    Missing {
        /// The hypertable or aggregate.
        subject: String,
        /// The server's words.
        source: DbErr,
    },
    /// A unique index, as a primary key is, lacks the column by which the table is partitioned.
    #[error(
        "{subject}: the primary key and every unique index must contain the partitioning columns \
         ({columns}), as in PRIMARY KEY (id, {columns})"
    )]
    NotInKey {
        /// The hypertable.
        subject: String,
        /// Those of the hypertable's time and hash dimensions.
        columns: String,
        /// The server's words.
        source: DbErr,
    },
    /// A span of time or a number that PostgreSQL or TimescaleDB does not take; nothing was sent.
    #[error("{subject}: {reason}")]
    OutOfRange {
        /// The hypertable or aggregate.
        subject: String,
        /// What it is, and what it may be.
        reason: String,
    },
    /// The server refused it for another reason.
    #[error("{subject}: {reason}")]
    Refused {
        /// The hypertable or aggregate.
        subject: String,
        /// The server's words, with its hint.
        reason: String,
        /// The same as it came.
        source: DbErr,
    },
}

impl TimescaleError {
    /// What the server said, if it was asked.
    pub(crate) fn said(&self) -> Option<&DbErr> {
        match self {
            TimescaleError::OutOfRange { .. } => None,
            TimescaleError::Licence { source, .. }
            | TimescaleError::Missing { source, .. }
            | TimescaleError::NotInKey { source, .. }
            | TimescaleError::Refused { source, .. } => Some(source),
        }
    }
}
