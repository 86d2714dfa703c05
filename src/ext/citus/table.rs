//! Tables that are in shards, or on every node.

use std::fmt::Write as _;

use sea_orm::{
    ConnectionTrait, DbErr, EntityTrait, IdenStatic as _,
    sea_query::{IntoIden, IntoTableRef},
};

use super::statement::Subject;
use crate::sql::quote_literal;

const NEEDS: &str = "Citus 10.1";

/// A table that Citus keeps in shards on several nodes: a row's shard follows from the value of one column. All queries
/// that name a value of that column are served by one node.
///
/// ```no_run
/// use wharf::ext::citus::DistributedTable;
/// # async fn up(m: &sea_orm_migration::SchemaManager<'_>) -> Result<(), sea_orm::DbErr> {
/// // in `up`, after create_table
/// DistributedTable::named("invoice", "tenant_id").create(m.get_connection()).await?;
/// # Ok(()) }
/// # async fn down(m: &sea_orm_migration::SchemaManager<'_>) -> Result<(), sea_orm::DbErr> {
/// // in `down`, if the table is not dropped there
/// DistributedTable::named("invoice", "tenant_id").undistribute(m.get_connection()).await?;
/// # Ok(()) }
/// ```
///
/// See the [module](super) for what it costs, and for databases without Citus.
#[derive(Clone, Debug)]
#[must_use = "nothing is distributed before `create` is awaited"]
pub struct DistributedTable {
    subject: Subject,
    column: String,
    colocation: Option<String>,
    shard_count: Option<u16>,
    has_cascade: bool,
}

impl DistributedTable {
    /// An entity's table, by one of its columns. Asks the server nothing. Without a schema of its own, the table is looked
    /// up in the search path, which in a [scoped](crate::Pg::scoped) view is the tenant's schema.
    pub fn new<E: EntityTrait>(entity: E, column: E::Column) -> DistributedTable {
        DistributedTable::named(entity.table_ref(), column.as_str())
    }

    /// A table and its column by their names, for a migration that has no entity: `"invoice"`, `("shop", "invoice")`,
    /// `Invoice::Table`.
    pub fn named(table: impl IntoTableRef, column: impl IntoIden) -> DistributedTable {
        DistributedTable {
            subject: Subject::table(&table.into_table_ref()),
            column: column.into_iden().to_string(),
            colocation: None,
            shard_count: None,
            has_cascade: false,
        }
    }

    /// Puts rows with the same value of the distribution column on the same node as those of `entity`, so that they can be
    /// joined there and have foreign keys. That one has to be distributed by a column of the same type. By default Citus
    /// colocates tables whose columns have the same type.
    pub fn colocate_with<E: EntityTrait>(self, entity: E) -> DistributedTable {
        self.colocate_with_named(entity.table_ref())
    }

    /// The same for a table by its name.
    pub fn colocate_with_named(mut self, table: impl IntoTableRef) -> DistributedTable {
        self.colocation = Some(Subject::table(&table.into_table_ref()).literal());
        self
    }

    /// Colocates it with no other table.
    pub fn without_colocation(mut self) -> DistributedTable {
        self.colocation = Some(quote_literal("none"));
        self
    }

    /// Into how many shards; `citus.shard_count`, which is 32, unless it is said. Citus refuses it beside
    /// [`colocate_with`](DistributedTable::colocate_with), because that table has its number already.
    pub fn shard_count(mut self, shards: u16) -> DistributedTable {
        self.shard_count = Some(shards);
        self
    }

    /// [`undistribute`](DistributedTable::undistribute) does the same to all tables that foreign keys connect with it.
    /// Without this, Citus refuses a table that has foreign keys to or from distributed tables.
    pub fn cascade_via_foreign_keys(mut self) -> DistributedTable {
        self.has_cascade = true;
        self
    }

    /// Makes a database without Citus an error.
    pub fn required(mut self) -> DistributedTable {
        self.subject = self.subject.required();
        self
    }

    /// Distributes the table. Rows that it has are moved into the shards while writes to it are blocked.
    ///
    /// # Errors
    /// [`CitusError::Missing`](super::CitusError::Missing) without Citus, if it is [`required`](Self::required);
    /// [`CitusError::Refused`](super::CitusError::Refused), with the server's hint, for a key without the column and
    /// whatever else Citus refuses.
    pub async fn create(&self, db: &impl ConnectionTrait) -> Result<(), DbErr> {
        self.subject.tell(db, &self.to_sql(), "distributed", "this", NEEDS).await
    }

