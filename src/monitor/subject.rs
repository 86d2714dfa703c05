//! What a statement does and to which table, as its words tell.

use crate::sql::{Token, is};

/// What is not one of PostgreSQL's commands.
pub(crate) const OTHER: &str = "_OTHER";

/// PostgreSQL's commands: metrics are labelled by them, so they have to be few.
const OPERATIONS: [&str; 51] = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "WITH",
    "SAVEPOINT",
    "RELEASE",
    "SET",
    "MERGE",
    "COPY",
    "CALL",
    "DO",
    "LOCK",
    "NOTIFY",
    "LISTEN",
    "UNLISTEN",
    "SHOW",
    "EXPLAIN",
    "VALUES",
    "TABLE",
    "START",
    "END",
    "ABORT",
    "RESET",
    "CREATE",
    "ALTER",
    "DROP",
    "TRUNCATE",
    "ANALYZE",
    "VACUUM",
    "REFRESH",
    "REINDEX",
    "CLUSTER",
    "DECLARE",
    "FETCH",
    "MOVE",
    "CLOSE",
    "PREPARE",
    "EXECUTE",
    "DEALLOCATE",
    "DISCARD",
    "COMMENT",
    "GRANT",
    "REVOKE",
    "REASSIGN",
    "IMPORT",
    "CHECKPOINT",
    "LOAD",
];

/// What the text is about.
pub(super) struct Subject<'a> {
    pub(super) operation: &'static str,
    place: Place,
    /// The keyword behind which the table is named.
    keyword: &'static str,
    /// The name of the first common table expression.
    cte: Option<&'a str>,
    table: Option<Found>,
}

#[derive(Clone, Copy)]
struct Found {
    start: usize,
    end: usize,
    /// In how many brackets.
    depth: usize,
}

enum Place {
    /// Before the first word.
    Start,
    /// Behind WITH, before the main statement.
    With,
    /// Before the keyword.
    Before,
    /// Where a table is named.
    Name,
    /// Behind a name, which may go on with a dot.
    Behind { of: Option<Found>, dot: bool },
    /// Every name is one that was made up: of savepoints and cursors.
    MadeUp,
    /// Behind SET, before the value.
    Setting,
    /// A setting's value, which may be a word.
    Value,
    /// There is nothing more to learn of this statement.
    End,
    /// Before the first word of a further statement, of which only the values of SET are of interest.
    Further,
    /// In a further ALTER, which may have a SET.
    Alters,
}

