//! A database into a file, and back.

use std::io;
use std::path::Path;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tokio::fs::{self, File};
use tokio::io::AsyncReadExt as _;

use super::error::PgServerError;
use super::folder::{Folder, random_hex};
use super::program::Program;
use super::server::{Endpoint, PgServer};
use super::timescale;
use crate::{files, sql};

const BLOCK: usize = 256 * 1024;

/// What a backup file holds, by its own listing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Contents {
    /// Size of the file in bytes.
    pub size: u64,
    /// Everything in it: tables, their data, indexes, extensions, ….
    pub entries: usize,
    /// The tables, `public.customer`, in the order in which they are restored.
    pub tables: Vec<String>,
    /// Its tables may be TimescaleDB's, which are restored by steps of their own.
    is_timescale: bool,
}

impl PgServer {
    /// Writes a database of the server that runs to `file`, in pg_dump's custom format, and proves the
    /// file by listing it. It is a consistent picture of the moment at which it begins; others can
    /// write meanwhile. `progress` is told the bytes written so far.
    ///
    /// The programs are those beside the server: in its container, or installed with it. Memory is
    /// constant. The file appears under its name when it is complete, in place of one that was
    /// there; until then it is a hidden file beside it, which dropping the future removes. Of two backups to one file
    /// at once, the last one stays, whole.
    ///
    /// ```no_run
    /// # async fn doc(server: wharf::pgserver::PgServer) -> Result<(), wharf::pgserver::PgServerError> {
    /// let contents = server.backup("shop", "shop.dump", |_| {}).await?;
    /// println!("{} tables in {} bytes", contents.tables.len(), contents.size);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`PgServerError::Invalid`] if it does not run, or is embedded; [`PgServerError::Io`];
    /// [`PgServerError::Failed`] with pg_dump's own words.
    pub async fn backup(
        &self,
        database: &str,
        file: impl AsRef<Path>,
        progress: impl FnMut(u64),
    ) -> Result<Contents, PgServerError> {
        let begun = Instant::now();
        let folder = Folder::of(&self.request)?;
        let file = file.as_ref();
        let what = format!("backing up database `{database}`");
        let failed =
            |error: io::Error| self.request.failed(&format!("{what} failed"), begun, error);
        let ending = Ending::new(self.running().await?).map_err(failed)?;
        let to = ending.conninfo(database);
        let dump = ["pg_dump", "--format=custom", "--no-password", "--dbname", to.as_str()];
        let running = self.spawn(Program::new(dump)).await?;
        // Removed when it is dropped, because until it is whole it is nobody's backup.
        let partial = files::beside_for_others(file).map_err(folder.io("write", file))?;
        let (out, partial) = partial.into_parts();
        let mut out = File::from_std(out);
        running.succeed(&mut out, progress).await.map_err(failed)?;
        ending.disarm();
        out.sync_all().await.map_err(folder.io("write", &partial))?;
        let contents = self.contents(&partial).await?;
        partial.persist(file).map_err(|error| folder.io("write", file)(error.error))?;
        Ok(contents)
    }

