//! The database that tests get copies of.

use std::{
    hash::{BuildHasher as _, Hash as _, Hasher as _},
    time::{Duration, UNIX_EPOCH},
};

use foldhash::fast::FixedState;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sea_orm_migration::MigratorTrait;

use super::{leftovers, server::Server};
use crate::{error::Error, pg::Pg, sql};

/// Longest silence of a server while the migrations run.
const SILENCE: Duration = Duration::from_secs(60);

/// The template of these migrations as this build has them, made if it is not there: by one process
/// while the others wait for it.
pub(super) async fn of<M: MigratorTrait + 'static>(server: &Server) -> Result<String, Error> {
    let Identity { program, build } = Identity::of::<M>();
    let earlier = format!("{}{program:016x}_", leftovers::TEMPLATE);
    let name = format!("{earlier}{build:016x}");
    if server.has_template(&name) {
        return Ok(name);
    }
    let _making = server.making.lock().await;
    let maintenance = server.maintenance();
    let made = async {
        if is_there(&maintenance, &name).await? {
            return Ok(());
        }
        if server.is_single {
            return make::<M>(server, &name, &earlier).await;
        }
        // The session that has the lock does nothing else: no database is made in a transaction.
        maintenance
            .ensure_object(&name, async |_| {
                if is_there(&maintenance, &name).await? {
                    return Ok(());
                }
                make::<M>(server, &name, &earlier).await
            })
            .await
    };
    let made: Result<(), Error> = made.await;
    let used = match made.is_ok() {
        true => use_now(server, &maintenance, &name).await,
        false => Ok(()),
    };
    maintenance.close().await?;
    made?;
    used?;
    server.add_template(&name);
    Ok(name)
}

/// Writes the time into the template's comment, unless that is recent.
async fn use_now(server: &Server, maintenance: &Pg, name: &str) -> Result<(), Error> {
    let sql = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1";
    let comment = Statement::from_sql_and_values(DbBackend::Postgres, sql, [name.into()]);
    let row = maintenance.query_one_raw(comment).await?;
    let comment: Option<String> = row.map(|row| row.try_get_by_index(0)).transpose()?.flatten();
    if leftovers::is_stale(comment.as_deref()) {
        let used = leftovers::used_now();
        let comment = format!("COMMENT ON DATABASE {} IS '{used}'", sql::quote_ident(name));
        // Another process may be writing it at this moment, and one of them is enough.
        let _ = server.admin.run_once(comment).await;
    }
    Ok(())
}

/// Makes the template, in place of those that earlier builds of the same program have made.
async fn make<M: MigratorTrait + 'static>(
    server: &Server,
    name: &str,
    earlier: &str,
) -> Result<(), Error> {
    let maintenance = server.maintenance();
    let like = "SELECT datname::text FROM pg_database WHERE starts_with(datname, $1)";
    let like = Statement::from_sql_and_values(DbBackend::Postgres, like, [earlier.into()]);
    let found = maintenance.query_all_raw(like).await;
    maintenance.close().await?;
    for row in found? {
        let old: String = row.try_get_by_index(0)?;
        // A process of that build may be copying it; then it stays until it is old.
        let _ = server
            .admin
            .run_once(format!("DROP DATABASE IF EXISTS {}", sql::quote_ident(&old)))
            .await;
    }
    // Under another name until it is whole.
    let unfinished = format!("{}template", leftovers::prefix());
    let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", sql::quote_ident(&unfinished));
    server.admin.run(drop).await?;
    server.create(&unfinished, "template0").await?;
    let mut entry = server.entry(&unfinished);
    // A server that answers no more ends the migrations, however long they take.
    entry.socket_timeout = Some(SILENCE);
    let pg = Pg::from_config("template", entry);
    let migrated = pg.migrate::<M>().await;
    // The first to connect has the server write down what its catalogs look like; copies have that too.
    let warmed = pg.ping().await;
    pg.close().await?;
    migrated?;
    warmed?;
    let (unfinished, name) = (sql::quote_ident(&unfinished), sql::quote_ident(name));
    // Before it has its name: without a comment, the sweep of another process would take it for one of an earlier version.
    let used = leftovers::used_now();
    server.admin.run(format!("COMMENT ON DATABASE {unfinished} IS '{used}'")).await?;
    server.admin.run(format!("ALTER DATABASE {unfinished} RENAME TO {name}")).await
}

async fn is_there(maintenance: &Pg, name: &str) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)";
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [name.into()]);
    match maintenance.query_one_raw(statement).await? {
        Some(row) => Ok(row.try_get_by_index(0)?),
        None => Ok(false),
    }
}

/// What a migration does cannot be seen from outside; that it may have changed can, by the program that holds it having
/// been built again.
struct Identity {
    /// Of the program and the migrator, whenever they were built.
    program: u64,
    build: u64,
}

impl Identity {
    fn of<M: MigratorTrait>() -> Identity {
        let mut hasher = FixedState::default().build_hasher();
        std::any::type_name::<M>().hash(&mut hasher);
        let program = std::env::current_exe().ok();
        if let Some(program) = &program {
            // Cargo adds a number to it, which changes with the flags and not with the code.
            let name = program.file_name().unwrap_or_default().to_string_lossy();
            let name = name.rsplit_once('-').map_or(&*name, |(name, _)| name);
            program.with_file_name(name).hash(&mut hasher);
        }
        let same = hasher.finish();
        for migration in M::migrations() {
            migration.name().hash(&mut hasher);
        }
        if let Some(program) = program {
            program.hash(&mut hasher);
            let built = program.metadata().and_then(|file| file.modified()).ok();
            let built = built.and_then(|built| built.duration_since(UNIX_EPOCH).ok());
            built.hash(&mut hasher);
        }
        Identity { program: same, build: hasher.finish() }
    }
}
