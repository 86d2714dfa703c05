//! Rows into a table.

use std::{
    marker::PhantomData,
    sync::atomic::{AtomicU32, Ordering},
};

use futures_util::{Stream, TryStreamExt as _, stream};
use sea_orm::{
    ConnectionTrait as _, EntityTrait, IntoActiveModel,
    sea_query::{
        Expr, IntoIden as _, IntoValueTuple, OnConflict, Query, SchemaName, SelectStatement,
        TableName,
    },
};
use tokio::io::AsyncRead;

use super::{
    CopyError, CopyFault, Format, On, Progress,
    column::{self, Column},
    file::{self, Reader},
    rows::{BoxError, Report, Rows},
    shape::{OfEntity, OfTuples, Shape},
};
use crate::{error::Error, pool::Stopped, session::Session, sql::quote_ident};

/// A copy into a table, yet to be given its rows. See [`Pg::copy_in`](crate::Pg::copy_in).
///
/// Whatever fails, no row is in the table: not one of those before it.
#[must_use = "nothing is copied before it has its rows"]
pub struct CopyIn<'a, T> {
    on: On<'a>,
    table: TableName,
    /// Those that were named.
    columns: Vec<String>,
    conflict: Option<OnConflict>,
    report: Option<Report<'a>>,
    target: PhantomData<fn(T)>,
}

/// A table that was named with its columns, without an entity.
#[derive(Debug)]
pub enum Named {}

impl<'a, E> CopyIn<'a, E>
where
    E: EntityTrait,
    E::ActiveModel: Send,
{
    pub(super) fn entity(on: On<'a>) -> CopyIn<'a, E> {
        CopyIn::new(on, entity_table::<E>(), Vec::new())
    }

    /// Copies the rows of an iterator: models, or active models, of which all set the same columns; the
    /// others get their defaults.
    ///
    /// # Errors
    /// [`Error::Copy`] names the first row that was wrong, by its number; also what beginning and
    /// committing a session gives.
    pub async fn rows<R>(self, rows: R) -> Result<u64, Error>
    where
        R: IntoIterator<IntoIter: Send>,
        R::Item: IntoActiveModel<E::ActiveModel> + Send,
    {
        self.stream(stream::iter(rows.into_iter().map(Ok::<_, std::convert::Infallible>))).await
    }

    /// Copies the rows of a stream as they come. An error of its ends it, and nothing is copied.
    ///
    /// # Errors
    /// As [`rows`](Self::rows); the stream's own is the source of the [`Error::Copy`].
    pub async fn stream<R, F>(
        self,
        rows: impl Stream<Item = Result<R, F>> + Send,
    ) -> Result<u64, Error>
    where
        R: IntoActiveModel<E::ActiveModel> + Send,
        F: Into<BoxError>,
    {
        let rows = rows.map_ok(IntoActiveModel::into_active_model).map_err(Into::into);
        self.run::<OfEntity<E>>(rows).await
    }
}

impl<'a> CopyIn<'a, Named> {
    pub(super) fn named(
        on: On<'a>,
        table: TableName,
        columns: impl IntoIterator<Item = impl Into<String>>,
    ) -> CopyIn<'a, Named> {
        CopyIn::new(on, table, columns.into_iter().map(Into::into).collect())
    }

    /// Copies the rows of an iterator: tuples with a value for each column.
    ///
    /// # Errors
    /// [`Error::Copy`] names the first row that was wrong, by its number; also what beginning and
    /// committing a session gives.
    pub async fn rows<R>(self, rows: R) -> Result<u64, Error>
    where
        R: IntoIterator<IntoIter: Send>,
        R::Item: IntoValueTuple + Send,
    {
        self.stream(stream::iter(rows.into_iter().map(Ok::<_, std::convert::Infallible>))).await
    }

    /// Copies the rows of a stream as they come. An error of its ends it, and nothing is copied.
    ///
    /// # Errors
    /// As [`rows`](Self::rows); the stream's own is the source of the [`Error::Copy`].
    pub async fn stream<R, F>(
        self,
        rows: impl Stream<Item = Result<R, F>> + Send,
    ) -> Result<u64, Error>
    where
        R: IntoValueTuple + Send,
        F: Into<BoxError>,
    {
        let rows = rows.map_ok(IntoValueTuple::into_value_tuple).map_err(Into::into);
        self.run::<OfTuples>(rows).await
    }
}

