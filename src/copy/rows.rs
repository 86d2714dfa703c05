//! Rows as what a COPY is fed with.

use futures_util::{TryStreamExt as _, stream::BoxStream};
use sea_orm::Value;
use sqlx::postgres::PgArgumentBuffer;

use super::{
    CopyError, CopyFault, Progress, binary,
    column::{Column, Kind},
    shape::{Odd, Shape},
    text,
};
use crate::{error::Error, pool::Source};

/// So much is sent at a time: a thousand narrow rows a message.
pub(super) const PIECE: usize = 64 * 1024;

/// After so much a COPY ends and the next begins, in the same transaction. The driver hears of an error
/// only at a COPY's end; and what has to come before that is not to be without bounds.
const PART: usize = 16 * 1024 * 1024;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(super) type Report<'a> = Box<dyn FnMut(Progress) + Send + 'a>;

pub(super) struct Rows<'a, 'r, S: Shape> {
    rest: BoxStream<'a, Result<S::Row, BoxError>>,
    shape: S,
    columns: Vec<(String, Kind)>,
    form: Form,
    report: Option<Report<'r>>,
    progress: Progress,
    /// What the present COPY has had.
    part: usize,
    ended: bool,
    buffer: PgArgumentBuffer,
    values: Vec<Value>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Binary,
    /// A column's values have no binary form here.
    Text,
}

impl<'a, 'r, S: Shape> Rows<'a, 'r, S> {
    /// `first` is looked at for the form in which all will go.
    pub(super) fn new(
        first: S::Row,
        rest: BoxStream<'a, Result<S::Row, BoxError>>,
        shape: S,
        columns: &[Column],
        report: Option<Report<'r>>,
    ) -> Result<Rows<'a, 'r, S>, Error> {
        let columns =
            columns.iter().map(|column| (column.name.clone(), column.kind.clone())).collect();
        let mut rows = Rows {
            rest,
            shape,
            columns,
            form: Form::Binary,
            report,
            progress: Progress::default(),
            part: 0,
            ended: false,
            buffer: PgArgumentBuffer::default(),
            values: Vec::new(),
        };
        rows.shape.values(first, &mut rows.values).map_err(|odd| rows.odd(odd))?;
        let mut all = rows.columns.iter().zip(&rows.values);
        if !all.all(|((_, kind), value)| kind.takes(value)) {
            rows.form = Form::Text;
        }
        Ok(rows)
    }

    /// COPY's, for the form in which they go.
    pub(super) fn options(&self) -> &'static str {
        match self.form {
            Form::Binary => "FORMAT binary",
            Form::Text => "FORMAT text",
        }
    }

    pub(super) fn is_at_its_end(&self) -> bool {
        self.ended
    }

    /// Appends the row whose values lie ready: all of it, or nothing.
    fn put(&mut self) -> Result<(), Error> {
        let begin = self.buffer.len();
        let columns = self.columns.iter().zip(&self.values).enumerate();
        let out = &mut self.buffer;
        if self.form == Form::Binary {
            out.extend_from_slice(&(self.columns.len() as i16).to_be_bytes());
        }
        for (at, ((name, kind), value)) in columns {
            let put = match self.form {
                Form::Binary => binary::put(kind, value, out),
                Form::Text => {
                    if at > 0 {
                        out.push(b'\t');
                    }
                    text::put(kind, value, out)
                }
            };
            if let Err(why) = put {
                let odd = Odd { column: Some(name.clone()), why };
                self.buffer.truncate(begin);
                return Err(self.odd(odd));
            }
        }
        if self.form == Form::Text {
            out.push(b'\n');
        }
        self.values.clear();
        self.progress.rows += 1;
        Ok(())
    }

    /// Appends rows until it is a piece, or there are no more.
    async fn encode(&mut self) -> Result<(), Error> {
        if self.part == 0 && self.form == Form::Binary {
            self.buffer.extend_from_slice(binary::HEADER);
        }
        while self.buffer.len() < PIECE {
            if self.values.is_empty() {
                match self.rest.try_next().await {
                    Ok(Some(row)) => {
                        self.shape.values(row, &mut self.values).map_err(|odd| self.odd(odd))?;
                    }
                    Ok(None) => {
                        self.ended = true;
                        break;
                    }
                    Err(error) => return Err(self.failed(None, CopyFault::Source(error))),
                }
            }
            self.put()?;
        }
        Ok(())
    }

    fn odd(&self, odd: Odd) -> Error {
        self.failed(odd.column, CopyFault::Refused(odd.why))
    }

    /// Of the row that is not in it yet.
    fn failed(&self, column: Option<String>, fault: CopyFault) -> Error {
        let mut error = CopyError::new("", "", fault);
        (error.row, error.column) = (Some(self.progress.rows + 1), column);
        error.into()
    }
}

impl<S: Shape> Source for Rows<'_, '_, S> {
    const ENDS_WHOLE: bool = true;

    async fn fill(&mut self, piece: &mut Vec<u8>) -> Result<bool, Error> {
        // The driver encodes into a buffer of its own kind.
        std::mem::swap(&mut *self.buffer, piece);
        let encoded = self.encode().await;
        std::mem::swap(&mut *self.buffer, piece);
        self.part += piece.len();
        let more = encoded.is_ok() && !self.ended && self.part < PART;
        if !more {
            self.part = 0;
            if self.form == Form::Binary {
                piece.extend_from_slice(&binary::TRAILER);
            }
        }
        self.progress.bytes += piece.len() as u64;
        if let Some(report) = &mut self.report {
            report(self.progress);
        }
        encoded.map(|()| more)
    }
}
