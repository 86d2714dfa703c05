//! The proof that a server serves: a login.

use std::time::{Duration, Instant};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Row as _};

/// Between two tries while a server comes up.
const INTERVAL: Duration = Duration::from_millis(25);

/// Who logs in where.
#[derive(Clone, Debug)]
pub(crate) struct Login<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) user: &'a str,
    pub(crate) password: Option<&'a SecretString>,
}

/// What a server tells whoever logs in.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    /// In full, `17.5`.
    pub(crate) version: String,
    /// Where it keeps its data, which tells it from another server at the same address.
    pub(crate) data_directory: String,
}

/// Why a login did not succeed.
#[derive(Debug)]
pub(crate) enum LoginError {
    /// Nothing answers, or not yet.
    NotReady(String),
    /// The server answers, and says no.
    Refused {
        /// SQLSTATE.
        code: String,
        message: String,
    },
}

impl LoginError {
    pub(crate) fn is_wrong_password(&self) -> bool {
        matches!(self, LoginError::Refused { code, .. } if code == "28P01")
    }
}

impl std::fmt::Display for LoginError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoginError::NotReady(reason) | LoginError::Refused { message: reason, .. } => {
                f.write_str(reason)
            }
        }
    }
}

impl Login<'_> {
    /// Opens a connection to database `postgres`.
    pub(crate) async fn connect(&self) -> Result<PgConnection, LoginError> {
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(self.host)
            .port(self.port)
            .username(self.user)
            .database("postgres")
            .application_name("wharf pgserver")
            .ssl_mode(PgSslMode::Disable)
            .disable_statement_logging();
        if let Some(password) = self.password {
            options = options.password(password.expose_secret());
        }
        PgConnection::connect_with(&options).await.map_err(explain)
    }

    /// One login and one query.
    pub(crate) async fn once(&self) -> Result<Greeting, LoginError> {
        let mut connection = self.connect().await?;
        let row = sqlx::query(
            "SELECT current_setting('server_version'), current_setting('data_directory')",
        )
        .fetch_one(&mut connection)
        .await
        .map_err(explain)?;
        let version: String = row.try_get(0).map_err(explain)?;
        let data_directory: String = row.try_get(1).map_err(explain)?;
        let _ = connection.close().await;
        Ok(Greeting {
            // Debian adds its package's version in brackets.
            version: version.split(' ').next().unwrap_or_default().to_owned(),
            data_directory,
        })
    }

    /// The first column of the first row that the server answers, as text; `None` if that is NULL, too. One login and one query.
    pub(crate) async fn ask(&self, sql: &str) -> Result<Option<String>, LoginError> {
        let mut connection = self.connect().await?;
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let row = query.fetch_optional(&mut connection).await.map_err(explain)?;
        let _ = connection.close().await;
        let value = row.map(|row| row.try_get::<Option<String>, _>(0)).transpose();
        value.map(Option::flatten).map_err(explain)
    }

    /// Tries until it succeeds, the server refuses, or the deadline passes.
    pub(crate) async fn until(&self, deadline: Duration) -> Result<Greeting, LoginError> {
        let begun = Instant::now();
        let mut reason = "the server does not answer".to_owned();
        loop {
            let left = deadline.saturating_sub(begun.elapsed());
            match tokio::time::timeout(left, self.once()).await {
                // One that is refused at once is never overtaken by the clock.
                Ok(Err(LoginError::NotReady(now))) if !left.is_zero() => reason = now,
                Ok(done) => return done,
                Err(_) => return Err(LoginError::NotReady(reason)),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

fn explain(error: sqlx::Error) -> LoginError {
    match error {
        // Nobody listens yet, or hangs up as it goes down.
        sqlx::Error::Io(error) => LoginError::NotReady(error.to_string()),
        sqlx::Error::Database(db) => match db.code().unwrap_or_default().into_owned() {
            // cannot_connect_now: it starts up, recovers or shuts down.
            code if code == "57P03" => LoginError::NotReady(db.message().to_owned()),
            code => {
                LoginError::Refused { message: format!("{} (SQLSTATE {code})", db.message()), code }
            }
        },
        error => LoginError::Refused { code: String::new(), message: error.to_string() },
    }
}
