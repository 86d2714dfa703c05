//! Finds statements that block or break a database in use.

mod allow;
mod citus;
mod read;

use std::{collections::HashSet, fmt};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

pub(super) use self::citus::tells_citus;
use self::{
    allow::Allowed,
    citus::Citus,
    read::{Kind, Read},
};

/// One statement that is unsafe, and why.
///
/// Every table counts as large, because the one in production may be. A comment before the statement, or in it, allows
/// one rule: `-- wharf:allow type-change: the table has 20 rows`. It has to give a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Which rule the statement breaks.
    pub what: Unsafe,
    /// The table, or what the statement names in its place.
    pub table: String,
    /// Its size in bytes, if it exists.
    pub size: Option<i64>,
    /// The statement.
    pub statement: String,
    /// Whether a comment allows it without a reason, so that it does not count.
    pub lacks_reason: bool,
    /// Which key breaks the rule, and why, for rules whose statement does not show it.
    pub detail: Option<String>,
}

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsafe {
    /// `index-blocks-writes`: CREATE INDEX or REINDEX without CONCURRENTLY, or a constraint that builds an index:
    /// nobody can write until it is built.
    IndexBlocksWrites,
    /// `index-drop`: DROP INDEX without CONCURRENTLY blocks reads and writes behind whoever uses the table.
    IndexDrop,
    /// `not-null-without-default`: a NOT NULL column without a default fails if there is a row.
    NotNullWithoutDefault,
    /// `set-not-null`: SET NOT NULL scans the table while reads and writes are blocked.
    SetNotNull,
    /// `type-change`: another type rewrites the table while reads and writes are blocked.
    TypeChange,
    /// `rewrite`: a column with a volatile default, identity or stored expression, CLUSTER, VACUUM FULL, SET UNLOGGED
    /// and the like rewrite the table while reads and writes are blocked.
    Rewrite,
    /// `constraint-scan`: a constraint is checked on every row while writes are blocked.
    ConstraintScan,
    /// `rename`: running code still uses the old name.
    Rename,
    /// `drop`: running code may still use it, and its data is lost. TRUNCATE too.
    Drop,
    /// `citus-unique`: a primary key, or something else that is unique, lacks the distribution column of its table, which
    /// Citus refuses.
    CitusUnique,
    /// `citus-foreign-key`: a foreign key of a distributed table refers neither to a reference table nor to a colocated
    /// one with both distribution columns in the key, or one to it comes from a table that is not distributed, which
    /// Citus refuses.
    CitusForeignKey,
}

impl Unsafe {
    /// Returns the rule's name, as comments have it.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Unsafe::IndexBlocksWrites => "index-blocks-writes",
            Unsafe::IndexDrop => "index-drop",
            Unsafe::NotNullWithoutDefault => "not-null-without-default",
            Unsafe::SetNotNull => "set-not-null",
            Unsafe::TypeChange => "type-change",
            Unsafe::Rewrite => "rewrite",
            Unsafe::ConstraintScan => "constraint-scan",
            Unsafe::Rename => "rename",
            Unsafe::Drop => "drop",
            Unsafe::CitusUnique => "citus-unique",
            Unsafe::CitusForeignKey => "citus-foreign-key",
        }
    }

    /// Returns whether it hurts only if the table is large.
    #[must_use]
    pub fn depends_on_size(self) -> bool {
        !matches!(
            self,
            Unsafe::Rename
                | Unsafe::Drop
                | Unsafe::NotNullWithoutDefault
                | Unsafe::IndexDrop
                | Unsafe::CitusUnique
                | Unsafe::CitusForeignKey
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { table, .. } = self;
        let detail = self.detail.as_deref().unwrap_or("a key");
        match self.what {
            Unsafe::IndexBlocksWrites => write!(
                f,
                "this blocks writes to {table} while the index is built; use CREATE INDEX CONCURRENTLY in a \
                 migration whose use_transaction() is Some(false), then add a constraint USING INDEX"
            )?,
            Unsafe::IndexDrop => write!(
                f,
                "dropping {table} blocks reads and writes of its table behind whoever uses it; use DROP INDEX \
                 CONCURRENTLY in a migration whose use_transaction() is Some(false)"
            )?,
            Unsafe::NotNullWithoutDefault => write!(
                f,
                "{table} gets a column that is NOT NULL and has no default, which fails if the table has \
                 rows; give it a default, or add it nullable, fill it, and then SET NOT NULL"
            )?,
            Unsafe::SetNotNull => write!(
                f,
                "this scans all of {table} while reads and writes are blocked; add CHECK (… IS NOT NULL) NOT \
                 VALID, VALIDATE it in a migration of its own, and then SET NOT NULL, which trusts it"
            )?,
            Unsafe::TypeChange => write!(
                f,
                "this may rewrite all of {table} while reads and writes are blocked; add a column of the new \
                 type, copy the values in batches, and switch to it"
            )?,
            Unsafe::Rewrite => write!(
                f,
                "this rewrites all of {table} while reads and writes are blocked; add the column without its \
                 default, fill it in batches, and then set the default"
            )?,
            Unsafe::ConstraintScan => write!(
                f,
                "this checks every row of {table} while writes are blocked; add it NOT VALID and VALIDATE it \
                 in a migration of its own"
            )?,
            Unsafe::Rename => write!(
                f,
                "running code still uses the old name in {table}; add the new one beside it, and drop the \
                 old one when no code uses it"
            )?,
            Unsafe::Drop => write!(
                f,
                "running code may still use it ({table}), and its data is lost; drop it when no code uses it"
            )?,
            Unsafe::CitusUnique => write!(
                f,
                "Citus refuses {table}: {detail}; add that column to the key, as in PRIMARY KEY (tenant_id, id)"
            )?,
            Unsafe::CitusForeignKey => write!(
                f,
                "Citus refuses {table}: {detail}; add the distribution column to both sides of the key and \
                 colocate the tables, or make the other one a reference table"
            )?,
        }
        match self.size {
            Some(size) if size >= 1_000_000 => write!(f, " ({} MB)", size / 1_000_000)?,
            Some(size) => write!(f, " ({} kB)", size / 1000)?,
            None => {}
        }
        let rule = self.what.rule();
        write!(f, " [{rule}]")?;
        match self.lacks_reason {
            true => write!(f, "; to allow it, give a reason: -- wharf:allow {rule}: REASON"),
            false => Ok(()),
        }
    }
}

