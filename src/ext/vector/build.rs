//! How an index of vectors is made on a database, and how far it is.

use std::{
    convert::Infallible,
    fmt,
    future::{IntoFuture, pending},
    pin::pin,
    time::Duration,
};

use futures_util::future::{BoxFuture, Either, select};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};

use super::VectorIndex;
use crate::{
    error::Error,
    pg::Pg,
    pool::{FirstRow, Lent, Purpose},
    sql::{quote_ident, quote_literal},
    statement::{Author, Request, Text, Writer},
    view::set_config,
};

/// How often progress is asked for.
const EVERY: Duration = Duration::from_millis(250);

/// An index of that name on that table, which serves nobody, and which nobody is at work on.
const LEFTOVER: &str = "
SELECT n.nspname::text
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE i.indrelid = to_regclass($1) AND c.relname = $2 AND NOT i.indisvalid
   AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)";

const PROGRESS: &str = "
SELECT p.pid, p.relid::regclass::text, c.relname::text, p.phase, p.blocks_done, p.blocks_total, p.tuples_done,
       p.tuples_total
  FROM pg_stat_progress_create_index p LEFT JOIN pg_class c ON c.oid = p.index_relid
 WHERE p.datname = current_database() AND ($1::int4 IS NULL OR p.pid = $1)";

/// An index that is yet to be made. Await it.
///
/// It is made on a connection of the pool's, where `statement_timeout` does not hold; `socket_timeout` does.
/// What a broken-off concurrent build of the same name has left behind is dropped before, and what this one
/// would leave is dropped where it fails.
///
/// Costs 3 round trips beside the statement itself. Dropping the future cancels it within a second; a
/// concurrent one then leaves an index that is not valid, which the next build drops.
#[must_use = "an index is made when this is awaited"]
pub struct IndexBuild {
    index: VectorIndex,
    pg: Pg,
    memory: Option<String>,
    workers: Option<u32>,
    progress: Option<Box<dyn FnMut(IndexProgress) + Send>>,
}

impl IndexBuild {
    pub(super) fn new(index: VectorIndex, pg: Pg) -> IndexBuild {
        IndexBuild { index, pg, memory: None, workers: None, progress: None }
    }

    /// `maintenance_work_mem`, as PostgreSQL writes it (`1GB`). While an HNSW graph fits in, it is built
    /// many times as fast; the server says where it does not any more. Several workers have it in shared memory, of
    /// which a container has 64 MB, unless `shm_size` of `pgserver:` or `--shm-size` says otherwise.
    pub fn memory(mut self, memory: impl Into<String>) -> IndexBuild {
        self.memory = Some(memory.into());
        self
    }

    /// How many processes help (`max_parallel_maintenance_workers`; 2 by default). The server's
    /// `max_parallel_workers` bounds them.
    pub fn workers(mut self, workers: u32) -> IndexBuild {
        self.workers = Some(workers);
        self
    }

    /// Has `report` told how far it is, four times a second, over another connection of the pool's. Nothing
    /// is told where that cannot be had, as on the embedded engine.
    pub fn progress(mut self, report: impl FnMut(IndexProgress) + Send + 'static) -> IndexBuild {
        self.progress = Some(Box::new(report));
        self
    }

    async fn run(self) -> Result<(), Error> {
        let IndexBuild { index, pg, memory, workers, progress } = self;
        let create = index.sql()?;
        if pg.is_read_only() {
            let database = pg.name().to_owned();
            let what = format!("creating index `{}`", index.name_or_default());
            return Err(Error::ReadOnly { database, what });
        }
        // Its settings would stay on a pooler's connection.
        let pg = pg.past_pooler("an index build").await?.unwrap_or(pg);
        let mut lent = pg.database().lend(false, Purpose::Hold("an index build", None)).await?;
        let mut settings = String::from("SET statement_timeout = 0");
        if index.is_concurrent() {
            // It waits for old transactions, and has nobody wait behind it meanwhile.
            settings.push_str("; SET lock_timeout = 0");
        }
        if let Some(scope) = pg.scope() {
            let path = scope.quoted_path(lent.search_path());
            settings.push_str(&format!("; SET search_path = {path}"));
        }
        for (name, value) in pg.view().settings() {
            settings.push_str(&format!("; SELECT {}", set_config(name, value, false)));
        }
        if let Some(memory) = memory {
            settings.push_str(&format!("; SET maintenance_work_mem = {}", quote_literal(&memory)));
        }
        if let Some(workers) = workers {
            settings.push_str(&format!("; SET max_parallel_maintenance_workers = {workers}"));
        }
        // So that the next who has the connection does not have these.
        lent.execute_unprepared(Text::new(&settings), Writer::Caller).await?;
        drop_leftover(&mut lent, &index).await?;
        let built = match progress {
            None => lent.execute_unprepared(Text::new(&create), Writer::Wharf).await.map(|_| ()),
            Some(report) => {
                let pid = pid(&mut lent).await?;
                let create = lent.execute_unprepared(Text::new(&create), Writer::Wharf);
                match select(pin!(create), pin!(watch(&pg, pid, report))).await {
                    Either::Left((built, _)) => built.map(|_| ()),
                    Either::Right((never, _)) => match never {},
                }
            }
        };
        if built.is_err() && !lent.is_broken() {
            // The error that counts is the first one.
            if let Err(error) = drop_leftover(&mut lent, &index).await {
                let name = index.name_or_default();
                tracing::warn!("database `{}`: index {name} is left invalid: {error}", pg.name());
            }
        }
        Ok(built?)
    }
}

