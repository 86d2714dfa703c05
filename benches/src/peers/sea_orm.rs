//! SeaORM on its own connection: as it comes, and with what its options can save.

use anyhow::Result;
use sea_orm::{AccessMode, ConnectOptions, Database, DatabaseConnection, TransactionTrait};

use super::{CONNECTIONS, Peer, entities};
use crate::{
    account,
    work::{Change, Range},
};

#[derive(Clone)]
pub struct SeaOrm(DatabaseConnection);

impl SeaOrm {
    pub async fn as_it_comes(url: &str) -> Result<SeaOrm> {
        SeaOrm::connect(options(url)).await
    }

    pub async fn tuned(url: &str) -> Result<SeaOrm> {
        let mut options = options(url);
        options.test_before_acquire(false).sqlx_logging(false);
        SeaOrm::connect(options).await
    }

    async fn connect(options: ConnectOptions) -> Result<SeaOrm> {
        Ok(SeaOrm(Database::connect(options).await?))
    }
}

fn options(url: &str) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options.max_connections(CONNECTIONS);
    options
}

impl Peer for SeaOrm {
    async fn entity(&self, aid: i32) -> Result<account::Model> {
        entities::look_up(&self.0, aid).await
    }

    async fn read_only(&self, aid: i32) -> Result<account::Model> {
        let transaction = self.0.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
        let account = entities::look_up(&transaction, aid).await?;
        transaction.commit().await?;
        Ok(account)
    }

    async fn rows(&self, range: Range) -> Result<Vec<account::Model>> {
        entities::rows(&self.0, range).await
    }

    async fn write(&self, change: Change) -> Result<u64> {
        let transaction = self.0.begin().await?;
        let updated = entities::write(&transaction, change).await?;
        transaction.commit().await?;
        Ok(updated)
    }
}