/// Judges one migration after the other.
#[derive(Default)]
pub(super) struct Linter {
    /// Tables that these migrations have created, which nobody uses yet.
    created: HashSet<String>,
    citus: Citus,
}

impl Linter {
    /// Returns what is unsafe in a migration's statements, without sizes. `db` is where they have been run, and knows the
    /// functions that they call.
    pub(super) async fn findings(
        &mut self,
        db: &impl ConnectionTrait,
        statements: &[String],
    ) -> Result<Vec<Finding>, DbErr> {
        let mut findings: Vec<Finding> = Vec::new();
        for Read { kind, table, statement } in statements.iter().flat_map(|text| Read::all(text)) {
            let what = match kind {
                Kind::Makes => {
                    self.created.insert(table.folded);
                    continue;
                }
                _ if self.created.contains(&table.folded) => continue,
                Kind::Unsafe(what) => what,
                Kind::Calls(called) if is_volatile(db, &called).await? => Unsafe::Rewrite,
                Kind::Calls(_) => continue,
            };
            let lacks_reason = match allow::allowed(&statement, what.rule()) {
                Allowed::Yes => continue,
                allowed => allowed == Allowed::WithoutReason,
            };
            let table = table.written;
            let (size, detail) = (None, None);
            findings.push(Finding { what, table, size, statement, lacks_reason, detail });
        }
        findings.extend(self.citus.findings(db, statements).await?);
        Ok(findings)
    }

    /// Takes note of which tables a migration that is applied has distributed.
    pub(super) async fn learn(
        &mut self,
        db: &impl ConnectionTrait,
        statements: &[String],
    ) -> Result<(), DbErr> {
        self.citus.findings(db, statements).await.map(drop)
    }

    /// Takes note of which tables are distributed in `target`, however that was done.
    pub(super) async fn learn_from(
        &mut self,
        target: &impl ConnectionTrait,
        db: &impl ConnectionTrait,
    ) -> Result<(), DbErr> {
        self.citus.learn_from(target, db).await
    }
}

/// Adds the sizes of tables in `db`.
pub(super) async fn measure(
    db: &impl ConnectionTrait,
    findings: &mut [Finding],
) -> Result<(), DbErr> {
    for finding in findings {
        let sql = "SELECT pg_table_size(to_regclass($1))";
        let values = [finding.table.as_str().into()];
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        let row = db.query_one_raw(statement).await?;
        finding.size = row.map(|row| row.try_get_by_index(0)).transpose()?.flatten();
    }
    Ok(())
}

/// Whether one of these functions is volatile, so that a default that calls it is computed for each row.
async fn is_volatile(db: &impl ConnectionTrait, called: &[String]) -> Result<bool, DbErr> {
    if called.is_empty() {
        return Ok(false);
    }
    let sql = "SELECT EXISTS (SELECT FROM pg_proc WHERE proname = ANY ($1) AND provolatile = 'v')";
    let statement =
        Statement::from_sql_and_values(DbBackend::Postgres, sql, [called.to_vec().into()]);
    let row = db.query_one_raw(statement).await?;
    Ok(row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or(false))
}
