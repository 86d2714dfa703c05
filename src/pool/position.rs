//! Where in the WAL a COMMIT is, and how far a standby is when a transaction on it begins: both in messages that are sent anyway.

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Either, Executor as _, PgConnection};

use super::{Lent, Said, ServerId, probe, state::Transaction};
use crate::{causal::Position, statement::Text};

impl Lent {
    /// Sends COMMIT. If reads depend on what was written, it asks in the same message where the COMMIT is in the WAL.
    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        let Some(written) = self.pool.connector.host.written().cloned() else {
            return self.end("COMMIT").await;
        };
        self.state.transaction = Transaction::Ending;
        let sent = Text::new("COMMIT");
        let flight = self.statement(sent, None).map_err(|_| sqlx::Error::PoolClosed)?;
        let answered = flight.wait.until(commit_with_position(flight.driver)).await;
        let (landed, position) = match answered {
            Ok(position) => (Ok(()), position),
            Err(error) => (Err(error), None),
        };
        let landed = flight.land(landed);
        match position {
            Some(position) => written.note(position),
            // It may have happened.
            None => written.note_pending(),
        }
        landed?;
        self.state.transaction = Transaction::None;
        Ok(())
    }

    /// Asks the server for its role and its position. One round trip, two if the login may not read the control file.
    pub(crate) async fn ask_server(&mut self) -> Result<Said, sqlx::Error> {
        let flight = self.in_flight().map_err(|_| sqlx::Error::PoolClosed)?;
        let (landed, said) = match flight.wait.until(Said::ask(flight.driver)).await {
            Ok(said) => (Ok(()), Some(said)),
            Err(error) => (Err(error), None),
        };
        flight.land(landed)?;
        said.ok_or(sqlx::Error::PoolClosed)
    }

    /// The server that a standby's connection leads to.
    pub(crate) fn server(&self) -> ServerId {
        self.open.as_ref().map_or(ServerId::default(), |open| open.memory.server)
    }

    /// Whether it is a connection of a pool that reads on a standby.
    pub(crate) fn is_on_standby(&self) -> bool {
        self.pool.connector.to.is_standby
    }

    /// Whether a standby canceled what ran on it because of its recovery, or was lost.
    pub(crate) fn was_lost_on_standby(&self) -> bool {
        self.is_on_standby() && (self.failed_by_chance() || self.is_broken())
    }

    /// Begins a transaction on a standby by `sql`, whose first row says how far that has replayed. `timeline` is that of the
    /// server, if it is known; else the row has it.
    pub(crate) async fn begin_checked(
        &mut self,
        sql: &str,
        timeline: Option<u32>,
    ) -> Result<Checked, sqlx::Error> {
        self.state.transaction = Transaction::Open;
        let limit = self.standby_limit();
        let sent = Text::new(sql);
        let flight = self.statement(sent, None).map_err(|_| sqlx::Error::PoolClosed)?;
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let answered = flight.wait.at_most(limit).until(flight.driver.fetch_all(query)).await;
        let rows = flight.land(answered)?;
        let first = rows.first();
        Ok(Checked(first.filter(|row| probe::in_recovery(row).is_ok_and(|it| it)).and_then(
            |row| match timeline {
                Some(timeline) => probe::replayed_on(row, timeline),
                None => probe::replayed(row),
            },
        )))
    }
}

/// How far a standby had replayed when a transaction on it began. None if it is no standby, or its timeline is not known.
pub(crate) struct Checked(pub(crate) Option<Position>);

/// Commits, and returns where. An error after the COMMIT has succeeded leaves the position unknown, and no more.
async fn commit_with_position(driver: &mut PgConnection) -> Result<Option<Position>, sqlx::Error> {
    let sql = AssertSqlSafe(format!("COMMIT; {}", probe::WRITTEN));
    let mut answers = driver.fetch_many(sqlx::raw_sql(sql));
    let mut is_committed = false;
    let mut position = None;
    loop {
        match answers.try_next().await {
            Ok(Some(Either::Left(_))) => is_committed = true,
            Ok(Some(Either::Right(row))) => position = probe::written(&row, 0),
            Ok(None) => return Ok(position),
            Err(_) if is_committed => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}
