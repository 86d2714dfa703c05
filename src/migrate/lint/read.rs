//! Reads from a statement's words which tables it creates or changes.

use super::Unsafe;
use crate::sql::{Token, Tokens, is};

/// One action of a statement on a table.
pub(super) struct Read {
    pub(super) kind: Kind,
    pub(super) table: Table,
    pub(super) statement: String,
}

pub(super) enum Kind {
    Makes,
    Unsafe(Unsafe),
    /// Unsafe if one of these functions is volatile.
    Calls(Vec<String>),
}

/// A table as a statement names it.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) written: String,
    /// The same for every spelling.
    pub(super) folded: String,
}

/// A word of a statement: a name with its quotes, a comma or a dot too.
struct Word {
    text: String,
    /// A parenthesis follows.
    calls: bool,
}

impl Word {
    fn is(&self, keyword: &str) -> bool {
        is(&self.text, keyword)
    }
}

impl Read {
    pub(super) fn all(text: &str) -> Vec<Read> {
        statements(text).iter().flat_map(|(text, words)| Read::of(text, words)).collect()
    }

    fn of(text: &str, words: &[Word]) -> Vec<Read> {
        let has = |sequence: &[&str]| at(words, sequence).is_some();
        let after = |sequence: &[&str]| {
            let mut at = at(words, sequence)? + sequence.len();
            for skipped in ["concurrently", "if", "not", "exists", "only"] {
                if words.get(at).is_some_and(|word| word.is(skipped)) {
                    at += 1;
                }
            }
            words.get(at..)
        };
        let first = |word: &str| words.first().is_some_and(|it| it.is(word));
        let one = |what| vec![Kind::Unsafe(what)];
        let concurrently = has(&["concurrently"]);
        if first("drop") || first("truncate") {
            let of = match first("drop") {
                true => ["table", "view", "schema"].iter().find_map(|it| after(&[it])),
                // The word TABLE may be left out.
                false => after(&["truncate", "table"]).or_else(|| after(&["truncate"])),
            };
            if let Some(names) = of {
                let read = |table| Read {
                    kind: Kind::Unsafe(Unsafe::Drop),
                    table,
                    statement: text.to_owned(),
                };
                return names.split(|word| word.text == ",").filter_map(name).map(read).collect();
            }
        }
        let (kinds, of) = if first("create") && has(&["table"]) {
            (vec![Kind::Makes], after(&["table"]))
        } else if first("create") && has(&["index"]) && !concurrently {
            (one(Unsafe::IndexBlocksWrites), after(&["on"]))
        } else if first("drop") && has(&["index"]) && !concurrently {
            (one(Unsafe::IndexDrop), after(&["index"]))
        } else if first("reindex") && !concurrently {
            let of = ["table", "index", "schema"].iter().find_map(|it| after(&[it]));
            (one(Unsafe::IndexBlocksWrites), of)
        } else if first("cluster") {
            (one(Unsafe::Rewrite), words.get(1..))
        } else if first("vacuum") && has(&["full"]) {
            (one(Unsafe::Rewrite), after(&["full"]))
        } else if first("alter") && has(&["table"]) {
            let of = after(&["table"]);
            let actions = of.unwrap_or_default().split(|word| word.text == ",");
            (actions.flat_map(action).collect(), of)
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

/// Returns what is unsafe in one action of an ALTER TABLE; the first one has the table's name before it.
fn action(words: &[Word]) -> Vec<Kind> {
    let verbs = ["add", "alter", "drop", "rename", "set"];
    let Some(verb) = words.iter().position(|word| verbs.iter().any(|verb| word.is(verb))) else {
        return Vec::new();
    };
    let words = &words[verb..];
    let has = |sequence: &[&str]| at(words, sequence).is_some();
    let second = |wanted: &[&str]| {
        words.get(1).is_some_and(|word| wanted.iter().any(|wanted| word.is(wanted)))
    };
    let unsafe_if = |condition: bool, what| {
        if condition { vec![Kind::Unsafe(what)] } else { Vec::new() }
    };
    let constraint = ["constraint", "foreign", "check", "unique", "primary", "exclude"];
    if words[0].is("rename") {
        return unsafe_if(!second(&["constraint"]), Unsafe::Rename);
    }
    if words[0].is("drop") {
        return unsafe_if(!second(&["constraint"]), Unsafe::Drop);
    }
    if words[0].is("set") {
        return unsafe_if(second(&["logged", "unlogged", "access", "tablespace"]), Unsafe::Rewrite);
    }
    if words[0].is("alter") {
        if has(&["set", "not", "null"]) {
            return vec![Kind::Unsafe(Unsafe::SetNotNull)];
        }
        // Behind the column's name, which may be that word.
        let name = if second(&["column"]) { 2 } else { 1 };
        let is_typed = words.iter().skip(name + 1).any(|word| word.is("type"));
        return unsafe_if(is_typed, Unsafe::TypeChange);
    }
    if !second(&constraint) {
        return column(words);
    }
    if has(&["foreign", "key"]) || has(&["check"]) {
        return unsafe_if(!has(&["not", "valid"]), Unsafe::ConstraintScan);
    }
    unsafe_if(!has(&["using", "index"]), Unsafe::IndexBlocksWrites)
}

/// Returns what is unsafe in ADD COLUMN.
fn column(words: &[Word]) -> Vec<Kind> {
    let has = |sequence: &[&str]| at(words, sequence).is_some();
    let mut kinds = Vec::new();
    let is_serial = ["serial", "bigserial", "smallserial"].iter().any(|word| has(&[word]));
    let is_filled = is_serial || has(&["default"]) || has(&["generated"]);
    if is_serial || has(&["generated"]) && !has(&["virtual"]) {
        kinds.push(Kind::Unsafe(Unsafe::Rewrite));
    }
    if let Some(default) = at(words, &["default"]) {
        let called = words[default + 1..].iter().filter(|word| word.calls);
        kinds.push(Kind::Calls(called.map(|word| folded(&word.text)).collect()));
    }
    if has(&["not", "null"]) && !is_filled {
        kinds.push(Kind::Unsafe(Unsafe::NotNullWithoutDefault));
    }
    if has(&["unique"]) || has(&["primary", "key"]) {
        kinds.push(Kind::Unsafe(Unsafe::IndexBlocksWrites));
    }
    if has(&["check"]) {
        kinds.push(Kind::Unsafe(Unsafe::ConstraintScan));
    }
    kinds
}

/// Returns the statements of a text with their words. Of the commas, only those that separate actions are words.
fn statements(text: &str) -> Vec<(String, Vec<Word>)> {
    let mut all = Vec::new();
    let (mut words, mut begin, mut depth) = (Vec::<Word>::new(), 0, 0_usize);
    let mut tokens = Tokens::new(text);
    while let Some(token) = tokens.next() {
        let word = match token {
            Token::Word(word) => word.to_owned(),
            Token::Quoted(name) => format!("\"{name}\""),
            Token::Other(b'.') => ".".to_owned(),
            Token::Comma if depth == 0 => ",".to_owned(),
            Token::Open => {
                let (start, _) = tokens.span();
                if let Some(last) = words.last_mut().filter(|_| is_call(&text[..start])) {
                    last.calls = true;
                }
                depth += 1;
                continue;
            }
            Token::Close => {
                depth = depth.saturating_sub(1);
                continue;
            }
            Token::End => {
                let (start, end) = tokens.span();
                all.push((text[begin..start].trim().to_owned(), std::mem::take(&mut words)));
                (begin, depth) = (end, 0);
                continue;
            }
            _ => continue,
        };
        words.push(Word { text: word, calls: false });
    }
    all.push((text[begin..].trim().to_owned(), words));
    all
}

/// Whether a parenthesis after this text belongs to a name, and not to an operator or a comma.
fn is_call(before: &str) -> bool {
    let last = before.trim_end().chars().next_back();
    last.is_some_and(|last| last.is_alphanumeric() || matches!(last, '_' | '"' | '$'))
}

fn at(words: &[Word], sequence: &[&str]) -> Option<usize> {
    let matches = |here: &[Word]| here.iter().zip(sequence).all(|(word, wanted)| word.is(wanted));
    words.windows(sequence.len()).position(matches)
}

/// Returns a name at the beginning of the words, with its schema if it has one.
fn name(words: &[Word]) -> Option<Table> {
    let written = match words {
        [schema, dot, table, ..] if dot.text == "." => format!("{}.{}", schema.text, table.text),
        [table, ..] => table.text.clone(),
        [] => return None,
    };
    let folded = match words {
        [schema, dot, table, ..] if dot.text == "." => {
            format!("{}.{}", folded(&schema.text), folded(&table.text))
        }
        _ => folded(&written),
    };
    Some(Table { written, folded })
}

/// A name as the catalog has it.
fn folded(word: &str) -> String {
    match word.strip_prefix('"').and_then(|word| word.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => word.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sql: &str) -> Vec<(Unsafe, String)> {
        let unsafe_one = |read: Read| match read.kind {
            Kind::Unsafe(what) => Some((what, read.table.written)),
            Kind::Makes | Kind::Calls(_) => None,
        };
        Read::all(sql).into_iter().filter_map(unsafe_one).collect()
    }

    fn called(sql: &str) -> Vec<String> {
        let called = |read: Read| match read.kind {
            Kind::Calls(called) => called,
            Kind::Makes | Kind::Unsafe(_) => Vec::new(),
        };
        Read::all(sql).into_iter().flat_map(called).collect()
    }

    #[test]
    fn what_is_unsafe_is_known_by_its_words() {
        use Unsafe::{
            ConstraintScan, Drop, IndexBlocksWrites, IndexDrop, NotNullWithoutDefault, Rename,
            Rewrite, SetNotNull, TypeChange,
        };
        for (sql, expected) in [
            ("CREATE INDEX i ON \"order\" (at)", vec![(IndexBlocksWrites, "\"order\"")]),
            (
                "CREATE UNIQUE INDEX IF NOT EXISTS i ON shop.t (at)",
                vec![(IndexBlocksWrites, "shop.t")],
            ),
            ("CREATE INDEX CONCURRENTLY i ON t (at)", vec![]),
            ("REINDEX TABLE t", vec![(IndexBlocksWrites, "t")]),
            ("REINDEX INDEX CONCURRENTLY i", vec![]),
            ("DROP INDEX IF EXISTS i", vec![(IndexDrop, "i")]),
            ("DROP INDEX CONCURRENTLY i", vec![]),
            ("ALTER TABLE t ADD COLUMN a int NOT NULL", vec![(NotNullWithoutDefault, "t")]),
            ("ALTER TABLE t ADD COLUMN a int NOT NULL DEFAULT 1", vec![]),
            ("ALTER TABLE t ADD COLUMN a bigserial NOT NULL", vec![(Rewrite, "t")]),
            ("ALTER TABLE t ADD a int GENERATED ALWAYS AS (b + 1) STORED", vec![(Rewrite, "t")]),
            ("ALTER TABLE t ADD a int GENERATED ALWAYS AS (b + 1) VIRTUAL", vec![]),
            ("ALTER TABLE t ADD a int GENERATED BY DEFAULT AS IDENTITY", vec![(Rewrite, "t")]),
            ("ALTER TABLE t ADD a int UNIQUE", vec![(IndexBlocksWrites, "t")]),
            ("ALTER TABLE t ADD a int CHECK (a > 0)", vec![(ConstraintScan, "t")]),
            ("ALTER TABLE t SET UNLOGGED", vec![(Rewrite, "t")]),
            ("ALTER TABLE t SET (fillfactor = 70)", vec![]),
            ("CLUSTER t USING i", vec![(Rewrite, "t")]),
            ("VACUUM FULL t", vec![(Rewrite, "t")]),
            ("alter table only t alter column a set not null", vec![(SetNotNull, "t")]),
            ("ALTER TABLE t ALTER COLUMN a TYPE bigint", vec![(TypeChange, "t")]),
            ("ALTER TABLE t RENAME COLUMN a TO b", vec![(Rename, "t")]),
            ("ALTER TABLE t RENAME CONSTRAINT a TO b", vec![]),
            ("ALTER TABLE t RENAME TO u", vec![(Rename, "t")]),
            ("ALTER TABLE t DROP COLUMN a", vec![(Drop, "t")]),
            ("DROP TABLE IF EXISTS t, shop.u CASCADE", vec![(Drop, "t"), (Drop, "shop.u")]),
            ("DROP SCHEMA shop", vec![(Drop, "shop")]),
            ("TRUNCATE t", vec![(Drop, "t")]),
            (
                "ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES u (a)",
                vec![(ConstraintScan, "t")],
            ),
            ("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID", vec![]),
            ("ALTER TABLE t ADD COLUMN a text", vec![]),
            ("ALTER TABLE t ADD a int NOT NULL", vec![(NotNullWithoutDefault, "t")]),
            ("ALTER TABLE t DROP CONSTRAINT c", vec![]),
            ("ALTER TABLE t ALTER COLUMN type DROP DEFAULT", vec![]),
            ("ALTER TABLE t ADD CONSTRAINT c UNIQUE (a)", vec![(IndexBlocksWrites, "t")]),
            ("ALTER TABLE t ADD CONSTRAINT c UNIQUE USING INDEX i", vec![]),
            ("INSERT INTO t VALUES ('ALTER TABLE t DROP COLUMN a')", vec![]),
        ] {
            let expected = expected.into_iter().map(|(what, table)| (what, table.to_owned()));
            assert_eq!(found(sql), Vec::from_iter(expected), "{sql}");
        }
    }

    #[test]
    fn the_functions_of_a_default_are_those_that_it_calls() {
        for (sql, expected) in [
            ("ALTER TABLE t ADD a float DEFAULT random()", vec!["random"]),
            ("ALTER TABLE t ADD a numeric(3, 1) DEFAULT (1 + Shop.\"F\" (2) * (3))", vec!["F"]),
            ("ALTER TABLE t ADD a timestamptz DEFAULT CURRENT_TIMESTAMP", vec![]),
            ("ALTER TABLE t ADD a numeric(3, 1)", vec![]),
        ] {
            assert_eq!(called(sql), expected, "{sql}");
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

    #[test]
    fn a_table_is_the_same_in_every_spelling() {
        let folded = |sql| Read::all(sql).remove(0).table.folded;
        assert_eq!(folded("CREATE TABLE \"one\" (n int)"), folded("ALTER TABLE ONE DROP n"));
        assert_ne!(folded("CREATE TABLE \"One\" (n int)"), folded("ALTER TABLE one DROP n"));
    }
}
