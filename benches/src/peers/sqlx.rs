//! sqlx by itself, with its own pool.

use anyhow::Result;
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::{
    CONNECTIONS, Peer,
    sql::{INSERT, LOOK_UP, ROWS, UPDATE},
};
use crate::{
    account,
    work::{Change, Range},
};

#[derive(Clone)]
pub struct Sqlx(PgPool);

impl Sqlx {
    pub async fn connect(url: &str) -> Result<Sqlx> {
        let options = PgPoolOptions::new().max_connections(CONNECTIONS).test_before_acquire(false);
        Ok(Sqlx(options.connect(url).await?))
    }
}

impl Peer for Sqlx {
    async fn entity(&self, aid: i32) -> Result<account::Model> {
        Ok(sqlx::query_as(LOOK_UP).bind(aid).fetch_one(&self.0).await?)
    }

    async fn read_only(&self, aid: i32) -> Result<account::Model> {
        let mut transaction = self.0.begin_with("BEGIN READ ONLY").await?;
        let account = sqlx::query_as(LOOK_UP).bind(aid).fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(account)
    }

    async fn rows(&self, range: Range) -> Result<Vec<account::Model>> {
        Ok(sqlx::query_as(ROWS).bind(range.first).bind(range.last).fetch_all(&self.0).await?)
    }

    async fn write(&self, change: Change) -> Result<u64> {
        let Change { tid, bid, aid, delta } = change;
        let mut transaction = self.0.begin().await?;
        let updated = sqlx::query(UPDATE).bind(delta).bind(aid).execute(&mut *transaction).await?;
        let insert = sqlx::query(INSERT).bind(tid).bind(bid).bind(aid).bind(delta);
        insert.execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(updated.rows_affected())
    }
}