async fn pid(lent: &mut Lent) -> Result<i32, DbErr> {
    let statement = Statement::from_string(DbBackend::Postgres, "SELECT pg_backend_pid()");
    let row = lent.ask::<FirstRow>(Request::new(Author::Wharf(&statement))).await?;
    row.map_or(Ok(0), |row| QueryResult::from(row).try_get_by_index(0))
}

async fn drop_leftover(lent: &mut Lent, index: &VectorIndex) -> Result<(), DbErr> {
    let name = index.name_or_default();
    let values: [Value; 2] = [index.table().into(), name.clone().into()];
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, LEFTOVER, values);
    let Some(row) = lent.ask::<FirstRow>(Request::new(Author::Wharf(&statement))).await? else {
        return Ok(());
    };
    let schema: String = QueryResult::from(row).try_get_by_index(0)?;
    let (schema, name) = (quote_ident(&schema), quote_ident(&name));
    let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {schema}.{name}");
    lent.execute_unprepared(Text::new(&drop), Writer::Wharf).await?;
    Ok(())
}

async fn watch(pg: &Pg, pid: i32, mut report: Box<dyn FnMut(IndexProgress) + Send>) -> Infallible {
    loop {
        match read(pg, Some(pid)).await {
            Ok(rows) => rows.into_iter().for_each(&mut report),
            Err(error) => {
                tracing::debug!("database `{}`: could not read the progress: {error}", pg.name());
                return pending().await;
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

impl IntoFuture for IndexBuild {
    type Output = Result<(), Error>;
    type IntoFuture = BoxFuture<'static, Result<(), Error>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for IndexBuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IndexBuild { index, memory, workers, .. } = self;
        let mut debug = f.debug_struct("IndexBuild");
        debug.field("index", index).field("memory", memory).field("workers", workers);
        debug.finish_non_exhaustive()
    }
}

/// How far an index is that is being made: a row of `pg_stat_progress_create_index`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexProgress {
    /// The server's process that makes it.
    pub pid: i32,
    /// Its table.
    pub table: String,
    /// Its name, once there is something of it: from the start where it is made concurrently.
    pub index: Option<String>,
    /// The server's own words: `building index: loading tuples`, `waiting for writers before build`.
    pub phase: String,
    /// Blocks of the table that this phase has read, and how many it will; 0 where it reads none.
    pub blocks: (i64, i64),
    /// Rows that this phase has done, and how many it will; 0 where that is not known, as with HNSW.
    pub tuples: (i64, i64),
}

impl IndexProgress {
    /// Every index that is being made in the database now, whoever makes it: a migration, say. One round
    /// trip.
    ///
    /// # Errors
    /// As a statement's.
    pub async fn all(db: &impl ConnectionTrait) -> Result<Vec<IndexProgress>, Error> {
        read(db, None).await
    }

    /// How much of the phase is done, 0 to 1, where that is known.
    pub fn of_phase(&self) -> Option<f64> {
        let of = |(done, all): (i64, i64)| (all > 0).then(|| (done as f64 / all as f64).min(1.0));
        of(self.tuples).or_else(|| of(self.blocks))
    }
}

impl fmt::Display for IndexProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.index.as_ref().unwrap_or(&self.table);
        write!(f, "{name}: {}", self.phase)?;
        match self.of_phase() {
            Some(part) => write!(f, ", {:.0} %", part * 100.0),
            None => Ok(()),
        }
    }
}

async fn read(db: &impl ConnectionTrait, pid: Option<i32>) -> Result<Vec<IndexProgress>, Error> {
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, PROGRESS, [pid.into()]);
    let mut all = Vec::new();
    for row in db.query_all_raw(statement).await? {
        all.push(IndexProgress {
            pid: row.try_get_by_index(0)?,
            table: row.try_get_by_index(1)?,
            index: row.try_get_by_index(2)?,
            phase: row.try_get_by_index(3)?,
            blocks: (row.try_get_by_index(4)?, row.try_get_by_index(5)?),
            tuples: (row.try_get_by_index(6)?, row.try_get_by_index(7)?),
        });
    }
    Ok(all)
}