impl<'a, T> CopyIn<'a, T> {
    fn new(on: On<'a>, table: TableName, columns: Vec<String>) -> CopyIn<'a, T> {
        CopyIn { on, table, columns, conflict: None, report: None, target: PhantomData }
    }

    /// What to do with rows that are there already: an upsert in bulk. The rows go into a temporary
    /// table, and from there by one `INSERT … ON CONFLICT`, which costs three round trips more and the
    /// writing of the rows twice. Gives the rows that were inserted or changed.
    ///
    /// The same key twice among the rows is an error of the server's (21000) where it is to update.
    pub fn on_conflict(mut self, conflict: OnConflict) -> CopyIn<'a, T> {
        self.conflict = Some(conflict);
        self
    }

    /// Has `report` told how far it is, each time that some 64 KiB have been sent. It runs on the
    /// caller's path.
    pub fn progress(mut self, report: impl FnMut(Progress) + Send + 'a) -> CopyIn<'a, T> {
        self.report = Some(Box::new(report));
        self
    }

    /// Copies a file, [as a reader](Self::from_reader).
    ///
    /// # Errors
    /// As [`from_reader`](Self::from_reader).
    pub async fn from_file(
        self,
        path: impl AsRef<std::path::Path>,
        format: Format,
    ) -> Result<u64, Error> {
        let path = path.as_ref();
        match tokio::fs::File::open(path).await {
            Ok(file) => self.from_reader(file, format).await,
            Err(error) => Err(self.failed(CopyFault::Source(
                format!("{} could not be opened: {error}", path.display()).into(),
            ))),
        }
    }

    /// Copies what a reader gives: CSV whose first line names the columns, or PostgreSQL's binary
    /// format, which has all columns of the table, those that are generated left out. It is sent as
    /// it is, 64 KiB at a time.
    ///
    /// # Errors
    /// [`Error::Copy`], with the line of a CSV that was wrong; also what beginning and committing a
    /// session gives.
    pub async fn from_reader(
        mut self,
        reader: impl AsyncRead + Unpin + Send,
        format: Format,
    ) -> Result<u64, Error> {
        let report = self.report.take();
        let mut reader = Reader::new(reader, report);
        if format == Format::Csv {
            let named = reader.header().await.map_err(|fault| self.failed(fault))?;
            let Some(named) = named else { return Ok(0) };
            self.columns = named;
        }
        self.in_session(async |this, session| {
            let columns = this.chosen(this.described(session).await?)?;
            let copy = this.begin_copy(session, &columns, format.options()).await?;
            let outcome = session.feed(&copy.sql, &mut reader).await;
            let rows = outcome.map_err(|stopped| {
                let error = this.stopped(stopped, 0);
                file::by_line(error)
            })?;
            this.end_copy(session, &columns, copy, rows).await
        })
        .await
    }

    async fn run<S: Shape>(
        mut self,
        rows: impl Stream<Item = Result<S::Row, BoxError>> + Send,
    ) -> Result<u64, Error> {
        let report = self.report.take();
        let mut rows = std::pin::pin!(rows);
        self.in_session(async |this, session| {
            let described = this.described(session).await?;
            let Some(first) = rows.try_next().await.map_err(|error| {
                let mut error = CopyError::new(
                    this.on.database(),
                    &shown(&this.table),
                    CopyFault::Source(error),
                );
                error.row = Some(1);
                Error::from(error)
            })?
            else {
                return Ok(0);
            };
            let (shape, chosen) =
                S::new(&first, &this.columns, &described).map_err(|why| this.refused(why))?;
            let columns: Vec<Column> =
                chosen.into_iter().filter_map(|at| described.get(at).cloned()).collect();
            let mut source = Rows::new(first, rows.as_mut(), shape, &columns, report);
            let options = source.options().map_err(|error| this.mine(error))?;
            let copy = this.begin_copy(session, &columns, options).await?;
            let mut copied = 0;
            while !source.is_at_its_end() {
                copied += session
                    .feed(&copy.sql, &mut source)
                    .await
                    .map_err(|stopped| this.stopped(stopped, copied))?;
            }
            this.end_copy(session, &columns, copy, copied).await
        })
        .await
    }

    /// All of it, or nothing: in a session of its own, or in one nested in the caller's.
    async fn in_session<O>(
        self,
        work: impl AsyncFnOnce(&Self, &Session) -> Result<O, Error>,
    ) -> Result<O, Error> {
        let (session, quiet) = self.on.begin().await?;
        if session.is_read_only() {
            return Err(Error::ReadOnly {
                database: self.on.database().to_owned(),
                what: format!("rows were to be copied into {}", shown(&self.table)),
            });
        }
        let worked = work(&self, &session).await;
        match worked {
            Ok(done) => {
                quiet.end(&session).await?;
                session.commit().await?;
                Ok(done)
            }
            Err(error) => {
                // The server has, if it cannot be told.
                let _ = session.rollback().await;
                Err(error)
            }
        }
    }

    async fn described(&self, session: &Session) -> Result<Vec<Column>, Error> {
        let columns = column::of_table(session, &quoted(&self.table)).await?;
        if columns.is_empty() {
            return Err(self.refused(
                "there is no such table here: has it been migrated, is its schema in the search path?"
                    .to_owned(),
            ));
        }
        Ok(columns)
    }

    /// Those that were named, or all that are not the server's to make.
    fn chosen(&self, described: Vec<Column>) -> Result<Vec<Column>, Error> {
        if self.columns.is_empty() {
            return Ok(described.into_iter().filter(|column| !column.generated).collect());
        }
        let chosen =
            super::shape::named(&self.columns, &described).map_err(|why| self.refused(why))?;
        Ok(chosen.into_iter().filter_map(|at| described.get(at).cloned()).collect())
    }

    /// Where the rows go first, and how.
    async fn begin_copy(
        &self,
        session: &Session,
        columns: &[Column],
        options: &str,
    ) -> Result<Copy, Error> {
        let list: Vec<String> = columns.iter().map(|column| quote_ident(&column.name)).collect();
        let list = list.join(", ");
        let waiting = match &self.conflict {
            Some(_) => {
                static NEXT: AtomicU32 = AtomicU32::new(0);
                let name = format!("wharf_copy_{}", NEXT.fetch_add(1, Ordering::Relaxed));
                let table = quoted(&self.table);
                session
                    .execute_unprepared(&format!(
                        "CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS SELECT {list} FROM {table} WITH NO DATA"
                    ))
                    .await?;
                Some(name)
            }
            None => None,
        };
        let table = waiting.clone().unwrap_or_else(|| quoted(&self.table));
        Ok(Copy { sql: format!("COPY {table} ({list}) FROM STDIN ({options})"), waiting })
    }

    async fn end_copy(
        &self,
        session: &Session,
        columns: &[Column],
        copy: Copy,
        copied: u64,
    ) -> Result<u64, Error> {
        let (Some(waiting), Some(conflict)) = (copy.waiting, &self.conflict) else {
            return Ok(copied);
        };
        let names = || columns.iter().map(|column| column.name.clone());
        let select: SelectStatement =
            Query::select().exprs(names().map(Expr::col)).from(waiting.clone()).take();
        let mut insert = Query::insert();
        insert.into_table(self.table.clone()).columns(names()).on_conflict(conflict.clone());
        insert.select_from(select).map_err(|error| self.refused(error.to_string()))?;
        let changed = session.execute(&insert).await.map_err(|error| {
            CopyError::of_server(self.on.database(), &shown(&self.table), 0, error)
        })?;
        session.execute_unprepared(&format!("DROP TABLE {waiting}")).await?;
        Ok(changed.rows_affected())
    }

    fn stopped(&self, stopped: Stopped, before: u64) -> Error {
        match stopped {
            Stopped::Server(error) => {
                CopyError::of_server(self.on.database(), &shown(&self.table), before, error).into()
            }
            Stopped::Source(error) => self.mine(error),
        }
    }

    /// An error of the rows, which do not know where they go.
    fn mine(&self, error: Error) -> Error {
        match error {
            Error::Copy(mut error) => {
                error.database = self.on.database().to_owned();
                error.table = shown(&self.table);
                Error::Copy(error)
            }
            error => error,
        }
    }

    fn refused(&self, why: String) -> Error {
        self.failed(CopyFault::Refused(why))
    }

    fn failed(&self, fault: CopyFault) -> Error {
        CopyError::new(self.on.database(), &shown(&self.table), fault).into()
    }
}

/// A COPY statement.
struct Copy {
    sql: String,
    /// The temporary table that it fills, if it is one.
    waiting: Option<String>,
}

pub(super) fn entity_table<E: EntityTrait>() -> TableName {
    let entity = E::default();
    let schema = entity.schema_name().map(|schema| SchemaName(None, schema.to_owned().into_iden()));
    TableName(schema, entity.table_name().into_iden())
}

pub(super) fn quoted(TableName(schema, name): &TableName) -> String {
    let name = quote_ident(&name.to_string());
    match schema {
        Some(SchemaName(_, schema)) => format!("{}.{name}", quote_ident(&schema.to_string())),
        None => name,
    }
}

/// The table as its user names it.
pub(super) fn shown(TableName(schema, name): &TableName) -> String {
    match schema {
        Some(SchemaName(_, schema)) => format!("{}.{}", schema.to_string(), name.to_string()),
        None => name.to_string(),
    }
}
