//! Sends calls of Citus' functions, and explains the server's errors.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, sea_query::TableRef};

use crate::{
    error::{CitusError, Error, driver_error, server_error},
    ext::names_of,
    sql::{quote_ident, quote_literal},
};

/// Whether the database has Citus. The function is the extension's own, in `pg_catalog`, so that it is found whatever
/// the search path is.
pub(crate) const IN_DATABASE: &str = "to_regproc('pg_catalog.citus_version') IS NOT NULL";

impl From<CitusError> for DbErr {
    /// As wharf's other errors pass through SeaORM: [`Error::from`] gives it back.
    fn from(error: CitusError) -> DbErr {
        Error::from(error).into()
    }
}

/// The facts about a database that a step depends on.
pub(super) struct Found {
    pub(super) has_citus: bool,
    /// The first schema of the search path that exists.
    pub(super) schema: Option<String>,
}

pub(super) async fn look(db: &impl ConnectionTrait) -> Result<Found, DbErr> {
    let sql = format!("SELECT {IN_DATABASE}, current_schema()::text");
    let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound("SELECT gave no row".to_owned()))?;
    Ok(Found { has_citus: row.try_get_by_index(0)?, schema: row.try_get_by_index(1)? })
}

/// A table or a schema, with its name as an argument of type regclass or regnamespace.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    shown: String,
    quoted: String,
    /// Whether a database without Citus is an error.
    is_required: bool,
}

impl Subject {
    pub(super) fn table(table: &TableRef) -> Subject {
        let (name, quoted) = names_of(table);
        Subject { shown: format!("table `{name}`"), quoted, is_required: false }
    }

    pub(super) fn schema(name: &str) -> Subject {
        Subject { shown: format!("schema `{name}`"), quoted: quote_ident(name), is_required: false }
    }

    pub(super) fn required(mut self) -> Subject {
        self.is_required = true;
        self
    }

    /// The quoted name as a text.
    pub(super) fn literal(&self) -> String {
        quote_literal(&self.quoted)
    }

    /// Runs `sql`, a SELECT of one of Citus' functions, if the database has Citus. `done` is a participle for the log;
    /// `feature` names the call in the error of a Citus older than `needs`.
    pub(super) async fn tell(
        &self,
        db: &impl ConnectionTrait,
        sql: &str,
        done: &str,
        feature: &'static str,
        needs: &'static str,
    ) -> Result<(), DbErr> {
        self.tell_found(db, &look(db).await?, sql, done, feature, needs).await
    }

    /// The same for a database that is known.
    pub(super) async fn tell_found(
        &self,
        db: &impl ConnectionTrait,
        found: &Found,
        sql: &str,
        done: &str,
        feature: &'static str,
        needs: &'static str,
    ) -> Result<(), DbErr> {
        if found.has_citus {
            let told = db.execute_unprepared(sql).await;
            return told.map(drop).map_err(|error| self.explained(error, feature, needs));
        }
        let subject = &self.shown;
        if self.is_required {
            return Err(CitusError::Missing { subject: subject.clone() }.into());
        }
        // A dry run of migrations reads the statement from here.
        tracing::info!(
            db.statement = sql,
            "{subject} is not {done}, because this database has no Citus"
        );
        Ok(())
    }

    fn explained(&self, source: DbErr, feature: &'static str, needs: &'static str) -> DbErr {
        let Some(said) = driver_error(&source).and_then(server_error) else {
            return source;
        };
        let subject = self.shown.clone();
        // No such function.
        if said.code() == "42883" {
            return CitusError::TooOld { subject, feature, needs, source }.into();
        }
        let more = [said.detail(), said.hint()].into_iter().flatten();
        let more: Vec<&str> = more.map(|text| text.trim_end_matches('.')).collect();
        let reason = match more.is_empty() {
            true => said.message().to_owned(),
            false => format!("{} ({})", said.message(), more.join("; ")),
        };
        CitusError::Refused { subject, reason, source }.into()
    }
}
