//! Who is measured. A file each, which says how a careful user of it does the works.

mod entities;
mod pgbench;
mod sea_orm;
mod sql;
mod sqlx;
mod tokio_postgres;
mod wharf;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::{
    account, measure, memory, monitored,
    work::{Change, Range, Work},
};

/// Connections of each peer.
pub const CONNECTIONS: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Name {
    Pgbench,
    TokioPostgres,
    Sqlx,
    SeaOrm,
    SeaOrmTuned,
    Wharf,
    WharfReadOnly,
    WharfScoped,
    WharfPrometheus,
}

impl Name {
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |it| it.get_name().to_owned())
    }

    pub fn title(self) -> &'static str {
        match self {
            Name::Pgbench => "pgbench -M prepared",
            Name::TokioPostgres => "tokio-postgres + deadpool",
            Name::Sqlx => "sqlx, ping off",
            Name::SeaOrm => "SeaORM as it comes",
            Name::SeaOrmTuned => "SeaORM, ping and log off",
            Name::Wharf => "wharf",
            Name::WharfReadOnly => "wharf, read-only",
            Name::WharfScoped => "wharf, scoped",
            Name::WharfPrometheus => "wharf, with a Prometheus recorder",
        }
    }

    /// pgbench has as many connections as tasks.
    pub fn takes(self, tasks: usize) -> bool {
        self != Name::Pgbench || tasks <= CONNECTIONS as usize
    }
}

/// A client with its pool.
pub trait Peer: Clone + Send + Sync + 'static {
    fn entity(&self, aid: i32) -> impl Future<Output = Result<account::Model>> + Send;

    /// In a read-only transaction of its own.
    fn read_only(&self, aid: i32) -> impl Future<Output = Result<account::Model>> + Send;

    /// In a transaction of its own, which may write.
    fn session(&self, _aid: i32) -> impl Future<Output = Result<account::Model>> + Send {
        async { bail!("only wharf is asked for that") }
    }

    fn rows(&self, range: Range) -> impl Future<Output = Result<Vec<account::Model>>> + Send;

    /// In a transaction of its own. Gives how many accounts were updated.
    fn write(&self, change: Change) -> impl Future<Output = Result<u64>> + Send;
}

/// Measures, and gives the line that tells of it.
pub async fn measure(
    peer: Name,
    url: &str,
    work: Work,
    tasks: usize,
    seconds: u64,
) -> Result<String> {
    let how = How { work, tasks, seconds };
    if work == Work::Monitored {
        let with = match peer {
            Name::WharfPrometheus => wharf::Wharf::with_prometheus(url)?,
            _ => wharf::Wharf::new(url)?,
        };
        let without = wharf::Wharf::unmonitored(url)?;
        return Ok(monitored::beside(with, without).await?.to_string());
    }
    match peer {
        Name::Pgbench => Ok(pgbench::measure(work, tasks, seconds)?.to_string()),
        Name::TokioPostgres => how.line(tokio_postgres::TokioPostgres::new(url)?).await,
        Name::Sqlx => how.line(sqlx::Sqlx::connect(url).await?).await,
        Name::SeaOrm => how.line(sea_orm::SeaOrm::as_it_comes(url).await?).await,
        Name::SeaOrmTuned => how.line(sea_orm::SeaOrm::tuned(url).await?).await,
        Name::Wharf => how.line(wharf::Wharf::new(url)?).await,
        Name::WharfPrometheus => how.line(wharf::Wharf::with_prometheus(url)?).await,
        Name::WharfScoped => how.line(wharf::Wharf::new(url)?.scoped()?).await,
        Name::WharfReadOnly => how.line(wharf::Wharf::new(url)?.read_only()).await,
    }
}

struct How {
    work: Work,
    tasks: usize,
    seconds: u64,
}

impl How {
    async fn line<P: Peer>(self, peer: P) -> Result<String> {
        match self.work {
            Work::Memory => Ok(memory::resident(peer).await?.to_string()),
            work => Ok(measure::tasks(peer, work, self.tasks, self.seconds).await?.to_string()),
        }
    }
}
