//! How the superuser logs in: what a volume has from its first start, brought to what the file says now.

use std::io;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use secrecy::ExposeSecret as _;

use super::engine::Engine;
use super::{Docker, files};
use crate::pgserver::error::PgServerError;
use crate::pgserver::login::Greeting;
use crate::pgserver::password;
use crate::pgserver::program::Program;
use crate::pgserver::server::Endpoint;
use crate::sql;

/// Writes the method into the lines for all hosts, and has the server read them. Into the file that is there, which
/// belongs to the server's user. `$1` is the superuser, `$2` the method.
const METHOD: &str = r#"
set -e
file=$(psql -X -At -U "$1" -d postgres -c 'SHOW hba_file')
line='^(host[[:space:]]+[a-z]+[[:space:]]+all[[:space:]]+all[[:space:]]+)(trust|scram-sha-256|md5|password)[[:space:]]*$'
lines=$(sed -E "s/$line/\\1$2/" "$file")
printf '%s\n' "$lines" >"$file"
psql -X -q -At -U "$1" -d postgres -c 'SELECT pg_reload_conf()' >/dev/null
"#;

/// Whether anybody is let in without a password.
const TRUSTS: &str = "SELECT EXISTS (SELECT FROM pg_hba_file_rules
    WHERE type = 'host' AND address = 'all' AND auth_method = 'trust')::text";

/// How long the server may take to heed the lines that it has been told to read.
const HEEDS: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_millis(50);

impl Docker {
    /// Has a new container's server ask for the file's password, or for none if the file says so. `ready` is the outcome
    /// of the first login. Inside its container, the server asks for no password, unless its image was told otherwise.
    pub(super) async fn authenticate(
        &self,
        engine: &Engine,
        at: &Endpoint,
        ready: Result<Greeting, PgServerError>,
        begun: Instant,
    ) -> Result<Greeting, PgServerError> {
        let is_refused = matches!(ready, Err(PgServerError::Login { .. }));
        if !is_refused {
            let greeting = ready?;
            let trusts = self.ask(at, TRUSTS, begun).await?.as_deref() == Some("true");
            if trusts == password::is_not_asked_for(&self.request) {
                return Ok(greeting);
            }
            let what = "could not change how its superuser logs in";
            self.change(engine, at).await.map_err(|error| self.failed(what, begun, error))?;
            return Ok(greeting);
        }
        // What the server said first is why, if nothing can be changed.
        if self.change(engine, at).await.is_err() {
            return ready;
        }
        let changed = Instant::now();
        loop {
            match self.ready(engine, self.request.name(), at, begun).await {
                Err(PgServerError::Login { .. }) if changed.elapsed() < HEEDS => {
                    tokio::time::sleep(INTERVAL).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn change(&self, engine: &Engine, at: &Endpoint) -> io::Result<()> {
        let (name, user) = (self.request.name(), &at.user);
        let method = match &at.password {
            Some(_) => {
                tracing::info!(
                    "pgserver `{name}`: changing the password of user `{user}` to the file's"
                );
                self.change_password(engine, at).await?;
                "scram-sha-256"
            }
            None => {
                tracing::info!(
                    "pgserver `{name}`: the file has `pass: \"\"`, so no password is asked for any more"
                );
                "trust"
            }
        };
        let program = Program::new(["sh", "-c", METHOD, "sh", user, method]);
        self.run(engine, program.user(files::USER)).await
    }

    async fn change_password(&self, engine: &Engine, at: &Endpoint) -> io::Result<()> {
        let Some(password) = &at.password else { return Ok(()) };
        // By standard input, so that it stands in no argument; and in no log.
        let statement = format!(
            "SET log_statement = none; SET log_min_duration_statement = -1; \
             SET log_min_error_statement = panic; ALTER ROLE {} PASSWORD {};",
            sql::quote_ident(&at.user),
            sql::quote_literal(password.expose_secret()),
        );
        let psql = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", &at.user, "-d", "postgres"];
        let input = futures_util::stream::iter([Ok(statement.into_bytes())]);
        self.run(engine, Program::new(psql).input(input.boxed())).await
    }

    async fn run(&self, engine: &Engine, program: Program) -> io::Result<()> {
        let running = engine.run(self.request.name(), program, Vec::new()).await;
        let running = running.map_err(|error| io::Error::other(error.to_string()))?;
        running.text().await.map(drop)
    }
}
