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
    /// CREATE INDEX without CONCURRENTLY: nobody can write until it is built.
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
                "nobody can write to {table} while the index is built; CREATE INDEX CONCURRENTLY, in a \
                 migration whose use_transaction() is Some(false)"
            )?,
            Unsafe::NotNullWithoutDefault => write!(
                f,
                "{table} gets a column that is NOT NULL and has no default, which fails where there is a \
                 row; give it a default, or add it nullable, fill it, and then forbid NULL"
            )?,
            Unsafe::SetNotNull => write!(
                f,
                "all of {table} is read with everybody locked out; add CHECK (… IS NOT NULL) NOT VALID, \
                 VALIDATE it in a migration of its own, and then SET NOT NULL, which trusts it"
            )?,
            Unsafe::TypeChange => write!(
                f,
                "all of {table} may be written anew with everybody locked out; add a column of the new \
                 type, copy in batches, and change over"
            )?,
            Unsafe::ConstraintScan => write!(
                f,
                "every row of {table} is checked with writers locked out; add it NOT VALID and VALIDATE \
                 it in a migration of its own"
            )?,
            Unsafe::Rename => write!(
                f,
                "the code that runs now still uses the old name in {table}; add the new one beside it, \
                 and drop the old when nobody uses it"
            )?,
            Unsafe::Drop => write!(
                f,
                "the code that runs now may still use it ({table}), and it is gone for good"
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
    for statement in statements {
        let Some(read) = Read::of(statement) else {
            continue;
        };
        if let Kind::Makes = read.kind {
            made.push(read.table);
            continue;
        }
        let Kind::Unsafe(what) = read.kind else {
            continue;
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
            let statement = statement.clone();
            findings.push(Finding { what, table: read.table, size, statement });
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

struct Read {
    kind: Kind,
    table: String,
}

enum Kind {
    Makes,
    Unsafe(Unsafe),
}

impl Read {
    fn of(statement: &str) -> Option<Read> {
        let words = words(statement);
        let has = |sequence: &[&str]| at(&words, sequence).is_some();
        let after = |sequence: &[&str]| {
            let mut at = at(&words, sequence)? + sequence.len();
            for skipped in ["if", "not", "exists", "only", "concurrently"] {
                if words.get(at).is_some_and(|word| is(word, skipped)) {
                    at += 1;
                }
            }
            name(&words[at..])
        };
        let first = |word: &str| words.first().is_some_and(|it| is(it, word));
        if first("create") && has(&["table"]) {
            return Some(Read { kind: Kind::Makes, table: after(&["table"])? });
        }
        let found = |what: Unsafe, table: String| Some(Read { kind: Kind::Unsafe(what), table });
        if first("create") && has(&["index"]) {
            let on = after(&["on"])?;
            return match has(&["concurrently"]) {
                true => None,
                false => found(Unsafe::IndexBlocksWrites, on),
            };
        }
        if first("drop") && has(&["table"]) {
            return found(Unsafe::Drop, after(&["table"])?);
        }
        if !first("alter") || !has(&["table"]) {
            return None;
        }
        let table = after(&["table"])?;
        if has(&["rename"]) {
            return found(Unsafe::Rename, table);
        }
        if has(&["drop", "column"]) {
            return found(Unsafe::Drop, table);
        }
        if has(&["set", "not", "null"]) {
            return found(Unsafe::SetNotNull, table);
        }
        if has(&["alter", "column"]) && has(&["type"]) {
            return found(Unsafe::TypeChange, table);
        }
        if has(&["add", "column"]) && has(&["not", "null"]) {
            let filled = ["default", "generated", "serial", "bigserial", "smallserial"];
            if !filled.iter().any(|word| has(&[word])) {
                return found(Unsafe::NotNullWithoutDefault, table);
            }
            return None;
        }
        if has(&["add"]) && (has(&["foreign", "key"]) || has(&["check"])) && !has(&["not", "valid"])
        {
            return found(Unsafe::ConstraintScan, table);
        }
        None
    }
}

/// The words of a statement, names in quotes with them.
fn words(statement: &str) -> Vec<String> {
    let tokens = Tokens::new(statement).filter_map(|token| match token {
        Token::Word(word) => Some(word.to_owned()),
        Token::Quoted(text) => Some(format!("\"{text}\"")),
        Token::Other(b'.') => Some(".".to_owned()),
        _ => None,
    });
    tokens.collect()
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
            ("INSERT INTO t VALUES ('ALTER TABLE t DROP COLUMN a')", None),
        ] {
            let found = match Read::of(sql) {
                Some(Read { kind: Kind::Unsafe(what), table }) => Some((what, table)),
                _ => None,
            };
            let expected = expected.map(|(what, table)| (what, table.to_owned()));
            assert_eq!(found, expected, "{sql}");
        }
    }
}
