//! Finds keys that Citus refuses, in a database that need not have it.
//!
//! Which tables are distributed is read from the calls of Citus' functions, and their keys from the catalog of the
//! database in which the migration has been run. With Citus the calls would fail there; without it, they are steps that
//! do nothing, and would fail in production.

use std::collections::{HashMap, HashSet};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};

use super::{
    Finding, Unsafe,
    allow::{Allowed, allowed},
};
use crate::{
    ext::citus,
    migrate::heard::CITUS_ONLY,
    sql::{Token, Tokens, is, statements},
};

const DISTRIBUTE: &str = "create_distributed_table";
const REFERENCE: &str = "create_reference_table";
const UNDISTRIBUTE: &str = "undistribute_table";
const FUNCTIONS: [&str; 5] =
    [DISTRIBUTE, REFERENCE, UNDISTRIBUTE, "citus_schema_distribute", "citus_schema_undistribute"];

/// Whether a statement, in lower case, calls one of Citus' functions and nothing else.
pub(in crate::migrate) fn tells_citus(statement: &str) -> bool {
    let called = statement.strip_prefix("select").map(str::trim_start).unwrap_or_default();
    let called = called.strip_prefix("pg_catalog.").unwrap_or(called);
    FUNCTIONS.iter().any(|name| called.starts_with(name))
}

/// The tables that the migrations have told Citus of, by oid.
#[derive(Default)]
pub(super) struct Citus {
    tables: HashMap<i64, How>,
    /// The indexes and constraints that were reported.
    known: HashSet<String>,
}

/// How a table is kept.
enum How {
    Distributed(Distributed),
    Reference,
}

struct Distributed {
    column: String,
    /// The column's type, by oid.
    kind: Option<i64>,
    shards: Option<String>,
    colocation: Colocation,
    table: String,
}

/// With which tables a table is colocated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Colocation {
    /// With those whose columns have the same type.
    ByType,
    /// With no other that is not told so.
    Alone,
    With(i64),
    /// With those of the same group, as Citus' catalog has it.
    InGroup(i64),
}

/// A call of one of Citus' functions.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    function: &'static str,
    arguments: Vec<(Option<String>, String)>,
}

impl Call {
    fn argument(&self, at: usize, name: &str) -> Option<&str> {
        let is_named = |given: &Option<String>| given.as_deref().is_some_and(|it| is(it, name));
        let named = self.arguments.iter().find(|(given, _)| is_named(given));
        let by_place = || self.arguments.get(at).filter(|(given, _)| given.is_none());
        named.or_else(by_place).map(|(_, value)| value.as_str())
    }
}

impl Citus {
    /// Returns what Citus would refuse now that these statements have been run in `db`, without what was reported before.
    pub(super) async fn findings(
        &mut self,
        db: &impl ConnectionTrait,
        texts: &[String],
    ) -> Result<Vec<Finding>, DbErr> {
        let texts: Vec<&str> =
            texts.iter().map(|text| text.strip_prefix(CITUS_ONLY).unwrap_or(text)).collect();
        for call in texts.iter().flat_map(|text| calls(text)) {
            self.apply(db, &call).await?;
        }
        let mut broken = Vec::new();
        for (oid, how) in &self.tables {
            if let How::Distributed(distributed) = how {
                broken.extend(unique(db, *oid, distributed).await?);
                broken.extend(self.foreign_keys(db, *oid, distributed).await?);
            }
        }
        broken.sort_by(|one, other| (&one.table, &one.name).cmp(&(&other.table, &other.name)));
        let all = || texts.iter().flat_map(|text| statements(text).map(|(a, z)| &text[a..z]));
        let mut findings = Vec::new();
        for Broken { what, table, name, detail, bare } in broken {
            if !self.known.insert(format!("{table} {name}")) {
                continue;
            }
            // A comment is part of a text, and none of its statements.
            let named = || texts.iter().filter(|text| names(text, &bare));
            let verdicts: Vec<Allowed> = named().map(|text| allowed(text, what.rule())).collect();
            if verdicts.contains(&Allowed::Yes) {
                continue;
            }
            let last = all().filter(|statement| names(statement, &bare)).last();
            findings.push(Finding {
                what,
                table,
                size: None,
                statement: last.unwrap_or_default().to_owned(),
                lacks_reason: verdicts.contains(&Allowed::WithoutReason),
                detail: Some(detail),
            });
        }
        Ok(findings)
    }

