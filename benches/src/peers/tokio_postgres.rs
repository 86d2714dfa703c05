//! tokio-postgres with deadpool's pool and its cache of prepared statements.

use anyhow::Result;
use deadpool_postgres::{
    Manager, ManagerConfig, Pool, RecyclingMethod,
    tokio_postgres::{NoTls, Row},
};

use super::{
    CONNECTIONS, Peer,
    sql::{INSERT, LOOK_UP, ROWS, UPDATE},
};
use crate::{
    account,
    work::{Change, Range},
};

#[derive(Clone)]
pub struct TokioPostgres(Pool);

impl TokioPostgres {
    pub fn new(url: &str) -> Result<TokioPostgres> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(url.parse()?, NoTls, recycling);
        Ok(TokioPostgres(Pool::builder(manager).max_size(CONNECTIONS as usize).build()?))
    }
}

impl Peer for TokioPostgres {
    async fn entity(&self, aid: i32) -> Result<account::Model> {
        let client = self.0.get().await?;
        let look_up = client.prepare_cached(LOOK_UP).await?;
        account(&client.query_one(&look_up, &[&aid]).await?)
    }

    async fn read_only(&self, aid: i32) -> Result<account::Model> {
        let mut client = self.0.get().await?;
        let transaction = client.build_transaction().read_only(true).start().await?;
        let look_up = transaction.prepare_cached(LOOK_UP).await?;
        let account = account(&transaction.query_one(&look_up, &[&aid]).await?)?;
        transaction.commit().await?;
        Ok(account)
    }

    async fn rows(&self, range: Range) -> Result<Vec<account::Model>> {
        let client = self.0.get().await?;
        let rows = client.prepare_cached(ROWS).await?;
        client.query(&rows, &[&range.first, &range.last]).await?.iter().map(account).collect()
    }

    async fn write(&self, change: Change) -> Result<u64> {
        let Change { tid, bid, aid, delta } = change;
        let mut client = self.0.get().await?;
        let transaction = client.transaction().await?;
        let update = transaction.prepare_cached(UPDATE).await?;
        let updated = transaction.execute(&update, &[&delta, &aid]).await?;
        let insert = transaction.prepare_cached(INSERT).await?;
        transaction.execute(&insert, &[&tid, &bid, &aid, &delta]).await?;
        transaction.commit().await?;
        Ok(updated)
    }
}

fn account(row: &Row) -> Result<account::Model> {
    Ok(account::Model {
        aid: row.try_get(0)?,
        bid: row.try_get(1)?,
        abalance: row.try_get(2)?,
        filler: row.try_get(3)?,
    })
}
