//! The rows of one statement as PostgreSQL writes them, whatever their types.

use futures_util::TryStreamExt as _;
use sea_orm::DbErr;
use sqlx::{
    AssertSqlSafe, Column as _, Either, Executor as _, Row as _, SqlSafeStr as _, Statement as _,
    TypeInfo as _, ValueRef as _, postgres::PgRow,
};

use super::lent::{Lent, runtime};
use crate::statement::Text;

/// Takes a statement's rows as they come.
pub(crate) trait TextRows: Send {
    /// What the rows consist of; nothing for a statement without rows.
    fn columns(&mut self, columns: Vec<Column>);

    /// A row, in which NULL is `None`. `false` if no more are wanted.
    fn row(&mut self, row: &[Option<&str>]) -> bool;
}

#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// PostgreSQL's name of its type, as in `INT4`.
    pub(crate) kind: String,
}

impl Column {
    pub(crate) fn is_number(&self) -> bool {
        let numbers = ["INT2", "INT4", "INT8", "OID", "FLOAT4", "FLOAT8", "NUMERIC", "MONEY"];
        numbers.contains(&self.kind.as_str())
    }
}

impl Lent {
    /// Runs one statement and returns how many rows it changed. Its rows go to `rows`, one at a time. Two
    /// round trips: it is prepared first, for the names of its columns, and so that a text of several
    /// statements is refused; it then runs unprepared, for only so does the driver ask for text.
    ///
    /// Rows that are not wanted are not read: the statement is canceled then, with its connection.
    pub(crate) async fn text_rows(
        &mut self,
        sql: &str,
        rows: &mut dyn TextRows,
    ) -> Result<u64, DbErr> {
        let failed = |error| DbErr::Query(runtime(error));
        let mut columns = Vec::new();
        let flight = self.in_flight()?;
        let text = AssertSqlSafe(sql.to_owned()).into_sql_str();
        let prepared = flight.wait.until(flight.driver.prepare(text)).await.map(|statement| {
            let described = statement.columns().iter();
            columns = described
                .map(|column| Column {
                    name: column.name().to_owned(),
                    kind: column.type_info().name().to_owned(),
                })
                .collect();
        });
        flight.land(prepared).map_err(failed)?;
        rows.columns(columns);
        let mut affected = 0;
        let flight = self.statement(Text::new(sql), None)?;
        let mut results = flight.driver.fetch_many(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())));
        let read = loop {
            match flight.wait.until(results.try_next()).await {
                Ok(Some(Either::Left(done))) => affected += done.rows_affected(),
                Ok(Some(Either::Right(row))) => match take(&row, rows) {
                    Ok(true) => {}
                    Ok(false) => return Ok(affected),
                    Err(error) => break Err(error),
                },
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        drop(results);
        flight.land(read).map_err(failed)?;
        Ok(affected)
    }
}

fn take(row: &PgRow, rows: &mut dyn TextRows) -> Result<bool, sqlx::Error> {
    let values: Result<Vec<_>, sqlx::Error> =
        (0..row.len()).map(|at| row.try_get_raw(at)).collect();
    let values = values?;
    let texts: Result<Vec<Option<&str>>, sqlx::Error> = values
        .iter()
        .map(|value| match value.is_null() {
            true => Ok(None),
            false => value.as_str().map(Some).map_err(sqlx::Error::Decode),
        })
        .collect();
    Ok(rows.row(&texts?))
}