    /// Takes note of the tables that are distributed in `target`, if that has Citus. `db` has the same tables.
    pub(super) async fn learn_from(
        &mut self,
        target: &impl ConnectionTrait,
        db: &impl ConnectionTrait,
    ) -> Result<(), DbErr> {
        if citus::version(target).await?.is_none() {
            return Ok(());
        }
        // Not tables of a distributed schema, which may have any key.
        let sql = "SELECT logicalrelid::text, column_to_column_name(logicalrelid, partkey), colocationid::int8
                     FROM pg_dist_partition WHERE partkey IS NOT NULL OR repmodel = 't'";
        for row in ask(target, sql, []).await? {
            let table: String = row.try_get_by_index(0)?;
            let Some(oid) = oid_of(db, &table).await?.filter(|oid| !self.tables.contains_key(oid))
            else {
                continue;
            };
            match row.try_get_by_index::<Option<String>>(1)? {
                None => drop(self.tables.insert(oid, How::Reference)),
                Some(column) => {
                    let group = Colocation::InGroup(row.try_get_by_index(2)?);
                    self.distribute(db, oid, &column, None, group).await?;
                }
            }
        }
        // Keys that are broken already are not reported for the pending migrations.
        self.findings(db, &[]).await.map(drop)
    }

    async fn apply(&mut self, db: &impl ConnectionTrait, call: &Call) -> Result<(), DbErr> {
        let Some(table) = call.argument(0, "table_name") else {
            return Ok(());
        };
        let Some(oid) = oid_of(db, table).await? else {
            return Ok(());
        };
        match call.function {
            REFERENCE => drop(self.tables.insert(oid, How::Reference)),
            UNDISTRIBUTE => drop(self.tables.remove(&oid)),
            _ => {
                let Some(column) = call.argument(1, "distribution_column") else {
                    return Ok(());
                };
                let colocation = match call.argument(3, "colocate_with") {
                    None | Some("default") => Colocation::ByType,
                    Some("none") => Colocation::Alone,
                    Some(other) => {
                        oid_of(db, other).await?.map_or(Colocation::Alone, Colocation::With)
                    }
                };
                let shards = call.argument(4, "shard_count");
                self.distribute(db, oid, column, shards, colocation).await?;
            }
        }
        Ok(())
    }

    async fn distribute(
        &mut self,
        db: &impl ConnectionTrait,
        oid: i64,
        column: &str,
        shards: Option<&str>,
        colocation: Colocation,
    ) -> Result<(), DbErr> {
        let sql = "SELECT $1::oid::regclass::text, (SELECT atttypid::int8 FROM pg_attribute \
                           WHERE attrelid = $1::oid AND attname = $2 AND attnum > 0 AND NOT attisdropped)";
        let rows = ask(db, sql, [oid.into(), column.into()]).await?;
        let Some(row) = rows.first() else {
            return Ok(());
        };
        let distributed = Distributed {
            column: column.to_owned(),
            kind: row.try_get_by_index(1)?,
            shards: shards.map(str::to_owned),
            colocation,
            table: row.try_get_by_index(0)?,
        };
        self.tables.insert(oid, How::Distributed(distributed));
        Ok(())
    }

    /// Returns the foreign keys from and to a distributed table that Citus refuses.
    async fn foreign_keys(
        &self,
        db: &impl ConnectionTrait,
        oid: i64,
        distributed: &Distributed,
    ) -> Result<Vec<Broken>, DbErr> {
        let sql = "SELECT c.conname::text, c.conrelid::int8, c.confrelid::int8, c.conrelid::regclass::text, \
                          c.confrelid::regclass::text, r.relname::text
                     FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid
                    WHERE c.contype = 'f' AND $1::oid IN (c.conrelid, c.confrelid) AND c.conparentid = 0";
        let mut broken = Vec::new();
        for row in ask(db, sql, [oid.into()]).await? {
            let name: String = row.try_get_by_index(0)?;
            let (from, to): (i64, i64) = (row.try_get_by_index(1)?, row.try_get_by_index(2)?);
            let table: String = row.try_get_by_index(3)?;
            let target: String = row.try_get_by_index(4)?;
            let reason = match (from == oid, self.tables.get(&to)) {
                // A key between two distributed tables is the referring one's.
                (false, _) => match self.tables.get(&from) {
                    Some(How::Distributed(_)) => continue,
                    _ => "is distributed, and the table itself is not".to_owned(),
                },
                (true, Some(How::Reference)) => continue,
                (true, None) => "is neither distributed before it nor a reference table".to_owned(),
                (true, Some(How::Distributed(_))) if !self.are_colocated(oid, to) => {
                    "is not colocated with it".to_owned()
                }
                (true, Some(How::Distributed(other))) => {
                    let values =
                        [oid.into(), name.as_str().into(), distributed.column.as_str().into()];
                    let pair = "SELECT b.attname::text \
                                  FROM pg_constraint c, unnest(c.conkey, c.confkey) AS k (own, other), \
                                       pg_attribute a, pg_attribute b
                                 WHERE c.conrelid = $1::oid AND c.conname = $2 AND a.attname = $3
                                   AND (a.attrelid, a.attnum) = (c.conrelid, k.own)
                                   AND (b.attrelid, b.attnum) = (c.confrelid, k.other)";
                    let refers_to: Option<String> = match ask(db, pair, values).await?.first() {
                        Some(row) => row.try_get_by_index(0)?,
                        None => None,
                    };
                    if refers_to.as_ref() == Some(&other.column) {
                        continue;
                    }
                    let (own, other) = (&distributed.column, &other.column);
                    format!("is distributed by {other}, to which its column {own} does not refer")
                }
            };
            broken.push(Broken {
                what: Unsafe::CitusForeignKey,
                detail: format!("its foreign key {name} refers to {target}, which {reason}"),
                table,
                name,
                bare: row.try_get_by_index(5)?,
            });
        }
        Ok(broken)
    }

