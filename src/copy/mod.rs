//! Rows by the million: COPY, and inserts without a limit of binds.
//!
//! | what | how | what it took, of SeaORM's `insert_many` |
//! |---|---|---|
//! | [`copy_in`](crate::Pg::copy_in) | COPY in binary, in constant memory | a quarter of its time; two fifths for vectors |
//! | [`insert_many`](crate::Pg::insert_many) | one INSERT, an array a column; rows can come back | a half; four fifths |
//! | [`copy_in().on_conflict(…)`](CopyIn::on_conflict) | COPY into a temporary table, then INSERT … ON CONFLICT | |
//! | [`copy_out`](crate::Pg::copy_out) | COPY of a query into a file, a writer, a body | |
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
mod copy_out;
mod csv;
mod destination;
mod file;
mod insert;
mod literal;
mod rows;
mod shape;
mod text;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use sea_orm::{
    ConnectionTrait as _, DbBackend, DbErr, EntityTrait, IntoActiveModel, QueryTrait, Statement,
    TransactionTrait,
    sea_query::{SelectStatement, TableName},
};

pub use self::{
    copy_in::{CopyIn, Named},
    copy_out::CopyOut,
    file::Format,
    insert::InsertMany,
};
pub use crate::error::{CopyError, CopyFault};
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
enum On<'a> {
    Pg(Pg),
    Session(&'a Session),
}

impl<'a> From<&'a Session> for On<'a> {
    fn from(session: &'a Session) -> On<'a> {
        On::Session(session)
    }
}

impl From<&Pg> for On<'static> {
    fn from(pg: &Pg) -> On<'static> {
        On::Pg(pg.clone())
    }
}

macro_rules! implement_copy {
    ($type:ty, $lifetime:lifetime) => {
        impl $type {
            /// A copy into the table of an entity, from [rows](CopyIn::rows), a [stream](CopyIn::stream) or
            /// a [file](CopyIn::from_file): all of it or, if one row is wrong, nothing. It is a session of
            /// its own or, in a session, one that is nested in that.
            ///
            /// Costs five round trips and, whatever the number of rows, some 200 KiB of memory; it waits for
            /// the server where that is slower. Values go in PostgreSQL's binary format, or in its text
            /// format where a column's have no other in SeaORM (an interval, a range, …). An integer goes
            /// into a column of any width that it fits, a vector into `halfvec` too. Columns that the server
            /// generates are left out. The values of an identity column are kept, also where it is GENERATED ALWAYS,
            /// and its sequence does not advance for them: set it past them by `setval`, or the next row without a
            /// value may get one that is there.
            ///
            /// It is one COPY for each 16 MiB of rows, and triggers FOR EACH STATEMENT fire once for each; with
            /// [`on_conflict`](CopyIn::on_conflict) once, because the rows come by one INSERT.
            ///
            /// PostgreSQL has no COPY into a view without an INSTEAD OF trigger, nor where row-level security applies:
            /// [`insert_many`](Self::insert_many) and [`on_conflict`](CopyIn::on_conflict) write there. Dropping the
            /// future closes the connection: nothing is copied, and a session around it has come to its end.
            pub fn copy_in<E>(&self) -> CopyIn<$lifetime, E>
            where
                E: EntityTrait,
                E::ActiveModel: Send,
            {
                CopyIn::entity(self.into())
            }

            /// The same into a table without an entity: tuples, with a value for each of `columns`. The table
            /// is a name, or a tuple of its schema's and its own.
            pub fn copy_in_named(
                &self,
                table: impl Into<TableName>,
                columns: impl IntoIterator<Item = impl Into<String>>,
            ) -> CopyIn<$lifetime, Named> {
                CopyIn::named(self.into(), table.into(), columns)
            }

            /// One INSERT of however many rows: a bind a column, where SeaORM's has one a value and ends at
            /// 65 535 of them. Rows are models, or active models of which all set the same columns. Values that
            /// they have for an identity column are kept, as [`copy_in`](Self::copy_in) keeps them, and its sequence
            /// does not advance for them.
            ///
            /// A row that the server refuses is named, too: it is found by trying ever fewer of the rows, in a
            /// transaction that is rolled back (17 statements for 100,000 rows). In a session, which has failed, another
            /// connection is asked, if one is free within a second; and only for a value, NOT NULL or a check. Of a key
            /// it is not known there, because the other connection does not see what the session has written.
            ///
            /// Two round trips, one of them for the types of the columns; the first time of a kind, another for
            /// each, which prepares it. All rows are in memory, and in one message of at most 1 GiB a column; [`copy_in`](Self::copy_in) has neither limit, and is quicker.
            ///
            /// ```no_run
            /// # async fn doc<E>(pg: wharf::Pg, rows: Vec<E::Model>) -> Result<(), wharf::Error>
            /// # where E: sea_orm::EntityTrait, E::Model: sea_orm::IntoActiveModel<E::ActiveModel>,
            /// #       E::ActiveModel: Send {
            /// let with_their_keys = pg.insert_many::<E>(rows).exec_with_returning().await?;
            /// # Ok(()) }
            /// ```
            pub fn insert_many<E>(
                &self,
                rows: impl IntoIterator<Item: IntoActiveModel<E::ActiveModel>>,
            ) -> InsertMany<$lifetime, E>
            where
                E: EntityTrait,
                E::ActiveModel: Send,
            {
                InsertMany::new(self.into(), rows)
            }

            /// What a query gives, as CSV or in PostgreSQL's binary format, into a
            /// [file](CopyOut::to_file), a [writer](CopyOut::to_writer) or as [bytes](CopyOut::bytes).
            ///
            /// One round trip and, whatever the number of rows, some 64 KiB of memory; the server waits
            /// where the reader is slower. The query's values are constants in the statement's text, with the types
            /// that the ORM binds.
            ///
            /// ```no_run
            /// # async fn doc<E: sea_orm::EntityTrait>(pg: wharf::Pg) -> Result<(), wharf::Error> {
            /// use wharf::copy::Format;
            /// let rows = pg.copy_out(E::find()).to_file("readings.csv", Format::Csv).await?;
            /// # Ok(()) }
            /// ```
            pub fn copy_out(
                &self,
                query: impl QueryTrait<QueryStatement = SelectStatement>,
            ) -> CopyOut<$lifetime> {
                CopyOut::new(self.into(), &query)
            }
        }
    };
}
implement_copy!(Pg, 'static);
implement_copy!(Session, '_);

impl<'a> On<'a> {
    fn database(&self) -> &str {
        match self {
            On::Pg(pg) => pg.name(),
            On::Session(session) => session.database(),
        }
    }

    /// The bytes of a COPY … TO STDOUT of a query that only reads.
    async fn copied(self, sql: String) -> Result<BoxStream<'a, Result<Bytes, DbErr>>, Error> {
        match self {
            On::Pg(pg) => pg.copied(sql).await,
            On::Session(session) => session.copied(sql).await,
        }
    }

    async fn begin(&self) -> Result<(Session, Quiet), Error> {
        match self {
            On::Pg(pg) => {
                let session = pg.session_for("a copy").set_local(MESSAGES, "error");
                Ok((session.await?, Quiet(None)))
            }
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
