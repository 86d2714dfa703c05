//! A query whose answer the server keeps.

use std::fmt::Write as _;

use sea_orm::{
    ConnectionTrait, DbErr,
    sea_query::{IntoTableRef, PostgresQueryBuilder, SelectStatement},
};

use super::{
    interval::{Interval, Least},
    statement::Subject,
};

/// A continuous aggregate: a view that groups a hypertable by [`time_bucket`](super::time_bucket), of which
/// the server keeps the rows and computes anew only the buckets that changed. Community licence.
///
/// ```no_run
/// # use sea_orm::sea_query::{Expr, Func, Query};
/// use wharf::ext::timescale::{ContinuousAggregate, Interval, time_bucket};
///
/// # async fn up(m: &sea_orm_migration::SchemaManager<'_>) -> Result<(), sea_orm::DbErr> {
/// let hourly = Query::select()          // or Entity::find()….into_query()
///     .expr_as(time_bucket(Interval::hours(1), Expr::col("at")), "hour")
///     .column("device")
///     .expr_as(Func::avg(Expr::col("celsius")), "mean")
///     .from("reading")
///     .group_by_col("hour")
///     .group_by_col("device")
///     .to_owned();
/// ContinuousAggregate::new("reading_hourly", hourly)
///     .refresh(Interval::days(3), Interval::hours(1), Interval::hours(1))
///     .create(m.get_connection())
///     .await?;
/// # Ok(()) }
/// ```
/// It is queried as a table, by an entity of its own.
#[derive(Clone, Debug)]
pub struct ContinuousAggregate {
    subject: Subject,
    select: SelectStatement,
    refresh: Option<[Interval; 3]>,
    real_time: bool,
}

impl ContinuousAggregate {
    /// A view of this name. Values in the query become part of its text. Asks the server nothing.
    #[must_use]
    pub fn new(view: impl IntoTableRef, select: SelectStatement) -> ContinuousAggregate {
        let subject = Subject::new("continuous aggregate", view);
        ContinuousAggregate { subject, select, refresh: None, real_time: false }
    }

    /// Has the server bring it up to date `every` so often: the buckets that are younger than `from` and
    /// wholly older than `until`, two buckets at least. Without this only
    /// [`refresh_all`](ContinuousAggregate::refresh_all) does.
    #[must_use]
    pub fn refresh(
        mut self,
        from: impl Into<Interval>,
        until: impl Into<Interval>,
        every: impl Into<Interval>,
    ) -> ContinuousAggregate {
        self.refresh = Some([from.into(), until.into(), every.into()]);
        self
    }

    /// Queries also see rows that came since the last refresh, and compute them each time.
    #[must_use]
    pub fn real_time(mut self) -> ContinuousAggregate {
        self.real_time = true;
        self
    }

    /// Makes it, without rows, so that a migration's transaction can; the first refresh fills it. One
    /// round trip.
    ///
    /// # Errors
    /// [`TimescaleError::Licence`](super::TimescaleError::Licence) on an Apache build;
    /// [`TimescaleError::OutOfRange`](super::TimescaleError::OutOfRange), before anything is sent, for a span of the
    /// refresh that PostgreSQL does not take; what the server says.
    pub async fn create(&self, db: &impl ConnectionTrait) -> Result<(), DbErr> {
        if let Some([from, until, every]) = self.refresh {
            self.subject.takes("the beginning of the refresh", from, Least::Zero)?;
            self.subject.takes("the end of the refresh", until, Least::Zero)?;
            self.subject.takes("the interval of the refresh", every, Least::Microsecond)?;
        }
        self.subject.execute(db, "a continuous aggregate", &self.to_sql()).await
    }

    /// What [`create`](ContinuousAggregate::create) sends.
    #[must_use]
    pub fn to_sql(&self) -> String {
        let select = self.select.to_string(PostgresQueryBuilder);
        let mut sql = format!(
            "CREATE MATERIALIZED VIEW {} WITH (timescaledb.continuous, \
             timescaledb.materialized_only = {}) AS {select} WITH NO DATA",
            self.subject.quoted(),
            !self.real_time,
        );
        if let Some([from, until, every]) = self.refresh {
            // Writing to a String cannot fail.
            let _ = write!(
                sql,
                "; SELECT add_continuous_aggregate_policy({}, start_offset => {}, end_offset => {}, \
                 schedule_interval => {})",
                self.subject.literal(),
                from.sql(),
                until.sql(),
                every.sql(),
            );
        }
        sql
    }

    /// Brings all of it up to date, now. It takes as long as what changed since the last time; no
    /// transaction can contain it (25001), so `db` is a [`Pg`](crate::Pg), not a session.
    ///
    /// # Errors
    /// What the server says.
    pub async fn refresh_all(&self, db: &impl ConnectionTrait) -> Result<(), DbErr> {
        let sql =
            format!("CALL refresh_continuous_aggregate({}, NULL, NULL)", self.subject.literal());
        self.subject.execute(db, "a continuous aggregate", &sql).await
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::sea_query::{Expr, ExprTrait as _, Func, Query};

    use super::{ContinuousAggregate, Interval};
    use crate::ext::timescale::time_bucket;

    /// The build that these run on has none: see tests/ext/timescale.rs.
    #[test]
    fn it_is_said_as_the_manual_does_with_its_values_in_the_text() {
        let select = Query::select()
            .expr_as(time_bucket(Interval::hours(1), Expr::col("at")), "hour")
            .expr_as(Func::avg(Expr::col("celsius")), "mean")
            .from("reading")
            .and_where(Expr::col("device").ne("it's"))
            .group_by_col("hour")
            .to_owned();
        let hourly = ContinuousAggregate::new(("app", "hourly"), select);
        let hourly = hourly.refresh(Interval::days(3), Interval::hours(1), Interval::minutes(30));
        assert_eq!(
            hourly.real_time().to_sql(),
            "CREATE MATERIALIZED VIEW \"app\".\"hourly\" WITH (timescaledb.continuous, \
             timescaledb.materialized_only = false) AS SELECT time_bucket(INTERVAL '3600 seconds', \"at\") \
             AS \"hour\", AVG(\"celsius\") AS \"mean\" FROM \"reading\" WHERE \"device\" <> E'it\\'s' \
             GROUP BY \"hour\" WITH NO DATA; SELECT add_continuous_aggregate_policy('\"app\".\"hourly\"', \
             start_offset => INTERVAL '3 days', end_offset => INTERVAL '3600 seconds', \
             schedule_interval => INTERVAL '1800 seconds')"
        );
    }
}
