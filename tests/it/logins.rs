//! A password that changes needs no restart.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use sea_orm::ConnectionTrait;
use wharf::{
    ConnectErrorKind, Error, Manager, Pg,
    config::{DatabaseConfig, Role},
};

use crate::support::{Log, config, native_server};

/// A server that asks for passwords, and a way to change the one of `app`.
async fn server() -> (wharf::pgserver::PgServer, Pg, String) {
    let server = native_server("logins");
    let at = server.start().await.unwrap();
    let address = format!("{}:{}", at.host, at.port);
    let admin =
        Pg::from_url(&format!("postgres://{}:it@{address}/postgres", at.user)).await.unwrap();
    admin.execute_unprepared("CREATE ROLE app LOGIN PASSWORD 'first'").await.unwrap();
    (server, admin, address)
}

async fn change_to(admin: &Pg, password: &str) {
    admin.execute_unprepared(&format!("ALTER ROLE app PASSWORD '{password}'")).await.unwrap();
}

async fn opens_another(pg: &Pg) -> Result<(), Error> {
    let first = pg.session().await?;
    let second = pg.session().await;
    drop(first);
    second.map(drop)
}

#[tokio::test]
async fn a_password_file_is_read_whenever_a_connection_is_opened() {
    let (server, admin, address) = server().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "first\n").unwrap();
    let (host, port) = address.split_once(':').unwrap();
    let yaml = format!(
        "databases:\n  it:\n    host: {host}\n    port: {port}\n    database: postgres\n    \
         user: app\n    password_file: {}\n",
        file.display()
    );
    let pg = Manager::from_config(config(&yaml)).db("it").unwrap();
    let (log, _logs) = Log::of_this_thread();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    Manager::from_config(config(&yaml)).db("it").unwrap().ping().await.unwrap();
    assert_eq!(log.times("can read the password file"), 0);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let again = Manager::from_config(config(&yaml)).db("it").unwrap();
    again.ping().await.unwrap();
    opens_another(&again).await.unwrap();
    let told = format!("can read the password file {}; run `chmod 600`", file.display());
    assert_eq!(log.times(&told), 1, "{}", log.text());
    pg.ping().await.unwrap();
    change_to(&admin, "second").await;
    // What is open stays so; a new connection needs the new password.
    pg.ping().await.unwrap();
    let Error::Connect(error) = opens_another(&pg).await.unwrap_err() else { panic!("not one") };
    assert_eq!(error.kind, ConnectErrorKind::Authentication, "{error}");
    std::fs::write(&file, "second").unwrap();
    opens_another(&pg).await.unwrap();
    // A file that is not there is named.
    std::fs::remove_file(&file).unwrap();
    let pg = Manager::from_config(config(&yaml)).db("it").unwrap();
    let Error::Connect(error) = Error::from(pg.ping().await.unwrap_err()) else {
        panic!("not one")
    };
    assert_eq!(error.kind, ConnectErrorKind::Credentials, "{error}");
    let text = error.to_string();
    assert!(text.contains(&*file.to_string_lossy()) && text.contains("password_file"), "{text}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_login_source_is_asked_whenever_a_connection_is_opened() {
    let (server, admin, address) = server().await;
    let password = Arc::new(Mutex::new("first"));
    let asked = Arc::new(AtomicU32::new(0));
    let url = format!("postgres://app@{address}/postgres");
    let mut config = DatabaseConfig::from_url(&url).unwrap();
    config.set_login_source({
        let (password, asked) = (Arc::clone(&password), Arc::clone(&asked));
        move |configured| {
            asked.fetch_add(1, Ordering::Relaxed);
            let password = *password.lock().unwrap();
            async move {
                match password {
                    "" => Err("the vault is sealed".into()),
                    password => Ok(Role::new(configured.user, password)),
                }
            }
        }
    });
    let pg = Pg::from_config("it", config);
    pg.ping().await.unwrap();
    change_to(&admin, "second").await;
    *password.lock().unwrap() = "second";
    opens_another(&pg).await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    *password.lock().unwrap() = "";
    let held = (pg.session().await.unwrap(), pg.session().await.unwrap());
    let Error::Connect(error) = pg.session().await.unwrap_err() else { panic!("not one") };
    assert_eq!(error.kind, ConnectErrorKind::Credentials, "{error}");
    assert!(error.to_string().contains("the vault is sealed"), "{error}");
    drop(held);
    server.stop().await.unwrap();
}
