//! Behind a pooler: right, or refused with the reason; never wrong in silence.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use entity::shop::{customer, prelude::Customer};
use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all};
use migration::shop;
use sea_orm::{
    ActiveModelTrait as _,
    ActiveValue::Set,
    ColumnTrait as _, ConnectionTrait, DbBackend, EntityTrait as _, PaginatorTrait as _,
    QueryFilter as _, Statement, StreamTrait as _,
    sea_query::{ColumnType, Expr, ExprTrait as _, Query},
};
use secrecy::ExposeSecret as _;
use wharf::{
    ConnectErrorKind, Error, Manager, Pg,
    config::{Address, Config},
    ext::vector::{Distance, VectorIndex},
    listen::Event,
};

use crate::{
    cluster::{Cluster, TABLE, free_port, insert},
    pgbouncer::{NEW, OLD, PgBouncer},
    proxy::Proxy,
    support::{TestDatabase, config, number, until},
};

/// Each PgBouncer, with what an entry says to it.
const EACH: [(&str, &[&str]); 3] = [
    (NEW, &["pooler: transaction"]),
    (NEW, &["pooler: transaction", "prepared: off"]),
    (OLD, &["pooler: transaction", "prepared: off"]),
];

/// Before a test's database.
fn started(version: &str, database: &TestDatabase, lines: &[&str]) -> Option<PgBouncer> {
    let to = database.config(&[]).databases["it"].clone();
    let Address::Host { host, port } = to.address else { panic!("{:?}", to.address) };
    let password = to.password.as_ref().map_or("", |it| it.expose_secret());
    let server = format!("host={host} port={port} user={} password={password}", to.user);
    PgBouncer::start(version, &server, lines)
}

impl PgBouncer {
    /// The file of an entry `it` before which it stands.
    fn file(&self, database: &TestDatabase, lines: &[&str]) -> Config {
        let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
        config(&format!(
            "databases:\n  it:\n    host: 127.0.0.1\n    port: {}\n    database: {}\n    user: it\n    password: ''\n{lines}",
            self.port, database.name
        ))
    }

    fn manager(&self, database: &TestDatabase, lines: &[&str]) -> Manager {
        Manager::from_config(self.file(database, lines))
    }

    fn pg(&self, database: &TestDatabase, lines: &[&str]) -> Pg {
        self.manager(database, lines).db("it").unwrap()
    }
}

fn with<'a>(lines: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [lines, more].concat()
}

