//! The part of a statement's answer that the caller wants: the effect, the first row, all rows.

use futures_util::TryStreamExt as _;
use sea_orm::{DbErr, RuntimeErr};
use sqlx::{
    Executor, PgConnection, Postgres,
    postgres::{PgArguments, PgQueryResult, PgRow},
    query::Query,
};

use super::{lent::Wait, outcome::Ended};

/// A statement that the driver prepares, with its binds.
pub(super) type Prepared = Query<'static, Postgres, PgArguments>;

pub(crate) trait Fetch {
    type Answer: Ended + Send;

    /// A failure as SeaORM has it.
    fn failed(error: RuntimeErr) -> DbErr;

    /// The rows of an answer.
    fn rows(answer: &Self::Answer) -> &[PgRow];

    fn drive(
        driver: &mut PgConnection,
        wait: Wait<'_>,
        query: Prepared,
    ) -> impl Future<Output = Result<Self::Answer, sqlx::Error>> + Send;
}

/// How many rows were affected.
pub(crate) struct Effect;

/// The first row, if there is one.
pub(crate) struct FirstRow;

/// Every row.
pub(crate) struct AllRows;

impl Fetch for Effect {
    type Answer = PgQueryResult;

    fn failed(error: RuntimeErr) -> DbErr {
        DbErr::Exec(error)
    }

    fn rows(_: &PgQueryResult) -> &[PgRow] {
        &[]
    }

    async fn drive(
        driver: &mut PgConnection,
        wait: Wait<'_>,
        query: Prepared,
    ) -> Result<PgQueryResult, sqlx::Error> {
        wait.until(driver.execute(query)).await
    }
}

impl Fetch for FirstRow {
    type Answer = Option<PgRow>;

    fn failed(error: RuntimeErr) -> DbErr {
        DbErr::Query(error)
    }

    fn rows(first: &Option<PgRow>) -> &[PgRow] {
        first.as_slice()
    }

    async fn drive(
        driver: &mut PgConnection,
        wait: Wait<'_>,
        query: Prepared,
    ) -> Result<Option<PgRow>, sqlx::Error> {
        wait.until(driver.fetch_optional(query)).await
    }
}

impl Fetch for AllRows {
    type Answer = Vec<PgRow>;

    fn failed(error: RuntimeErr) -> DbErr {
        DbErr::Query(error)
    }

    fn rows(all: &Vec<PgRow>) -> &[PgRow] {
        all
    }

    /// `socket_timeout` is about silence: it begins anew with each row.
    async fn drive(
        driver: &mut PgConnection,
        wait: Wait<'_>,
        query: Prepared,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        if !wait.has_limit() {
            return wait.until(driver.fetch_all(query)).await;
        }
        let (mut all, mut rows) = (Vec::new(), driver.fetch(query));
        while let Some(row) = wait.until(rows.try_next()).await? {
            all.push(row);
        }
        Ok(all)
    }
}
