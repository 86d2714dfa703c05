//! The tables, and what each attempt writes to them, which follows from its number and the seed.

use anyhow::Result;
use fastrand::Rng;

use super::cluster::{Cluster, USER};

pub const ACCOUNTS: i32 = 200;
/// The first balance of each account.
const CENTS: i64 = 1_000_000;
/// The sum of all balances, which never changes.
pub const TOTAL: i64 = CENTS * ACCOUNTS as i64;
pub const TENANTS: usize = 4;
/// Rows of `big`.
pub const ROWS: i64 = 3_000;

/// The amount of a transfer, and its two accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub source: i32,
    pub target: i32,
    pub cents: i64,
}

impl Transfer {
    pub fn new(seed: u64, id: i64) -> Transfer {
        let mut rng = Rng::with_seed(seed ^ id.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let source = rng.i32(1..=ACCOUNTS);
        let target = (source + rng.i32(0..ACCOUNTS - 1)) % ACCOUNTS + 1;
        Transfer { source, target, cents: rng.i64(1..=100) }
    }
}

/// How many rows a copy has.
pub fn batch_rows(seed: u64, batch: i64) -> i32 {
    Rng::with_seed(seed ^ batch.unsigned_abs()).i32(2..600)
}

pub fn tenant(number: usize) -> String {
    format!("tenant_{number}")
}

/// A row of the ledger may be doubled as far as the tables go, so that a doubled one is seen.
pub async fn create(cluster: &Cluster) -> Result<()> {
    let mut sql = format!(
        "SET ROLE {USER};
         CREATE TABLE account (id int PRIMARY KEY, cents int8 NOT NULL);
         INSERT INTO account SELECT id, {CENTS} FROM generate_series(1, {ACCOUNTS}) AS id;
         CREATE TABLE ledger (id int8 NOT NULL, parent int8, source int NOT NULL, target int NOT NULL, cents int8 NOT NULL);
         CREATE INDEX ledger_id ON ledger (id);
         CREATE TABLE batch (batch int8, number int, PRIMARY KEY (batch, number));
         CREATE TABLE big (id int8 PRIMARY KEY, filler text NOT NULL);
         INSERT INTO big SELECT id, repeat('x', 100) FROM generate_series(1, {ROWS}) AS id;"
    );
    for number in 0..TENANTS {
        let schema = tenant(number);
        sql.push_str(&format!(
            "CREATE SCHEMA {schema}; CREATE TABLE {schema}.note (id bigserial PRIMARY KEY, tenant int NOT NULL);"
        ));
    }
    cluster.run(0, &sql).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_has_two_accounts() {
        for id in 0..10_000 {
            let Transfer { source, target, cents } = Transfer::new(1, id);
            assert_ne!(source, target);
            assert!((1..=ACCOUNTS).contains(&target) && cents > 0);
        }
    }
}
