//! How connections of the server are lent at an address, found out by trying.

use std::sync::Arc;

use futures_util::FutureExt as _;
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};

use super::{ConnectTo, Host, connector::Connector};
use crate::error::ConnectError;

impl ConnectTo {
    /// Whether a pooler lends the server's connections for a transaction each: after somebody else's transaction, the same
    /// connection then meets another process of the server. Two connections, five round trips. Where many others use the
    /// pooler, it may not be seen.
    pub(crate) async fn lends_by_transaction(self) -> Result<bool, ConnectError> {
        let connector = Connector::new(Arc::new(Host::new(self)), false);
        connector
            .within_limit(async |to, login| {
                let (mut one, _) = connector.connect(to, login).await?;
                let (mut other, _) = connector.connect(to, login).await?;
                let first = process(&mut one).await?;
                other.execute(sqlx::raw_sql("BEGIN")).await?;
                let taken = process(&mut other).await?;
                let second = process(&mut one).await?;
                for driver in [one, other] {
                    let _ = driver.close().now_or_never();
                }
                Ok(taken == first || second != first)
            })
            .await
    }
}

async fn process(driver: &mut PgConnection) -> Result<i32, sqlx::Error> {
    let asked = driver.fetch_one(sqlx::raw_sql("SELECT /* wharf pool */ pg_backend_pid()"));
    asked.await?.try_get(0)
}
