//! Read-only means it: every way out that ../shared/facts/postgres.md names, and some more.

use entity::shop::{customer, prelude::Customer};
use futures_util::TryStreamExt;
use sea_orm::{
    AccessMode, ActiveModelTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, ExprTrait,
    PaginatorTrait, Set, Statement, StatementBuilder, StreamTrait, TransactionSession,
    TransactionTrait,
    sea_query::{Alias, Expr, Func, Query},
};
use wharf::{Error, Pg};

use crate::support::{TestDatabase, number, until};

/// A shop with one customer, a function that writes with its owner's rights, and a procedure.
async fn shop() -> (TestDatabase, Pg) {
    let database = TestDatabase::shop().await;
    let pg = database.pg().await;
    pg.execute_unprepared(
        "INSERT INTO customer (name, email) VALUES ('Ada', 'ada@example.org');
         CREATE FUNCTION writes() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS $$
           BEGIN INSERT INTO customer (name, email) VALUES ('W', 'w'); RETURN 1; END $$;
         CREATE PROCEDURE talks_its_way_out() LANGUAGE plpgsql AS $$
           BEGIN COMMIT; SET TRANSACTION READ WRITE;
           INSERT INTO customer (name, email) VALUES ('P', 'p'); END $$",
    )
    .await
    .unwrap();
    (database, pg)
}

const INSERT: &str = "INSERT INTO customer (name, email) VALUES ('Eve', 'eve@example.org')";

/// Each a series of calls that tries to write. Not one may.
const ESCAPES: &[&[&str]] = &[
    &[INSERT],
    &["SET TRANSACTION READ WRITE", INSERT],
    &["SELECT 1", "SET TRANSACTION READ WRITE", INSERT],
    &["COMMIT", INSERT],
    &["/**/;COMMIT", INSERT],
    &["COMMIT", "BEGIN READ WRITE", INSERT, "COMMIT"],
    &["ROLLBACK", "BEGIN READ WRITE", INSERT, "COMMIT"],
    &["COMMIT AND CHAIN", "SET TRANSACTION READ WRITE", INSERT],
    &["SET default_transaction_read_only = off", INSERT],
    &["SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", INSERT],
    &["SET transaction_read_only = off", INSERT],
    &["SELECT set_config('default_transaction_read_only', 'off', false)", INSERT],
    &["SELECT set_config('transaction_read_only', 'off', false)", INSERT],
    &["SELECT U&\"set\\005fconfig\"('default_transaction_read_only', 'off', false)", INSERT],
    &["SET LOCAL transaction_read_only = off", INSERT],
    &["SELECT pg_catalog.set_config('transaction_read_only', 'off', true)", INSERT],
    &["SAVEPOINT a", "RELEASE a", "SET TRANSACTION READ WRITE", INSERT],
    &["ROLLBACK TO wharf_1", "SET TRANSACTION READ WRITE", INSERT],
    &["RESET ALL", INSERT],
    &["DISCARD ALL", INSERT],
    &["SELECT writes()"],
    &["SET default_transaction_read_only = off", "SELECT writes()"],
    &["DO $$ BEGIN COMMIT; SET TRANSACTION READ WRITE; \
       INSERT INTO customer (name, email) VALUES ('D', 'd'); END $$"],
    &["CALL talks_its_way_out()"],
    &[
        "WITH x AS (INSERT INTO customer (name, email) VALUES ('X', 'x') RETURNING 1) SELECT * FROM x",
    ],
    &["EXPLAIN ANALYZE INSERT INTO customer (name, email) VALUES ('X', 'x')"],
    &["SELECT 1; COMMIT; INSERT INTO customer (name, email) VALUES ('M', 'm')"],
    &[
        "BEGIN; SET TRANSACTION READ WRITE; INSERT INTO customer (name, email) VALUES ('M', 'm'); COMMIT",
    ],
    &["SAVEPOINT a", "SET TRANSACTION READ WRITE", "ROLLBACK TO a", INSERT],
    &["PREPARE p AS INSERT INTO customer (name, email) VALUES ('Q', 'q')", "EXECUTE p"],
    &["CREATE TABLE mine (id int)"],
    &["CREATE TEMP TABLE mine (id int)", "SELECT 1"],
    &["SELECT lo_from_bytea(0, 'x')"],
    &["SELECT lo_creat(-1)"],
    &["SELECT lo_create(0)"],
    &["SELECT setval('customer_id_seq', 99)"],
    &["SELECT * FROM customer FOR UPDATE"],
    &["TRUNCATE customer CASCADE"],
    &["DO $$ BEGIN SET TRANSACTION READ WRITE; EXCEPTION WHEN OTHERS THEN NULL; END $$", INSERT],
    &["SELECT nextval('customer_id_seq')"],
    &["COPY customer (name, email) FROM PROGRAM 'echo a,b' CSV"],
    &[
        "SELECT query_to_xml('SELECT set_' || 'config(''default_transaction_read_only'', ''off'', \
       false)', true, true, '')",
        INSERT,
    ],
];

