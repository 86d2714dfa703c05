//! A tenant's schema, on one node.

use sea_orm::{ConnectionTrait, DbErr};

use super::{
    CitusError,
    statement::{Subject, look},
};

const FEATURE: &str = "schema-based sharding";
const NEEDS: &str = "Citus 12";

/// A schema whose tables Citus keeps together on one node, and can move to another: schema-based sharding, for tenants
/// with [`Pg::scoped`](crate::Pg::scoped). Its tables need no distribution column, and any key and foreign key among them
/// is allowed. Tables that are created in it later belong to it, too.
///
/// ```no_run
/// use wharf::ext::citus::DistributedSchema;
/// # async fn up(m: &sea_orm_migration::SchemaManager<'_>) -> Result<(), sea_orm::DbErr> {
/// // the first step of a tenant's migrations, which pg.scoped("tenant_a")?.migrate() runs in its schema
/// DistributedSchema::current().create(m.get_connection()).await?;
/// # Ok(()) }
/// ```
///
/// Needs Citus 12. See the [module](super) for what it costs, and for databases without Citus.
#[derive(Clone, Debug)]
#[must_use = "nothing is distributed before `create` is awaited"]
pub struct DistributedSchema {
    /// None is the current one.
    name: Option<String>,
    is_required: bool,
}

impl DistributedSchema {
    /// A schema by its name. Asks the server nothing.
    pub fn named(name: impl Into<String>) -> DistributedSchema {
        DistributedSchema { name: Some(name.into()), is_required: false }
    }

    /// The first schema of the search path that exists: in a [scoped](crate::Pg::scoped) view and its migrations, the
    /// tenant's.
    pub fn current() -> DistributedSchema {
        DistributedSchema { name: None, is_required: false }
    }

    /// Makes a database without Citus an error.
    pub fn required(mut self) -> DistributedSchema {
        self.is_required = true;
        self
    }

    /// Distributes the schema. Tables that it has are moved, while they can be neither read nor written. Citus refuses the
    /// schema `public`.
    ///
    /// # Errors
    /// [`CitusError::Missing`] without Citus, if it is [`required`](Self::required); [`CitusError::TooOld`] before Citus
    /// 12; [`CitusError::NoSchema`] if the search path of [`current`](Self::current) has no schema that exists;
    /// [`CitusError::Refused`], with the server's hint, for what else Citus refuses.
    pub async fn create(&self, db: &impl ConnectionTrait) -> Result<(), DbErr> {
        self.call(db, "citus_schema_distribute", "distributed").await
    }

    /// Makes it a schema of the coordinator again, for `down`. Copies every row. Not needed before the schema is dropped.
    ///
    /// # Errors
    /// As [`create`](DistributedSchema::create).
    pub async fn undistribute(&self, db: &impl ConnectionTrait) -> Result<(), DbErr> {
        self.call(db, "citus_schema_undistribute", "undistributed").await
    }

    async fn call(
        &self,
        db: &impl ConnectionTrait,
        function: &str,
        done: &str,
    ) -> Result<(), DbErr> {
        let found = look(db).await?;
        // The functions are STRICT: given NULL, they would do nothing in silence.
        let name = self.name.as_ref().or(found.schema.as_ref()).ok_or(CitusError::NoSchema)?;
        let mut subject = Subject::schema(name);
        if self.is_required {
            subject = subject.required();
        }
        let sql = format!("SELECT {function}({})", subject.literal());
        subject.tell_found(db, &found, &sql, done, FEATURE, NEEDS).await
    }
}
