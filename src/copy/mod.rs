//! Rows by the million: COPY, and inserts without a limit of binds.
//!
//! | what | how | rows per second, against `insert_many` |
//! |---|---|---|
//! | [`copy_in`](crate::Pg::copy_in) | COPY in binary | BENCH |
//!
//! ```no_run
//! # use sea_orm::entity::prelude::*;
//! # mod reading {
//! #     use sea_orm::entity::prelude::*;
//! #     #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
//! #     #[sea_orm(table_name = "reading")]
//! #     pub struct Model { #[sea_orm(primary_key)] pub id: i32, pub sensor: String, pub value: f64 }
//! #     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
//! #     pub enum Relation {}
//! #     impl ActiveModelBehavior for ActiveModel {}
//! # }
//! # async fn doc(pg: wharf::Pg) -> Result<(), wharf::Error> {
//! let models = (1..=1_000_000).map(|id| reading::Model { id, sensor: "roof".to_owned(), value: 0.5 });
//! let rows = pg.copy_in::<reading::Entity>().rows(models).await?;
//!
//! let tuples = (0..1_000).map(|n| ("cellar", f64::from(n)));
//! pg.copy_in_named("reading", ["sensor", "value"]).rows(tuples).await?;
//! # Ok(()) }
//! ```

mod binary;
mod column;
mod copy_in;
mod error;
mod file;
mod rows;
mod shape;
mod text;

use sea_orm::{
    ConnectionTrait as _, DbBackend, EntityTrait, Statement, TransactionTrait, sea_query::TableName,
};

pub use self::{
    copy_in::{CopyIn, Named},
    error::{CopyError, CopyFault},
    file::Format,
};
use crate::{error::Error, pg::Pg, session::Session};

/// How far a copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Rows that have been sent; 0 for a file, whose rows are not looked at.
    pub rows: u64,
    /// Bytes that have been sent.
    pub bytes: u64,
}

/// Where it happens.
#[derive(Clone, Copy)]
enum On<'a> {
    Pg(&'a Pg),
    Session(&'a Session),
}

macro_rules! implement_copy {
    ($type:ident) => {
        impl $type {
            /// A copy into the table of an entity, from [rows](CopyIn::rows), a [stream](CopyIn::stream) or
            /// a [file](CopyIn::from_file): all of it or, if one row is wrong, nothing. It is a session of its
            /// own or, in a session, one that is nested in that.
            ///
            /// Costs six round trips and, whatever the number of rows, some 200 KiB of memory; it waits for
            /// the server where that is slower. Values go in PostgreSQL's binary format, or in its text format
            /// where a column's have no other in SeaORM (an interval, a range, …). An
            /// integer goes into a column of any width that it fits, a vector into `halfvec` too. Columns that
            /// the server generates are left out. Dropping the future closes the connection: nothing is
            /// copied, and a session around it has come to its end.
            pub fn copy_in<E>(&self) -> CopyIn<'_, E>
            where
                E: EntityTrait,
                E::ActiveModel: Send,
            {
                CopyIn::entity(On::$type(self))
            }

            /// The same into a table without an entity: tuples, with a value for each of `columns`. The table
            /// is a name, or a tuple of its schema's and its own.
            pub fn copy_in_named(
                &self,
                table: impl Into<TableName>,
                columns: impl IntoIterator<Item = impl Into<String>>,
            ) -> CopyIn<'_, Named> {
                CopyIn::named(On::$type(self), table.into(), columns)
            }
        }
    };
}
implement_copy!(Pg);
implement_copy!(Session);

impl On<'_> {
    fn database(&self) -> &str {
        match self {
            On::Pg(pg) => pg.name(),
            On::Session(session) => session.database(),
        }
    }

    async fn begin(&self) -> Result<(Session, Quiet), Error> {
        match self {
            On::Pg(pg) => Ok((pg.session().set_local(MESSAGES, "error").await?, Quiet(None))),
            On::Session(session) => {
                let nested = TransactionTrait::begin(*session).await?;
                let sql = "SELECT current_setting($1), set_config($1, 'error', true)";
                let statement =
                    Statement::from_sql_and_values(DbBackend::Postgres, sql, [MESSAGES.into()]);
                let row = nested.query_one_raw(statement).await?;
                let before = row.map(|row| row.try_get_by_index(0)).transpose()?;
                Ok((nested, Quiet(before)))
            }
        }
    }
}

const MESSAGES: &str = "client_min_messages";

/// While a COPY is fed, the driver reads nothing: a trigger that has something to say to each row would
/// fill the way back, and both sides would wait for ever. So the server is to say nothing.
struct Quiet(Option<String>);

impl Quiet {
    /// The session around it hears again what it heard before.
    async fn end(self, session: &Session) -> Result<(), Error> {
        if let Quiet(Some(before)) = self {
            let sql = "SELECT set_config($1, $2, true)";
            let values = [MESSAGES.into(), before.into()];
            let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
            session.query_one_raw(statement).await?;
        }
        Ok(())
    }
}
