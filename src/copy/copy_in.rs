//! Rows into a table.

use std::{convert::Infallible, marker::PhantomData};

use futures_util::{
    Stream, StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use sea_orm::{
    EntityTrait, IntoActiveModel,
    sea_query::{IntoValueTuple, OnConflict, TableName},
};
use tokio::io::AsyncRead;

use super::{
    CopyFault, Format, On, Progress,
    column::Column,
    destination::Destination,
    file::{self, Reader},
    rows::{BoxError, Report, Rows},
    shape::{OfEntity, OfTuples, Shape},
};
use crate::{error::Error, session::Session};

/// A copy into a table, yet to be given its rows. See [`Pg::copy_in`](crate::Pg::copy_in).
///
/// Whatever fails, no row is in the table: not one of those before it.
#[must_use = "nothing is copied before it has its rows"]
pub struct CopyIn<'a, T> {
    into: Destination<'a>,
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
        CopyIn::new(Destination::of_entity::<E>(on))
    }

    /// Copies the rows of an iterator: models, or active models, of which all set the same columns; the
    /// others get their defaults.
    ///
    /// # Errors
    /// [`Error::Copy`] names the row that was wrong, by its number; also what beginning and committing a session
    /// gives.
    pub async fn rows<R>(self, rows: R) -> Result<u64, Error>
    where
        R: IntoIterator<IntoIter: Send>,
        R::Item: IntoActiveModel<E::ActiveModel> + Send,
    {
        self.stream(stream::iter(rows.into_iter().map(Ok::<_, Infallible>))).await
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
        let rows = rows
            .map_ok(|row: R| row.into_active_model())
            .map_err(|error: F| -> BoxError { error.into() });
        self.run::<OfEntity<E>>(rows.boxed()).await
    }
}

impl<'a> CopyIn<'a, Named> {
    pub(super) fn named(
        on: On<'a>,
        table: TableName,
        columns: impl IntoIterator<Item = impl Into<String>>,
    ) -> CopyIn<'a, Named> {
        let columns = columns.into_iter().map(Into::into).collect();
        CopyIn::new(Destination::named(on, table, columns))
    }

    /// Copies the rows of an iterator: tuples with a value for each column.
    ///
    /// # Errors
    /// [`Error::Copy`] names the row that was wrong, by its number; also what beginning and committing a session
    /// gives.
    pub async fn rows<R>(self, rows: R) -> Result<u64, Error>
    where
        R: IntoIterator<IntoIter: Send>,
        R::Item: IntoValueTuple + Send,
    {
        self.stream(stream::iter(rows.into_iter().map(Ok::<_, Infallible>))).await
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
        let rows = rows
            .map_ok(|row: R| row.into_value_tuple())
            .map_err(|error: F| -> BoxError { error.into() });
        self.run::<OfTuples>(rows.boxed()).await
    }
}

impl<'a, T> CopyIn<'a, T> {
    fn new(into: Destination<'a>) -> CopyIn<'a, T> {
        CopyIn { into, report: None, target: PhantomData }
    }

    /// What to do with rows that are there already: an upsert in bulk. The rows go into a temporary
    /// table, and from there by one `INSERT … ON CONFLICT`, which costs three round trips more and the
    /// writing of the rows twice. Gives the rows that were inserted or changed.
    ///
    /// The same key twice among the rows is an error of the server's (21000) where it is to update.
    pub fn on_conflict(mut self, conflict: OnConflict) -> CopyIn<'a, T> {
        self.into.conflict = Some(conflict);
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
            Err(error) => Err(self.into.failed(CopyFault::Source(
                format!("could not open {}: {error}", path.display()).into(),
            ))),
        }
    }

    /// Copies what a reader gives: CSV whose first line names the columns, whichever were named before, or
    /// PostgreSQL's binary format, which has all columns of the table, those that are generated left out. It is sent as
    /// it is, 64 KiB at a time; but a record `\.` of a CSV, which would end the copy in silence up to PostgreSQL 17, is
    /// sent in quotes, as the value that it is.
    ///
    /// # Errors
    /// [`Error::Copy`], with the line of a CSV that was wrong; also what beginning and committing a
    /// session gives.
    pub async fn from_reader(
        self,
        reader: impl AsyncRead + Unpin + Send,
        format: Format,
    ) -> Result<u64, Error> {
        let CopyIn { mut into, report, .. } = self;
        let mut reader = Reader::new(reader, format, report);
        if format == Format::Csv {
            let named = reader.header().await.map_err(|fault| into.failed(fault))?;
            let Some(named) = named else { return Ok(0) };
            into.columns = named;
        }
        let begun = into.begin().await?;
        let copied = bytes(&into, &begun.0, &mut reader, format).await;
        into.finish(begun, copied).await
    }

    async fn run<S: Shape>(
        self,
        rows: BoxStream<'_, Result<S::Row, BoxError>>,
    ) -> Result<u64, Error> {
        let CopyIn { into, report, .. } = self;
        let begun = into.begin().await?;
        let copied = rows_of::<S>(&into, &begun.0, rows, report).await;
        into.finish(begun, copied).await
    }
}

async fn bytes(
    into: &Destination<'_>,
    session: &Session,
    reader: &mut Reader<'_, impl AsyncRead + Unpin + Send>,
    format: Format,
) -> Result<u64, Error> {
    let columns = into.chosen(into.described(session).await?)?;
    let copy = into.begin_copy(session, &columns, format.options()).await?;
    let fed = session.feed(&copy.sql, reader).await;
    let rows = fed.map_err(|stopped| file::by_line(into.stopped(stopped, 0, &columns)))?;
    into.end_copy(session, &columns, copy, rows).await
}

async fn rows_of<S: Shape>(
    into: &Destination<'_>,
    session: &Session,
    mut rows: BoxStream<'_, Result<S::Row, BoxError>>,
    report: Option<Report<'_>>,
) -> Result<u64, Error> {
    let described = into.described(session).await?;
    let first = match rows.try_next().await {
        Ok(Some(first)) => first,
        Ok(None) => return Ok(0),
        Err(error) => {
            let mut error = into.error(CopyFault::Source(error));
            error.row = Some(1);
            return Err(error.into());
        }
    };
    let (shape, chosen) =
        S::new(&first, &into.columns, &described).map_err(|why| into.refused(why))?;
    let columns: Vec<Column> =
        chosen.into_iter().filter_map(|at| described.get(at).cloned()).collect();
    let source = Rows::new(first, rows, shape, &columns, report);
    let mut source = source.map_err(|error| into.mine(error))?;
    let copy = into.begin_copy(session, &columns, source.options()).await?;
    let mut copied = 0;
    while !source.is_at_its_end() {
        let fed = session.feed(&copy.sql, &mut source).await;
        copied += fed.map_err(|stopped| into.stopped(stopped, copied, &columns))?;
    }
    into.end_copy(session, &columns, copy, copied).await
}