    /// What a backup holds, read by pg_restore beside the server that runs. This is also the check
    /// that it is one. Reads the file's beginning only.
    ///
    /// # Errors
    /// As [`backup`](PgServer::backup); [`PgServerError::Failed`] if it is none, or of a newer version.
    pub async fn contents(&self, file: impl AsRef<Path>) -> Result<Contents, PgServerError> {
        let begun = Instant::now();
        let folder = Folder::of(&self.request)?;
        let file = file.as_ref();
        let size = fs::metadata(file).await.map_err(folder.io("read", file))?.len();
        let listing = Program::new(["pg_restore", "--list"]).input(self.read(file, |_| {}).await?);
        let listing = self.spawn(listing).await?.text().await;
        let listing = listing.map_err(|error| {
            self.request.failed(
                &format!("{} is not a backup that can be read", file.display()),
                begun,
                error,
            )
        })?;
        let entries: Vec<&str> =
            listing.lines().filter(|line| !line.is_empty() && !line.starts_with(';')).collect();
        // "215; 1259 16386 TABLE public customer postgres"
        let table = |line: &&str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [_, _, _, "TABLE", schema, name, ..] if *schema != "DATA" => {
                    Some(format!("{schema}.{name}"))
                }
                _ => None,
            }
        };
        let is_timescale = entries.iter().any(|it| it.contains(" EXTENSION - timescaledb "));
        Ok(Contents {
            size,
            is_timescale,
            entries: entries.len(),
            tables: entries.iter().filter_map(table).collect(),
        })
    }

    /// Puts a backup into a database of the server that runs, which is made if it is not there: all
    /// of it or, if anything fails, nothing. **What the backup has is dropped from the database
    /// first**; what else is there stays. Owners are those of the backup where the server knows them.
    ///
    /// A backup with TimescaleDB is restored into a database that does not exist yet, because the extension cannot be
    /// dropped and created again in one session; it appears under its name when it is complete.
    ///
    /// `progress` is told the bytes read so far. Dropping the future ends pg_restore's connection, so the server rolls
    /// back.
    ///
    /// # Errors
    /// As [`contents`](PgServer::contents), which is looked at first; [`PgServerError::Failed`] with
    /// pg_restore's own words.
    pub async fn restore(
        &self,
        database: &str,
        file: impl AsRef<Path>,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<Contents, PgServerError> {
        let begun = Instant::now();
        let file = file.as_ref();
        let contents = self.contents(file).await?;
        let what = format!("restoring {} into database `{database}` failed", file.display());
        if contents.is_timescale {
            timescale::restore(self, database, file, progress, &what).await?;
            return Ok(contents);
        }
        self.make_database(database, &what, begun).await?;
        let failed = |error: io::Error| self.request.failed(&what, begun, error);
        let ending = Ending::new(self.running().await?).map_err(failed)?;
        let to = ending.conninfo(database);
        let restore = [
            "pg_restore",
            "--clean",
            "--if-exists",
            "--single-transaction",
            "--exit-on-error",
            "--no-password",
            "--dbname",
            to.as_str(),
        ];
        let restore = Program::new(restore).input(self.read(file, progress).await?);
        let restored = self.spawn(restore).await?.text().await;
        restored.map_err(failed)?;
        ending.disarm();
        Ok(contents)
    }

    async fn make_database(
        &self,
        database: &str,
        what: &str,
        begun: Instant,
    ) -> Result<(), PgServerError> {
        let Some(at) = self.running().await? else {
            return Ok(());
        };
        let failed = |error: sqlx::Error| self.request.failed(what, begun, error);
        let connected = at.login().connect().await;
        let mut connection = connected.map_err(|error| self.request.failed(what, begun, error))?;
        let there = sqlx::query("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)");
        let there = there.bind(database).fetch_one(&mut connection).await.map_err(failed)?;
        if !there.try_get::<bool, _>(0).map_err(failed)? {
            let create = format!("CREATE DATABASE {}", sql::quote_ident(database));
            let made = sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await;
            made.map_err(failed)?;
        }
        let _ = connection.close().await;
        Ok(())
    }

    pub(super) async fn read(
        &self,
        file: &Path,
        mut progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<BoxStream<'static, io::Result<Vec<u8>>>, PgServerError> {
        let folder = Folder::of(&self.request)?;
        let opened = File::open(file).await.map_err(folder.io("read", file))?;
        let blocks = stream::try_unfold((opened, 0), move |(mut file, mut read)| {
            let mut block = Vec::with_capacity(BLOCK);
            async move {
                let any = file.read_buf(&mut block).await?;
                read += any as u64;
                Ok((any > 0).then_some(((block, read), (file, read))))
            }
        });
        Ok(blocks
            .map(move |block: io::Result<(Vec<u8>, u64)>| {
                let (block, read) = block?;
                progress(read);
                Ok(block)
            })
            .boxed())
    }
}

/// Ends the connection of a program if its future is dropped: in a container, the program itself would go on.
pub(super) struct Ending {
    at: Option<Endpoint>,
    /// By which the server knows the connection.
    name: String,
}

impl Ending {
    pub(super) fn new(at: Option<Endpoint>) -> io::Result<Ending> {
        Ok(Ending { at, name: format!("wharf {}", random_hex()?) })
    }

    /// The database as libpq takes it, with the connection's name.
    pub(super) fn conninfo(&self, database: &str) -> String {
        let database = database.replace('\\', "\\\\").replace('\'', "\\'");
        format!("dbname='{database}' application_name='{}'", self.name)
    }

    pub(super) fn disarm(mut self) {
        self.at = None;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let (Some(at), Ok(runtime)) = (self.at.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let name = std::mem::take(&mut self.name);
        runtime.spawn(async move {
            let Ok(mut connection) = at.login().connect().await else { return };
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
            // A server that is gone has ended it.
            let _ = sqlx::query(end).bind(name).execute(&mut connection).await;
            let _ = connection.close().await;
        });
    }
}
