//! Looking at statements allocates nothing where the kind of statement has been seen before, and rows that
//! are read as they come need no more memory however many they are.
//!
//! A program of its own, for it counts what its allocator is asked for.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
#[path = "../it/support.rs"]
mod support;

use allocation_counter::measure;
use entity::shop::customer;
use futures_util::TryStreamExt;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, Statement, StreamTrait,
};
use wharf::Pg;

use support::TestDatabase;

const TIMES: i32 = 200;

async fn look_ups(pg: &Pg) {
    for id in 0..TIMES {
        customer::Entity::find_by_id(id).one(pg).await.unwrap();
    }
}

async fn lists(pg: &Pg) {
    for id in 0..TIMES {
        let ids = (id..id + 3).collect::<Vec<_>>();
        customer::Entity::find().filter(customer::Column::Id.is_in(ids)).all(pg).await.unwrap();
    }
}

async fn streams(pg: &Pg) {
    for _ in 0..TIMES {
        let rows = customer::Entity::find().stream(pg).await.unwrap();
        rows.try_collect::<Vec<_>>().await.unwrap();
    }
}

async fn sessions(pg: &Pg) {
    for id in 0..TIMES {
        let session = pg.session().await.unwrap();
        customer::Entity::find_by_id(id).one(&session).await.unwrap();
        customer::Entity::find_by_id(id + 1).one(&session).await.unwrap();
        session.commit().await.unwrap();
        let session = pg.session().read_only().await.unwrap();
        customer::Entity::find_by_id(id).one(&session).await.unwrap();
        drop(session);
    }
}

/// How often `work` asked the allocator for memory, once everything was warm; the least of some
/// runs, for now and then something grows, the driver's buffers among them.
fn allocations(runtime: &tokio::runtime::Runtime, mut work: impl AsyncFnMut()) -> u64 {
    let mut once = || measure(|| runtime.block_on(work())).count_total;
    once();
    (0..5).map(|_| once()).min().unwrap()
}

#[test]
fn a_statement_that_is_looked_at_allocates_no_more_than_one_that_is_not() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(TestDatabase::shop());
    let on = database.pg_with(&[]);
    let off = database.pg_with(&["monitor: {enabled: false}"]);
    macro_rules! same {
        ($work:ident) => {
            let looked_at = allocations(&runtime, async || $work(&on).await);
            let not = allocations(&runtime, async || $work(&off).await);
            assert!(not > TIMES as u64, "the allocator is not counted: {not}");
            // One more a statement would be TIMES more. Where in a run the driver's buffers grow is
            // chance: 6,601 and 6,600 have been seen.
            let fewer_than_statements = TIMES as u64 / 20;
            assert!(
                looked_at <= not + fewer_than_statements,
                "{}: {looked_at}, not {not}",
                stringify!($work)
            );
        };
    }
    same!(look_ups);
    same!(lists);
    same!(streams);
    same!(sessions);
    assert!(on.monitor().top(10).statements[0].calls >= 6 * TIMES as u64);
    runtime.block_on(async {
        on.close().await.unwrap();
        off.close().await.unwrap();
    });
}

/// The most memory that `work` had at a time, beyond what it found there, once everything was warm.
fn most(runtime: &tokio::runtime::Runtime, mut work: impl AsyncFnMut()) -> u64 {
    let mut once = || measure(|| runtime.block_on(work())).bytes_max;
    once();
    once()
}

fn select(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Postgres, sql)
}

const MILLION: i32 = 1_000_000;

#[test]
fn a_million_rows_take_no_more_memory_than_a_thousand() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(TestDatabase::new());
    let pg = database.pg_with(&[]);
    let rows = async |number: i32| {
        let rows = format!(
            "SELECT n, 'row ' || n, n / 7.0::float8, now() FROM generate_series(1, {number}) n"
        );
        let mut rows = pg.stream_raw(select(&rows)).await.unwrap();
        let mut read = 0;
        while let Some(row) = rows.try_next().await.unwrap() {
            read += 1;
            assert_eq!(row.try_get_by_index::<i32>(0).unwrap(), read);
        }
        assert_eq!(read, number);
    };
    let few = most(&runtime, async || rows(1_000).await);
    let many = measure(|| runtime.block_on(rows(MILLION))).bytes_max;
    assert!(few > 0, "the allocator is not counted");
    assert!(many < few + 64 * 1024, "{many} bytes at a time, and {few} for a thousand rows");
    runtime.block_on(pg.close()).unwrap();
}

