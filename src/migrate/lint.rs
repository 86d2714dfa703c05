//! What is unsafe in a migration while others use the database.

use std::fmt;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use crate::sql::{Token, Tokens, is};

/// Below this size in bytes, a table is written anew or read before anybody notices.
const LARGE: i64 = 8 * 1024 * 1024;

/// One statement that is unsafe, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What kind of trouble it is.
    pub what: Unsafe,
    /// The table.
    pub table: String,
    /// Its size in bytes, where the table is there.
    pub size: Option<i64>,
    /// The statement.
    pub statement: String,
}

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsafe {
    /// CREATE INDEX without CONCURRENTLY, or a constraint that builds one: nobody can write until it is
    /// built.
    IndexBlocksWrites,
    /// A NOT NULL column without a default: it fails where there is a row.
    NotNullWithoutDefault,
    /// SET NOT NULL reads the whole table with everybody locked out.
    SetNotNull,
    /// Another type rewrites the whole table with everybody locked out.
    TypeChange,
    /// A constraint is checked on every row with everybody locked out.
    ConstraintScan,
    /// The code that runs now still uses the old name.
    Rename,
    /// The code that runs now may still use it.
    Drop,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { table, .. } = self;
        match self.what {
            Unsafe::IndexBlocksWrites => write!(
                f,
                "this blocks writes to {table} while the index is built; use CREATE INDEX CONCURRENTLY in a \
                 migration whose use_transaction() is Some(false), then add a constraint USING INDEX"
            )?,
            Unsafe::NotNullWithoutDefault => write!(
                f,
                "{table} gets a column that is NOT NULL and has no default, which fails if the table has \
                 rows; give it a default, or add it nullable, fill it, and then SET NOT NULL"
            )?,
            Unsafe::SetNotNull => write!(
                f,
                "this scans all of {table} while reads and writes are blocked; add CHECK (… IS NOT NULL) NOT \
                 VALID, VALIDATE it in a migration of its own, and then SET NOT NULL, which trusts it"
            )?,
            Unsafe::TypeChange => write!(
                f,
                "this may rewrite all of {table} while reads and writes are blocked; add a column of the new \
                 type, copy the values in batches, and switch to it"
            )?,
            Unsafe::ConstraintScan => write!(
                f,
                "this checks every row of {table} while writes are blocked; add it NOT VALID and VALIDATE it \
                 in a migration of its own"
            )?,
            Unsafe::Rename => write!(
                f,
                "running code still uses the old name in {table}; add the new one beside it, and drop the \
                 old one when no code uses it"
            )?,
            Unsafe::Drop => write!(
                f,
                "running code may still use it ({table}), and its data is lost; drop it when no code uses it"
            )?,
        }
        self.size.map_or(Ok(()), |size| write!(f, " ({} MB)", size / 1_000_000))
    }
}

pub(super) async fn of(
    db: &impl ConnectionTrait,
    statements: &[String],
) -> Result<Vec<Finding>, DbErr> {
    let mut findings = Vec::new();
    // What the migration has made itself, nobody uses yet.
    let mut made: Vec<String> = Vec::new();
    for read in statements.iter().flat_map(|text| Read::all(text)) {
        let what = match read.kind {
            Kind::Makes => {
                made.push(read.table);
                continue;
            }
            Kind::Unsafe(what) => what,
        };
        if made.contains(&read.table) {
            continue;
        }
        let size = size(db, &read.table).await?;
        let large = size.is_some_and(|size| size > LARGE);
        let matters = match what {
            Unsafe::Rename | Unsafe::Drop => true,
            Unsafe::NotNullWithoutDefault => size.is_none_or(|size| size > 0),
            _ => large,
        };
        if matters {
            findings.push(Finding { what, table: read.table, size, statement: read.statement });
        }
    }
    Ok(findings)
}

async fn size(db: &impl ConnectionTrait, table: &str) -> Result<Option<i64>, DbErr> {
    let sql = "SELECT pg_table_size(to_regclass($1))";
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [table.into()]);
    match db.query_one_raw(statement).await? {
        Some(row) => row.try_get_by_index(0),
        None => Ok(None),
    }
}

/// What one step of a text does that matters here.
struct Read {
    kind: Kind,
    table: String,
    statement: String,
}

