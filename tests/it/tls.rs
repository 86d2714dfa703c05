//! TLS by the six modes of libpq, against certificates and lines of pg_hba.conf of several kinds.

use sea_orm::ConnectionTrait;
use wharf::{
    ConnectErrorKind, Error, Manager, Pg,
    config::{DatabaseConfig, SslMode},
    pgserver::PgServer,
};

use crate::{
    proxy::Proxy,
    support::{TestDatabase, config, native_server, number, until},
};

const MODES: [SslMode; 6] = [
    SslMode::Disable,
    SslMode::Allow,
    SslMode::Prefer,
    SslMode::Require,
    SslMode::VerifyCa,
    SslMode::VerifyFull,
];

/// Made by the server itself, so that the files are its own. `v1.crt` is one by the recipe of PostgreSQL's
/// documentation, which is of version 1. `server.crt` is made out
/// to localhost, `named.crt` to another host; `ca.crt` has signed both.
const CERTIFICATES: &str = "umask 077; \
    openssl req -new -nodes -subj /CN=localhost -keyout v1.key -out v1.csr && \
    openssl x509 -req -in v1.csr -signkey v1.key -days 3 -out v1.crt && \
    openssl req -new -x509 -nodes -days 3 -subj /CN=authority -keyout ca.key -out ca.crt && \
    openssl req -new -nodes -subj /CN=localhost -keyout server.key -out server.csr && \
    echo subjectAltName=DNS:localhost >ext && \
    openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3 -extfile ext -out server.crt && \
    openssl req -new -nodes -subj /CN=elsewhere -keyout named.key -out named.csr && \
    echo subjectAltName=DNS:elsewhere >ext && \
    openssl x509 -req -in named.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3 -extfile ext -out named.crt && \
    openssl req -new -x509 -nodes -days 3 -subj /CN=stranger -keyout other.key -out other.crt";

struct Tls {
    _server: PgServer,
    admin: Pg,
    url: String,
    data: std::path::PathBuf,
}

impl Tls {
    async fn start() -> Tls {
        let server = native_server("tls");
        let at = server.start().await.unwrap();
        let url = format!("postgres://{}:it@localhost:{}/postgres", at.user, at.port);
        let mut config = DatabaseConfig::from_url(&url).unwrap();
        config.ssl_mode = SslMode::Disable;
        // Its connections stay, whatever new ones meet.
        (config.pool_size, config.max_overflow) = (1, 0);
        let admin = Pg::from_config("admin", config);
        let make = format!("COPY (SELECT 1) TO PROGRAM '{{ {CERTIFICATES}; }} >made 2>&1'");
        admin.execute_unprepared(&make).await.unwrap();
        let data =
            sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, "SHOW data_directory");
        let row = admin.query_one_raw(data).await.unwrap().unwrap();
        let data: String = row.try_get_by_index(0).unwrap();
        Tls { _server: server, admin, url, data: data.into() }
    }

    /// The server has this certificate, or none, and these lines decide on who may connect.
    async fn set(&self, certificate: Option<&str>, hba: &str) {
        std::fs::write(self.data.join("pg_hba.conf"), format!("{hba}\n")).unwrap();
        let ssl = if certificate.is_some() { "on" } else { "off" };
        let name = certificate.unwrap_or("server");
        for set in [
            format!("ALTER SYSTEM SET ssl_cert_file = '{name}.crt'"),
            format!("ALTER SYSTEM SET ssl_key_file = '{name}.key'"),
            format!("ALTER SYSTEM SET ssl = {ssl}"),
        ] {
            self.admin.execute_unprepared(&set).await.unwrap();
        }
        number(&self.admin, "SELECT pg_reload_conf()::int::bigint").await;
        // The postmaster, which serves new connections, reads it before it tells the others.
        let sql = format!("SELECT (current_setting('ssl') = '{ssl}')::int::bigint");
        until("the server has read it", async || number(&self.admin, &sql).await == 1).await;
    }

    /// Whether a new connection is encrypted, or why there is none.
    async fn connect(&self, mode: SslMode, root: Option<&str>) -> Result<bool, Error> {
        let mut config = DatabaseConfig::from_url(&self.url).unwrap();
        config.ssl_mode = mode;
        config.ssl_root_cert = root.map(|name| self.data.join(name));
        let pg = Pg::from_config("tls", config);
        pg.ping().await?;
        let ssl = "SELECT ssl::int::bigint FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        Ok(number(&pg, ssl).await == 1)
    }
}

impl Tls {
    /// The name of the host is checked on SeaORM's own connection, with `socket_timeout` too.
    async fn connects_seaorm_too(&self) {
        for (certificate, is_the_hosts) in [("named", false), ("server", true)] {
            self.set(Some(certificate), ENCRYPTED).await;
            for limit in ["null", "60"] {
                let file = format!(
                    "databases:\n  tls:\n    url: {:?}\n    ssl_mode: verify-full\n    ssl_root_cert: {:?}\n    socket_timeout: {limit}\n",
                    self.url,
                    self.data.join("ca.crt"),
                );
                let manager = Manager::from_config(config(&file));
                let connected = manager.connection("tls").unwrap().ping().await;
                assert_eq!(
                    connected.is_ok(),
                    is_the_hosts,
                    "{certificate}, {limit}: {connected:?}"
                );
            }
        }
    }
}

