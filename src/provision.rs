//! What has to be there before a database can be used: itself, and its extensions.

use sea_orm::ConnectionTrait;

use crate::{
    config::{Address, DatabaseConfig},
    error::Error,
    pg::Pg,
    pgserver::Endpoint,
    sql,
};

/// The database that every PostgreSQL server has, to be connected to while another is made.
const MAINTENANCE: &str = "postgres";

/// Makes the database of `entry`, if it says `create_db`, and its extensions, as the superuser of
/// the server at `endpoint`. What is there already is left as it is.
pub(crate) async fn database(
    pg: Pg,
    entry: &DatabaseConfig,
    endpoint: &Endpoint,
) -> Result<(), Error> {
    if entry.create_db {
        let create = format!("CREATE DATABASE {}", sql::quote_ident(&entry.database));
        let made = run(pg.name(), entry, endpoint, MAINTENANCE, &create).await;
        // 42P04: it is there. 23505: somebody else made it at this moment.
        settle(made, &["42P04", "23505"])?;
    }
    for extension in &entry.extensions {
        let create = format!("CREATE EXTENSION IF NOT EXISTS {}", sql::quote_ident(extension));
        let made = run(pg.name(), entry, endpoint, &entry.database, &create).await;
        // 23505, 42710: two at once; IF NOT EXISTS does not close that gap.
        settle(made, &["23505", "42710"])?;
    }
    Ok(())
}

async fn run(
    name: &str,
    entry: &DatabaseConfig,
    endpoint: &Endpoint,
    database: &str,
    sql: &str,
) -> Result<(), Error> {
    let mut admin = entry.clone();
    admin.address = Address::Host { host: endpoint.host.clone(), port: endpoint.port };
    admin.user.clone_from(&endpoint.user);
    admin.password.clone_from(&endpoint.password);
    admin.database = database.to_owned();
    (admin.readonly, admin.read_role, admin.schema) = (false, None, None);
    let admin = Pg::from_config(name, admin);
    let done = admin.execute_unprepared(sql).await.map(|_| ());
    admin.close().await?;
    Ok(done?)
}

fn settle(done: Result<(), Error>, there_already: &[&str]) -> Result<(), Error> {
    match done {
        Err(error) if error.sqlstate().is_some_and(|s| there_already.contains(&s.as_str())) => {
            Ok(())
        }
        done => done,
    }
}
