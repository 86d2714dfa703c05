//! The logins that the file names, on the file's own server.

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use wharf::config::{Config, Runtime};
use wharf::pgserver::PgServer;
use wharf::{Manager, Pg};

use crate::support::{Dir, config, server};

fn manager_of(server: &PgServer, databases: &str) -> Manager {
    let text = format!("pgserver: {{version: 17}}\ndatabases:\n{databases}");
    let config = Config::loader("roles.yaml").text(text).env([]).load().unwrap();
    Manager::with_pgserver(config, server.clone())
}

async fn text(pg: &Pg, sql: &str) -> Result<String, sea_orm::DbErr> {
    let row = pg.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
    row.unwrap().try_get_by_index(0)
}

#[tokio::test]
async fn a_login_is_created_with_its_password_and_owns_its_database() {
    let dir = Dir::new("roles");
    let mut logs_all = config(Runtime::Native);
    logs_all.postgres_conf.insert("log_statement".to_owned(), "all".to_owned());
    logs_all.postgres_conf.insert("log_parameter_max_length".to_owned(), "0".to_owned());
    let pgserver = server(&dir, logs_all);
    let file = dir.path().join("secret");
    std::fs::write(&file, "it's first\n").unwrap();
    let file = format!(
        "  admin: {{pgserver: true, database: shop}}
  beside: {{pgserver: true, database: shop, user: beside, password: b}}
  reports: {{pgserver: true, database: shop, user: reporter, password: r, readonly: true}}
  shop:
    pgserver: true
    database: shop
    create_db: true
    extensions: [pg_trgm]
    user: \"The App\"
    password_file: {}
    read_role: {{user: reader, password: x}}
",
        file.display()
    );
    let manager = manager_of(&pgserver, &file);
    manager.start_pgserver().await.unwrap();
    let shop = manager.db("shop").unwrap();
    shop.execute_unprepared("CREATE SCHEMA app CREATE TABLE own (n int)").await.unwrap();
    shop.execute_unprepared("CREATE TABLE t AS SELECT 7 AS n").await.unwrap();
    assert_eq!(text(&shop, "SELECT current_user::text").await.unwrap(), "The App");
    // The role of read-only sessions, and the login of an entry that only reads.
    let reads = manager.db("reports").unwrap();
    for (pg, role) in [(shop.read_only(), "reader"), (reads, "reporter")] {
        let asked = "SELECT current_user || ' ' || (SELECT n FROM t) || ' ' || (SELECT count(*) FROM app.own)";
        assert_eq!(text(&pg, asked).await.unwrap(), format!("{role} 7 0"));
    }
    let admin = manager.db("admin").unwrap();
    let may = "SELECT bool_or(has_table_privilege(r, 't', 'INSERT'))::text FROM unnest('{reader,reporter}'::text[]) r";
    assert_eq!(text(&admin, may).await.unwrap(), "false");
    // A second login of the same database may create tables of its own there.
    let beside = manager.db("beside").unwrap();
    beside.execute_unprepared("CREATE TABLE b (n int); CREATE SCHEMA more").await.unwrap();
    // A new password of the file is the login's, and what is there stays.
    std::fs::write(dir.path().join("secret"), "second").unwrap();
    manager.start_pgserver().await.unwrap();
    let again = manager_of(&pgserver, &file);
    assert_eq!(text(&again.db("shop").unwrap(), "SELECT n::text FROM t").await.unwrap(), "7");
    // Where the server logs every statement, no password is in its log.
    let log: Vec<_> = {
        use futures_util::StreamExt as _;
        pgserver.logs(usize::MAX, false).await.unwrap().collect().await
    };
    let has =
        |text: &str| log.iter().any(|line| line.as_ref().is_ok_and(|line| line.contains(text)));
    assert!(has("CREATE ROLE") && !has("first") && !has("second"), "{log:?}");
    again.close().await;
    manager.close().await;
    pgserver.remove().await.unwrap();
}
