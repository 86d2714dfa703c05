//! wharf, and its read-only view.

use anyhow::Result;
use wharf::{Pg, config::DatabaseConfig};

use super::{CONNECTIONS, Peer, entities};
use crate::{
    account,
    work::{Change, Range},
};

#[derive(Clone)]
pub struct Wharf(Pg);

impl Wharf {
    pub fn new(url: &str) -> Result<Wharf> {
        let mut config = DatabaseConfig::from_url(url)?;
        config.pool_size = CONNECTIONS;
        config.max_overflow = 0;
        Ok(Wharf(Pg::from_config("benches", config)))
    }

    pub fn read_only(&self) -> Wharf {
        Wharf(self.0.read_only())
    }
}

impl Peer for Wharf {
    async fn entity(&self, aid: i32) -> Result<account::Model> {
        entities::look_up(&self.0, aid).await
    }

    async fn read_only(&self, aid: i32) -> Result<account::Model> {
        let session = self.0.session().read_only().await?;
        let account = entities::look_up(&session, aid).await?;
        session.commit().await?;
        Ok(account)
    }

    async fn rows(&self, range: Range) -> Result<Vec<account::Model>> {
        entities::rows(&self.0, range).await
    }

    async fn write(&self, change: Change) -> Result<u64> {
        let session = self.0.session().await?;
        let updated = entities::write(&session, change).await?;
        session.commit().await?;
        Ok(updated)
    }
}