enum Kind {
    Makes,
    Unsafe(Unsafe),
}

impl Read {
    fn all(text: &str) -> Vec<Read> {
        statements(text).iter().flat_map(|(text, words)| Read::of(text, words)).collect()
    }

    fn of(text: &str, words: &[String]) -> Vec<Read> {
        let has = |sequence: &[&str]| at(words, sequence).is_some();
        let after = |sequence: &[&str]| {
            let mut at = at(words, sequence)? + sequence.len();
            for skipped in ["if", "not", "exists", "only", "concurrently"] {
                if words.get(at).is_some_and(|word| is(word, skipped)) {
                    at += 1;
                }
            }
            words.get(at..)
        };
        let first = |word: &str| words.first().is_some_and(|it| is(it, word));
        let (kinds, of) = if first("create") && has(&["table"]) {
            (vec![Kind::Makes], after(&["table"]))
        } else if first("create") && has(&["index"]) && !has(&["concurrently"]) {
            (vec![Kind::Unsafe(Unsafe::IndexBlocksWrites)], after(&["on"]))
        } else if first("drop") && has(&["table"]) {
            (vec![Kind::Unsafe(Unsafe::Drop)], after(&["table"]))
        } else if first("alter") && has(&["table"]) {
            let of = after(&["table"]);
            let actions = of.unwrap_or_default().split(|word| word == ",");
            (actions.filter_map(action).map(Kind::Unsafe).collect(), of)
        } else {
            return Vec::new();
        };
        let Some(table) = of.and_then(name) else {
            return Vec::new();
        };
        let read = |kind| Read { kind, table: table.clone(), statement: text.to_owned() };
        kinds.into_iter().map(read).collect()
    }
}

/// What is unsafe in one action of an ALTER TABLE; the first one has the table's name before it.
fn action(words: &[String]) -> Option<Unsafe> {
    let verbs = ["add", "alter", "drop", "rename"];
    let verb = words.iter().position(|word| verbs.iter().any(|verb| is(word, verb)))?;
    let words = &words[verb..];
    let has = |sequence: &[&str]| at(words, sequence).is_some();
    let second = |wanted: &[&str]| {
        words.get(1).is_some_and(|word| wanted.iter().any(|wanted| is(word, wanted)))
    };
    let constraint = ["constraint", "foreign", "check", "unique", "primary", "exclude"];
    if is(&words[0], "rename") {
        return Some(Unsafe::Rename);
    }
    if is(&words[0], "drop") {
        return (!second(&["constraint"])).then_some(Unsafe::Drop);
    }
    if is(&words[0], "alter") {
        if has(&["set", "not", "null"]) {
            return Some(Unsafe::SetNotNull);
        }
        // Behind the column's name, which may be that word.
        let name = if second(&["column"]) { 2 } else { 1 };
        let typed = words.iter().skip(name + 1).any(|word| is(word, "type"));
        return typed.then_some(Unsafe::TypeChange);
    }
    if !second(&constraint) {
        let filled = ["default", "generated", "serial", "bigserial", "smallserial"];
        let bare = has(&["not", "null"]) && !filled.iter().any(|word| has(&[word]));
        return bare.then_some(Unsafe::NotNullWithoutDefault);
    }
    if has(&["foreign", "key"]) || has(&["check"]) {
        return (!has(&["not", "valid"])).then_some(Unsafe::ConstraintScan);
    }
    (!has(&["using", "index"])).then_some(Unsafe::IndexBlocksWrites)
}

/// The statements of a text with their words: names in quotes, and the commas that separate actions.
fn statements(text: &str) -> Vec<(String, Vec<String>)> {
    let mut all = Vec::new();
    let (mut words, mut begin, mut depth) = (Vec::new(), 0, 0_usize);
    let mut tokens = Tokens::new(text);
    while let Some(token) = tokens.next() {
        match token {
            Token::Word(word) => words.push(word.to_owned()),
            Token::Quoted(name) => words.push(format!("\"{name}\"")),
            Token::Other(b'.') => words.push(".".to_owned()),
            Token::Open => depth += 1,
            Token::Close => depth = depth.saturating_sub(1),
            Token::Comma if depth == 0 => words.push(",".to_owned()),
            Token::End => {
                let (start, end) = tokens.span();
                all.push((text[begin..start].trim().to_owned(), std::mem::take(&mut words)));
                (begin, depth) = (end, 0);
            }
            _ => {}
        }
    }
    all.push((text[begin..].trim().to_owned(), words));
    all
}

