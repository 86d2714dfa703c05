//! A database for every test, on a server that has its extension.

use std::{io::Write as _, process::Command};

use sea_orm::ConnectionTrait as _;
use wharf::{
    config::{PgServerConfig, Runtime},
    pgserver::PgServer,
    testing::TestDatabase,
};

/// The images, and the extension that each is there for.
#[derive(Clone, Copy, Debug)]
pub enum Image {
    Vector,
    Timescale,
    Postgis,
}

/// A database with the image's extension; none, which is said, where no Docker engine answers.
pub async fn database(image: Image) -> Option<TestDatabase> {
    if !engine() {
        return None;
    }
    let (extension, image) = match image {
        Image::Vector => ("vector", "pgvector/pgvector:pg17"),
        Image::Timescale => ("timescaledb", "timescale/timescaledb:latest-pg17"),
        Image::Postgis => ("postgis", "postgis/postgis:17-3.5"),
    };
    let mut config = PgServerConfig::new(format!("wharf-ext-{extension}"));
    config.runtime = Runtime::Docker;
    config.image = Some(image.to_owned());
    let mut settings = vec![("fsync", "off"), ("max_connections", "300")];
    if extension == "timescaledb" {
        settings.push(("shared_preload_libraries", extension));
    }
    for (setting, value) in settings {
        config.postgres_conf.insert(setting.to_owned(), value.to_owned());
    }
    let database = TestDatabase::on(&PgServer::new(config, [])).await.unwrap();
    database.execute_unprepared(&format!("CREATE EXTENSION {extension}")).await.unwrap();
    Some(database)
}

/// Whether an engine answers; said if none does.
fn engine() -> bool {
    let info = Command::new("docker").arg("info").output();
    let there = info.is_ok_and(|output| output.status.success());
    if !there {
        let required = std::env::var("WHARF_TEST_DOCKER").is_ok_and(|value| value == "require");
        assert!(!required, "WHARF_TEST_DOCKER=require, and no Docker engine answers");
        // Past the harness, which keeps what a test prints to itself.
        let _ = writeln!(std::io::stderr(), "NOT RUN: no Docker engine answers on this machine");
    }
    there
}