fn statement(sql: &str) -> Statement {
    Statement::from_string(sea_orm::DbBackend::Postgres, sql)
}

#[derive(Clone, Copy, Debug)]
enum By {
    Unprepared,
    Execute,
    One,
    All,
    Stream,
    /// As a query builder's, where one can make such a statement; raw else.
    Built,
    BuiltStream,
}

const EVERY_WAY: [By; 7] =
    [By::Unprepared, By::Execute, By::One, By::All, By::Stream, By::Built, By::BuiltStream];

/// What a query builder made, with custom expressions in it.
struct Built<'a>(&'a str);

impl StatementBuilder for Built<'_> {
    fn build(&self, _: &DbBackend) -> Statement {
        statement(self.0)
    }
}

fn can_be_built(sql: &str) -> bool {
    ["SELECT", "INSERT", "WITH"].iter().any(|word| sql.starts_with(word)) && !sql.contains("; ")
}

/// One call; what it gives does not matter, what it writes does.
async fn call<C: ConnectionTrait + StreamTrait>(db: &C, sql: &str, by: By) -> Result<(), DbErr> {
    match by {
        By::Unprepared => db.execute_unprepared(sql).await.map(|_| ()),
        By::Execute => db.execute_raw(statement(sql)).await.map(|_| ()),
        By::One => db.query_one_raw(statement(sql)).await.map(|_| ()),
        By::All => db.query_all_raw(statement(sql)).await.map(|_| ()),
        By::Built if can_be_built(sql) => db.query_all(&Built(sql)).await.map(|_| ()),
        By::BuiltStream if can_be_built(sql) => {
            db.stream(&Built(sql)).await?.try_collect::<Vec<_>>().await.map(|_| ())
        }
        By::Stream | By::Built | By::BuiltStream => {
            let stream = db.stream_raw(statement(sql)).await?;
            stream.try_collect::<Vec<_>>().await.map(|_| ())
        }
    }
}

/// What a writer could have left.
async fn state(writer: &Pg) -> (i64, i64, i64) {
    (
        number(writer, "SELECT count(*) FROM customer").await,
        number(writer, "SELECT count(*) FROM pg_class WHERE relname = 'mine'").await,
        number(writer, "SELECT count(*) FROM pg_largeobject_metadata").await
            + number(writer, "SELECT last_value FROM customer_id_seq").await,
    )
}

async fn try_every_escape_in_sessions(reader: &Pg, writer: &Pg) {
    let before = state(writer).await;
    for escape in ESCAPES {
        for by in EVERY_WAY {
            let session = reader.session().read_only().await.unwrap();
            for sql in *escape {
                let _ = call(&session, sql, by).await;
            }
            // Ended each way that there is: neither keeps anything.
            match by {
                By::Unprepared => session.commit().await.unwrap(),
                By::Execute => drop(session),
                _ => session.rollback().await.unwrap(),
            }
            assert_eq!(state(writer).await, before, "{escape:?} by {by:?}");
        }
    }
}

async fn try_every_escape_in_single_statements(reader: &Pg, writer: &Pg) {
    let before = state(writer).await;
    for escape in ESCAPES {
        for by in EVERY_WAY {
            for sql in *escape {
                let _ = call(reader, sql, by).await;
            }
            // What an entity would write after the attempt.
            Customer::insert(eve()).exec(reader).await.unwrap_err();
            assert_eq!(state(writer).await, before, "{escape:?} by {by:?}");
        }
    }
}