    /// Returns what [`create`](DistributedTable::create) sends where there is Citus.
    #[must_use]
    pub fn to_sql(&self) -> String {
        let (table, column) = (self.subject.literal(), quote_literal(&self.column));
        let mut sql = format!("SELECT create_distributed_table({table}, {column}");
        // Writing to a String cannot fail.
        if let Some(colocation) = &self.colocation {
            let _ = write!(sql, ", colocate_with => {colocation}");
        }
        if let Some(shards) = self.shard_count {
            let _ = write!(sql, ", shard_count => {shards}");
        }
        sql.push(')');
        sql
    }

    /// Makes it a table of the coordinator again, with all of its rows, for `down`. Not needed before the table is
    /// dropped, which drops its shards. Copies every row, while the table can be neither read nor written.
    ///
    /// # Errors
    /// As [`create`](DistributedTable::create).
    pub async fn undistribute(&self, db: &impl ConnectionTrait) -> Result<(), DbErr> {
        undistribute(&self.subject, self.has_cascade, db).await
    }
}

/// A table of which every node has a copy, such as currencies or countries: distributed tables can be joined with it and
/// have foreign keys to it. Each write goes to all nodes, in one transaction.
///
/// ```no_run
/// use wharf::ext::citus::ReferenceTable;
/// # async fn up(m: &sea_orm_migration::SchemaManager<'_>) -> Result<(), sea_orm::DbErr> {
/// ReferenceTable::named("currency").create(m.get_connection()).await?;
/// # Ok(()) }
/// ```
///
/// See the [module](super) for what it costs, and for databases without Citus.
#[derive(Clone, Debug)]
#[must_use = "nothing is copied before `create` is awaited"]
pub struct ReferenceTable {
    subject: Subject,
    has_cascade: bool,
}

impl ReferenceTable {
    /// An entity's table. Asks the server nothing.
    pub fn new<E: EntityTrait>(entity: E) -> ReferenceTable {
        ReferenceTable::named(entity.table_ref())
    }

    /// A table by its name.
    pub fn named(table: impl IntoTableRef) -> ReferenceTable {
        ReferenceTable { subject: Subject::table(&table.into_table_ref()), has_cascade: false }
    }

    /// [`undistribute`](ReferenceTable::undistribute) does the same to all tables that foreign keys connect with it.
    pub fn cascade_via_foreign_keys(mut self) -> ReferenceTable {
        self.has_cascade = true;
        self
    }

    /// Makes a database without Citus an error.
    pub fn required(mut self) -> ReferenceTable {
        self.subject = self.subject.required();
        self
    }

    /// Copies the table to every node. Rows that it has are copied, too, while writes to it are blocked.
    ///
    /// # Errors
    /// As [`DistributedTable::create`].
    pub async fn create(&self, db: &impl ConnectionTrait) -> Result<(), DbErr> {
        self.subject.tell(db, &self.to_sql(), "a reference table", "this", NEEDS).await
    }

    /// Returns what [`create`](ReferenceTable::create) sends where there is Citus.
    #[must_use]
    pub fn to_sql(&self) -> String {
        format!("SELECT create_reference_table({})", self.subject.literal())
    }

    /// Makes it a table of the coordinator alone again, for `down`. Not needed before the table is dropped.
    ///
    /// # Errors
    /// As [`DistributedTable::create`].
    pub async fn undistribute(&self, db: &impl ConnectionTrait) -> Result<(), DbErr> {
        undistribute(&self.subject, self.has_cascade, db).await
    }
}

async fn undistribute(
    subject: &Subject,
    has_cascade: bool,
    db: &impl ConnectionTrait,
) -> Result<(), DbErr> {
    let cascade = if has_cascade { ", cascade_via_foreign_keys => true" } else { "" };
    let sql = format!("SELECT undistribute_table({}{cascade})", subject.literal());
    subject.tell(db, &sql, "undistributed", "this", NEEDS).await
}

#[cfg(test)]
mod tests {
    use super::{DistributedTable, ReferenceTable};

    #[test]
    fn whatever_a_table_is_called_stays_a_name() {
        let odd = DistributedTable::named(("Plant \"1\"", "it's"), "Tenant's \\ id");
        assert_eq!(
            odd.colocate_with_named("default").shard_count(64).to_sql(),
            "SELECT create_distributed_table('\"Plant \"\"1\"\"\".\"it''s\"', E'Tenant''s \\\\ id', \
             colocate_with => '\"default\"', shard_count => 64)"
        );
        assert_eq!(
            DistributedTable::named("t", "id").without_colocation().to_sql(),
            "SELECT create_distributed_table('\"t\"', 'id', colocate_with => 'none')"
        );
        assert_eq!(
            ReferenceTable::named("Currency").to_sql(),
            "SELECT create_reference_table('\"Currency\"')"
        );
    }
}
