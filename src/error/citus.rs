//! What Citus refuses, and what to do about it.

use sea_orm::DbErr;

/// Why something of Citus' was not done.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CitusError {
    /// The database has no Citus, and the step was told that it has to have it.
    #[error(
        "{subject}: this database has no Citus; add `extensions: [citus]` to its entry and migrate, or run CREATE \
         EXTENSION citus, on a server that has it (image citusdata/citus, or shared_preload_libraries = 'citus')"
    )]
    Missing {
        /// The table or schema.
        subject: String,
    },
    /// The database's Citus is too old for it.
    #[error("{subject}: {feature} needs {needs} or later; upgrade Citus")]
    TooOld {
        /// The table or schema.
        subject: String,
        /// The feature that this Citus lacks.
        feature: &'static str,
        /// The first version that has it.
        needs: &'static str,
        /// The server's words.
        source: DbErr,
    },
    /// No schema was named, and none of the search path exists.
    #[error("the current schema: no schema of the search path exists; create it first, or name it")]
    NoSchema,
    /// The server refused it for another reason.
    #[error("{subject}: {reason}")]
    Refused {
        /// The table or schema.
        subject: String,
        /// The server's words, with its hint.
        reason: String,
        /// The same as it came.
        source: DbErr,
    },
}

impl CitusError {
    /// Returns the server's error, if there is one.
    pub(crate) fn said(&self) -> Option<&DbErr> {
        match self {
            CitusError::Missing { .. } | CitusError::NoSchema => None,
            CitusError::TooOld { source, .. } | CitusError::Refused { source, .. } => Some(source),
        }
    }
}
