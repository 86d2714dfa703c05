//! A backup of a database that has TimescaleDB, whose catalog is data of the backup too.

use std::io;
use std::path::Path;
use std::time::Instant;

use super::backup::Ending;
use super::error::PgServerError;
use super::program::Program;
use super::server::PgServer;
use crate::sql::{quote_ident, quote_literal};

/// Restores into a database that does not exist yet: the extension first, in the mode in which it leaves its catalog to the
/// restore, and under another name until all is there.
pub(super) async fn restore(
    server: &PgServer,
    database: &str,
    file: &Path,
    progress: impl FnMut(u64) + Send + 'static,
    what: &str,
) -> Result<(), PgServerError> {
    let begun = Instant::now();
    let failed = |error: io::Error| server.request.failed(what, begun, error);
    let exists = format!("SELECT 1 FROM pg_database WHERE datname = {}", quote_literal(database));
    if !psql(server, "postgres", &[&exists]).await?.map_err(failed)?.trim().is_empty() {
        return Err(server.request.invalid(format!(
            "database `{database}` exists, and a backup with TimescaleDB is restored into one that does not; restore it \
             under another name, or drop the database first"
        )));
    }
    let unfinished = format!("{database} being restored");
    let (name, new) = (quote_ident(database), quote_ident(&unfinished));
    let drop = format!("DROP DATABASE IF EXISTS {new} WITH (FORCE)");
    let create = format!("CREATE DATABASE {new} TEMPLATE template0");
    psql(server, "postgres", &[&drop, &create]).await?.map_err(failed)?;
    let restored = async {
        let first = ["CREATE EXTENSION timescaledb", "SELECT timescaledb_pre_restore()"];
        psql(server, &unfinished, &first).await?.map_err(failed)?;
        let ending = Ending::new(server.running().await?).map_err(failed)?;
        let to = ending.conninfo(&unfinished);
        let restore = [
            "pg_restore",
            "--single-transaction",
            "--exit-on-error",
            "--no-password",
            "--dbname",
            &to,
        ];
        let restore = Program::new(restore).input(server.read(file, progress).await?);
        server.spawn(restore).await?.text().await.map_err(failed)?;
        ending.disarm();
        // Its workers are still stopped, so nobody is connected.
        let rename = format!("ALTER DATABASE {new} RENAME TO {name}");
        psql(server, "postgres", &[&rename]).await?.map_err(failed)?;
        psql(server, database, &["SELECT timescaledb_post_restore()"]).await?.map_err(failed)?;
        Ok(())
    };
    let restored = restored.await;
    if restored.is_err() {
        // The error of the restore is the one to report.
        let _ = psql(server, "postgres", &[&drop]).await;
    }
    restored
}

/// Runs statements, each by itself, in a session of their own.
async fn psql(
    server: &PgServer,
    database: &str,
    statements: &[&str],
) -> Result<io::Result<String>, PgServerError> {
    let mut argv = vec!["psql", "-X", "-q", "-At", "-w", "-v", "ON_ERROR_STOP=1", "-d", database];
    for statement in statements {
        argv.extend(["-c", statement]);
    }
    Ok(server.spawn(Program::new(argv)).await?.text().await)
}