fn at(words: &[String], sequence: &[&str]) -> Option<usize> {
    (0..words.len()).find(|start| {
        let here = words.iter().skip(*start);
        here.take(sequence.len()).zip(sequence).filter(|(word, wanted)| is(word, wanted)).count()
            == sequence.len()
    })
}

/// A name, with its schema where it has one, as it is written.
fn name(words: &[String]) -> Option<String> {
    match words {
        [schema, dot, table, ..] if dot == "." => Some(format!("{schema}.{table}")),
        [table, ..] => Some(table.clone()),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sql: &str) -> Vec<(Unsafe, String)> {
        let unsafe_one = |read: Read| match read.kind {
            Kind::Unsafe(what) => Some((what, read.table)),
            Kind::Makes => None,
        };
        Read::all(sql).into_iter().filter_map(unsafe_one).collect()
    }

    #[test]
    fn what_is_unsafe_is_known_by_its_words() {
        for (sql, expected) in [
            ("CREATE INDEX i ON \"order\" (at)", Some((Unsafe::IndexBlocksWrites, "\"order\""))),
            (
                "CREATE UNIQUE INDEX IF NOT EXISTS i ON shop.t (at)",
                Some((Unsafe::IndexBlocksWrites, "shop.t")),
            ),
            ("CREATE INDEX CONCURRENTLY i ON t (at)", None),
            ("ALTER TABLE t ADD COLUMN a int NOT NULL", Some((Unsafe::NotNullWithoutDefault, "t"))),
            ("ALTER TABLE t ADD COLUMN a int NOT NULL DEFAULT 1", None),
            ("ALTER TABLE t ADD COLUMN a bigserial NOT NULL", None),
            ("alter table only t alter column a set not null", Some((Unsafe::SetNotNull, "t"))),
            ("ALTER TABLE t ALTER COLUMN a TYPE bigint", Some((Unsafe::TypeChange, "t"))),
            ("ALTER TABLE t RENAME COLUMN a TO b", Some((Unsafe::Rename, "t"))),
            ("ALTER TABLE t RENAME TO u", Some((Unsafe::Rename, "t"))),
            ("ALTER TABLE t DROP COLUMN a", Some((Unsafe::Drop, "t"))),
            ("DROP TABLE IF EXISTS t", Some((Unsafe::Drop, "t"))),
            (
                "ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES u (a)",
                Some((Unsafe::ConstraintScan, "t")),
            ),
            ("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID", None),
            ("ALTER TABLE t ADD COLUMN a text", None),
            ("ALTER TABLE t ADD a int NOT NULL", Some((Unsafe::NotNullWithoutDefault, "t"))),
            ("ALTER TABLE t DROP CONSTRAINT c", None),
            ("ALTER TABLE t ALTER COLUMN type DROP DEFAULT", None),
            ("ALTER TABLE t ADD CONSTRAINT c UNIQUE (a)", Some((Unsafe::IndexBlocksWrites, "t"))),
            ("ALTER TABLE t ADD CONSTRAINT c UNIQUE USING INDEX i", None),
            ("INSERT INTO t VALUES ('ALTER TABLE t DROP COLUMN a')", None),
        ] {
            let expected = expected.map(|(what, table)| (what, table.to_owned()));
            assert_eq!(found(sql), Vec::from_iter(expected), "{sql}");
        }
    }

    #[test]
    fn every_statement_of_a_text_and_every_action_of_one_is_looked_at() {
        let text = "UPDATE t SET a = ';'; ALTER TABLE t DROP COLUMN a, ADD COLUMN b numeric(3, 1) NOT NULL; \
                    DROP TABLE u";
        let all: Vec<_> = found(text).into_iter().map(|(what, _)| what).collect();
        assert_eq!(all, [Unsafe::Drop, Unsafe::NotNullWithoutDefault, Unsafe::Drop]);
        assert_eq!(Read::all(text)[2].statement, "DROP TABLE u");
    }
}