    fn are_colocated(&self, one: i64, other: i64) -> bool {
        let (one, other) = (self.root(one), self.root(other));
        let (Some(a), Some(b)) = (self.distributed(one), self.distributed(other)) else {
            return one == other;
        };
        // A number of shards that is not said is the server's default, which nobody knows here.
        let same_shards = a.shards.is_none() || b.shards.is_none() || a.shards == b.shards;
        let by_type = match (a.colocation, b.colocation) {
            (Colocation::InGroup(a), Colocation::InGroup(b)) => return a == b,
            (Colocation::Alone, _) | (_, Colocation::Alone) => false,
            _ => same_shards && a.kind == b.kind,
        };
        one == other || by_type
    }

    fn distributed(&self, oid: i64) -> Option<&Distributed> {
        match self.tables.get(&oid) {
            Some(How::Distributed(distributed)) => Some(distributed),
            _ => None,
        }
    }

    /// Follows `colocate_with` to the first of a group.
    fn root(&self, mut oid: i64) -> i64 {
        // As often as there are tables: a circle is refused by Citus, and must not hang here.
        for _ in 0..self.tables.len() {
            match self.distributed(oid).map(|it| it.colocation) {
                Some(Colocation::With(next)) => oid = next,
                _ => break,
            }
        }
        oid
    }
}

/// An index or a constraint that breaks a rule.
struct Broken {
    what: Unsafe,
    table: String,
    name: String,
    detail: String,
    /// The table's name without its schema and quotes.
    bare: String,
}

/// Returns the unique indexes of a table that lack its distribution column.
async fn unique(
    db: &impl ConnectionTrait,
    oid: i64,
    distributed: &Distributed,
) -> Result<Vec<Broken>, DbErr> {
    let sql = "SELECT i.indexrelid::regclass::text, r.relname::text, i.indisprimary
                 FROM pg_index i JOIN pg_class r ON r.oid = i.indrelid
                WHERE i.indrelid = $1::oid AND (i.indisunique OR i.indisexclusion)
                  AND NOT EXISTS (
                      SELECT FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
                        JOIN pg_attribute a ON (a.attrelid, a.attnum) = (i.indrelid, k.attnum)
                       WHERE k.place <= i.indnkeyatts AND a.attname = $2)";
    let Distributed { column, table, .. } = distributed;
    let broken = |row: QueryResult| {
        let name: String = row.try_get_by_index(0)?;
        let is_primary: bool = row.try_get_by_index(2)?;
        let kind = if is_primary { "primary key" } else { "unique index" };
        Ok(Broken {
            what: Unsafe::CitusUnique,
            table: table.clone(),
            detail: format!("its {kind} {name} lacks the distribution column {column}"),
            name,
            bare: row.try_get_by_index(1)?,
        })
    };
    let rows = ask(db, sql, [oid.into(), column.as_str().into()]).await?;
    rows.into_iter().map(broken).collect()
}

async fn oid_of(db: &impl ConnectionTrait, table: &str) -> Result<Option<i64>, DbErr> {
    let rows = ask(db, "SELECT to_regclass($1)::oid::int8", [table.into()]).await?;
    Ok(rows.first().map(|row| row.try_get_by_index(0)).transpose()?.flatten())
}

