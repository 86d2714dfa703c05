//! Time in buckets, as SeaORM's expressions.

use sea_orm::{
    IntoSimpleExpr,
    sea_query::{Func, SimpleExpr},
};

use super::interval::Interval;
use crate::sql::quote_literal;

/// `time_bucket`: the beginning of the bucket of this width that a time is in. Days begin at midnight UTC,
/// weeks on Mondays, months on the first.
///
/// The width is written into the SQL and not bound, so that the same call in SELECT, GROUP BY and ORDER BY is
/// the same expression to the server; the statements of different widths are different ones.
#[must_use]
pub fn time_bucket(width: impl Into<Interval>, at: impl IntoSimpleExpr) -> SimpleExpr {
    let arguments = [SimpleExpr::cust(width.into().sql()), at.into_simple_expr()];
    Func::cust("time_bucket").args(arguments).into()
}

/// [`time_bucket`] by the clock of a time zone, daylight saving included: `Europe/Berlin`. For columns of
/// type `timestamptz`.
#[must_use]
pub fn time_bucket_in(
    zone: &str,
    width: impl Into<Interval>,
    at: impl IntoSimpleExpr,
) -> SimpleExpr {
    let (width, zone) =
        (SimpleExpr::cust(width.into().sql()), SimpleExpr::cust(quote_literal(zone)));
    Func::cust("time_bucket").args([width, at.into_simple_expr(), zone]).into()
}

/// `first`: the value of the row that is the first by `by`, in each group.
#[must_use]
pub fn first(value: impl IntoSimpleExpr, by: impl IntoSimpleExpr) -> SimpleExpr {
    Func::cust("first").args([value.into_simple_expr(), by.into_simple_expr()]).into()
}

/// `last`: the value of the row that is the last by `by`, in each group.
#[must_use]
pub fn last(value: impl IntoSimpleExpr, by: impl IntoSimpleExpr) -> SimpleExpr {
    Func::cust("last").args([value.into_simple_expr(), by.into_simple_expr()]).into()
}
