//! What a server's life has besides start and stop: its log, its changes, its end.

use std::net::TcpListener;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use wharf::config::Runtime;
use wharf::pgserver::{Endpoint, PgServerError, Status};

use crate::docker::{Server, docker, engine};
use crate::support::{Dir, config, run, server};

/// Waits until what is said to the log is heard there; it is said again and again, for a log is
/// followed from some moment after it was asked for.
async fn hears(log: &mut BoxStream<'static, std::io::Result<String>>, at: &Endpoint) {
    let said = async {
        loop {
            run(at, "DO $$ BEGIN RAISE LOG 'said to the log'; END $$").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let heard = async { while !log.next().await.unwrap().unwrap().contains("said to the log") {} };
    tokio::select! {
        () = heard => {}
        () = said => {}
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("nothing was heard"),
    }
}

#[tokio::test]
async fn a_natives_log_is_read_from_its_end_and_followed() {
    let dir = Dir::new("life-log");
    let pg = server(&dir, config(Runtime::Native));
    assert!(pg.logs(5, false).await.is_err(), "there is none yet");
    let at = pg.start().await.unwrap();
    let last: Vec<_> = pg.logs(2, false).await.unwrap().collect().await;
    assert_eq!(last.len(), 2, "{last:?}");
    assert!(last[1].as_ref().unwrap().contains("ready to accept connections"), "{last:?}");
    let mut followed = pg.logs(0, true).await.unwrap();
    hears(&mut followed, &at).await;
    let all: Vec<_> = pg.logs(usize::MAX, false).await.unwrap().collect().await;
    assert!(all[0].as_ref().unwrap().contains("starting PostgreSQL"), "{:?}", all[0]);
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn a_containers_log_is_read_from_its_end_and_followed_to_its_stop() {
    if !engine() {
        return;
    }
    let server = Server::new("log");
    let pg = server.pg(server.config());
    let at = pg.start().await.unwrap();
    let last: Vec<_> = pg.logs(1, false).await.unwrap().collect().await;
    assert_eq!(last.len(), 1);
    assert!(last[0].as_ref().unwrap().contains("ready to accept connections"), "{last:?}");
    let mut followed = pg.logs(0, true).await.unwrap();
    hears(&mut followed, &at).await;
    pg.stop().await.unwrap();
    let rest: Vec<_> = followed.collect().await;
    let shut_down = |line: &std::io::Result<String>| line.as_ref().unwrap().contains("shut down");
    assert!(rest.iter().any(shut_down), "{rest:?}");
}

#[tokio::test]
async fn what_the_file_changed_is_shown_with_both_values_and_a_restart_applies_it() {
    let dir = Dir::new("life-change");
    let mut before = config(Runtime::Native);
    before.postgres_conf.insert("work_mem".to_owned(), "5MB".to_owned());
    before.postgres_conf.insert("primary_conninfo".to_owned(), "password=old".to_owned());
    let pg = server(&dir, before.clone());
    assert!(pg.differences().await.unwrap().is_empty(), "nothing runs");
    pg.start().await.unwrap();
    assert!(pg.differences().await.unwrap().is_empty());
    let mut after = before;
    after.postgres_conf.insert("work_mem".to_owned(), "6MB".to_owned());
    after.postgres_conf.insert("primary_conninfo".to_owned(), "password=new".to_owned());
    let pg = server(&dir, after);
    let shown: Vec<String> =
        pg.differences().await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["primary_conninfo (*** -> ***)", "work_mem (5MB -> 6MB)"]);
    let at = pg.restart().await.unwrap();
    assert_eq!(run(&at, "SHOW work_mem").await.unwrap(), "6MB");
    assert!(pg.differences().await.unwrap().is_empty());
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn a_native_is_removed_with_its_data() {
    let dir = Dir::new("life-remove");
    let pg = server(&dir, config(Runtime::Native));
    assert!(pg.holdings().await.unwrap().is_empty());
    pg.remove().await.unwrap();
    let at = pg.start().await.unwrap();
    run(&at, "CREATE TABLE t (n int)").await;
    let holdings = pg.holdings().await.unwrap();
    assert_eq!(holdings, [format!("folder {}, with its data", dir.native().display())]);
    pg.remove().await.unwrap();
    assert!(!dir.native().exists());
    assert!(pg.holdings().await.unwrap().is_empty());
    assert!(matches!(pg.status().await.unwrap(), Status::Stopped));
    let at = pg.start().await.unwrap();
    assert_eq!(run(&at, "SELECT (to_regclass('t') IS NULL)::text").await.unwrap(), "true");
    pg.remove().await.unwrap();
}

#[tokio::test]
async fn a_container_is_removed_with_all_that_belongs_to_it_and_nothing_else() {
    if !engine() {
        return;
    }
    let server = Server::new("remove");
    let mut config = server.config();
    config.replica.enabled = true;
    let pg = server.pg(config);
    pg.start().await.unwrap();
    let name = &server.name;
    let expected = [
        format!("container {name}-replica"),
        format!("container {name}"),
        format!("volume {name}-replica-data, with its data"),
        format!("volume {name}-data, with its data"),
        format!("network {name}-network"),
    ];
    assert_eq!(pg.holdings().await.unwrap(), expected);
    // Also by one who remembers nothing of it.
    std::fs::remove_dir_all(server.dir.path().join(name)).unwrap();
    assert_eq!(pg.holdings().await.unwrap(), expected);
    pg.remove().await.unwrap();
    assert!(pg.holdings().await.unwrap().is_empty());
    for (kind, what) in [("container", "-replica"), ("volume", "-data"), ("network", "-network")] {
        let left = docker(&[kind, "inspect", &format!("{name}{what}")]);
        assert!(!left.status.success(), "{kind} {name}{what} is left");
    }
    // What others made stays.
    crate::docker::said(&["volume", "create", &format!("{name}-data")]);
    pg.remove().await.unwrap();
    assert!(docker(&["volume", "inspect", &format!("{name}-data")]).status.success());
}

#[tokio::test]
async fn who_has_the_port_is_named() {
    let dir = Dir::new("life-port");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut asked = config(Runtime::Native);
    asked.port = Some(taken.local_addr().unwrap().port());
    let error = server(&dir, asked).start().await.unwrap_err();
    assert!(matches!(error, PgServerError::PortTaken { .. }), "{error}");
    let here = format!("(process {})", std::process::id());
    assert!(error.to_string().contains(&here), "{error}");
}

#[tokio::test]
async fn the_container_that_has_the_port_is_named() {
    if !engine() {
        return;
    }
    let holder = Server::new("holds");
    let port = holder.pg(holder.config()).start().await.unwrap().port;
    let server = Server::new("wants");
    let mut config = server.config();
    config.port = Some(port);
    let error = server.pg(config).start().await.unwrap_err().to_string();
    assert!(error.contains(&format!("is in use by container `{}`", holder.name)), "{error}");
}
