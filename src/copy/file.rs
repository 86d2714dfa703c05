//! Files as what a COPY is fed with.

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{
    CopyError, CopyFault, Progress,
    csv::EndMarkers,
    rows::{PIECE, Report},
};
use crate::{error::Error, pool::Source};

/// The first line of a CSV is not to be longer.
const HEADER: usize = 1024 * 1024;

/// A form in which PostgreSQL reads and writes rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Values separated by commas, the first line being the columns' names; an empty one without
    /// quotes is NULL.
    Csv,
    /// PostgreSQL's own: exact, and quicker for numbers and times. It has no names, so the columns
    /// have to be the table's, with their types.
    Binary,
}

impl Format {
    pub(super) fn options(self) -> &'static str {
        match self {
            Format::Csv => "FORMAT csv, HEADER",
            Format::Binary => "FORMAT binary",
        }
    }
}

pub(super) struct Reader<'a, R> {
    from: R,
    /// What has been read and not been sent.
    ahead: Vec<u8>,
    /// Of a CSV.
    markers: Option<EndMarkers>,
    report: Option<Report<'a>>,
    progress: Progress,
}

impl<'a, R: AsyncRead + Unpin + Send> Reader<'a, R> {
    pub(super) fn new(from: R, format: Format, report: Option<Report<'a>>) -> Reader<'a, R> {
        let markers = (format == Format::Csv).then(EndMarkers::new);
        Reader { from, ahead: Vec::new(), markers, report, progress: Progress::default() }
    }

    /// The names in the first line of a CSV, which is to be sent all the same; none where there is
    /// nothing at all.
    pub(super) async fn header(&mut self) -> Result<Option<Vec<String>>, CopyFault> {
        loop {
            if let Some(names) = names(&self.ahead)? {
                return Ok(Some(names));
            }
            if self.ahead.len() > HEADER {
                let why = "its first line, the column names, is longer than 1 MiB";
                return Err(CopyFault::Refused(why.to_owned()));
            }
            let read = self.from.read_buf(&mut self.ahead).await;
            if read.map_err(|error| CopyFault::Source(error.into()))? == 0 {
                if self.ahead.is_empty() {
                    return Ok(None);
                }
                // A line of names and nothing else need not end.
                self.ahead.push(b'\n');
            }
        }
    }
}

impl<R: AsyncRead + Unpin + Send> Source for Reader<'_, R> {
    /// It may have ended in the middle of a row.
    const ENDS_WHOLE: bool = false;

    async fn fill(&mut self, piece: &mut Vec<u8>) -> Result<bool, Error> {
        std::mem::swap(&mut self.ahead, piece);
        self.ahead.clear();
        let mut more = true;
        while more && piece.len() < PIECE {
            piece.reserve(PIECE);
            match self.from.read_buf(piece).await {
                Ok(read) => more = read > 0,
                Err(error) => {
                    return Err(CopyError::new("", "", CopyFault::Source(error.into())).into());
                }
            }
        }
        if let Some(markers) = &mut self.markers {
            markers.quote(piece, !more, &mut self.ahead);
        }
        self.progress.bytes += piece.len() as u64;
        if let Some(report) = &mut self.report {
            report(self.progress);
        }
        Ok(more)
    }
}

/// The fields of a first line that has ended.
fn names(text: &[u8]) -> Result<Option<Vec<String>>, CopyFault> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let (mut names, mut name, mut quoted, mut quote_before) =
        (Vec::new(), Vec::new(), false, false);
    let mut ended = false;
    for byte in text {
        match byte {
            // Twice within quotes, it is meant.
            b'"' if !quoted && quote_before => {
                name.push(b'"');
                (quoted, quote_before) = (true, false);
                continue;
            }
            b'"' => {
                quote_before = quoted;
                quoted = !quoted;
                continue;
            }
            b',' if !quoted => names.push(std::mem::take(&mut name)),
            b'\n' if !quoted => {
                ended = true;
                break;
            }
            b'\r' if !quoted => {}
            byte => name.push(*byte),
        }
        quote_before = false;
    }
    if !ended {
        return Ok(None);
    }
    names.push(name);
    let utf8 = |name: Vec<u8>| {
        String::from_utf8(name).map_err(|_| {
            CopyFault::Refused("its first line, of the columns' names, is not UTF-8".to_owned())
        })
    };
    names.into_iter().map(utf8).collect::<Result<_, _>>().map(Some)
}

/// A file's error tells the line, where a copy of rows tells the row.
pub(super) fn by_line(error: Error) -> Error {
    match error {
        Error::Copy(mut error) => {
            error.line = error.row.take();
            Error::Copy(error)
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_first_line_are_read_as_csv() {
        let read = |text: &str| names(text.as_bytes()).unwrap_or_default();
        assert_eq!(read("id,name\n1,x"), Some(vec!["id".to_owned(), "name".to_owned()]));
        assert_eq!(read("\"a,b\",\"c\"\"d\"\r\n"), Some(vec!["a,b".to_owned(), "c\"d".to_owned()]));
        assert_eq!(read("\u{feff}id\n"), Some(vec!["id".to_owned()]));
        assert_eq!(read("\"a\nb\"\n"), Some(vec!["a\nb".to_owned()]));
        assert_eq!(read("id,name"), None);
    }
}
