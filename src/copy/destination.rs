//! The table that rows are copied into, and how they get there.

use sea_orm::{
    ConnectionTrait, DbBackend, EntityTrait, Statement,
    sea_query::{
        Expr, IntoIden as _, OnConflict, Query, ReturningClause, SchemaName, SelectStatement,
        TableName,
    },
};

use super::{
    CopyError, CopyFault, On, Quiet,
    column::{self, Column},
    literal, shape,
};
use crate::{error::Error, pool::Stopped, session::Session, sql::quote_ident};

/// Where rows of an upsert are first. A session has one at a time, and the statements are of one kind.
const WAITING: &str = "wharf_copy";

pub(super) struct Destination<'a> {
    pub(super) on: On<'a>,
    pub(super) table: TableName,
    /// Those that were named.
    pub(super) columns: Vec<String>,
    pub(super) conflict: Option<OnConflict>,
}

impl<'a> Destination<'a> {
    pub(super) fn of_entity<E: EntityTrait>(on: On<'a>) -> Destination<'a> {
        let entity = E::default();
        let schema = entity.schema_name().map(|name| SchemaName(None, name.to_owned().into_iden()));
        let table = TableName(schema, entity.table_name().into_iden());
        Destination::named(on, table, Vec::new())
    }

    pub(super) fn named(on: On<'a>, table: TableName, columns: Vec<String>) -> Destination<'a> {
        Destination { on, table, columns, conflict: None }
    }

    /// Keeps what was copied, or nothing of it.
    pub(super) async fn finish(
        &self,
        (session, quiet): (Session, Quiet),
        copied: Result<u64, Error>,
    ) -> Result<u64, Error> {
        match copied {
            Ok(rows) => {
                quiet.end(&session).await?;
                session.commit().await?;
                Ok(rows)
            }
            Err(error) => {
                // The server does it by itself, if it cannot be told.
                let _ = session.rollback().await;
                Err(error)
            }
        }
    }

    /// All of it, or nothing: in a session of its own, or in one nested in the caller's.
    pub(super) async fn begin(&self) -> Result<(Session, Quiet), Error> {
        let (session, quiet) = self.on.begin().await?;
        if session.is_read_only() {
            return Err(Error::ReadOnly {
                database: self.on.database().to_owned(),
                what: format!("copying rows into {}", shown(&self.table)),
            });
        }
        Ok((session, quiet))
    }

    pub(super) async fn described(&self, on: &impl ConnectionTrait) -> Result<Vec<Column>, Error> {
        let columns = column::of_table(on, &quoted(&self.table)).await?;
        if columns.is_empty() {
            return Err(self.refused(
                "the table does not exist here; run its migrations, or add its schema to the search path"
                    .to_owned(),
            ));
        }
        Ok(columns)
    }

    /// Those that were named, or all that are not the server's to make.
    pub(super) fn chosen(&self, described: Vec<Column>) -> Result<Vec<Column>, Error> {
        if self.columns.is_empty() {
            return Ok(described.into_iter().filter(|column| !column.generated).collect());
        }
        let chosen = shape::named(&self.columns, &described).map_err(|why| self.refused(why))?;
        Ok(chosen.into_iter().filter_map(|at| described.get(at).cloned()).collect())
    }

    /// Where the rows go first, and how.
    pub(super) async fn begin_copy(
        &self,
        session: &Session,
        columns: &[Column],
        options: &str,
    ) -> Result<Copy, Error> {
        let list: Vec<String> = columns.iter().map(|column| quote_ident(&column.name)).collect();
        let list = list.join(", ");
        let waiting = self.conflict.is_some().then_some(WAITING);
        if let Some(waiting) = waiting {
            let table = quoted(&self.table);
            let create = format!(
                "CREATE TEMPORARY TABLE {waiting} ON COMMIT DROP AS SELECT {list} FROM {table} WITH NO DATA"
            );
            session.own(&create).await?;
        }
        let table = waiting.map_or_else(|| quoted(&self.table), str::to_owned);
        Ok(Copy { sql: format!("COPY {table} ({list}) FROM STDIN ({options})"), waiting })
    }

    pub(super) async fn end_copy(
        &self,
        session: &Session,
        columns: &[Column],
        copy: Copy,
        copied: u64,
    ) -> Result<u64, Error> {
        let Some(waiting) = copy.waiting else { return Ok(copied) };
        let names = || columns.iter().map(|column| column.name.clone());
        let select: SelectStatement =
            Query::select().exprs(names().map(Expr::col)).from(waiting).take();
        let insert = self.insert(names(), select, None)?;
        let insert = Statement::from_string(DbBackend::Postgres, insert);
        let changed = session.execute_raw(insert).await.map_err(|error| {
            CopyError::of_server(self.on.database(), &shown(&self.table), 0, false, error)
        })?;
        session.own(&format!("DROP TABLE {waiting}")).await?;
        Ok(changed.rows_affected())
    }

    /// The text of an INSERT of what `select` gives.
    ///
    /// The values that the rows have for an identity column are kept, as COPY keeps them, also where it is
    /// GENERATED ALWAYS. SeaORM has no words for that.
    pub(super) fn insert(
        &self,
        columns: impl Iterator<Item = String>,
        select: SelectStatement,
        returning: Option<ReturningClause>,
    ) -> Result<String, Error> {
        let mut insert = Query::insert();
        insert.into_table(self.table.clone()).columns(columns);
        let head = literal::sql_of(&insert);
        insert.select_from(select).map_err(|error| self.refused(error.to_string()))?;
        if let Some(conflict) = &self.conflict {
            insert.on_conflict(conflict.clone());
        }
        if let Some(returning) = returning {
            insert.returning(returning);
        }
        let sql = literal::sql_of(&insert);
        Ok(match sql.strip_prefix(&head) {
            Some(rest) => format!("{head} OVERRIDING SYSTEM VALUE{rest}"),
            None => sql,
        })
    }

    pub(super) fn stopped(&self, stopped: Stopped, before: u64, columns: &[Column]) -> Error {
        match stopped {
            Stopped::Server(error) => {
                let in_parts = columns.iter().any(|column| column.in_parts);
                let (database, table) = (self.on.database(), shown(&self.table));
                CopyError::of_server(database, &table, before, in_parts, error).into()
            }
            Stopped::Source(error) => self.mine(error),
        }
    }

    /// An error of the rows, which do not know where they go.
    pub(super) fn mine(&self, error: Error) -> Error {
        match error {
            Error::Copy(mut error) => {
                error.database = self.on.database().to_owned();
                error.table = shown(&self.table);
                Error::Copy(error)
            }
            error => error,
        }
    }

    pub(super) fn refused(&self, why: String) -> Error {
        self.failed(CopyFault::Refused(why))
    }

    pub(super) fn failed(&self, fault: CopyFault) -> Error {
        self.error(fault).into()
    }

    pub(super) fn error(&self, fault: CopyFault) -> CopyError {
        CopyError::new(self.on.database(), &shown(&self.table), fault)
    }
}

/// A COPY statement.
pub(super) struct Copy {
    pub(super) sql: String,
    /// The temporary table that it fills, if it is one.
    waiting: Option<&'static str>,
}

fn quoted(TableName(schema, name): &TableName) -> String {
    let name = quote_ident(&name.to_string());
    match schema {
        Some(SchemaName(_, schema)) => format!("{}.{name}", quote_ident(&schema.to_string())),
        None => name,
    }
}

/// The table as its user names it.
fn shown(TableName(schema, name): &TableName) -> String {
    match schema {
        Some(SchemaName(_, schema)) => format!("{schema}.{name}"),
        None => name.to_string(),
    }
}
