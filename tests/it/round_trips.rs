//! What the docs say of round trips, counted on the wire.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait, sea_query::Query};
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
};
use wharf::Pg;

use crate::support::{TestDatabase, server_address};

/// Passes connections on to the server of the run, and counts the messages that ask it for an
/// answer: Sync and Query.
struct Counter {
    port: u16,
    asked: Arc<AtomicU32>,
}

impl Counter {
    async fn start() -> Counter {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server_address()).await.unwrap();
                let (mut answers, to_server) = server.into_split();
                let (questions, mut to_client) = client.into_split();
                tokio::spawn(async move { io::copy(&mut answers, &mut to_client).await });
                tokio::spawn(count(questions, to_server, Arc::clone(&counted)));
            }
        });
        Counter { port, asked }
    }

    fn since_last_asked(&self) -> u32 {
        self.asked.swap(0, Ordering::SeqCst)
    }
}

async fn count(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: Arc<AtomicU32>,
) -> io::Result<()> {
    // The startup message has no type before its length.
    let mut kind = None;
    loop {
        let length = from.read_u32().await?;
        if matches!(kind, Some(b'S' | b'Q')) {
            asked.fetch_add(1, Ordering::SeqCst);
        }
        let mut message = Vec::from_iter(kind);
        message.extend(length.to_be_bytes());
        let head = message.len();
        message.resize(head + length as usize - 4, 0);
        from.read_exact(&mut message[head..]).await?;
        to.write_all(&message).await?;
        kind = Some(from.read_u8().await?);
    }
}

fn raw() -> Statement {
    Statement::from_string(DbBackend::Postgres, "SELECT 1")
}

#[tokio::test]
async fn every_call_costs_what_its_docs_say() {
    let database = TestDatabase::new().await;
    let counter = Counter::start().await;
    let (_, port) = server_address();
    let url = database.url().replace(&format!(":{port}/"), &format!(":{}/", counter.port));
    let mut config = wharf::config::DatabaseConfig::from_url(&url).unwrap();
    config.ssl_mode = wharf::config::SslMode::Disable;
    // A machine that is busy for a second would add a ping.
    (config.pool_size, config.max_overflow, config.pool_pre_ping) = (1, 0, false);
    let pg = Pg::from_config("it", config);
    let reader = pg.read_only();
    let built = Query::select().expr(1).to_owned();
    // The first time, a statement is prepared; what is counted is every time after that.
    for db in [&pg, &reader] {
        db.query_one(&built).await.unwrap();
        db.query_one_raw(raw()).await.unwrap();
    }
    counter.since_last_asked();

    for _ in 0..5 {
        pg.query_one(&built).await.unwrap();
    }
    assert_eq!(counter.since_last_asked(), 5, "a statement: one, and none to give back");
    for _ in 0..5 {
        reader.query_one(&built).await.unwrap();
    }
    assert_eq!(counter.since_last_asked(), 5, "a builder's SELECT, read-only: one");
    reader.query_one_raw(raw()).await.unwrap();
    assert_eq!(counter.since_last_asked(), 3, "raw SQL, read-only: two more");

    let session = pg.session().set_local("statement_timeout", "5s").await.unwrap();
    assert_eq!(counter.since_last_asked(), 1, "BEGIN, settings included: one");
    session.query_one(&built).await.unwrap();
    assert_eq!(counter.since_last_asked(), 1, "a statement of a session: one");
    let nested = session.begin().await.unwrap();
    assert_eq!(counter.since_last_asked(), 1, "a nested session: one");
    nested.commit().await.unwrap();
    assert_eq!(counter.since_last_asked(), 1, "its end: one");
    session.commit().await.unwrap();
    assert_eq!(counter.since_last_asked(), 1, "COMMIT: one");

    let session = pg.session().read_only().set_local("work_mem", "1MB").await.unwrap();
    assert_eq!(counter.since_last_asked(), 1, "a read-only session, sealed: one");
    session.rollback().await.unwrap();
    assert_eq!(counter.since_last_asked(), 1, "ROLLBACK: one");
}
