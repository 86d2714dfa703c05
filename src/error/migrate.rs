//! Why migrations came to nothing.

use std::time::Duration;

use super::Error;

/// Why migrations came to nothing.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// Another process migrates, and did not come to an end.
    #[error(
        "database `{database}`: another process was still migrating it after {waited:.0?}{}; see what it \
         waits for with `wharf top`, or wait longer",
        .holder.as_ref().map(|holder| format!(": {holder}")).unwrap_or_default()
    )]
    Locked {
        /// Key of the database in the file.
        database: String,
        /// How long it was waited for.
        waited: Duration,
        /// Who it is, as far as the server tells.
        holder: Option<String>,
    },
    /// A migration failed. Those before it are applied.
    #[error(
        "database `{database}`: migration {migration} failed after {after:.1?}{}: {source}; {}",
        if *.attempts > 1 { format!(" in {attempts} attempts") } else { String::new() },
        left(*.in_transaction)
    )]
    Failed {
        /// Key of the database in the file.
        database: String,
        /// Its name.
        migration: String,
        /// How long it was tried.
        after: Duration,
        /// How often.
        attempts: u32,
        /// Whether all of it ran in one transaction, so that nothing of it stays.
        in_transaction: bool,
        /// What the server said.
        source: Box<Error>,
    },
    /// Migrations are applied that are not known here.
    #[error(
        "database `{database}`: applied migrations are missing from this build: {}; deploy the build that \
         applied them, or restore their files", .missing.join(", ")
    )]
    Missing {
        /// Key of the database in the file.
        database: String,
        /// Their names.
        missing: Vec<String>,
    },
    /// Two migrations have one name, so the record of one would count for both.
    #[error("database `{database}`: two migrations are named {name}; rename one of them")]
    Duplicate {
        /// Key of the database in the file.
        database: String,
        /// Their name.
        name: String,
    },
}

crate::debug::debug_is_message!(MigrateError);

fn left(in_transaction: bool) -> &'static str {
    match in_transaction {
        true => "it was rolled back; those before it are applied",
        false => {
            "not all of it ran in one transaction, so a part of it may stay: check what is there before you run it \
             again (its status is incomplete)"
        }
    }
}
