//! PostgreSQL's lexical rules, as far as they tell words from what is quoted, and one statement from
//! the next.

/// One token of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A keyword or an identifier, as written.
    Word(&'a str),
    /// A quoted identifier, without its quotes.
    Quoted(&'a str),
    /// A text, a number.
    Literal,
    /// `$1`
    Parameter,
    /// `(`, `[`
    Open,
    /// `)`, `]`
    Close,
    Comma,
    /// `;`
    End,
    /// A byte of an operator, a dot, a colon.
    Other(u8),
}

impl<'a> Token<'a> {
    /// A keyword or an identifier, quoted or not.
    pub(crate) fn word(self) -> Option<&'a str> {
        match self {
            Token::Word(word) | Token::Quoted(word) => Some(word),
            _ => None,
        }
    }
}

/// The tokens of a text, without white space and comments. Never fails: what is not closed goes to
/// the end.
#[derive(Clone)]
pub(crate) struct Tokens<'a> {
    sql: &'a str,
    /// Where the last token began.
    start: usize,
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(sql: &'a str) -> Self {
        Self { sql, start: 0, at: 0 }
    }

    /// Where the last token began and ended, in bytes.
    pub(crate) fn span(&self) -> (usize, usize) {
        (self.start, self.at)
    }

    fn bytes(&self) -> &'a [u8] {
        self.sql.as_bytes()
    }

    fn ahead(&self, by: usize) -> Option<u8> {
        self.bytes().get(self.at + by).copied()
    }

    /// From `from` to where it stands. Tokens begin and end beside ASCII, so between characters.
    fn since(&self, from: usize) -> &'a str {
        self.sql.get(from..self.at).unwrap_or_default()
    }

    fn skip_while(&mut self, takes: impl Fn(u8) -> bool) {
        while self.ahead(0).is_some_and(&takes) {
            self.at += 1;
        }
    }

    fn skip_block_comment(&mut self) {
        let mut depth = 0usize;
        loop {
            match (self.ahead(0), self.ahead(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                (Some(_), _) => self.at += 1,
                (None, _) => return,
            }
        }
    }

    /// Takes a quoted text from its opening quote on and gives what is between the quotes.
    fn take_quoted(&mut self, quote: u8, backslash: bool) -> &'a str {
        self.at += 1;
        let from = self.at;
        while let Some(byte) = self.ahead(0) {
            if backslash && byte == b'\\' {
                self.at += 2;
            } else if byte != quote {
                self.at += 1;
            } else if self.ahead(1) == Some(quote) {
                self.at += 2;
            } else {
                let text = self.since(from);
                self.at += 1;
                return text;
            }
        }
        self.at = self.sql.len();
        self.since(from)
    }

    /// Takes `$1`, `$tag$ … $tag$`, or just the `$` where neither is there.
    fn take_dollar(&mut self) -> Token<'a> {
        let from = self.at;
        self.at += 1;
        if self.ahead(0).is_some_and(|byte| byte.is_ascii_digit()) {
            self.skip_while(|byte| byte.is_ascii_digit());
            return Token::Parameter;
        }
        self.skip_while(|byte| is_in_word(byte) && byte != b'$');
        if self.ahead(0) != Some(b'$') {
            self.at = from + 1;
            return Token::Other(b'$');
        }
        self.at += 1;
        let tag = self.since(from);
        let rest = self.sql.get(self.at..).unwrap_or_default();
        self.at = rest.find(tag).map_or(self.sql.len(), |end| self.at + end + tag.len());
        Token::Literal
    }

    fn take_number(&mut self) {
        self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.');
        let exponent = self.at.checked_sub(1).and_then(|last| self.bytes().get(last));
        if matches!(exponent, Some(b'e' | b'E')) && matches!(self.ahead(0), Some(b'+' | b'-')) {
            self.at += 1;
            self.skip_while(|byte| byte.is_ascii_digit());
        }
    }
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

fn is_in_word(byte: u8) -> bool {
    begins_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

/// A vertical tab is white space to PostgreSQL, not to `is_ascii_whitespace`.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == b'\x0b'
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            self.start = self.at;
            let byte = self.ahead(0)?;
            return Some(match byte {
                byte if begins_word(byte) => {
                    if matches!(byte, b'e' | b'E') && self.ahead(1) == Some(b'\'') {
                        self.at += 1;
                        self.take_quoted(b'\'', true);
                        return Some(Token::Literal);
                    }
                    self.skip_while(is_in_word);
                    Token::Word(self.since(self.start))
                }
                byte if is_space(byte) => {
                    self.at += 1;
                    continue;
                }
                b'"' => Token::Quoted(self.take_quoted(b'"', false)),
                b'\'' => {
                    self.take_quoted(b'\'', false);
                    Token::Literal
                }
                b'$' => self.take_dollar(),
                b'0'..=b'9' => {
                    self.take_number();
                    Token::Literal
                }
                b'-' if self.ahead(1) == Some(b'-') => {
                    self.skip_while(|byte| byte != b'\n' && byte != b'\r');
                    continue;
                }
                b'/' if self.ahead(1) == Some(b'*') => {
                    self.skip_block_comment();
                    continue;
                }
                other => {
                    self.at += 1;
                    match other {
                        b'(' | b'[' => Token::Open,
                        b')' | b']' => Token::Close,
                        b',' => Token::Comma,
                        b';' => Token::End,
                        other => Token::Other(other),
                    }
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(sql: &str) -> Vec<Token<'_>> {
        Tokens::new(sql).collect()
    }

    #[test]
    fn tells_words_from_what_is_quoted() {
        use Token::{Comma, Literal, Other, Parameter, Quoted, Word};
        let sql = "SELECT \"a\"\"b\", 'it''s', E'\\'', $$; $$, $t$ $$ $t$, $12, 1.5e-7, x_1$ -- , y\n/* /* */ , */ *";
        let expected = [
            Word("SELECT"),
            Quoted("a\"\"b"),
            Comma,
            Literal,
            Comma,
            Literal,
            Comma,
            Literal,
            Comma,
            Literal,
            Comma,
            Parameter,
            Comma,
            Literal,
            Comma,
            Word("x_1$"),
            Other(b'*'),
        ];
        assert_eq!(tokens(sql), expected);
    }

    #[test]
    fn what_is_not_closed_goes_to_the_end() {
        assert_eq!(tokens("'a; b"), [Token::Literal]);
        assert_eq!(tokens("E'\\"), [Token::Literal]);
        assert_eq!(tokens("\"a; b"), [Token::Quoted("a; b")]);
        assert_eq!(tokens("$x$ a"), [Token::Literal]);
        assert_eq!(tokens("$"), [Token::Other(b'$')]);
        assert_eq!(tokens("/* a"), []);
    }

    #[test]
    fn letters_beyond_ascii_are_part_of_words() {
        assert_eq!(tokens("größe,é"), [Token::Word("größe"), Token::Comma, Token::Word("é")]);
    }

    proptest::proptest! {
        #[test]
        fn spans_follow_each_other_and_end_between_characters(sql in "[-;'\"$/*a-zE0-9. \\\\\n\u{b}é(),]{0,60}") {
            let mut tokens = Tokens::new(&sql);
            let mut last = 0;
            while tokens.next().is_some() {
                let (start, end) = tokens.span();
                assert!(last <= start && start < end && sql.get(start..end).is_some());
                last = end;
            }
        }
    }
}