fn eve() -> customer::ActiveModel {
    customer::ActiveModel {
        name: Set("Eve".to_owned()),
        email: Set("eve@example.org".to_owned()),
        ..Default::default()
    }
}

#[tokio::test]
async fn no_escape_writes_from_a_read_only_session() {
    let (_database, writer) = shop().await;
    try_every_escape_in_sessions(&writer, &writer).await;
}

#[tokio::test]
async fn no_escape_writes_from_a_readonly_entry() {
    let (database, writer) = shop().await;
    // One connection, so that what one call talks it into, the next call meets.
    let reader = database.pg_with(&["readonly: true", "pool_size: 1", "max_overflow: 0"]);
    try_every_escape_in_sessions(&reader, &writer).await;
    try_every_escape_in_single_statements(&reader, &writer).await;
}

#[tokio::test]
async fn no_escape_writes_from_a_read_only_view() {
    let (_database, writer) = shop().await;
    try_every_escape_in_single_statements(&writer.read_only(), &writer).await;
}

#[tokio::test]
async fn no_escape_writes_with_a_read_role() {
    let (database, writer) = shop().await;
    let (role, line) = read_role(&database, &writer).await;
    let reader = database.pg_with(&["readonly: true", "pool_size: 1", &line]);
    let user = reader.query_one_raw(statement("SELECT current_user::text")).await.unwrap().unwrap();
    assert_eq!(user.try_get_by_index::<String>(0).unwrap(), role);
    try_every_escape_in_sessions(&reader, &writer).await;
    try_every_escape_in_single_statements(&reader, &writer).await;
    reader.close().await.unwrap();
    writer.execute_unprepared(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

/// A login with SELECT only, and the line of an entry that names it.
async fn read_role(database: &TestDatabase, writer: &Pg) -> (String, String) {
    let role = database.role("reads", "PASSWORD 'read-only'").await;
    let grant = format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}");
    writer.execute_unprepared(&grant).await.unwrap();
    let line = format!("read_role: {{user: {role}, password: read-only}}");
    (role, line)
}

/// The docs of `SessionBuilder::read_only` name what wharf cannot close: so it is, and so is what
/// closes it.
#[tokio::test]
async fn what_only_rights_close_is_open_without_them_and_closed_by_a_read_role() {
    let (database, writer) = shop().await;
    let (role, line) = read_role(&database, &writer).await;
    let superuser = database.pg_with(&["readonly: true"]);
    let reader = database.pg_with(&["readonly: true", &line]);
    let name = &database.name;
    let file = format!("/tmp/{name}");
    let wrote = format!("SELECT count(*) FROM pg_stat_file('{file}', true) WHERE size > 0");
    let victim = database.pg_with(&["application_name: victim"]);
    victim.ping().await.unwrap();
    let there = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'victim'";
    let slots = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{name}'");
    let works = [
        (format!("COPY (SELECT 1) TO PROGRAM 'cat > {file}'"), wrote.as_str(), 1),
        (format!("SELECT pg_create_physical_replication_slot('{name}')"), slots.as_str(), 1),
        (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name = 'victim' AND datname = current_database()"
                .to_owned(),
            there,
            0,
        ),
    ];
    for (escape, seen, done) in &works {
        let error = Error::from(reader.execute_unprepared(escape).await.unwrap_err());
        assert_eq!(error.sqlstate().as_deref(), Some("42501"), "{escape}: {error}");
        assert_ne!(number(&writer, seen).await, *done, "{escape}");
    }
    for (escape, seen, done) in &works {
        superuser.execute_unprepared(escape).await.unwrap();
        until(escape, async || number(&writer, seen).await == *done).await;
    }
    let tidy = format!(
        "SELECT pg_drop_replication_slot('{name}'); COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; rm {file}'; \
         DROP OWNED BY {role}"
    );
    writer.execute_unprepared(&tidy).await.unwrap();
    reader.close().await.unwrap();
    writer.execute_unprepared(&format!("DROP ROLE {role}")).await.unwrap();
}

/// dblink logs in anew, with rights of its own: no guard and no role of this connection reaches there.
#[tokio::test]
async fn another_login_is_bound_by_nothing_here() {
    let (database, writer) = shop().await;
    writer.execute_unprepared("CREATE EXTENSION dblink").await.unwrap();
    let (role, line) = read_role(&database, &writer).await;
    let url = database.url();
    for reader in
        [database.pg_with(&["readonly: true"]), database.pg_with(&["readonly: true", &line])]
    {
        let before = number(&writer, "SELECT count(*) FROM customer").await;
        let sql = format!(
            "SELECT dblink_exec('{url}', 'INSERT INTO customer (name, email) VALUES (''D'', ''{before}'')')"
        );
        reader.execute_unprepared(&sql).await.unwrap();
        assert_eq!(number(&writer, "SELECT count(*) FROM customer").await, before + 1);
        reader.close().await.unwrap();
    }
    writer.execute_unprepared(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

#[tokio::test]
async fn a_builders_statement_cannot_talk_its_connection_out_of_it() {
    let (database, writer) = shop().await;
    let reader = database.pg_with(&["readonly: true", "pool_size: 1", "max_overflow: 0"]);
    let before = state(&writer).await;
    let set = Func::cust(Alias::new("set_config"))
        .arg("default_transaction_read_only")
        .arg("off")
        .arg(false);
    let set = Query::select().expr(set).to_owned();
    reader.query_one(&set).await.unwrap();
    Customer::insert(eve()).exec(&reader).await.unwrap_err();
    let writes = Func::cust(Alias::new("writes"));
    let writes = Query::select().expr(Expr::expr(writes).add(1)).to_owned();
    reader.query_one(&writes).await.unwrap_err();
    assert_eq!(state(&writer).await, before);
    // A text that is hidden in a value, which the server runs all the same.
    let view = database.pg_with(&["pool_size: 1", "max_overflow: 0"]).read_only();
    for reader in [&reader, &view] {
        for hidden in [
            "SELECT set_config('default_transaction_read_only', 'off', false)",
            "SELECT set_config('transaction_read_only', 'off', false)",
            "SELECT writes()",
        ] {
            let run =
                Func::cust(Alias::new("query_to_xml")).arg(hidden).arg(true).arg(true).arg("");
            let run = Query::select().expr(Expr::expr(run).cast_as("text")).to_owned();
            let _ = reader.query_one(&run).await;
            let writes = Query::select().expr(Func::cust(Alias::new("writes"))).to_owned();
            reader.query_one(&writes).await.unwrap_err();
            Customer::insert(eve()).exec(reader).await.unwrap_err();
            assert_eq!(state(&writer).await, before, "{hidden}");
        }
    }
}

#[tokio::test]
async fn a_readonly_entry_cannot_be_asked_for_a_session_that_writes() {
    let (database, _writer) = shop().await;
    let reader = database.pg_with(&["readonly: true"]);
    let error = reader.begin_with_config(None, Some(AccessMode::ReadWrite)).await.unwrap_err();
    let error = Error::from(error);
    assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
    let session = reader.session().await.unwrap();
    assert!(session.is_read_only());
    assert!(session.begin_with_config(None, Some(AccessMode::ReadWrite)).await.is_err());
    let nested = session.begin().await.unwrap();
    assert!(eve().insert(&nested).await.is_err());
    nested.rollback().await.unwrap();
    drop(session);
    // SeaORM's own connection starts read-only as well.
    let manager = wharf::Manager::from_config(database.config(&["readonly: true"]));
    let sea_orm = manager.connection("it").unwrap();
    assert!(eve().insert(&sea_orm).await.is_err());
    manager.close().await;
}

#[tokio::test]
async fn reading_works_as_anywhere() {
    let (database, _writer) = shop().await;
    let reader = database.pg_with(&["readonly: true"]);
    assert_eq!(Customer::find().count(&reader).await.unwrap(), 1);
    let streamed: Vec<_> =
        Customer::find().stream(&reader).await.unwrap().try_collect().await.unwrap();
    assert_eq!(streamed.len(), 1);
    let transaction = reader.begin().await.unwrap();
    assert_eq!(Customer::find().all(&transaction).await.unwrap().len(), 1);
    TransactionSession::commit(transaction).await.unwrap();
    reader
        .session()
        .run(async |s| Customer::find().one(s).await.map(|found| assert!(found.is_some())))
        .await
        .unwrap();
}
