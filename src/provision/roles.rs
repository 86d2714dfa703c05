//! The logins that the file names, created on the file's own server with their rights.

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use secrecy::ExposeSecret as _;

use crate::{
    config::{DatabaseConfig, Role},
    error::Error,
    pg::Pg,
    session::Session,
    sql::quote_ident,
};

/// Name and password come as settings, so that no log of statements has them.
const CREATE: &str = "
DO $$ DECLARE
  role text := current_setting('wharf.role');
  password text := nullif(current_setting('wharf.password'), '');
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
    EXECUTE format('CREATE ROLE %I LOGIN', role);
  END IF;
  IF password IS NOT NULL THEN
    EXECUTE format('ALTER ROLE %I PASSWORD %L', role, password);
  END IF;
END $$";

/// Whether a role lacks what owners of the database have; NULL if there is no such database or role.
const LACKS: &str = "
SELECT NOT r.rolsuper AND d.datdba <> r.oid FROM pg_roles r, pg_database d WHERE r.rolname = $1 AND d.datname = $2";

/// The logins of an entry that are not the server's superuser: the one that writes, and the one that only reads.
struct Logins {
    writes: Option<Role>,
    reads: Option<Role>,
}

impl Logins {
    fn of(entry: &DatabaseConfig, superuser: &str) -> Logins {
        let login = Some(entry.login()).filter(|login| login.user != superuser);
        let read_role = entry.read_role.clone().filter(|role| role.user != superuser);
        match entry.readonly {
            true => Logins { writes: None, reads: read_role.or(login) },
            false => Logins { writes: login, reads: read_role },
        }
    }
}

/// Creates the logins of an entry that are missing, and gives them the file's passwords; returns the one that is to own
/// its database. `admin` is the server's superuser.
pub(super) async fn create(
    admin: &Pg,
    entry: &DatabaseConfig,
    superuser: &str,
) -> Result<Option<String>, Error> {
    let Logins { writes, reads } = Logins::of(entry, superuser);
    for login in writes.iter().chain(&reads) {
        // Users that come and go are made by who gives them.
        if entry.login_source.is_none() {
            create_one(admin, login).await?;
        }
    }
    if let Some(reads) = reads {
        // Of PostgreSQL 14; those before it are not maintained any more.
        let grant = format!("GRANT pg_read_all_data TO {}", quote_ident(&reads.user));
        admin.execute_unprepared(&grant).await?;
    }
    Ok(writes.map(|login| login.user))
}

async fn create_one(admin: &Pg, login: &Role) -> Result<(), Error> {
    let read = login.clone().with_password_read().await;
    let login = read.map_err(|reason| Error::Internal {
        database: admin.name().to_owned(),
        reason: format!("cannot create its login `{}`: {reason}", login.user),
    })?;
    let password = login.password.as_ref().map_or("", |password| password.expose_secret());
    let set = "SELECT set_config('wharf.role', $1, true), set_config('wharf.password', $2, true)";
    let values = [login.user.as_str().into(), password.into()];
    let set = Statement::from_sql_and_values(DbBackend::Postgres, set, values);
    // Several processes may start at once.
    admin
        .ensure_object(&format!("wharf role {}", login.user), async |s: &Session| {
            s.query_one_raw(set).await?;
            s.execute_unprepared(CREATE).await?;
            Ok(())
        })
        .await
}

/// Gives an entry's login the right to create tables in a database that another one owns. `admin` is connected to it.
pub(super) async fn grant(
    admin: &Pg,
    entry: &DatabaseConfig,
    superuser: &str,
) -> Result<(), Error> {
    let Some(writes) = Logins::of(entry, superuser).writes else { return Ok(()) };
    let values = [writes.user.as_str().into(), entry.database.as_str().into()];
    let lacks = Statement::from_sql_and_values(DbBackend::Postgres, LACKS, values);
    let row = admin.query_one_raw(lacks).await?;
    if row.map(|row| row.try_get_by_index(0)).transpose()? != Some(true) {
        return Ok(());
    }
    let (role, database) = (quote_ident(&writes.user), quote_ident(&entry.database));
    let grant = format!(
        "GRANT ALL ON DATABASE {database} TO {role}; \
         DO $$ BEGIN GRANT ALL ON SCHEMA public TO {role}; EXCEPTION WHEN invalid_schema_name THEN NULL; END $$"
    );
    admin
        .ensure_object("wharf rights", async |s: &Session| {
            s.execute_unprepared(&grant).await?;
            Ok(())
        })
        .await
}
