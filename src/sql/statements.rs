//! The statements of a text that may hold several.

use super::{Token, Tokens, is};

/// Gives where each statement of a text begins and ends, in bytes, without its semicolon.
pub(crate) struct Statements<'a> {
    tokens: Tokens<'a>,
}

/// The statements of a text, without those that are empty. The body of a function by `BEGIN ATOMIC` is part
/// of its statement, as it is to the server.
pub(crate) fn statements(sql: &str) -> Statements<'_> {
    Statements { tokens: Tokens::new(sql) }
}

impl Iterator for Statements<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        let mut span: Option<(usize, usize)> = None;
        let mut head = Head::default();
        let mut parentheses = 0usize;
        let (mut in_body, mut after_begin) = (false, false);
        // In a body, before the first word of a statement: only there END is the body's, and not a CASE's or
        // a column's name.
        let mut is_first = false;
        while let Some(token) = self.tokens.next() {
            let (start, end) = self.tokens.span();
            if token == Token::End && !in_body {
                match span {
                    Some(span) => return Some(span),
                    None => continue,
                }
            }
            span = Some((span.map_or(start, |(start, _)| start), end));
            match token {
                Token::Open => parentheses += 1,
                Token::Close => parentheses = parentheses.saturating_sub(1),
                _ => {}
            }
            let word = match token {
                Token::Word(word) => word,
                _ => "",
            };
            head.take(word);
            if in_body {
                in_body = !(is_first && is(word, "END"));
                is_first = token == Token::End;
            } else if head.creates_function() && parentheses == 0 && after_begin {
                // In parentheses it is a parameter that is called `begin`, of a type that is called `atomic`.
                in_body = is(word, "ATOMIC");
                is_first = in_body;
            }
            after_begin = is(word, "BEGIN");
        }
        span
    }
}

/// The first words of a statement, as far as they tell `CREATE [OR REPLACE] FUNCTION`.
#[derive(Default)]
struct Head {
    words: usize,
    creates: bool,
    is_function: bool,
}

impl Head {
    fn take(&mut self, word: &str) {
        let routine = ["FUNCTION", "PROCEDURE"].iter().any(|it| is(word, it));
        match self.words {
            0 => self.creates = is(word, "CREATE"),
            1 => {
                self.is_function = routine;
                self.creates &= routine || is(word, "OR");
            }
            2 if !self.is_function => self.creates &= is(word, "REPLACE"),
            3 if !self.is_function => self.is_function = routine,
            _ => {}
        }
        self.words += 1;
    }

    fn creates_function(&self) -> bool {
        self.creates && self.is_function
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_functions_body_is_part_of_its_statement_and_nothing_else_is() {
        let all = |sql: &str| -> Vec<String> {
            let texts = statements(sql).filter_map(|(start, end)| sql.get(start..end));
            texts.map(str::to_owned).collect()
        };
        let body = "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; \
                    SELECT CASE WHEN true THEN (SELECT 1) END; END";
        assert_eq!(all(&format!("{body}; SELECT 2;;")), [body, "SELECT 2"]);
        for label in ["AS case", "AS end", "case", "AS \"end\""] {
            let body =
                format!("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 {label}; END");
            assert_eq!(all(&format!("{body}; COMMIT")), [&*body, "COMMIT"]);
        }
        for one in [
            "CREATE TEMP TABLE t (begin int, atomic bool)",
            "CREATE FUNCTION f(begin atomic) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE TABLE function (begin atomic)",
            "SELECT 1 AS begin, atomic FROM t",
        ] {
            assert_eq!(all(&format!("{one}; COMMIT")), [one, "COMMIT"]);
        }
        assert_eq!(all(" ; -- nothing\n;"), Vec::<String>::new());
    }
}