async fn ask(
    db: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<QueryResult>, DbErr> {
    db.query_all_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await
}

/// Whether a statement names a table, as an identifier or in a text.
fn names(statement: &str, table: &str) -> bool {
    let mut tokens = Tokens::new(statement);
    while let Some(token) = tokens.next() {
        let found = match token {
            Token::Word(word) => word.to_lowercase() == table,
            Token::Quoted(name) => name.replace("\"\"", "\"") == table,
            Token::Literal => {
                let (start, end) = tokens.span();
                let text = text(&statement[start..end]);
                text.replace("\"\"", "\"").contains(table)
            }
            _ => false,
        };
        if found {
            return true;
        }
    }
    false
}

/// Returns the calls of Citus' functions in a text, with those of their arguments that are constants.
fn calls(sql: &str) -> Vec<Call> {
    let mut tokens = Tokens::new(sql);
    let mut calls = Vec::new();
    while let Some(token) = tokens.next() {
        let Some(word) = token.word() else { continue };
        let Some(function) = FUNCTIONS[..3].iter().find(|name| is(word, name)) else { continue };
        if tokens.next() != Some(Token::Open) {
            continue;
        }
        let mut call = Call { function, arguments: Vec::new() };
        let (mut depth, mut name, mut value) = (0_usize, None::<String>, None::<String>);
        let mut is_empty = true;
        while let Some(token) = tokens.next() {
            let (start, end) = tokens.span();
            let is_end = depth == 0 && matches!(token, Token::Close | Token::Comma | Token::End);
            if is_end {
                if !is_empty {
                    let value = value.take().unwrap_or_default();
                    call.arguments.push((name.take(), value));
                }
                is_empty = true;
                if token != Token::Comma {
                    break;
                }
                continue;
            }
            is_empty = false;
            match token {
                Token::Open => depth += 1,
                Token::Close => depth -= 1,
                Token::Literal if value.is_none() => value = Some(text(&sql[start..end])),
                // `name => value`, `name := value`; what follows a value is a cast.
                Token::Word(word) if value.is_none() && name.is_none() => {
                    name = Some(word.to_owned());
                }
                _ => {}
            }
        }
        calls.push(call);
    }
    calls
}

/// Returns the value of a constant: `'it''s'`, `E'a\\b'`, a number.
fn text(literal: &str) -> String {
    let (quoted, has_escapes) = match literal.strip_prefix(['E', 'e']) {
        Some(rest) => (rest, true),
        None => (literal, false),
    };
    match quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        Some(inner) if has_escapes => inner.replace("''", "'").replace("\\\\", "\\"),
        Some(inner) => inner.replace("''", "'"),
        None => literal.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(function: &'static str, arguments: &[(Option<&str>, &str)]) -> Call {
        let owned =
            |(name, value): &(Option<&str>, &str)| (name.map(str::to_owned), (*value).to_owned());
        Call { function, arguments: arguments.iter().map(owned).collect() }
    }

    #[test]
    fn what_a_text_tells_citus_is_read_with_its_arguments() {
        let sql = "SELECT 'create_reference_table(1)'; select Create_Distributed_Table('\"it''s\"'::regclass, E'a\\\\b', \
                   colocate_with := 'shop.t', shard_count => 64); SELECT pg_catalog.create_reference_table('c')";
        assert_eq!(
            calls(sql),
            [
                call(
                    DISTRIBUTE,
                    &[
                        (None, "\"it's\""),
                        (None, "a\\b"),
                        (Some("colocate_with"), "shop.t"),
                        (Some("shard_count"), "64"),
                    ]
                ),
                call(REFERENCE, &[(None, "c")]),
            ]
        );
        let one = &calls(sql)[0];
        assert_eq!(one.argument(3, "colocate_with"), Some("shop.t"));
        assert_eq!(one.argument(2, "distribution_type"), None);
    }

    #[test]
    fn a_statement_for_citus_is_known_whatever_its_table_is_called() {
        assert!(tells_citus("select create_reference_table('\"jpg_file\"')"));
        assert!(tells_citus("select pg_catalog.undistribute_table('t')"));
        assert!(!tells_citus("select to_regproc('pg_catalog.citus_version') is not null"));
    }

    #[test]
    fn a_table_is_named_by_an_identifier_or_in_a_text() {
        for (sql, expected) in [
            ("ALTER TABLE Shop.T ADD n int", true),
            ("ALTER TABLE \"T\" ADD n int", false),
            ("SELECT create_reference_table('\"t\"')", true),
            ("SELECT 1 -- t", false),
        ] {
            assert_eq!(names(sql, "t"), expected, "{sql}");
        }
    }
}
