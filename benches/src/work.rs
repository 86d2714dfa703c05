//! The works, and who does them.

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use crate::{
    peers::{Name, Peer},
    server::{ACCOUNTS, BRANCH, SCALE},
};

/// How many rows `rows` reads.
const ROWS: i32 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Work {
    Entity,
    ReadOnly,
    ReadOnlyStatement,
    Scoped,
    Rows,
    // After those that only read: what it leaves dead in the table is vacuumed after the round.
    Write,
    Memory,
    Monitored,
    Databases,
}

impl Work {
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |it| it.get_name().to_owned())
    }

    pub fn title(self) -> &'static str {
        match self {
            Work::Entity => "`entity`: an entity by its primary key",
            Work::ReadOnly => "`read_only`: a read-only transaction with one look-up",
            Work::ReadOnlyStatement => "`read_only_statement`: a look-up on a read-only view",
            Work::Scoped => "`scoped`: a session with one look-up, in a tenant's schema or none",
            Work::Databases => "`databases`: a database for a test",
            Work::Monitored => "`monitored`: what it costs to look at statements",
            Work::Rows => "`rows`: 1,000 rows to models",
            Work::Write => "`write`: a transaction of an UPDATE and an INSERT, committed",
            Work::Memory => "`memory`: what 100,000 look-ups leave behind",
        }
    }

    /// Measured once, in a way of its own.
    pub fn is_apart(self) -> bool {
        matches!(self, Work::Memory | Work::Monitored | Work::Databases)
    }

    pub fn peers(self) -> &'static [Name] {
        use Name::{
            Pgbench, SeaOrm, SeaOrmTuned, Sqlx, TokioPostgres, Wharf, WharfPrometheus,
            WharfReadOnly, WharfScoped,
        };
        match self {
            Work::Entity | Work::ReadOnly | Work::Write => {
                &[Pgbench, TokioPostgres, Sqlx, SeaOrm, SeaOrmTuned, Wharf]
            }
            Work::Rows => &[TokioPostgres, Sqlx, SeaOrm, SeaOrmTuned, Wharf],
            Work::Monitored => &[Wharf, WharfPrometheus],
            Work::ReadOnlyStatement => &[Wharf, WharfReadOnly],
            Work::Scoped => &[Wharf, WharfScoped],
            Work::Memory | Work::Databases => &[Wharf],
        }
    }
}

/// The accounts with these keys, both ends included.
pub struct Range {
    pub first: i32,
    pub last: i32,
}

/// What one write transaction writes.
pub struct Change {
    pub tid: i32,
    pub bid: i32,
    pub aid: i32,
    pub delta: i32,
}

impl Change {
    fn random() -> Change {
        let aid = fastrand::i32(1..=ACCOUNTS);
        let (tid, delta) = (fastrand::i32(1..=10 * SCALE), fastrand::i32(-5_000..=5_000));
        Change { tid, bid: (aid - 1) / BRANCH + 1, aid, delta }
    }
}

/// Once, and whether it did what it is to do.
pub async fn once<P: Peer>(peer: &P, work: Work) -> Result<()> {
    match work {
        Work::Databases => bail!("is measured apart"),
        Work::Scoped => {
            let aid = fastrand::i32(1..=ACCOUNTS);
            ensure!(peer.session(aid).await?.aid == aid, "another account than {aid}");
        }
        Work::Entity | Work::ReadOnlyStatement | Work::Monitored | Work::Memory => {
            let aid = fastrand::i32(1..=ACCOUNTS);
            ensure!(peer.entity(aid).await?.aid == aid, "another account than {aid}");
        }
        Work::ReadOnly => {
            let aid = fastrand::i32(1..=ACCOUNTS);
            ensure!(peer.read_only(aid).await?.aid == aid, "another account than {aid}");
        }
        Work::Rows => {
            let first = fastrand::i32(1..=ACCOUNTS - ROWS + 1);
            let rows = peer.rows(Range { first, last: first + ROWS - 1 }).await?;
            ensure!(rows.len() == ROWS as usize, "{} rows", rows.len());
        }
        Work::Write => {
            let updated = peer.write(Change::random()).await?;
            ensure!(updated == 1, "{updated} accounts updated");
        }
    }
    Ok(())
}
