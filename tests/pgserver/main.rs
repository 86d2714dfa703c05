//! The server for development, on this machine's PostgreSQL and on the embedded engine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // as in unit tests: clippy.toml reaches only those

mod backup;
mod choice;
mod collation;
mod docker;
mod embedded;
mod failover;
mod held;
mod life;
mod native;
mod owner;
mod private;
mod registry;
mod replica;
mod roles;
mod standby;
mod support;
mod temporary;
