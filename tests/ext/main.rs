//! What wharf does with PostgreSQL's extensions, shown on their images in Docker.
//!
//! One server an image is started for all runs and stays (containers `wharf-ext-*`). Without a Docker
//! engine each test says that it did not run, or fails where `WHARF_TEST_DOCKER=require`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod copy;
mod postgis;
mod support;
mod timescale;
mod vector;
