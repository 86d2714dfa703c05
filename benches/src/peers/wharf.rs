//! wharf, and its read-only view.

use std::{env, time::Duration};

use anyhow::Result;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use wharf::{
    Pg,
    config::{DatabaseConfig, Pooler},
    monitor::{DURATION_BUCKETS, ROWS_BUCKETS},
};

use super::{CONNECTIONS, Peer, entities};
use crate::{
    account,
    pgbouncer::POOLED,
    work::{Change, Range},
};

#[derive(Clone)]
pub struct Wharf(Pg);

impl Wharf {
    pub fn new(url: &str) -> Result<Wharf> {
        Ok(Wharf(Pg::from_config("benches", config(url)?)))
    }

    pub fn unmonitored(url: &str) -> Result<Wharf> {
        let mut config = config(url)?;
        config.monitor.enabled = false;
        Ok(Wharf(Pg::from_config("benches", config)))
    }

    /// As a service has it: with buckets, and scraped once in a while.
    pub fn with_prometheus(url: &str) -> Result<Wharf> {
        let rows = Matcher::Full("db.client.response.returned_rows".to_owned());
        let recorder = PrometheusBuilder::new()
            .set_buckets(&DURATION_BUCKETS)?
            .set_buckets_for_metric(rows, &ROWS_BUCKETS)?
            .install_recorder()?;
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                recorder.render();
            }
        });
        Wharf::new(url)
    }

    pub fn scoped(&self) -> Result<Wharf> {
        Ok(Wharf(self.0.scoped("public")?))
    }

    pub fn read_only(&self) -> Wharf {
        Wharf(self.0.read_only())
    }
}

fn config(url: &str) -> Result<DatabaseConfig> {
    let mut config = DatabaseConfig::from_url(url)?;
    if env::var_os(POOLED).is_some() {
        config.pooler = Pooler::Transaction;
    }
    config.pool_size = CONNECTIONS;
    config.max_overflow = 0;
    Ok(config)
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

    async fn session(&self, aid: i32) -> Result<account::Model> {
        let session = self.0.session().await?;
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
