//! A text of several statements.

use crate::sql::{Token, Tokens};

/// One statement of a script.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) sql: String,
    /// Its first line in the file; the file's first one is 1.
    pub(super) line: usize,
}

impl Statement {
    /// A text that is one statement, or is refused by the server.
    pub(super) fn whole(sql: &str) -> Statement {
        Statement { sql: sql.to_owned(), line: 1 }
    }
}

/// The statements of a script, without those that are empty.
pub(super) fn statements(text: &str) -> Vec<Statement> {
    let mut all = Vec::new();
    let mut tokens = Tokens::new(text);
    let mut begin: Option<usize> = None;
    // Of BEGIN ATOMIC … END and CASE … END in it, within which `;` ends nothing.
    let mut depth = 0usize;
    let mut after_begin = false;
    let mut end = 0;
    while let Some(token) = tokens.next() {
        let (start, stop) = tokens.span();
        if token == Token::End && depth == 0 {
            if let Some(begin) = begin.take() {
                push(&mut all, text, begin, end);
            }
            after_begin = false;
            continue;
        }
        begin.get_or_insert(start);
        end = stop;
        if let Token::Word(word) = token {
            let word = word.to_ascii_lowercase();
            match word.as_str() {
                "atomic" if after_begin => depth += 1,
                "case" if depth > 0 => depth += 1,
                "end" if depth > 0 => depth -= 1,
                _ => {}
            }
            after_begin = word == "begin";
        } else {
            after_begin = false;
        }
    }
    if let Some(begin) = begin {
        push(&mut all, text, begin, end);
    }
    all
}

fn push(all: &mut Vec<Statement>, text: &str, begin: usize, end: usize) {
    let line = 1 + text.get(..begin).unwrap_or_default().matches('\n').count();
    let sql = text.get(begin..end).unwrap_or_default().trim_end().to_owned();
    all.push(Statement { sql, line });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_semicolons_that_are_not_quoted() {
        let text = "-- first;\nSELECT ';' AS \"a;b\";;\n\nSELECT $$ ; $$ /* ; */;\n\
                    CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 END; END;\n\
                    SELECT 2 -- last";
        let found = statements(text);
        let shown: Vec<(usize, &str)> = found.iter().map(|it| (it.line, it.sql.as_str())).collect();
        assert_eq!(
            shown,
            [
                (2, "SELECT ';' AS \"a;b\""),
                (4, "SELECT $$ ; $$"),
                (
                    5,
                    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 END; END"
                ),
                (6, "SELECT 2"),
            ]
        );
        assert_eq!(statements(" ; -- nothing\n;"), []);
    }
}
