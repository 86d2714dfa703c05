//! What has to be there before a database can be used: its logins, itself, its schema, its extensions.

#[cfg(feature = "pgserver")]
mod roles;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, Statement};

#[cfg(feature = "pgserver")]
use crate::pgserver::Endpoint;
use crate::{
    config::{Address, DatabaseConfig},
    error::{ConnectErrorKind, Error},
    pg::Pg,
    sql,
};

/// The database that every PostgreSQL server has, to be connected to while another is made.
const MAINTENANCE: &str = "postgres";

/// SQLSTATEs of a database that somebody else made at this moment.
const MADE: [&str; 2] = ["42P04", "23505"];

/// What is asked before it is created, because a role may have the right to use it and not to create it.
const DATABASE: &str = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)";
#[cfg(feature = "migrate")]
const SCHEMA: &str = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
const EXTENSION: &str = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = $1)";

/// Creates the logins of `entry` and its database, if it says `create_db`, as the superuser of the server at `endpoint`.
/// What exists is left as it is, but for passwords, which are the file's.
#[cfg(feature = "pgserver")]
pub(crate) async fn database(
    pg: &Pg,
    entry: &DatabaseConfig,
    endpoint: &Endpoint,
) -> Result<(), Error> {
    let admin = Pg::from_config(pg.name(), as_superuser(entry, endpoint, MAINTENANCE));
    let made = async {
        let owner = roles::create(&admin, entry, &endpoint.user).await?;
        if entry.create_db {
            create_database(&admin, &entry.database, owner.as_deref()).await?;
        }
        Ok(())
    };
    let made = made.await;
    admin.close().await?;
    made
}

/// Creates within the database of `entry` what is missing: its extensions, and the rights of its login, if another one owns
/// the database.
#[cfg(feature = "pgserver")]
pub(crate) async fn within_database(
    pg: &Pg,
    entry: &DatabaseConfig,
    endpoint: &Endpoint,
) -> Result<(), Error> {
    if entry.extensions.is_empty() && (entry.readonly || entry.user == endpoint.user) {
        return Ok(());
    }
    let admin = Pg::from_config(pg.name(), as_superuser(entry, endpoint, &entry.database));
    let made = async {
        match roles::grant(&admin, entry, &endpoint.user).await {
            // Nobody has asked for the database to be created.
            Err(Error::Connect(error))
                if entry.extensions.is_empty()
                    && error.kind == ConnectErrorKind::NoSuchDatabase =>
            {
                return Ok(());
            }
            granted => granted?,
        }
        create_extensions(&admin, &entry.extensions).await
    };
    let made = made.await;
    admin.close().await?;
    made
}

async fn create_database(admin: &Pg, name: &str, owner: Option<&str>) -> Result<(), Error> {
    if exists(admin, DATABASE, name).await? {
        return Ok(());
    }
    let owner =
        owner.map_or_else(String::new, |owner| format!(" OWNER {}", sql::quote_ident(owner)));
    let create = format!("CREATE DATABASE {}{owner}", sql::quote_ident(name));
    let mut attempt = 1;
    loop {
        let made = admin.execute_unprepared(&create).await.map_err(Error::from);
        match &made {
            // Another is being made from the same template.
            Err(error) if error.sqlstate().as_deref() == Some("55006") && attempt < ATTEMPTS => {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                attempt += 1;
            }
            _ => return settle(made, &MADE),
        }
    }
}

#[cfg(feature = "pgserver")]
async fn create_extensions(admin: &Pg, extensions: &[String]) -> Result<(), Error> {
    for extension in extensions {
        if exists(admin, EXTENSION, extension).await? {
            continue;
        }
        let create = format!("CREATE EXTENSION IF NOT EXISTS {}", sql::quote_ident(extension));
        // 23505, 42710: two at once; IF NOT EXISTS does not close that gap.
        settle(admin.execute_unprepared(&create).await.map_err(Error::from), &["23505", "42710"])?;
    }
    Ok(())
}

async fn exists(db: &impl ConnectionTrait, sql: &str, name: &str) -> Result<bool, DbErr> {
    let asked = Statement::from_sql_and_values(DbBackend::Postgres, sql, [name.into()]);
    let row = db.query_one_raw(asked).await?;
    Ok(row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or(false))
}

/// The entry as the superuser of the server at `endpoint` would have it, for one of its databases.
#[cfg(feature = "pgserver")]
pub(crate) fn as_superuser(
    entry: &DatabaseConfig,
    endpoint: &Endpoint,
    database: &str,
) -> DatabaseConfig {
    let mut admin = entry.clone();
    admin.address = Address::Host { host: endpoint.host.clone(), port: endpoint.port };
    admin.user.clone_from(&endpoint.user);
    admin.password.clone_from(&endpoint.password);
    // Those are the application's.
    (admin.password_file, admin.login_source) = (None, None);
    admin.database = database.to_owned();
    (admin.readonly, admin.read_role, admin.schema) = (false, None, None);
    admin
}

