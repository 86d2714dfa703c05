//! How what TimescaleDB is told goes to the server.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, sea_query::IntoTableRef};

use super::{
    interval::{Interval, Least},
    refused::explained,
};
use crate::{
    error::{Error, TimescaleError},
    ext::names_of,
    sql::quote_literal,
};

impl From<TimescaleError> for DbErr {
    /// As wharf's other errors pass through SeaORM: [`Error::from`] gives it back.
    fn from(error: TimescaleError) -> DbErr {
        Error::from(error).into()
    }
}

/// A table or view, and what is asked for it.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    kind: &'static str,
    name: String,
    quoted: String,
    /// Those that a unique key has to contain.
    pub(super) columns: Vec<String>,
}

impl Subject {
    pub(super) fn new(kind: &'static str, table: impl IntoTableRef) -> Subject {
        let (name, quoted) = names_of(&table.into_table_ref());
        Subject { kind, name, quoted, columns: Vec::new() }
    }

    /// As an identifier.
    pub(super) fn quoted(&self) -> &str {
        &self.quoted
    }

    /// As an argument of type regclass.
    pub(super) fn literal(&self) -> String {
        quote_literal(&self.quoted)
    }

    /// Statements that give no rows, in one message: all of them are done or none is.
    pub(super) async fn execute(
        &self,
        db: &impl ConnectionTrait,
        feature: &'static str,
        sql: &str,
    ) -> Result<(), DbErr> {
        let done = db.execute_unprepared(sql).await;
        done.map(drop).map_err(|error| self.explained(error, feature))
    }

    /// The one row of a query.
    pub(super) async fn row(
        &self,
        db: &impl ConnectionTrait,
        feature: &'static str,
        sql: String,
    ) -> Result<QueryResult, DbErr> {
        let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await;
        let missing = || DbErr::RecordNotFound(format!("{}: no answer", self.name));
        row.map_err(|error| self.explained(error, feature))?.ok_or_else(missing)
    }

    /// Refuses a span of time before anything is sent.
    pub(super) fn takes(
        &self,
        what: &str,
        interval: Interval,
        least: Least,
    ) -> Result<(), TimescaleError> {
        interval.check(what, least).map_err(|reason| self.out_of_range(reason))
    }

    pub(super) fn out_of_range(&self, reason: String) -> TimescaleError {
        TimescaleError::OutOfRange { subject: self.shown(), reason }
    }

    fn shown(&self) -> String {
        format!("{} `{}`", self.kind, self.name)
    }

    fn explained(&self, error: DbErr, feature: &'static str) -> DbErr {
        explained(error, self.shown(), feature, &self.columns.join(", "))
    }
}
