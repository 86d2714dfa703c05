//! A CSV on its way to the server.

/// Quotes the lines that would end it.
///
/// Up to PostgreSQL 17, a record that is `\.` without quotes ends COPY's data: the server reads what follows and
/// throws it away, without an error. In quotes it is a value, which it is for later servers without them, too.
pub(super) struct EndMarkers {
    in_quotes: bool,
    /// The next byte is the first one of a record.
    begins: bool,
}

const MARKER: &[u8] = b"\\.";
const QUOTED: &[u8] = b"\"\\.\"";

impl EndMarkers {
    pub(super) fn new() -> EndMarkers {
        EndMarkers { in_quotes: false, begins: true }
    }

    /// Quotes those in `piece`. Moves its last bytes to `ahead` where the next piece decides what they are;
    /// `last` is the piece that none follows.
    pub(super) fn quote(&mut self, piece: &mut Vec<u8>, last: bool, ahead: &mut Vec<u8>) {
        let mut found = Vec::new();
        let mut rest = piece.as_slice();
        while let Some((byte, behind)) = rest.split_first() {
            if self.begins && *byte == b'\\' {
                let ends = match rest.strip_prefix(MARKER) {
                    Some(behind) => behind.first().map(|byte| matches!(byte, b'\n' | b'\r')),
                    None if rest.len() < MARKER.len() => None,
                    None => Some(false),
                };
                let at = piece.len() - rest.len();
                match ends {
                    None if !last => {
                        ahead.extend_from_slice(rest);
                        piece.truncate(at);
                        break;
                    }
                    Some(true) => found.push(at),
                    None if rest.len() == MARKER.len() => found.push(at),
                    Some(false) | None => {}
                }
            }
            self.in_quotes ^= *byte == b'"';
            self.begins = !self.in_quotes && matches!(byte, b'\n' | b'\r');
            rest = behind;
        }
        if !found.is_empty() {
            *piece = quoted(piece, &found);
        }
    }
}

/// The piece with the markers at these places in quotes.
fn quoted(piece: &[u8], found: &[usize]) -> Vec<u8> {
    let more = QUOTED.len() - MARKER.len();
    let mut quoted = Vec::with_capacity(piece.len() + more * found.len());
    let mut done = 0;
    for at in found {
        quoted.extend_from_slice(piece.get(done..*at).unwrap_or_default());
        quoted.extend_from_slice(QUOTED);
        done = at + MARKER.len();
    }
    quoted.extend_from_slice(piece.get(done..).unwrap_or_default());
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what is sent if the text comes in pieces of `size` bytes.
    fn sent(text: &str, size: usize) -> String {
        let (mut markers, mut ahead, mut sent) = (EndMarkers::new(), Vec::new(), Vec::new());
        let mut pieces = text.as_bytes().chunks(size).peekable();
        while let Some(next) = pieces.next() {
            let mut piece = std::mem::take(&mut ahead);
            piece.extend_from_slice(next);
            markers.quote(&mut piece, pieces.peek().is_none(), &mut ahead);
            sent.extend(piece);
        }
        assert!(ahead.is_empty());
        String::from_utf8(sent).unwrap_or_default()
    }

    #[test]
    fn a_record_that_would_end_the_data_is_quoted_wherever_it_is_cut() {
        let pairs = [
            ("a\n\\.\nb\n", "a\n\"\\.\"\nb\n"),
            ("\\.\r\n\\.\r\n", "\"\\.\"\r\n\"\\.\"\r\n"),
            ("a\n\\.", "a\n\"\\.\""),
            ("a\n\\", "a\n\\"),
            ("a\n\\.b\n\\\n \\.\n", "a\n\\.b\n\\\n \\.\n"),
            ("\"a\n\\.\nb\"\n\\.\n", "\"a\n\\.\nb\"\n\"\\.\"\n"),
            ("\"a\"\"\n\\.\n\"\n", "\"a\"\"\n\\.\n\"\n"),
            ("a,\\.\n", "a,\\.\n"),
            ("", ""),
        ];
        for (text, expected) in pairs {
            for size in 1..=text.len().max(1) {
                assert_eq!(sent(text, size), expected, "in pieces of {size}");
            }
        }
    }
}
