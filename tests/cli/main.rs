//! The program `wharf`, as a person and a script meet it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
#[path = "../it/support.rs"]
mod it;
#[path = "../it/owner.rs"]
mod owner;
#[allow(dead_code)]
#[path = "../it/pgbouncer.rs"]
mod pgbouncer;
mod support;

mod config;
mod corpus;
mod databases;
mod docker;
mod doctor;
mod entity;
mod init;
mod migrate;
mod pooler;
mod run;
mod server;
mod standbys;
mod top;
mod words;
