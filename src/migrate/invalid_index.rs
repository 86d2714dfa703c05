//! The invalid index that a migration's CREATE INDEX CONCURRENTLY leaves when it fails.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};

use crate::{
    error::Error,
    pg::Pg,
    sql::{self, Token, Tokens, is},
};

/// Invalid indexes; those that somebody builds now are not valid yet.
const INVALID: &str = "
SELECT i.indexrelid::int8, n.nspname::text, c.relname::text, coalesce(i.indrelid = to_regclass(nullif($1, '')), false)
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT i.indisvalid
   AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)";

struct Invalid {
    oid: i64,
    schema: String,
    name: String,
    /// It is on the table that was asked for.
    is_on_table: bool,
}

async fn invalid(db: &DatabaseConnection, table: &str) -> Result<Vec<Invalid>, DbErr> {
    let rows = Statement::from_sql_and_values(DbBackend::Postgres, INVALID, [table.into()]);
    let rows = db.query_all_raw(rows).await?;
    let read = |row: &sea_orm::QueryResult| {
        Ok(Invalid {
            oid: row.try_get_by_index(0)?,
            schema: row.try_get_by_index(1)?,
            name: row.try_get_by_index(2)?,
            is_on_table: row.try_get_by_index(3)?,
        })
    };
    rows.iter().map(read).collect()
}

/// Returns the invalid indexes that are there before a migration begins.
pub(super) async fn known(db: &DatabaseConnection) -> Result<Vec<i64>, DbErr> {
    Ok(invalid(db, "").await?.into_iter().map(|it| it.oid).collect())
}

/// Drops the invalid index that the migration's last statement has left: it costs every write, and serves nobody. Others
/// that appeared meanwhile may be somebody else's, so they are only logged.
///
/// `last_statement` is from [`last_statement`], asked before anything else was sent on `db`.
pub(super) async fn drop_own(
    db: &DatabaseConnection,
    last_statement: Option<&str>,
    known: &[i64],
    database: &str,
) -> Result<(), Error> {
    let own = last_statement.and_then(Own::of);
    let table = own.as_ref().map_or("", |own| own.table.as_str());
    for it in invalid(db, table).await? {
        if known.contains(&it.oid) {
            continue;
        }
        let Invalid { schema, name, .. } = &it;
        if own.as_ref().is_some_and(|own| it.is_on_table && own.name == *name) {
            tracing::warn!("database `{database}`: dropping the invalid index {schema}.{name}");
            let (schema, name) = (sql::quote_ident(schema), sql::quote_ident(name));
            let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {schema}.{name}");
            db.execute_unprepared(&drop).await?;
        } else {
            tracing::warn!(
                "database `{database}`: the index {schema}.{name} is invalid; drop it if nobody is building it"
            );
        }
    }
    Ok(())
}

/// Returns the last statement of an idle connection, which `pg_stat_activity` keeps. Asks on another connection.
pub(super) async fn last_statement(pg: &Pg, backend: i32) -> Result<Option<String>, DbErr> {
    let query = "SELECT query FROM pg_stat_activity WHERE pid = $1";
    let query = Statement::from_sql_and_values(DbBackend::Postgres, query, [backend.into()]);
    let row = pg.query_one_raw(query).await?;
    row.map(|row| row.try_get_by_index::<Option<String>>(0)).transpose().map(Option::flatten)
}

/// The index of a CREATE INDEX CONCURRENTLY.
#[derive(Debug, PartialEq, Eq)]
struct Own {
    name: String,
    /// As it is written, for `to_regclass`.
    table: String,
}

impl Own {
    fn of(statement: &str) -> Option<Own> {
        let mut tokens = Tokens::new(statement);
        let takes = |keyword: &str, tokens: &mut Tokens<'_>| {
            let mut ahead = tokens.clone();
            let taken = matches!(ahead.next(), Some(Token::Word(word)) if is(word, keyword));
            if taken {
                *tokens = ahead;
            }
            taken
        };
        if !takes("CREATE", &mut tokens) {
            return None;
        }
        takes("UNIQUE", &mut tokens);
        if !takes("INDEX", &mut tokens) || !takes("CONCURRENTLY", &mut tokens) {
            return None;
        }
        if takes("IF", &mut tokens) {
            takes("NOT", &mut tokens);
            takes("EXISTS", &mut tokens);
        }
        let name = match tokens.next()? {
            Token::Word(on) if is(on, "ON") => return None,
            Token::Word(name) => name.to_lowercase(),
            Token::Quoted(name) => name.replace("\"\"", "\""),
            _ => return None,
        };
        if !takes("ON", &mut tokens) {
            return None;
        }
        takes("ONLY", &mut tokens);
        tokens.next()?;
        let (start, mut end) = tokens.span();
        if tokens.next() == Some(Token::Other(b'.')) {
            tokens.next()?;
            end = tokens.span().1;
        }
        Some(Own { name, table: statement.get(start..end)?.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_a_statement_is_the_one_that_it_names() {
        let own = |sql| Own::of(sql).map(|own| (own.name, own.table));
        let expected = |name: &str, table: &str| Some((name.to_owned(), table.to_owned()));
        assert_eq!(
            own("CREATE UNIQUE INDEX CONCURRENTLY One_n ON one (n)"),
            expected("one_n", "one")
        );
        assert_eq!(
            own(
                "/* why */ create index concurrently if not exists \"A \"\"b\" on only shop.\"T\" (n)"
            ),
            expected("A \"b", "shop.\"T\"")
        );
        for sql in [
            "CREATE INDEX CONCURRENTLY ON one (n)",
            "CREATE INDEX one_n ON one (n)",
            "REINDEX INDEX CONCURRENTLY one_n",
            "SELECT 1",
            "",
        ] {
            assert_eq!(own(sql), None, "{sql}");
        }
    }
}