impl Tls {
    /// What psql makes of the same.
    fn psql(&self, mode: SslMode, root: Option<&str>) -> char {
        let programs = std::fs::read_dir("/usr/lib/postgresql").unwrap();
        let program = programs.last().unwrap().unwrap().path().join("bin/psql");
        let root = root.map_or("none".into(), |name| self.data.join(name));
        let ran = std::process::Command::new(program)
            .args(["-XAtc", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &self.url])
            .env("PGSSLMODE", mode.as_str())
            .env("PGSSLROOTCERT", root)
            .output()
            .unwrap();
        match String::from_utf8(ran.stdout).unwrap().trim() {
            "t" => 's',
            "f" => 'p',
            _ => '-',
        }
    }
}

const ANY: &str = "host all all all scram-sha-256";
const ENCRYPTED: &str = "hostssl all all all scram-sha-256";
const PLAIN: &str = "hostnossl all all all scram-sha-256";

/// What comes of each mode, in their order: `s` with TLS, `p` without, `-` no connection. psql says the same.
const TABLE: [(Option<&str>, &str, Option<&str>, &str); 11] = [
    (None, ANY, None, "ppp---"),
    (Some("server"), ANY, None, "ppss--"),
    (Some("server"), ENCRYPTED, None, "-sss--"),
    (Some("server"), PLAIN, None, "ppp---"),
    (Some("server"), ANY, Some("ca.crt"), "ppssss"),
    (Some("server"), ENCRYPTED, Some("ca.crt"), "-sssss"),
    (Some("server"), ANY, Some("other.crt"), "ppp---"),
    (Some("named"), ANY, Some("ca.crt"), "ppsss-"),
    (Some("v1"), PLAIN, None, "ppp---"),
    (None, ANY, Some("ca.crt"), "ppp---"),
    (None, PLAIN, None, "ppp---"),
];

#[tokio::test]
async fn the_modes_connect_as_in_libpq() {
    let server = Tls::start().await;
    for (certificate, hba, root, expected) in TABLE {
        server.set(certificate, hba).await;
        let mut found = String::new();
        let mut errors = Vec::new();
        for mode in MODES {
            found.push(match server.connect(mode, root).await {
                Ok(true) => 's',
                Ok(false) => 'p',
                Err(error) => {
                    errors.push(error.to_string());
                    '-'
                }
            });
        }
        assert_eq!(found, expected, "{certificate:?}, {hba}, {root:?}: {errors:#?}");
        let peer: String = MODES.iter().map(|mode| server.psql(*mode, root)).collect();
        assert_eq!(peer, expected, "psql, {certificate:?}, {hba}, {root:?}");
    }
    // rustls reads no certificate of version 1, so there is no TLS with one; but the default mode connects.
    server.set(Some("v1"), ANY).await;
    for (mode, encrypted) in [(SslMode::Allow, false), (SslMode::Prefer, false)] {
        assert_eq!(server.connect(mode, None).await.unwrap(), encrypted, "{mode:?}");
    }
    let Err(Error::Connect(error)) = server.connect(SslMode::Require, None).await else {
        panic!("it connected")
    };
    assert_eq!(error.kind, ConnectErrorKind::Tls, "{error}");
    assert!(error.to_string().contains("UnsupportedCertVersion"), "{error}");
    server.set(Some("server"), ANY).await;
    server.connects_seaorm_too().await;
    let Err(Error::Connect(error)) = server.connect(SslMode::VerifyFull, Some("other.crt")).await
    else {
        panic!("it connected")
    };
    assert_eq!(error.kind, ConnectErrorKind::Tls, "{error}");
    let said = error.to_string();
    assert!(said.contains("UnknownIssuer") && said.contains("other.crt"), "{said}");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let server = Tls::start().await;
    server.set(Some("server"), ANY).await;
    for mode in [SslMode::Prefer, SslMode::Require, SslMode::VerifyFull] {
        let Err(Error::Connect(error)) = server.connect(mode, Some("nowhere.crt")).await else {
            panic!("it connected")
        };
        assert_eq!(error.kind, ConnectErrorKind::Tls, "{error}");
        let said = error.to_string();
        assert!(
            said.contains("cannot read ssl_root_cert") && said.contains("nowhere.crt"),
            "{said}"
        );
    }
}

/// HAProxy, Envoy and tunnels close a connection whose server is gone. That is an outage, to be waited for where
/// the server has been reached before.
#[tokio::test]
async fn a_connection_that_is_closed_in_place_of_an_answer_is_an_outage() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    for mode in ["ssl_mode: prefer", "ssl_mode: disable"] {
        proxy.close_new(true);
        let pg = proxy.pg(&database, &[mode, "pool_size: 1", "max_overflow: 0"]);
        let Error::Connect(error) = Error::from(pg.ping().await.unwrap_err()) else {
            panic!("{mode}")
        };
        assert_eq!(error.kind, ConnectErrorKind::Unreachable, "{error}");
        proxy.close_new(false);
        pg.ping().await.unwrap();
        // From here on it is waited for.
        proxy.close_new(true);
        pg.execute_unprepared("SELECT pg_terminate_backend(pg_backend_pid())").await.unwrap_err();
        let waits = tokio::spawn({
            let pg = pg.clone();
            async move { pg.execute_unprepared("SELECT 1").await }
        });
        proxy.accepted();
        until("it was tried again", async || proxy.accepted() > 0).await;
        proxy.close_new(false);
        waits.await.unwrap().unwrap();
    }
}
