//! The rows of one statement as PostgreSQL writes them, whatever their types.

use futures_util::TryStreamExt as _;
use sea_orm::DbErr;
use sqlx::{
    AssertSqlSafe, Column as _, Either, Executor as _, Row as _, SqlSafeStr as _, Statement as _,
    TypeInfo as _, ValueRef as _, postgres::PgRow,
};

use super::lent::{Lent, runtime};

/// What a statement gave.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) columns: Vec<Column>,
    /// A value that is NULL is `None`.
    pub(crate) rows: Vec<Vec<Option<String>>>,
    /// There were more than were asked for.
    pub(crate) more: bool,
    /// What it changed, or gave.
    pub(crate) affected: u64,
}

#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// PostgreSQL's name of its type, as in `INT4`.
    pub(crate) kind: String,
}

impl Lent {
    /// Runs one statement, for up to so many of its rows. Two round trips: it is prepared first, for
    /// the names of its columns, and so that a text of several statements is refused; it then runs
    /// unprepared, for only so does the driver ask for text.
    ///
    /// Rows that are not wanted are not read: the connection is not of use after that until it is
    /// repaired.
    pub(crate) async fn text_rows(
        &mut self,
        sql: &str,
        most: Option<usize>,
    ) -> Result<Rows, DbErr> {
        let failed = |error| DbErr::Query(runtime(error));
        let mut given = Rows::default();
        let flight = self.in_flight()?;
        let text = AssertSqlSafe(sql.to_owned()).into_sql_str();
        let prepared = flight.wait.until(flight.driver.prepare(text)).await.map(|statement| {
            let columns = statement.columns().iter();
            given.columns = columns
                .map(|column| Column {
                    name: column.name().to_owned(),
                    kind: column.type_info().name().to_owned(),
                })
                .collect();
        });
        flight.land(prepared).map_err(failed)?;
        let flight = self.statement(sql, None)?;
        let mut results = flight.driver.fetch_many(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())));
        let read = loop {
            match flight.wait.until(results.try_next()).await {
                Ok(Some(Either::Left(done))) => given.affected += done.rows_affected(),
                Ok(Some(Either::Right(row))) if most.is_none_or(|most| given.rows.len() < most) => {
                    match texts(&row) {
                        Ok(row) => given.rows.push(row),
                        Err(error) => break Err(error),
                    }
                }
                Ok(Some(Either::Right(_))) => {
                    given.more = true;
                    return Ok(given);
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        drop(results);
        flight.land(read).map_err(failed)?;
        Ok(given)
    }
}

fn texts(row: &PgRow) -> Result<Vec<Option<String>>, sqlx::Error> {
    let text = |at: usize| {
        let value = row.try_get_raw(at)?;
        if value.is_null() {
            return Ok(None);
        }
        let text = value.as_str().map_err(sqlx::Error::Decode)?;
        Ok(Some(text.to_owned()))
    };
    (0..row.len()).map(text).collect()
}
