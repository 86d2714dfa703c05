//! Rows out of a database, as bytes.

use std::path::Path;

use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream::BoxStream};
use sea_orm::{DbErr, QueryTrait, sea_query::SelectStatement};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::{Format, On, Progress, literal, rows::Report};
use crate::{error::Error, files};

/// Rows on their way out, yet to be told where to. See [`Pg::copy_out`](crate::Pg::copy_out).
#[must_use = "nothing is copied before it knows where to"]
pub struct CopyOut<'a> {
    on: On<'a>,
    query: String,
    report: Option<Report<'a>>,
}

impl<'a> CopyOut<'a> {
    pub(super) fn new(
        on: On<'a>,
        query: &impl QueryTrait<QueryStatement = SelectStatement>,
    ) -> CopyOut<'a> {
        CopyOut { on, query: literal::sql_of(query.as_query()), report: None }
    }

    /// Has `report` told how far it is, each time that some 64 KiB have been written. It runs on the
    /// caller's path.
    pub fn progress(mut self, report: impl FnMut(Progress) + Send + 'a) -> CopyOut<'a> {
        self.report = Some(Box::new(report));
        self
    }

    /// The bytes as they come, a row each: for the body of an answer. They hold a connection (or the session)
    /// until they end; dropped before that, it is closed.
    ///
    /// ```no_run
    /// # async fn doc<E: sea_orm::EntityTrait>(pg: wharf::Pg) -> Result<(), wharf::Error> {
    /// use wharf::copy::Format;
    /// let body = pg.copy_out(E::find()).bytes(Format::Csv).await?;      // axum::body::Body::from_stream(body)
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What lending a connection gives; the stream's are the server's.
    pub async fn bytes(self, format: Format) -> Result<BoxStream<'a, Result<Bytes, DbErr>>, Error> {
        let sql = format!("COPY ({}) TO STDOUT ({})", self.query, format.options());
        self.on.copied(sql).await
    }

    /// Writes a file, and returns the number of rows. It is there when it is whole: until then it is a hidden file beside
    /// it, and what was there before stays.
    ///
    /// # Errors
    /// [`Error::Write`] where it cannot be written; what the server says. Dropping the future leaves nothing.
    pub async fn to_file(self, path: impl AsRef<Path>, format: Format) -> Result<u64, Error> {
        let path = path.as_ref();
        let database = self.on.database().to_owned();
        let to = path.display().to_string();
        let failed = |source| Error::Write { database: database.clone(), to: to.clone(), source };
        let file = files::beside_for_others(path).map_err(failed)?;
        let (file, partial) = file.into_parts();
        let file = tokio::fs::File::from_std(file);
        let mut file = tokio::io::BufWriter::with_capacity(super::rows::PIECE, file);
        let rows = self.write(&mut file, format, &failed).await?;
        file.get_ref().sync_all().await.map_err(failed)?;
        partial.persist(path).map_err(|error| failed(error.error))?;
        Ok(rows)
    }

    /// Writes to `writer`, and flushes it. Gives the number of rows.
    ///
    /// # Errors
    /// [`Error::Write`] with the writer's error; what the server says.
    pub async fn to_writer(
        self,
        mut writer: impl AsyncWrite + Unpin + Send,
        format: Format,
    ) -> Result<u64, Error> {
        let database = self.on.database().to_owned();
        let failed =
            |source| Error::Write { database: database.clone(), to: "a writer".to_owned(), source };
        self.write(&mut writer, format, &failed).await
    }

    async fn write(
        mut self,
        writer: &mut (impl AsyncWrite + Unpin + Send),
        format: Format,
        failed: &(impl Fn(std::io::Error) -> Error + Send + Sync),
    ) -> Result<u64, Error> {
        let mut report = self.report.take();
        let mut pieces = self.bytes(format).await?;
        let (mut progress, mut told, mut messages) = (Progress::default(), 0, 0_u64);
        while let Some(piece) = pieces.try_next().await? {
            writer.write_all(&piece).await.map_err(failed)?;
            messages += 1;
            // One is none: the line of the names, or the mark of the end.
            progress.rows = messages - 1;
            progress.bytes += piece.len() as u64;
            if progress.bytes - told >= super::rows::PIECE as u64 {
                told = progress.bytes;
                report.iter_mut().for_each(|report| report(progress));
            }
        }
        writer.flush().await.map_err(failed)?;
        report.iter_mut().for_each(|report| report(progress));
        Ok(progress.rows)
    }
}
