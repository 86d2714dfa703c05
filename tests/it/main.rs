//! What wharf promises, shown on a real PostgreSQL.
//!
//! `TEST_DATABASE_URL` names the server; without it, this machine's own PostgreSQL is started for
//! the run. Where neither is there, the tests fail and say what to do.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;
mod owner;
mod pgbouncer;
mod proxy;
mod seen;
mod support;

mod citus;
mod closures;
mod copy;
mod cursor;
mod dropped;
mod embedded;
mod ensure;
mod failures;
mod give_back;
mod hosts;
mod listen;
mod logins;
mod manager;
mod metrics;
mod migrate;

mod nested;
mod orm;
mod outage;
mod patroni;
mod pool;
mod pool_size;
mod pooler;
mod read_only;
mod reads;
mod repeats;
mod retry;
mod round_trips;
mod schema;
mod session;
mod settings;
mod slow;
mod spans;
mod stale;
mod standbys;
mod statements;
mod testing;
mod tls;
mod top;
mod view;