fn settle(done: Result<ExecResult, Error>, made_already: &[&str]) -> Result<(), Error> {
    match done {
        Err(error) if error.sqlstate().is_some_and(|s| made_already.contains(&s.as_str())) => {
            Ok(())
        }
        done => done.map(|_| ()),
    }
}

/// How often a database is tried to be made while others are making some, too.
const ATTEMPTS: u32 = 20;

/// Makes the database that `to` leads to, if its entry says so and it is not there. As the login that
/// the entry names: one that may not is told by the server.
#[cfg(feature = "migrate")]
pub(crate) async fn database_of(pg: &Pg, to: &crate::pool::ConnectTo) -> Result<(), Error> {
    let mut entry = (*to.config).clone();
    entry.address = Address::Host { host: to.host.clone(), port: to.port };
    (entry.pool_size, entry.max_overflow, entry.min_connections) = (1, 0, 0);
    entry.schema = None;
    let there = Pg::from_config(pg.name(), entry.clone());
    let reached = there.ping().await.map_err(Error::from);
    there.close().await?;
    match reached {
        Err(Error::Connect(error))
            if entry.create_db && error.kind == ConnectErrorKind::NoSuchDatabase => {}
        other => return other,
    }
    let name = std::mem::replace(&mut entry.database, MAINTENANCE.to_owned());
    let admin = Pg::from_config(pg.name(), entry);
    let made = create_database(&admin, &name, None).await;
    admin.close().await?;
    made
}

/// Makes the schema that comes first in the search path, and the extensions of the entry; those, where
/// a view is migrated, in the schema that all of them share. To be called by one at a time.
#[cfg(feature = "migrate")]
pub(crate) async fn schema_and_extensions(
    db: &sea_orm::DatabaseConnection,
    entry: &DatabaseConfig,
    shared: Option<&str>,
    scope: Option<&crate::view::Scope>,
) -> Result<(), Error> {
    let first = match scope {
        Some(scope) => Some(scope.name().to_owned()),
        None => shared.and_then(first_of),
    };
    if let Some(first) = first
        && !exists(db, SCHEMA, &first).await?
    {
        let create = format!("CREATE SCHEMA IF NOT EXISTS {}", sql::quote_ident(&first));
        db.execute_unprepared(&create).await?;
    }
    for extension in &entry.extensions {
        if exists(db, EXTENSION, extension).await? {
            continue;
        }
        let create = format!("CREATE EXTENSION IF NOT EXISTS {}", sql::quote_ident(extension));
        let create = match scope {
            None => create,
            Some(_) => {
                let path = shared.unwrap_or("public");
                format!("BEGIN; SET LOCAL search_path = {path}; {create}; COMMIT")
            }
        };
        db.execute_unprepared(&create).await?;
    }
    Ok(())
}

/// The first schema of a search path, if it is one that can be made.
#[cfg(feature = "migrate")]
pub(crate) fn first_of(path: &str) -> Option<String> {
    let first = sql::names_of(path).into_iter().next()?;
    (first != "$user" && !first.starts_with("pg_")).then_some(first)
}

#[cfg(all(test, feature = "migrate"))]
mod tests {
    #[test]
    fn the_first_schema_of_a_search_path_is_the_one_that_is_made() {
        let first = super::first_of;
        assert_eq!(first("App, public").as_deref(), Some("app"));
        assert_eq!(first("\"$user\", public"), None);
        assert_eq!(first("pg_catalog, app"), None);
        assert_eq!(first(" "), None);
    }
}

#[cfg(all(test, feature = "pgserver"))]
mod superuser {
    use crate::{config::DatabaseConfig, pgserver::Endpoint};

    #[test]
    fn the_superuser_does_not_log_in_with_the_applications_secret() {
        let mut entry = DatabaseConfig::from_url("postgres://app@localhost/shop").unwrap();
        entry.password_file = Some("app.txt".into());
        entry.set_login_source(|login| async move { Ok(login) });
        let endpoint = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: 6543,
            replica_ports: Vec::new(),
            user: "postgres".to_owned(),
            password: Some("generated".into()),
            runtime: crate::config::Runtime::Native,
            version: "17.5".to_owned(),
            single_connection: false,
        };
        let admin = super::as_superuser(&entry, &endpoint, "postgres");
        assert!(admin.password_file.is_none() && admin.login_source.is_none());
        assert_eq!((admin.user.as_str(), admin.database.as_str()), ("postgres", "postgres"));
    }
}
