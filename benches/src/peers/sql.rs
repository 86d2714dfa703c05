//! What those say who write their own SQL.

pub const LOOK_UP: &str = "SELECT aid, bid, abalance, filler FROM pgbench_accounts WHERE aid = $1";
pub const ROWS: &str =
    "SELECT aid, bid, abalance, filler FROM pgbench_accounts WHERE aid BETWEEN $1 AND $2";
pub const UPDATE: &str = "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2";
pub const INSERT: &str =
    "INSERT INTO pgbench_history (tid, bid, aid, delta) VALUES ($1, $2, $3, $4)";
