//! Files as what a COPY is fed with.

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{
    CopyError, CopyFault, Progress,
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
    marks: Option<EndMarks>,
    report: Option<Report<'a>>,
    progress: Progress,
}

impl<'a, R: AsyncRead + Unpin + Send> Reader<'a, R> {
    pub(super) fn new(from: R, format: Format, report: Option<Report<'a>>) -> Reader<'a, R> {
        let marks = (format == Format::Csv).then(EndMarks::default);
        Reader { from, ahead: Vec::new(), marks, report, progress: Progress::default() }
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
        self.progress.bytes += piece.len() as u64;
        if let Some(marks) = &mut self.marks {
            // What may be the beginning of a mark waits for the rest of it.
            let sent = if more { whole_lines(piece) } else { piece.len() };
            self.ahead.extend(piece.drain(sent..));
            self.progress.bytes -= self.ahead.len() as u64;
            marks.quote(piece);
        }
        if let Some(report) = &mut self.report {
            report(self.progress);
        }
        Ok(more)
    }
}

/// Quotes lines that are `\\.`: up to version 17, PostgreSQL takes such a line of a CSV for the end of the data, and
/// skips all that follows without a word. Quoted, it is a value, as it is from 18 on.
struct EndMarks {
    /// Whether the text so far ends within quotes, where a line is part of a value.
    quoted: bool,
    at_line: bool,
}

impl Default for EndMarks {
    fn default() -> EndMarks {
        EndMarks { quoted: false, at_line: true }
    }
}

const MARK: &[u8] = br"\.";

impl EndMarks {
    /// `piece` does not end within a mark.
    fn quote(&mut self, piece: &mut Vec<u8>) {
        let (mut at, mut counted) = (0, 0);
        while let Some(found) = next_mark(piece, at, self.at_line) {
            self.count(&piece[counted..found]);
            counted = found;
            at = found + MARK.len();
            if !self.quoted {
                piece.splice(found..at, br#""\.""#.iter().copied());
                at += 2;
            }
        }
        self.count(&piece[counted..]);
        self.at_line = piece.last().map_or(self.at_line, |last| is_line_end(*last));
    }

    fn count(&mut self, text: &[u8]) {
        let quotes = text.iter().filter(|byte| **byte == b'"').count();
        self.quoted ^= quotes % 2 == 1;
    }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// Finds a line that is `\\.` from `from` on.
fn next_mark(piece: &[u8], from: usize, at_line: bool) -> Option<usize> {
    let mut at = from;
    loop {
        at += piece.get(at..)?.iter().position(|byte| *byte == b'\\')?;
        let begins = if at == 0 { at_line } else { is_line_end(piece[at - 1]) };
        let ends = piece.get(at + MARK.len()).is_none_or(|byte| is_line_end(*byte));
        if begins && ends && piece[at..].starts_with(MARK) {
            return Some(at);
        }
        at += 1;
    }
}

/// Returns how much of a piece may be sent before the next one is known: not the beginning of a mark at its end.
fn whole_lines(piece: &[u8]) -> usize {
    let tail = (1..=MARK.len()).rev().find(|length| piece.ends_with(&MARK[..*length]));
    piece.len() - tail.unwrap_or(0)
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

    #[test]
    fn a_line_that_is_a_mark_of_the_end_is_quoted_wherever_pieces_meet() {
        for (text, expected) in [
            ("a\n\\.\nb\n", "a\n\"\\.\"\nb\n"),
            ("a\r\n\\.\r\nb", "a\r\n\"\\.\"\r\nb"),
            ("\\.", "\"\\.\""),
            ("\\.\n\\.\n", "\"\\.\"\n\"\\.\"\n"),
            ("\\..\nx\\.\n\\.x\n\\\n.\n", "\\..\nx\\.\n\\.x\n\\\n.\n"),
            ("\"a\n\\.\nb\"\n\"\\.\"\n", "\"a\n\\.\nb\"\n\"\\.\"\n"),
            ("\"it\"\"s\"\n\\.\n", "\"it\"\"s\"\n\"\\.\"\n"),
        ] {
            for size in 1..=text.len() {
                let (mut marks, mut ahead, mut sent) =
                    (EndMarks::default(), Vec::new(), Vec::new());
                let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
                for (at, piece) in pieces.iter().enumerate() {
                    let mut piece = [std::mem::take(&mut ahead), piece.to_vec()].concat();
                    let whole =
                        if at + 1 < pieces.len() { whole_lines(&piece) } else { piece.len() };
                    ahead.extend(piece.drain(whole..));
                    marks.quote(&mut piece);
                    sent.extend(piece);
                }
                assert_eq!(String::from_utf8(sent).unwrap(), expected, "{text:?} by {size}");
            }
        }
    }
}
