//! Makes and drops databases, on a thread of its own: the runtime of a test ends with it, and the last
//! thing that it does is to drop its database.

use std::{sync::mpsc as blocking, time::Duration};

use sea_orm::ConnectionTrait;
use tokio::sync::{mpsc, oneshot};

use crate::{config::DatabaseConfig, error::Error, pg::Pg};

/// How many databases are made or dropped at once.
const AT_ONCE: u32 = 4;
/// Somebody is just leaving a database that is to be copied or renamed.
const ATTEMPTS: u32 = 200;
const INTERVAL: Duration = Duration::from_millis(25);
/// Longest wait for a database to be dropped. While somebody logs in, a server drops none; and if that is
/// another future of the thread that waits here, it is not done before this gives up.
pub(super) const DROP: Duration = Duration::from_secs(1);
/// Longest wait for the mark on a database that is kept, which nobody is in the way of. Without it the next process
/// drops what a person wants to look at.
pub(super) const MARK: Duration = Duration::from_secs(30);

/// Longest time for one CREATE or DROP DATABASE, after which the server is taken for gone.
const SILENCE: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) struct Admin {
    jobs: mpsc::UnboundedSender<Job>,
}

struct Job {
    sql: String,
    attempts: u32,
    done: Box<dyn FnOnce(Result<(), Error>) + Send>,
}

impl Admin {
    /// As the login of `entry`, on the database that every server has.
    pub(super) fn start(mut entry: DatabaseConfig) -> std::io::Result<Admin> {
        entry.database = "postgres".to_owned();
        (entry.pool_size, entry.max_overflow) = (AT_ONCE, 0);
        entry.socket_timeout = Some(SILENCE);
        let (jobs, mut todo) = mpsc::unbounded_channel::<Job>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("wharf-testing".to_owned()).spawn(move || {
            runtime.block_on(async {
                let pg = Pg::from_config("testing", entry);
                while let Some(Job { sql, attempts, done }) = todo.recv().await {
                    let pg = pg.clone();
                    tokio::spawn(async move { done(run(&pg, &sql, attempts).await) });
                }
            });
        })?;
        Ok(Admin { jobs })
    }

    /// Runs a statement, again while others use the database.
    pub(super) async fn run(&self, sql: String) -> Result<(), Error> {
        self.attempt(sql, ATTEMPTS).await
    }

    /// Runs a statement that may fail because others use the database.
    pub(super) async fn run_once(&self, sql: String) -> Result<(), Error> {
        self.attempt(sql, 1).await
    }

    async fn attempt(&self, sql: String, attempts: u32) -> Result<(), Error> {
        let (done, is_done) = oneshot::channel();
        self.send(sql, attempts, move |outcome| {
            let _ = done.send(outcome);
        });
        is_done.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Blocks until it is done, or for as long as `longest`: it goes on then, and what a process that ends meanwhile
    /// leaves is swept by the next.
    pub(super) fn run_now(&self, sql: String, longest: Duration) -> Result<(), Error> {
        let (done, is_done) = blocking::channel();
        self.send(sql, ATTEMPTS, move |outcome| {
            let _ = done.send(outcome);
        });
        match is_done.recv_timeout(longest) {
            Ok(outcome) => outcome,
            Err(blocking::RecvTimeoutError::Timeout) => Ok(()),
            Err(blocking::RecvTimeoutError::Disconnected) => Err(gone()),
        }
    }

    fn send(
        &self,
        sql: String,
        attempts: u32,
        done: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) {
        // Where nobody does it, nobody tells that it was done.
        let _ = self.jobs.send(Job { sql, attempts, done: Box::new(done) });
    }
}

fn gone() -> Error {
    Error::Internal {
        database: "testing".to_owned(),
        reason: "the thread that creates and drops databases has ended".to_owned(),
    }
}

async fn run(pg: &Pg, sql: &str, attempts: u32) -> Result<(), Error> {
    let mut attempt = 1;
    loop {
        match pg.execute_unprepared(sql).await.map_err(Error::from) {
            Err(error) if error.sqlstate().as_deref() == Some("55006") && attempt < attempts => {
                tokio::time::sleep(INTERVAL).await;
                attempt += 1;
            }
            done => return done.map(|_| ()),
        }
    }
}
