//! Rows in batches, from a cursor that the server keeps.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use async_stream::try_stream;
use futures_util::{StreamExt as _, stream::BoxStream};
use sea_orm::{
    DbBackend, DbErr, FromQueryResult, QueryResult, QueryTrait, Statement,
    sea_query::SelectStatement,
};

use super::Session;
use crate::pool::{AllRows, Effect};
use crate::statement::{Author, Request, Text, Writer};

/// Rows of a batch where nobody says otherwise: with so many a batch's round trip is a small part of what its
/// rows cost, and rows of 1 kB are 1 MB.
const FETCH_SIZE: u32 = 1_000;

/// The most rows that FETCH takes.
const MOST_ROWS: u32 = i32::MAX as u32;

impl Session {
    /// The rows of a query in batches: the session is free between them, for what is to be done with each
    /// row; a [stream](sea_orm::StreamTrait) would keep it to itself.
    ///
    /// ```no_run
    /// # use entity::shop::customer;
    /// # async fn doc(pg: wharf::Pg) -> Result<(), wharf::Error> {
    /// use futures_util::TryStreamExt;
    /// use sea_orm::{ActiveModelTrait, EntityTrait, IntoActiveModel, Set};
    ///
    /// let s = pg.session().await?;
    /// let mut customers = s.cursor(&customer::Entity::find()).models::<customer::Model>().await?;
    /// while let Some(one) = customers.try_next().await? {
    ///     let email = one.email.to_lowercase();
    ///     let mut one = one.into_active_model();
    ///     one.email = Set(email);
    ///     one.update(&s).await?;
    /// }
    /// drop(customers);
    /// s.commit().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// The rows are those that were there when it was opened: what the session changes meanwhile is not
    /// among them. A statement for each row still is what the [monitor](crate::monitor) warns of as N+1,
    /// where one for a batch would do.
    pub fn cursor<Q>(&self, select: &Q) -> Cursor<'_>
    where
        Q: QueryTrait<QueryStatement = SelectStatement>,
    {
        Cursor::new(self, select.build(DbBackend::Postgres), Writer::Builder)
    }

    /// The same with SQL of your own: a SELECT or VALUES, whose values are binds.
    pub fn cursor_raw(&self, select: Statement) -> Cursor<'_> {
        Cursor::new(self, select, Writer::Caller)
    }
}

/// A query whose rows come in batches: [`Session::cursor`].
///
/// # What it costs
/// Three round trips more than the query by itself, and then one for each batch. Memory is that of one batch
/// here, up to twice the size of its values, and the server sends no more than that ahead. PostgreSQL plans a cursor for its first rows
/// (`cursor_tuple_fraction`) and without parallel workers: where all rows are wanted and nothing else is to
/// run meanwhile, a stream is faster.
///
/// The [monitor](crate::monitor) sees DECLARE, each FETCH and CLOSE; a FETCH again and again is no N+1.
///
/// # When it ends
/// The cursor is closed behind the last row. One whose rows are dropped before that stays with the server
/// until the transaction ends, and then nothing is left of it.
#[must_use = "nothing is asked of the server before its rows are"]
pub struct Cursor<'a> {
    session: &'a Session,
    select: Statement,
    writer: Writer,
    fetch_size: u32,
}

impl<'a> Cursor<'a> {
    fn new(session: &'a Session, select: Statement, writer: Writer) -> Cursor<'a> {
        Cursor { session, select, writer, fetch_size: FETCH_SIZE }
    }

    /// How many rows a batch has, 1 to 2,147,483,647: 1,000, if nothing is said. Fewer where rows are wide, more where the
    /// server is far away.
    pub fn fetch_size(mut self, rows: u32) -> Cursor<'a> {
        self.fetch_size = rows;
        self
    }

    /// Opens it, for its rows as models: of an entity, or of any other type that derives
    /// [`FromQueryResult`].
    ///
    /// # Errors
    /// What the server says to the query; a batch of 0 rows, or of over 2,147,483,647, which is
    /// refused before anything is sent. In the stream: what the server says while it
    /// gets on with it, and what does not fit into the model. The first error is the end of it.
    ///
    /// Dropping the future or the stream leaves the session usable, as with any statement.
    pub async fn models<M>(self) -> Result<BoxStream<'a, Result<M, DbErr>>, DbErr>
    where
        M: FromQueryResult + Send + 'a,
    {
        self.open(|row| M::from_query_result(&row, "")).await
    }

    /// Opens it, for its rows as they are.
    ///
    /// # Errors
    /// As [`models`](Cursor::models).
    pub async fn rows(self) -> Result<BoxStream<'a, Result<QueryResult, DbErr>>, DbErr> {
        self.open(Ok).await
    }

    async fn open<M: Send + 'a>(
        self,
        read: impl Fn(QueryResult) -> Result<M, DbErr> + Send + 'a,
    ) -> Result<BoxStream<'a, Result<M, DbErr>>, DbErr> {
        let Cursor { session, select, writer, fetch_size } = self;
        if !(1..=MOST_ROWS).contains(&fetch_size) {
            return Err(DbErr::Custom(format!(
                "database `{}`: a cursor's batch cannot have {fetch_size} rows; give fetch_size 1 to \
                 {MOST_ROWS}",
                session.database()
            )));
        }
        let name = name();
        session.declare(&name, select, writer).await?;
        let fetch = format!("FETCH FORWARD {fetch_size} FROM {name}");
        let fetch = Statement::from_string(DbBackend::Postgres, fetch);
        let rows = try_stream! {
            loop {
                let batch = session.ask::<AllRows>(Author::Wharf(&fetch)).await?;
                let last = batch.len() < fetch_size as usize;
                for row in batch {
                    yield read(row.into())?;
                }
                if last {
                    break;
                }
            }
            session.own(&format!("CLOSE {name}")).await?;
        };
        Ok(rows.boxed())
    }
}

/// One that no other cursor of the process has ever had: what the driver has prepared for the FETCH of one
/// would be taken for that of the next by the same name, whose columns may be others. (Unprepared, a bind of
/// an extension's type fails: the driver asks for that type in between, and the server forgets what it had
/// parsed.)
fn name() -> String {
    static CURSORS: AtomicU64 = AtomicU64::new(1);
    format!("wharf_{}", CURSORS.fetch_add(1, Ordering::Relaxed))
}

impl Session {
    async fn declare(&self, name: &str, select: Statement, writer: Writer) -> Result<(), DbErr> {
        let sql = &select.sql;
        let declare = format!("DECLARE {name} NO SCROLL CURSOR WITHOUT HOLD FOR {sql}");
        self.to_its_end(async {
            // It is the query that is looked at: a cursor like this leaves nothing behind.
            let query = Text::new(sql);
            let mut lent = self.lent(query, writer).await?;
            lent.note(query, writer)?;
            let declare = Statement { sql: declare, ..select.clone() };
            lent.ask::<Effect>(Request::new(Author::Wharf(&declare))).await
        })
        .await?;
        Ok(())
    }
}

impl fmt::Debug for Cursor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("select", &self.select.sql)
            .field("fetch_size", &self.fetch_size)
            .finish_non_exhaustive()
    }
}
