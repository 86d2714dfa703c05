//! The database that tests get copies of.

use std::{
    hash::{BuildHasher as _, Hash as _, Hasher as _},
    time::UNIX_EPOCH,
};

use foldhash::fast::FixedState;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sea_orm_migration::MigratorTrait;

use super::{leftovers, server::Server};
use crate::{error::Error, pg::Pg, sql};

/// The template of these migrations as this build has them, made if it is not there: by one process
/// while the others wait for it.
pub(super) async fn of<M: MigratorTrait + 'static>(server: &Server) -> Result<String, Error> {
    let name = format!("{}{:016x}", leftovers::TEMPLATE, identity::<M>());
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
            return make::<M>(server, &name).await;
        }
        // The session that has the lock does nothing else: no database is made in a transaction.
        maintenance
            .ensure_object(&name, async |_| {
                if is_there(&maintenance, &name).await? {
                    return Ok(());
                }
                make::<M>(server, &name).await
            })
            .await
    };
    let made: Result<(), Error> = made.await;
    maintenance.close().await?;
    made?;
    server.add_template(&name);
    Ok(name)
}

async fn make<M: MigratorTrait + 'static>(server: &Server, name: &str) -> Result<(), Error> {
    // Under another name until it is whole.
    let unfinished = format!("{}template", leftovers::prefix());
    let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", sql::quote_ident(&unfinished));
    server.admin.run(drop).await?;
    server.create(&unfinished, "template0").await?;
    let pg = Pg::from_config("template", server.entry(&unfinished));
    let migrated = pg.migrate::<M>().await;
    // The first to connect has the server write down what its catalogs look like; copies have that too.
    let warmed = pg.ping().await;
    pg.close().await?;
    migrated?;
    warmed?;
    let (unfinished, name) = (sql::quote_ident(&unfinished), sql::quote_ident(name));
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

/// What a migration does cannot be seen from outside; that it may have changed can, by the program
/// that holds it having been built again.
fn identity<M: MigratorTrait>() -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    std::any::type_name::<M>().hash(&mut hasher);
    for migration in M::migrations() {
        migration.name().hash(&mut hasher);
    }
    if let Ok(program) = std::env::current_exe() {
        program.hash(&mut hasher);
        let built = program.metadata().and_then(|file| file.modified()).ok();
        let built = built.and_then(|built| built.duration_since(UNIX_EPOCH).ok());
        built.hash(&mut hasher);
    }
    hasher.finish()
}