async fn text(db: &impl ConnectionTrait, sql: &str) -> String {
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    db.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_fits_into_transactions_works_with_fewer_connections_than_clients() {
    for (version, lines) in EACH {
        let database = TestDatabase::shop().await;
        let Some(pooler) = started(version, &database, &[]) else { return };
        let pg = pooler.pg(
            &database,
            &with(lines, &["pool_size: 8", "schema: public", "statement_timeout: 20s"]),
        );
        let worked = (0..8).map(|at| {
            let pg = pg.clone();
            async move {
                let own = format!("{at}@example.com");
                let new = customer::ActiveModel {
                    name: Set(format!("customer {at}")),
                    email: Set(own.clone()),
                    ..Default::default()
                };
                let made = new.insert(&pg).await.unwrap();
                for round in 0..3 {
                    let found = Customer::find_by_id(made.id).one(&pg).await.unwrap().unwrap();
                    assert_eq!(found.email, own);
                    let name = format!("{at}.{round}");
                    pg.session()
                        .retry(3)
                        .run(async |s| {
                            let mut it: customer::ActiveModel =
                                Customer::find_by_id(made.id).one(s).await?.unwrap().into();
                            it.name = Set(name.clone());
                            it.update(s).await?;
                            let nested = s.begin().await?;
                            Customer::delete_many().exec(&nested).await?;
                            nested.rollback().await?;
                            Ok::<_, Error>(())
                        })
                        .await
                        .unwrap();
                    let reader = pg.read_only();
                    let read = Customer::find()
                        .filter(customer::Column::Email.eq(own.as_str()))
                        .one(&reader)
                        .await
                        .unwrap();
                    assert_eq!(read.unwrap().name, name);
                    let mut some = Customer::find().stream(&pg).await.unwrap();
                    assert!(some.next().await.unwrap().is_ok());
                }
            }
        });
        join_all(worked).await;
        assert_eq!(Customer::find().count(&pg).await.unwrap(), 8);

        let session = pg.session().read_only().await.unwrap();
        let some = "SELECT generate_series(1, 100)::int8";
        let rows =
            session.stream_raw(Statement::from_string(DbBackend::Postgres, some)).await.unwrap();
        assert_eq!(rows.try_fold(0, |sum, _| async move { Ok(sum + 1) }).await.unwrap(), 100);
        session.rollback().await.unwrap();

        let rows = (100..1_100).map(|at| customer::ActiveModel {
            name: Set(format!("copied {at}")),
            email: Set(format!("{at}@example.com")),
            ..Default::default()
        });
        assert_eq!(pg.copy_in::<customer::Entity>().rows(rows).await.unwrap(), 1_000);
        assert_eq!(Customer::find().count(&pg).await.unwrap(), 1_008);

        // The driver asks for a type that it does not know, between preparing and running.
        pg.execute_unprepared("CREATE TYPE mood AS ENUM ('sad')").await.unwrap();
        let asked =
            (0..8).map(|at: i64| {
                let sql = "SELECT $1::int8 AS n, 'sad'::mood AS mood, ARRAY['sad'::mood] AS moods";
                let ask = Statement::from_sql_and_values(DbBackend::Postgres, sql, [at.into()]);
                let pg = pg.clone();
                async move {
                    pg.query_one_raw(ask).await.unwrap().unwrap().try_get::<i64>("", "n").unwrap()
                }
            });
        assert_eq!(join_all(asked).await, (0..8).collect::<Vec<_>>());

        pg.ensure_schema("tenant").await.unwrap();
        let tenant = pg.scoped("tenant").unwrap();
        tenant.execute_unprepared("CREATE TABLE customer (id int8)").await.unwrap();
        assert_eq!(number(&tenant, "SELECT count(*) FROM customer").await, 0);
        assert_eq!(number(&pg, "SELECT count(*) FROM customer").await, 1_008);
        pg.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_in_force_in_every_statement_and_reach_no_other_client() {
    for (version, lines) in EACH {
        let database = TestDatabase::new().await;
        let Some(pooler) = started(version, &database, &[]) else { return };
        let own = [
            "statement_timeout: 4321ms",
            "lock_timeout: 1234ms",
            "schema: own",
            "settings: {work_mem: 12MB, app.tenant: seven, TimeZone: Asia/Tokyo}",
        ];
        let one = pooler.pg(&database, &with(lines, &own));
        let other = pooler.pg(&database, lines);
        let expected = "4321ms 1234ms own, public 12MB seven Asia/Tokyo off";
        let ask = "SELECT concat_ws(' ', current_setting('statement_timeout'), current_setting('lock_timeout'), \
                   current_setting('search_path'), current_setting('work_mem'), \
                   current_setting('app.tenant', true), current_setting('TimeZone'), \
                   current_setting('default_transaction_read_only'))";
        let defaults = text(&database.pg().await, ask).await;
        let sets = async |at: usize| {
            for _ in 0..50 {
                assert_eq!(text(&one, ask).await, expected, "{version} {at}");
                let session = one.session().await.unwrap();
                assert_eq!(text(&session, ask).await, expected);
                session.commit().await.unwrap();
                let seen = text(&one.read_only(), ask).await;
                assert_eq!(seen, expected.replace("off", "on"));
            }
        };
        let has_none = async |_: usize| {
            for _ in 0..100 {
                // A setting that was once set somewhere is empty, and not unknown.
                assert_eq!(text(&other, ask).await.replace("  ", " "), defaults.replace("  ", " "));
            }
        };
        let all =
            futures_util::future::join(join_all((0..4).map(sets)), join_all((0..4).map(has_none)));
        all.await;
    }
}

/// Round trips between wharf and the pooler: of five single statements, and of a session with one.
async fn round_trips(pooler: &PgBouncer, database: &TestDatabase, lines: &[&str]) -> (u32, u32) {
    let proxy = Proxy::start_before(("127.0.0.1".to_owned(), pooler.port)).await;
    let own = ["pooler: transaction", "pool_size: 1", "max_overflow: 0", "pool_pre_ping: false"];
    let mut file = pooler.file(database, &with(&own, lines));
    let entry = file.databases.get_mut("it").unwrap();
    entry.address = Address::Host { host: "127.0.0.1".to_owned(), port: proxy.port() };
    let pg = Manager::from_config(file).db("it").unwrap();
    let built = Query::select().expr(Expr::value(1)).to_owned();
    // The first time, it is prepared.
    pg.query_one(&built).await.unwrap();
    proxy.asked();
    for _ in 0..5 {
        pg.query_one(&built).await.unwrap();
    }
    let alone = proxy.asked();
    let session = pg.session().await.unwrap();
    session.query_one(&built).await.unwrap();
    session.commit().await.unwrap();
    (alone, proxy.asked())
}

#[tokio::test]
async fn a_statement_costs_what_the_page_says_and_settings_of_the_login_cost_nothing() {
    let database = TestDatabase::new().await;
    let Some(pooler) = started(NEW, &database, &[]) else { return };
    assert_eq!(round_trips(&pooler, &database, &[]).await, (5, 3), "as without a pooler");
    let timeout = ["statement_timeout: 5s"];
    let with_begin = "with a BEGIN that sets it, and a COMMIT";
    assert_eq!(round_trips(&pooler, &database, &timeout).await, (15, 3), "{with_begin}");
    let off = round_trips(&pooler, &database, &["prepared: off"]).await;
    assert_eq!(off, (20, 4), "the same, and it is prepared each time");
    let alter = format!("ALTER DATABASE {} SET statement_timeout = '5s'", database.name);
    database.pg().await.execute_unprepared(&alter).await.unwrap();
    // One whose connections of the server are opened after that.
    let Some(pooler) = started(NEW, &database, &[]) else { return };
    assert_eq!(round_trips(&pooler, &database, &timeout).await, (5, 3), "the server has it");
    let pg = pooler.pg(&database, &with(&["pooler: transaction"], &timeout));
    assert_eq!(text(&pg, "SHOW statement_timeout").await, "5s");
    assert_eq!(round_trips(&pooler, &database, &["statement_timeout: 6s"]).await, (15, 3));
}

/// Such an error comes from any pooler that passes on how a connection starts.
#[tokio::test]
async fn an_error_that_is_typical_of_a_pooler_says_so_where_the_entry_names_none() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let session = pg.session().await.unwrap();
    let ask = || Statement::from_string(DbBackend::Postgres, "SELECT 7::int8");
    session.query_one_raw(ask()).await.unwrap();
    session.execute_unprepared("DEALLOCATE ALL").await.unwrap();
    let error = Error::from(session.query_one_raw(ask()).await.unwrap_err());
    assert!(matches!(error, Error::LooksLikePooler { .. }), "{error}");
    assert_eq!(error.sqlstate().as_deref(), Some("26000"));
    assert!(error.to_string().ends_with("say `pooler: transaction` in the entry"), "{error}");
}

#[tokio::test]
async fn a_pooler_whose_server_is_down_is_not_ready_and_one_that_is_refused_says_why() {
    let database = TestDatabase::new().await;
    let to = database.config(&[]).databases["it"].clone();
    let Address::Host { host, port } = to.address else { panic!("{:?}", to.address) };
    let down = format!("host=127.0.0.1 port={} user=it", free_port());
    let refuses = format!("host={host} port={port} user=nobody_of_this_name password=x");
    for (version, server, kind) in [
        (NEW, &down, ConnectErrorKind::NotReady),
        (OLD, &down, ConnectErrorKind::NotReady),
        (NEW, &refuses, ConnectErrorKind::Authentication),
        // Which has one code for all that its server says.
        (OLD, &refuses, ConnectErrorKind::Refused),
    ] {
        let lines = ["query_wait_timeout = 1"];
        let Some(pooler) = PgBouncer::start(version, server, &lines) else { return };
        let entry = ["pooler: transaction", "prepared: off"];
        let error = pooler.pg(&database, &entry).ping().await.unwrap_err();
        let Error::Connect(error) = Error::from(error) else { panic!("not a connect error") };
        assert_eq!(error.kind, kind, "{version}: {error}");
    }
}

#[tokio::test]
async fn what_is_read_only_writes_nothing() {
    for (version, lines) in EACH {
        let database = TestDatabase::new().await;
        let Some(pooler) = started(version, &database, &[]) else { return };
        let pg = pooler.pg(&database, lines);
        pg.execute_unprepared("CREATE TABLE t (id int8); CREATE FUNCTION writes() RETURNS int8 LANGUAGE sql AS 'INSERT INTO t VALUES (1) RETURNING id'").await.unwrap();
        for reader in [pg.read_only(), pooler.pg(&database, &with(lines, &["readonly: true"]))] {
            let insert =
                Query::insert().into_table("t").columns(["id"]).values_panic([1.into()]).to_owned();
            let refused = Error::from(reader.execute(&insert).await.unwrap_err());
            assert_eq!(refused.sqlstate().as_deref(), Some("25006"), "{refused}");
            let calls = Query::select().expr(Expr::cust("writes()")).to_owned();
            let refused = Error::from(reader.query_one(&calls).await.unwrap_err());
            assert_eq!(refused.sqlstate().as_deref(), Some("25006"), "{refused}");
            for sql in [
                "INSERT INTO t VALUES (1)",
                "COMMIT",
                "SELECT set_config('transaction_read_only', 'off', true), writes()",
                "SET TRANSACTION READ WRITE",
            ] {
                assert!(reader.execute_unprepared(sql).await.is_err(), "{sql}");
            }
        }
        assert_eq!(number(&pg, "SELECT count(*) FROM t").await, 0);
        // Nobody else has become read-only by it.
        for _ in 0..10 {
            pg.execute_unprepared("INSERT INTO t VALUES (2)").await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_would_stay_on_a_connection_is_refused_before_it_is_sent() {
    let database = TestDatabase::new().await;
    let Some(pooler) = started(NEW, &database, &[]) else { return };
    let pg = pooler.pg(&database, &["pooler: transaction"]);
    let session = pg.session().await.unwrap();
    for sql in [
        "SET statement_timeout = 5000",
        "SELECT set_config('work_mem', '5MB', false)",
        "LISTEN news",
        "PREPARE p AS SELECT 1",
        "CREATE TEMP TABLE t (id int8)",
        "SELECT pg_advisory_lock(7)",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "DISCARD ALL",
        "LOAD 'auto_explain'",
    ] {
        let statement = || Statement::from_string(DbBackend::Postgres, sql);
        let all = [
            pg.execute_unprepared(sql).await.map(drop),
            pg.query_all_raw(statement()).await.map(drop),
            session.execute_unprepared(sql).await.map(drop),
            session.execute_raw(statement()).await.map(drop),
            pg.read_only().execute_unprepared(sql).await.map(drop),
        ];
        for refused in all {
            let refused = Error::from(refused.unwrap_err());
            assert!(matches!(refused, Error::BehindPooler { .. }), "{sql}: {refused}");
            assert!(refused.to_string().contains("lends to others next; "), "{refused}");
        }
    }
    // Nothing was sent, so the session goes on.
    session.execute_unprepared("CREATE TEMP TABLE t (id int8) ON COMMIT DROP").await.unwrap();
    session.execute_unprepared("SET LOCAL work_mem = '5MB'; NOTIFY news").await.unwrap();
    session.execute_unprepared("SELECT pg_advisory_xact_lock(7)").await.unwrap();
    session.commit().await.unwrap();
    for _ in 0..4 {
        assert_eq!(
            number(&pg, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
                .await,
            0
        );
    }
    let at = pg.session().await.unwrap();
    let refused = at.execute_unprepared("SET a.b = 1").await.unwrap_err().to_string();
    assert!(refused.contains("a setting would stay"), "{refused}");
}

/// Every row says of which text it is the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_gets_another_ones_rows_while_a_table_is_altered() {
    for (at, (version, lines)) in EACH.into_iter().enumerate() {
        let database = TestDatabase::new().await;
        let Some(pooler) = started(version, &database, &[]) else { return };
        // `.ci/nightly` has more.
        let queries = std::env::var("WHARF_TEST_POOLER_QUERIES");
        let queries: u64 = queries.map_or(10_000, |queries| queries.parse().unwrap());
        let queries = if at == 0 { queries } else { queries / 5 };
        let pg = pooler.pg(&database, &with(lines, &["pool_size: 8", "max_overflow: 0"]));
        pg.execute_unprepared("CREATE TABLE t (id int8 PRIMARY KEY, n int8); INSERT INTO t SELECT i, i FROM generate_series(0, 99) i")
            .await
            .unwrap();
        let (asked, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let clients = (0..8_u64).map(|client| {
            let (pg, asked) = (pg.clone(), Arc::clone(&asked));
            tokio::spawn(async move {
                while asked.fetch_add(1, Ordering::Relaxed) < queries {
                    let (which, id) = (fastrand::u64(0..20), fastrand::u64(0..100));
                    let mut query = Query::select();
                    query
                        .expr(Expr::cust("t.*"))
                        .expr(Expr::cust(format!("{which}::int8 AS which")));
                    query.from("t").and_where(Expr::col("id").eq(id as i64));
                    let row = pg
                        .query_one(&query)
                        .await
                        .unwrap_or_else(|error| panic!("{client}: {error}"));
                    let row = row.unwrap();
                    assert_eq!(row.try_get::<i64>("", "which").unwrap() as u64, which);
                    assert_eq!(row.try_get::<i64>("", "id").unwrap() as u64, id);
                }
            })
        });
        let clients: Vec<_> = clients.collect();
        let alters = async {
            let admin = database.pg().await;
            let mut altered = 0;
            while !ended.load(Ordering::Relaxed) {
                let before = asked.load(Ordering::Relaxed);
                let to = if altered % 2 == 0 { "text" } else { "int8" };
                let alter = format!("ALTER TABLE t ALTER n TYPE {to} USING n::{to}");
                admin.execute_unprepared(&alter).await.unwrap();
                altered += 1;
                while asked.load(Ordering::Relaxed) < before + queries / 20
                    && !ended.load(Ordering::Relaxed)
                {
                    tokio::task::yield_now().await;
                }
            }
            altered
        };
        let all = async {
            for client in clients {
                client.await.unwrap();
            }
            ended.store(true, Ordering::Relaxed);
        };
        let ((), altered) = futures_util::future::join(all, alters).await;
        assert!(altered > 5, "{altered}");
    }
}

#[tokio::test]
async fn what_needs_a_connection_of_its_own_goes_past_the_pooler_or_says_so() {
    let database = TestDatabase::new().await;
    let Some(pooler) = started(NEW, &database, &[]) else { return };
    let alone = pooler.pg(&database, &["pooler: transaction"]);
    let refused = alone.listen(["news"]).await.map(drop).unwrap_err();
    assert!(matches!(refused, Error::NeedsDirect { .. }), "{refused}");
    assert!(refused.to_string().contains("listening needs a connection of its own"), "{refused}");
    let refused = alone.migrate::<shop::Migrator>().await.map(drop).unwrap_err();
    assert!(matches!(refused, Error::NeedsDirect { .. }), "{refused}");
    let kind = ColumnType::Vector(Some(3));
    let index = VectorIndex::new("passage", "embedding", kind, Distance::Cosine);
    let refused = index.build(&alone).await.unwrap_err();
    assert!(matches!(refused, Error::NeedsDirect { .. }), "{refused}");
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(number(&alone, locks).await, 0);

    let pg = direct(&pooler, &database, &["pooler: transaction"]).db("it").unwrap();
    let done = pg.migrate::<shop::Migrator>().await.unwrap();
    assert!(!done.migrations.is_empty(), "{done:?}");
    let mut listener = pg.listen(["news"]).await.unwrap();
    pg.execute_unprepared("NOTIFY news, 'through the pooler'").await.unwrap();
    match listener.recv().await.unwrap() {
        Event::Notification(said) => assert_eq!(said.payload, "through the pooler"),
        other => panic!("{other:?}"),
    }
    assert_eq!(number(&pg, locks).await, 0);
}

#[tokio::test]
async fn a_pooler_that_the_entry_does_not_name_is_refused() {
    let database = TestDatabase::new().await;
    let ignores = "ignore_startup_parameters = extra_float_digits, options";
    for (version, lines) in [
        (NEW, &[][..]),
        (OLD, &[]),
        (NEW, &["ignore_startup_parameters = extra_float_digits"]),
        (OLD, &["ignore_startup_parameters = extra_float_digits"]),
        (NEW, &[ignores]),
        (OLD, &[ignores]),
        (NEW, &[ignores, "pool_mode = session"]),
    ] {
        let Some(pooler) = started(version, &database, lines) else { return };
        for entry in [&[][..], &["readonly: true"], &["statement_timeout: 5s"]] {
            let manager = pooler.manager(&database, entry);
            let error = manager.db("it").unwrap().ping().await.unwrap_err();
            let error = Error::from(error);
            let Error::Connect(refused) = &error else { panic!("{error}") };
            assert_eq!(refused.kind, ConnectErrorKind::SettingsIgnored, "{error}");
            assert!(
                error.to_string().contains("say `pooler: transaction` or `pooler: session`"),
                "{error}"
            );
            if entry.is_empty() {
                let own =
                    pooler.manager(&database, &["pool_timeout: 200ms"]).connection("it").unwrap();
                assert!(own.execute_unprepared("SELECT 1").await.is_err(), "SeaORM's own");
            }
        }
    }
}

#[tokio::test]
async fn a_pooler_that_mixes_statements_up_is_refused_unless_they_are_unnamed() {
    let database = TestDatabase::new().await;
    for (version, lines) in
        [(OLD, &[][..]), (NEW, &["max_prepared_statements = 0"]), (NEW, &["pool_mode = session"])]
    {
        let Some(pooler) = started(version, &database, lines) else { return };
        for _ in 0..3 {
            let error = pooler.pg(&database, &["pooler: transaction"]).ping().await.unwrap_err();
            assert!(error.to_string().contains("say `prepared: off`"), "{error}");
        }
        let pg = pooler.pg(&database, &["pooler: transaction", "prepared: off"]);
        assert_eq!(number(&pg, "SELECT 7::int8").await, 7);
        // What was tried is not left at the server.
        let left = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'sqlx%'";
        assert_eq!(number(&pg, left).await, 0);
    }
}

#[tokio::test]
async fn behind_a_pooler_for_sessions_all_works_as_without() {
    for version in [OLD, NEW] {
        let database = TestDatabase::new().await;
        let Some(pooler) =
            started(version, &database, &["pool_mode = session", "default_pool_size = 10"])
        else {
            return;
        };
        let lines = [
            "pooler: session",
            "pool_size: 1",
            "max_overflow: 0",
            "statement_timeout: 4321ms",
            "settings: {TimeZone: Asia/Tokyo}",
        ];
        let pg = pooler.pg(&database, &lines);
        let expected = async |pg: &Pg| {
            assert_eq!(text(pg, "SHOW statement_timeout").await, "4321ms");
            assert_eq!(text(pg, "SHOW TimeZone").await, "Asia/Tokyo");
        };
        expected(&pg).await;
        // What a caller leaves is undone, and the entry's settings are not.
        pg.execute_unprepared(
            "SET work_mem = '5MB'; SET statement_timeout = 1; SELECT pg_advisory_lock(7)",
        )
        .await
        .unwrap();
        expected(&pg).await;
        assert_eq!(
            number(&pg, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
                .await,
            0
        );
        let refused =
            Error::from(pg.read_only().execute_unprepared("CREATE TABLE t ()").await.unwrap_err());
        assert_eq!(refused.sqlstate().as_deref(), Some("25006"));
        // Each of several migrations has the entry's settings.
        pg.ensure_schema("own").await.unwrap();
        let own = pooler.pg(&database, &with(&lines, &["schema: own"]));
        own.migrate::<shop::Migrator>().await.unwrap();
        let elsewhere = "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('own', 'pg_catalog', 'information_schema')";
        assert_eq!(number(&pg, elsewhere).await, 0);
        assert!(number(&pg, "SELECT count(*) FROM pg_tables WHERE schemaname = 'own'").await > 2);
        let mut listener = pg.listen(["news"]).await.unwrap();
        pg.execute_unprepared("NOTIFY news").await.unwrap();
        assert!(matches!(listener.recv().await.unwrap(), Event::Notification(_)));
    }
}

#[tokio::test]
async fn a_statement_of_a_session_whose_future_was_dropped_is_canceled() {
    for (version, lines) in EACH {
        let database = TestDatabase::new().await;
        let Some(pooler) = started(version, &database, &[]) else { return };
        let pg = pooler.pg(&database, lines);
        let watch = database.pg().await;
        let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(600%' AND pid <> pg_backend_pid() AND datname = current_database()";
        let task = tokio::spawn(async move {
            let session = pg.session().await.unwrap();
            session.execute_unprepared("SELECT pg_sleep(600)").await.unwrap();
        });
        until("it runs", async || number(&watch, running).await == 1).await;
        task.abort();
        until("it is canceled", async || number(&watch, running).await == 0).await;
    }
}

#[tokio::test]
async fn causal_reads_ask_the_standby_in_their_own_transaction() {
    let cluster = Cluster::start(1);
    let server = |node: usize| format!("host=127.0.0.1 port={} user=it", cluster.ports[node]);
    let Some(primary) = PgBouncer::start(NEW, &server(0), &[]) else { return };
    let standby = PgBouncer::start(NEW, &server(1), &[]).unwrap();
    let pg = Cluster::entry(&[
        "host: 127.0.0.1".to_owned(),
        format!("port: {}", primary.port),
        format!("replicas: [127.0.0.1:{}]", standby.port),
        "pooler: transaction".to_owned(),
        "reads: causal".to_owned(),
        "topology: {interval: 50ms}".to_owned(),
    ]);
    pg.execute_unprepared(TABLE).await.unwrap();
    cluster.set(1, "recovery_min_apply_delay", "'40ms'").await;
    let mut on_standby = 0;
    let find = |id: i64| {
        let mut find = Query::select();
        find.expr(Expr::cust("inet_server_port()::int8 AS port")).from("entry");
        find.and_where(Expr::col("id").eq(id)).to_owned()
    };
    for id in 0..200 {
        let session = pg.session().await.unwrap();
        insert(&session, id).await.unwrap();
        session.commit().await.unwrap();
        if id % 4 == 0 {
            let behind = async || {
                number(&cluster.node(1), "SELECT coalesce(max(id), -1) FROM entry").await < id
            };
            until("the standby has it", async || !behind().await).await;
        }
        let row = pg.read().query_one(&find(id)).await.unwrap().expect("a stale read");
        let port: i64 = row.try_get("", "port").unwrap();
        on_standby += u32::from(port == i64::from(cluster.ports[1]));
    }
    assert!(on_standby >= 25, "{on_standby} of 200 on the standby");
}

#[tokio::test]
async fn sea_orms_own_connection_works_or_goes_past_the_pooler() {
    let database = TestDatabase::shop().await;
    let Some(pooler) = started(NEW, &database, &[]) else { return };
    let manager = pooler.manager(&database, &["pooler: transaction"]);
    let own = manager.connection("it").unwrap();
    let all = (0..8).map(|_| Customer::find().all(&own));
    assert!(join_all(all).await.into_iter().all(|found| found.is_ok()));
    for line in ["statement_timeout: 5s", "readonly: true", "prepared: off"] {
        let lines = ["pooler: transaction", line];
        let refused = pooler.manager(&database, &lines).connection("it").map(drop).unwrap_err();
        assert!(matches!(refused, Error::NeedsDirect { .. }), "{refused}");
        let own = direct(&pooler, &database, &lines).connection("it").unwrap();
        assert!(Customer::find().all(&own).await.unwrap().is_empty());
    }
}

/// An entry that names the server itself, too.
fn direct(pooler: &PgBouncer, database: &TestDatabase, lines: &[&str]) -> Manager {
    let to = database.config(&[]).databases["it"].clone();
    let Address::Host { host, port } = &to.address else { panic!("{:?}", to.address) };
    let mut file = pooler.file(database, &with(lines, &[&format!("direct: {host}:{port}")]));
    let entry = file.databases.get_mut("it").unwrap();
    (entry.user, entry.password) = (to.user.clone(), to.password.clone());
    Manager::from_config(file)
}

#[tokio::test]
async fn a_pooler_that_has_no_connection_left_is_waited_for() {
    let database = TestDatabase::new().await;
    let Some(pooler) = started(NEW, &database, &["max_client_conn = 3"]) else {
        return;
    };
    let pg = pooler.pg(&database, &["pooler: transaction", "pool_size: 6", "pool_timeout: 15s"]);
    let slept = (0..12).map(|_| number(&pg, "SELECT 1::int8 FROM pg_sleep(0.01)"));
    let all = tokio::time::timeout(Duration::from_secs(60), join_all(slept)).await.unwrap();
    assert_eq!(all.into_iter().sum::<i64>(), 12);
}
