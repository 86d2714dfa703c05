//! A text of several statements.

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
    let all = crate::sql::statements(text).map(|(start, end)| {
        let line = 1 + text.get(..start).unwrap_or_default().matches('\n').count();
        Statement { sql: text.get(start..end).unwrap_or_default().to_owned(), line }
    });
    all.collect()
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
