//! `wharf psql`.

use std::process::Command;

use secrecy::ExposeSecret as _;

use super::context::{Context, entry, named};
use super::failure::Failure;
use super::{attach, out};
use crate::config::{Address, Runtime};
use crate::pgserver::Program;

pub(super) async fn run(context: &Context, mut args: Vec<String>) -> Result<(), Failure> {
    let manager = context.manager()?;
    let given = args.first().is_some_and(|word| !word.starts_with('-')).then(|| args.remove(0));
    if args.first().is_some_and(|word| word == "--") {
        args.remove(0);
    }
    let name = named(&manager, given)?;
    let name = name.as_str();
    let wanted = entry(&manager, name)?;
    let pg = manager.db(name)?;
    let to = pg.database().connect_to(pg.is_read_only()).await?;
    let login = to.login().await.map_err(|error| {
        Failure::Failed(format!("database `{name}`: cannot get its login: {error}"))
    })?;
    let config = &to.config;
    let mut psql = Command::new("psql");
    psql.args(&args);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("PG") {
            psql.env_remove(key);
        }
    }
    psql.env("PGHOST", &to.host).env("PGPORT", to.port.to_string());
    psql.env("PGDATABASE", &config.database).env("PGUSER", &login.user);
    psql.env("PGSSLMODE", config.ssl_mode.as_str());
    if let Some(password) = &login.password {
        psql.env("PGPASSWORD", password.expose_secret());
    }
    for (key, path) in [
        ("PGSSLROOTCERT", &config.ssl_root_cert),
        ("PGSSLCERT", &config.ssl_cert),
        ("PGSSLKEY", &config.ssl_key),
    ] {
        if let Some(path) = path {
            psql.env(key, path);
        }
    }
    if to.read_only {
        psql.env("PGOPTIONS", "-c default_transaction_read_only=on");
        out::note(
            "read-only, as the entry says; `SET default_transaction_read_only = off` allows writes",
        );
    }
    // In place of this program, so that signals, the terminal and the exit code are psql's own.
    let error = std::os::unix::process::CommandExt::exec(&mut psql);
    if error.kind() != std::io::ErrorKind::NotFound {
        return Err(Failure::Failed(format!("cannot run psql: {error}")));
    }
    let server = manager.pgserver().filter(|_| wanted.address == Address::PgServer).cloned();
    let running = match &server {
        Some(server) => server.running().await?,
        None => None,
    };
    if let (Some(server), Some(at)) = (server, running)
        && at.runtime == Runtime::Docker
    {
        // Options of the connection go into its string: the container's psql has an environment of its own.
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
        let mut connection = format!("dbname='{}'", quoted(&config.database));
        if to.read_only {
            connection.push_str(" options='-c default_transaction_read_only=on'");
        }
        let mut argv = vec!["psql".to_owned(), "--dbname".to_owned(), connection];
        argv.extend(["--username".to_owned(), login.user.clone()]);
        argv.extend(args);
        return attach::run(&server, Program::new(argv)).await;
    }
    Err(Failure::Failed(
        "psql is not on PATH; install PostgreSQL's client (Debian: apt-get install postgresql-client; \
         macOS: brew install libpq)"
            .to_owned(),
    ))
}