impl<'a> Subject<'a> {
    pub(super) fn new() -> Subject<'a> {
        Subject { operation: OTHER, place: Place::Start, keyword: "", cte: None, table: None }
    }

    /// As written.
    pub(super) fn table(&self, sql: &'a str) -> Option<&'a str> {
        self.table.and_then(|found| sql.get(found.start..found.end))
    }

    /// Whether the token is a name that was made up.
    pub(super) fn see(&mut self, token: Token<'a>, span: (usize, usize), depth: usize) -> bool {
        match (&self.place, token) {
            (_, Token::End) if !matches!(self.place, Place::Start) => {
                self.end();
                self.place = Place::Further;
            }
            (Place::End, _) => {}
            (Place::Further, _) => {
                self.place = match token.word() {
                    Some(word) if is(word, "SET") => Place::Setting,
                    Some(word) if is(word, "ALTER") => Place::Alters,
                    _ => Place::End,
                };
            }
            (Place::Alters, _) => {
                if token.word().is_some_and(|word| is(word, "SET")) {
                    self.place = Place::Setting;
                }
            }
            (Place::Setting, Token::Other(b'=')) => self.place = Place::Value,
            (Place::Setting, Token::Word(word)) => {
                if ["TO", "ZONE", "ROLE", "AUTHORIZATION"].iter().any(|it| is(word, it)) {
                    self.place = Place::Value;
                }
            }
            (Place::Setting, _) => {}
            (Place::Value, _) => return token.word().is_some(),
            (Place::Start, Token::Word(word)) => self.begins(word),
            (Place::Start, _) => {}
            (Place::MadeUp, Token::Word(word))
                if self.operation == "DECLARE" && is(word, "FOR") =>
            {
                (self.keyword, self.place) = ("FROM", Place::Before);
            }
            (Place::MadeUp, _) => {
                const FIXED: [&str; 24] = [
                    "SAVEPOINT",
                    "TO",
                    "WORK",
                    "TRANSACTION",
                    "AND",
                    "NO",
                    "CHAIN",
                    "PREPARED",
                    "BINARY",
                    "ASENSITIVE",
                    "INSENSITIVE",
                    "SCROLL",
                    "CURSOR",
                    "WITH",
                    "WITHOUT",
                    "HOLD",
                    "FORWARD",
                    "BACKWARD",
                    "FROM",
                    "IN",
                    "ALL",
                    "NEXT",
                    "PRIOR",
                    "FIRST",
                ];
                return token.word().is_some_and(|word| !FIXED.iter().any(|fixed| is(word, fixed)));
            }
            (Place::With, _) => self.with(token, depth),
            (Place::Before, Token::Word(word)) => {
                // ALTER SYSTEM, of a role, of a database.
                if self.operation == "ALTER" && self.table.is_none() && is(word, "SET") {
                    self.place = Place::Setting;
                } else if is(word, self.keyword)
                    && self.table.is_none_or(|found| depth < found.depth)
                {
                    self.place = Place::Name;
                }
            }
            (Place::Before, _) => {}
            (Place::Name, _) => self.names(token, span, depth),
            (Place::Behind { of, dot }, _) => {
                let (of, dot) = (*of, *dot);
                self.behind(of, dot, token, span, depth);
            }
        }
        false
    }

    pub(super) fn end(&mut self) {
        if let Place::Behind { of, .. } = self.place {
            self.table = of.or(self.table);
        }
        self.place = Place::End;
    }

    fn begins(&mut self, word: &str) {
        let known = OPERATIONS.into_iter().find(|operation| is(word, operation));
        self.operation = known.unwrap_or(OTHER);
        (self.keyword, self.place) = match self.operation {
            "SELECT" | "DELETE" => ("FROM", Place::Before),
            "INSERT" | "MERGE" => ("INTO", Place::Before),
            "UPDATE" | "COPY" | "TRUNCATE" | "LOCK" | "TABLE" => ("", Place::Name),
            "CREATE" | "ALTER" | "DROP" => ("TABLE", Place::Before),
            "WITH" => ("FROM", Place::With),
            "SAVEPOINT" | "RELEASE" | "ROLLBACK" | "DECLARE" | "FETCH" | "MOVE" | "CLOSE" => {
                ("", Place::MadeUp)
            }
            "SET" => ("", Place::Setting),
            _ => ("", Place::End),
        };
    }

    /// What the first expression reads is taken until the main statement names something else.
    fn with(&mut self, token: Token<'a>, depth: usize) {
        const MAIN: [&str; 6] = ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES"];
        let Some(word) = token.word() else { return };
        if depth > 0 {
            if is(word, self.keyword) && self.table.is_none() {
                self.place = Place::Name;
            }
        } else if self.cte.is_none() {
            self.cte = (!is(word, "RECURSIVE")).then_some(word);
        } else if MAIN.iter().any(|main| is(word, main)) {
            self.begins(word);
        }
    }

    fn names(&mut self, token: Token<'a>, (start, end): (usize, usize), depth: usize) {
        const SKIPPED: [&str; 6] = ["ONLY", "TABLE", "IF", "NOT", "EXISTS", "LATERAL"];
        match token {
            Token::Word(word) if SKIPPED.iter().any(|skipped| is(word, skipped)) => {}
            Token::Word(_) | Token::Quoted(_) => {
                // The main statement reads what WITH made: the table is the one behind that.
                let made = depth == 0 && self.table.is_some() && token.word() == self.cte;
                let of = (!made).then_some(Found { start, end, depth });
                self.place = Place::Behind { of, dot: false };
            }
            _ => self.place = self.seeking(depth),
        }
    }

    fn behind(
        &mut self,
        of: Option<Found>,
        dot: bool,
        token: Token<'a>,
        (_, end): (usize, usize),
        depth: usize,
    ) {
        match (token, of) {
            (Token::Other(b'.'), _) => self.place = Place::Behind { of, dot: true },
            (Token::Word(_) | Token::Quoted(_), Some(found)) if dot => {
                self.place = Place::Behind { of: Some(Found { end, ..found }), dot: false };
            }
            // A function that gives rows.
            (Token::Open, _) if self.keyword == "FROM" => self.place = self.seeking(depth),
            (_, of) => {
                self.table = of.or(self.table);
                self.place = self.seeking(depth);
                // It may be the keyword's or the main statement's turn already.
                if let (Place::With, false) = (&self.place, token == Token::Close) {
                    self.with(token, depth);
                }
            }
        }
    }

    fn seeking(&self, depth: usize) -> Place {
        match self.operation {
            "WITH" => Place::With,
            _ if self.keyword.is_empty() => Place::End,
            // Nothing is further out.
            _ if self.table.is_some() && depth == 0 => Place::End,
            _ => Place::Before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fingerprint::outline, OTHER};

    #[test]
    fn operation_and_table_are_found() {
        for (sql, operation, table) in [
            ("SELECT a FROM t", "SELECT", Some("t")),
            ("select a from \"s\".\"t\" where b = 1", "SELECT", Some("\"s\".\"t\"")),
            (
                "SELECT (SELECT max(x) FROM inner_t), 1 FROM outer_t JOIN z ON 1 = 1",
                "SELECT",
                Some("outer_t"),
            ),
            ("SELECT count(*) FROM (SELECT a FROM t WHERE b = $1) AS sub", "SELECT", Some("t")),
            ("SELECT * FROM generate_series(1, 10)", "SELECT", None),
            ("SELECT * FROM generate_series(1, 10) g, t", "SELECT", None),
            ("SELECT extract(year FROM at) FROM ONLY visits", "SELECT", Some("visits")),
            ("SELECT 1", "SELECT", None),
            ("INSERT INTO t (a) VALUES (1)", "INSERT", Some("t")),
            ("INSERT INTO s.t SELECT * FROM u", "INSERT", Some("s.t")),
            ("UPDATE ONLY t SET a = 1 FROM u", "UPDATE", Some("t")),
            ("DELETE FROM t USING u", "DELETE", Some("t")),
            ("MERGE INTO t USING u ON 1 = 1", "MERGE", Some("t")),
            ("WITH x AS (SELECT a FROM t) SELECT * FROM x", "SELECT", Some("t")),
            (
                "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n FROM x) SELECT * FROM y",
                "SELECT",
                Some("y"),
            ),
            (
                "WITH x AS (SELECT a FROM t), y AS (SELECT 1) INSERT INTO z SELECT * FROM x",
                "INSERT",
                Some("z"),
            ),
            ("COPY t (a, b) FROM STDIN", "COPY", Some("t")),
            ("COPY (SELECT 1) TO STDOUT", "COPY", None),
            ("TRUNCATE TABLE t", "TRUNCATE", Some("t")),
            ("CREATE TABLE IF NOT EXISTS t (id int)", "CREATE", Some("t")),
            ("DROP TABLE IF EXISTS \"a.b\"", "DROP", Some("\"a.b\"")),
            ("CREATE INDEX i ON t (a)", "CREATE", None),
            (
                "DECLARE c NO SCROLL CURSOR FOR SELECT (SELECT 1 FROM u) FROM t",
                "DECLARE",
                Some("t"),
            ),
            ("FETCH FORWARD 100 FROM c", "FETCH", None),
            ("BEGIN READ ONLY; SELECT 1 FROM t", "BEGIN", None),
            (" ; SELECT 1 FROM t", "SELECT", Some("t")),
            ("/* hint */ SELECT 1 FROM t;", "SELECT", Some("t")),
            ("(SELECT a FROM t) UNION (SELECT b FROM u)", "SELECT", Some("t")),
            ("frobnicate", OTHER, None),
            ("", OTHER, None),
        ] {
            let outline = outline(sql);
            assert_eq!((outline.operation, outline.table), (operation, table), "{sql}");
        }
    }
}
