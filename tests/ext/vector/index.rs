//! Indexes made on a database.

use std::{
    future::IntoFuture as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use sea_orm::{
    ConnectionTrait, DbBackend, EntityTrait, QueryOrder, QuerySelect, QueryTrait, Statement,
};
use wharf::{
    Error, Pg,
    ext::vector::{Distance, IndexProgress, VectorColumn, VectorIndex},
};

use super::{plan, point, points};

/// Each index of the table, and whether it is valid.
async fn indexes(pg: &Pg) -> Vec<(String, bool)> {
    let sql = "SELECT c.relname::text, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
               WHERE i.indrelid = 'point'::regclass AND NOT i.indisprimary ORDER BY 1";
    let rows = pg.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap();
    let row = |row: &sea_orm::QueryResult| {
        (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap())
    };
    rows.iter().map(row).collect()
}

async fn setting(pg: &Pg, name: &str) -> String {
    let show = Statement::from_string(DbBackend::Postgres, format!("SHOW {name}"));
    pg.query_one_raw(show).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

#[tokio::test]
async fn an_index_is_built_while_others_write_and_says_how_far_it_is() {
    let Some((_database, pg)) = points(3_000).await else { return };
    // Whoever writes is waited for, so the build is under way for as long as this session.
    let writer = pg.session().await.unwrap();
    writer.execute_unprepared("UPDATE point SET rare = rare WHERE id = 1").await.unwrap();
    let (seen, waits) =
        (Arc::new(Mutex::new(Vec::<IndexProgress>::new())), tokio::sync::Notify::new());
    let waits = Arc::new(waits);
    let build = VectorIndex::on(point::Column::At, Distance::Cosine)
        .concurrently()
        .build(&pg)
        .memory("32MB")
        .workers(1)
        .progress({
            let (seen, waits) = (Arc::clone(&seen), Arc::clone(&waits));
            move |progress| {
                if progress.phase.starts_with("waiting for writers") {
                    waits.notify_one();
                }
                seen.lock().unwrap().push(progress);
            }
        });
    let build = tokio::spawn(build.into_future());
    waits.notified().await;
    let others = IndexProgress::all(&pg).await.unwrap();
    assert_eq!(others.len(), 1, "it is seen from elsewhere, too");
    assert_eq!(others[0].index.as_deref(), Some("point_at_hnsw"));
    writer.commit().await.unwrap();
    build.await.unwrap().unwrap();

    let seen = seen.lock().unwrap().clone();
    assert!(seen.iter().all(|progress| progress.table == "point"), "{seen:?}");
    assert!(seen.iter().all(|progress| progress.pid == others[0].pid), "{seen:?}");
    assert!(seen[0].to_string().starts_with("point_at_hnsw: "), "{}", seen[0]);
    assert_eq!(indexes(&pg).await, [("point_at_hnsw".to_owned(), true)]);
    let find = point::Entity::find()
        .order_by_asc(point::Column::At.cosine_distance(vec![1.0; 64]).unwrap())
        .limit(10);
    let plan = plan(&pg, find.build(DbBackend::Postgres)).await;
    assert!(plan.contains("Index Scan using point_at_hnsw"), "{plan}");
}

#[tokio::test]
async fn settings_of_a_build_are_its_own() {
    let Some((database, _)) = points(100).await else { return };
    let mut config = database.config();
    (config.pool_size, config.max_overflow) = (1, 0);
    config.statement_timeout = Some(Duration::from_secs(30));
    let pg = Pg::from_config("one", config);
    let before = setting(&pg, "maintenance_work_mem").await;
    let index = VectorIndex::on(point::Column::At, Distance::L2).ivfflat(2);
    index.clone().build(&pg).memory("48MB").workers(0).await.unwrap();
    assert_eq!(setting(&pg, "maintenance_work_mem").await, before);
    assert_eq!(setting(&pg, "statement_timeout").await, "30s");
    // Settings are refused by the server, and names that are taken; `if_not_exists` looks away.
    assert!(index.clone().name("other").build(&pg).memory("much").await.is_err());
    let error = index.clone().build(&pg).await.unwrap_err();
    assert_eq!(error.sqlstate().as_deref(), Some("42P07"), "{error}");
    index.if_not_exists().build(&pg).await.unwrap();
    assert_eq!(indexes(&pg).await, [("point_at_ivfflat".to_owned(), true)]);
}

#[tokio::test]
async fn what_a_broken_off_build_leaves_does_not_stay() {
    let Some((database, pg)) = points(200).await else { return };
    let index = VectorIndex::on(point::Column::At, Distance::L2).concurrently();
    // One that fails half-way: its writer is waited for no longer than this.
    let timeout = format!("ALTER DATABASE {} SET lock_timeout = '50ms'", database.name());
    pg.execute_unprepared(&timeout).await.unwrap();
    let impatient = Pg::from_url(&database.url()).await.unwrap();
    let writer = pg.session().await.unwrap();
    writer.execute_unprepared("UPDATE point SET rare = rare WHERE id = 1").await.unwrap();
    // As psql would leave it.
    let raw = impatient.execute_unprepared(&index.sql().unwrap()).await;
    assert!(raw.is_err());
    assert_eq!(indexes(&pg).await, [("point_at_hnsw".to_owned(), false)]);
    writer.rollback().await.unwrap();

    // `if_not_exists` would else find that there is one.
    index.clone().if_not_exists().build(&impatient).await.unwrap();
    assert_eq!(indexes(&pg).await, [("point_at_hnsw".to_owned(), true)]);

    let index = index.name("second");
    let writer = pg.session().await.unwrap();
    writer.execute_unprepared("UPDATE point SET rare = rare WHERE id = 1").await.unwrap();
    // It waits for the writer longer than `lock_timeout`; and if it is canceled, nothing of it stays.
    let build = tokio::spawn(index.clone().build(&impatient).into_future());
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_progress_create_index \
                  WHERE datname = current_database() AND phase LIKE 'waiting for writers%'";
    let cancel = Statement::from_string(DbBackend::Postgres, cancel);
    loop {
        let row = pg.query_one_raw(cancel.clone()).await.unwrap().unwrap();
        if row.try_get_by_index::<i64>(0).unwrap() > 0 {
            break;
        }
        assert!(!build.is_finished(), "{:?}", build.await);
        tokio::task::yield_now().await;
    }
    writer.rollback().await.unwrap();
    let error = build.await.unwrap().unwrap_err();
    assert!(error.is_query_canceled(), "{error}");
    assert_eq!(indexes(&pg).await, [("point_at_hnsw".to_owned(), true)]);
    index.build(&impatient).await.unwrap();
    assert_eq!(
        indexes(&pg).await,
        [("point_at_hnsw".to_owned(), true), ("second".to_owned(), true)]
    );
}

#[tokio::test]
async fn an_index_is_built_in_the_schema_that_is_seen() {
    let Some((database, pg)) = points(10).await else { return };
    pg.execute_unprepared("CREATE SCHEMA a; CREATE TABLE a.point (LIKE point)").await.unwrap();
    // The extension's types are in `public`.
    let mut config = database.config();
    config.schema = Some("public".to_owned());
    let tenant = Pg::from_config("tenants", config).scoped("a").unwrap();
    let index = VectorIndex::on(point::Column::At, Distance::L2).concurrently();
    index.clone().build(&tenant).await.unwrap();
    assert!(indexes(&pg).await.is_empty());
    let there = pg.execute_unprepared("DROP INDEX a.point_at_hnsw").await;
    assert!(there.is_ok());
    let error = index.build(&pg.read_only()).await.unwrap_err();
    assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
}

#[tokio::test]
async fn an_index_is_built_with_the_settings_of_its_view() {
    let Some((_database, pg)) = points(10).await else { return };
    let watched = "
        CREATE TABLE seen (tenant text);
        CREATE FUNCTION see() RETURNS event_trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO seen VALUES (current_setting('app.tenant', true)); END $$;
        CREATE EVENT TRIGGER see ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION see()";
    pg.execute_unprepared(watched).await.unwrap();
    let index = VectorIndex::on(point::Column::At, Distance::Cosine);
    index.build(&pg.with_local("app.tenant", "42")).await.unwrap();
    let seen =
        "SELECT (SELECT string_agg(tenant, ',') FROM seen) || current_setting('app.tenant', true)";
    let seen = Statement::from_string(DbBackend::Postgres, seen);
    let seen: String = pg.query_one_raw(seen).await.unwrap().unwrap().try_get_by_index(0).unwrap();
    assert_eq!(seen, "42");
}

#[tokio::test]
async fn a_build_for_which_shared_memory_is_too_small_says_so() {
    let Some((_database, pg)) = super::points(300).await else { return };
    // Without it, a table of this size is not worth several processes.
    pg.execute_unprepared("ALTER TABLE point SET (parallel_workers = 2)").await.unwrap();
    let index = VectorIndex::on(super::point::Column::At, Distance::Cosine);
    let build = index.clone().build(&pg).memory("512MB").workers(2);
    let error = build.await.unwrap_err().to_string();
    assert!(error.contains("hint: The server's shared memory is full, not its disk"), "{error}");
    index.build(&pg).memory("512MB").workers(0).await.unwrap();
}