#[test]
fn a_copy_takes_the_memory_that_its_docs_say_however_many_rows_it_has() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(TestDatabase::new());
    let pg = database.pg_with(&[]);
    let create = "CREATE TABLE reading (id int4, name text, value float8)";
    runtime.block_on(pg.execute_unprepared(create)).unwrap();
    let copy = async |number: i32| {
        let rows = (0..number).map(|n| (n, format!("row {n}"), f64::from(n) / 7.0));
        let copy = pg.copy_in_named("reading", ["id", "name", "value"]);
        assert_eq!(copy.rows(rows).await.unwrap(), u64::try_from(number).unwrap());
    };
    let few = most(&runtime, async || copy(20_000).await);
    let many = measure(|| runtime.block_on(copy(MILLION))).bytes_max;
    assert!(few > 0, "the allocator is not counted");
    assert!(many < 256 * 1024, "{many} bytes at a time");
    assert!(many < few + 32 * 1024, "{many} bytes at a time, and {few} for 20,000 rows");
    runtime.block_on(pg.close()).unwrap();
}

/// Rows of 100 kB, 200 MB in all.
const WIDE: &str = "SELECT repeat(md5(n::text), 3200) FROM generate_series(1, 2000) n";

#[test]
fn wide_rows_are_read_one_by_one_however_late() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(TestDatabase::new());
    let (pg, other) = (database.pg_with(&[]), database.pg_with(&[]));
    let read = async || {
        let mut rows = pg.stream_raw(select(WIDE)).await.unwrap();
        let mut read = 0;
        while let Some(row) = rows.try_next().await.unwrap() {
            assert_eq!(row.try_get_by_index::<String>(0).unwrap().len(), 102_400);
            read += 1;
            // A reader that has other things to do, while the server would send on.
            if read % 10 == 0 {
                other.query_one_raw(select("SELECT pg_sleep(0.001)")).await.unwrap();
            }
        }
        assert_eq!(read, 2_000);
    };
    let most = most(&runtime, read);
    assert!(most < 2 << 20, "{most} bytes at a time");
    runtime.block_on(async {
        pg.close().await.unwrap();
        other.close().await.unwrap();
    });
}

#[test]
fn a_cursor_takes_the_memory_of_one_batch() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(TestDatabase::new());
    let pg = database.pg_with(&[]);
    let read = async |batch: u32| {
        let session = pg.session().await.unwrap();
        let mut rows = session.cursor_raw(select(WIDE)).fetch_size(batch).rows().await.unwrap();
        let mut read = 0;
        while rows.try_next().await.unwrap().is_some() {
            read += 1;
        }
        assert_eq!(read, 2_000);
        drop(rows);
        session.commit().await.unwrap();
    };
    for batch in [10, 100] {
        let most = most(&runtime, async || read(batch).await);
        let of_batch = u64::from(batch) * 102_400;
        assert!(most >= of_batch, "{most} bytes at a time, in batches of {of_batch}");
        assert!(
            most < 2 * of_batch + (1 << 20),
            "{most} bytes at a time, in batches of {of_batch}"
        );
    }
    runtime.block_on(pg.close()).unwrap();
}

/// The driver's buffers grow with the largest answer, and never shrink by themselves.
#[test]
fn a_large_answer_is_not_kept_in_memory() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(TestDatabase::new());
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    runtime.block_on(pg.ping()).unwrap();
    const LARGE: &str = "SELECT repeat('x', 32 * 1024 * 1024) AS large";
    let kept = measure(|| {
        runtime.block_on(async {
            pg.query_one_raw(select(LARGE)).await.unwrap().unwrap();
            let since = std::time::Instant::now();
            // The clock of the pool is what is waited for here: it looks at the buffers once a second.
            while since.elapsed() < std::time::Duration::from_millis(1200) {
                pg.query_one_raw(select("SELECT pg_sleep(0.01)")).await.unwrap();
            }
        });
    });
    assert!(kept.bytes_max > 32 << 20, "the allocator is not counted: {}", kept.bytes_max);
    assert!(kept.bytes_current < 1 << 20, "{} bytes are kept", kept.bytes_current);
    runtime.block_on(pg.close()).unwrap();
}
