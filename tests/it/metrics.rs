//! Metrics, as Prometheus scrapes them from the service of `examples/metrics`.

use std::{
    collections::{BTreeSet, HashMap},
    sync::LazyLock,
    time::Duration,
};

use entity::shop::customer;
use futures_util::TryStreamExt;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use prometheus_parse::{Sample, Scrape, Value};
use sea_orm::{ConnectionTrait, EntityTrait, PaginatorTrait};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use wharf::{
    Manager,
    monitor::{DURATION_BUCKETS, ROWS_BUCKETS},
};

use crate::support::{TestDatabase, config, number, until};

#[path = "../../examples/metrics/app.rs"]
#[allow(dead_code)]
mod app;

/// That of the process: the other tests' databases are in it, too.
static PROMETHEUS: LazyLock<PrometheusHandle> = LazyLock::new(|| app::recorder().unwrap());

/// The example's service, on a port of its own.
struct Service {
    at: String,
    serving: JoinHandle<()>,
}

impl Service {
    async fn serve(manager: &Manager) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let router = app::router(manager.clone(), PROMETHEUS.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Service { at, serving }
    }

    /// Status and body.
    async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.at).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn scrape(&self) -> Scraped {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        let lines = text.lines().map(|line| Ok(line.to_owned()));
        let Scrape { samples, docs } = Scrape::parse(lines).unwrap();
        Scraped { samples, docs, text }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Scraped {
    samples: Vec<Sample>,
    docs: HashMap<String, String>,
    text: String,
}

impl Scraped {
    /// The samples of a metric that have these labels.
    fn all<'a>(&'a self, metric: &str, labels: &[(&str, &str)]) -> Vec<&'a Sample> {
        let fits = |sample: &Sample| {
            let has = |(key, value): &(&str, &str)| sample.labels.get(key) == Some(value);
            sample.metric == metric && labels.iter().all(has)
        };
        self.samples.iter().filter(|sample| fits(sample)).collect()
    }

    /// The one sample of a metric that has these labels.
    #[track_caller]
    fn one(&self, metric: &str, labels: &[(&str, &str)]) -> &Value {
        let all = self.all(metric, labels);
        assert_eq!(all.len(), 1, "{metric} {labels:?}: {all:#?}");
        &all[0].value
    }

    #[track_caller]
    fn number(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        match self.one(metric, labels) {
            Value::Counter(number) | Value::Gauge(number) | Value::Untyped(number) => *number,
            other => panic!("{metric}: {other:?}"),
        }
    }

    /// How many values a histogram has.
    #[track_caller]
    fn count(&self, histogram: &str, labels: &[(&str, &str)]) -> f64 {
        self.number(&format!("{histogram}_count"), labels)
    }

    /// The bounds of its buckets.
    fn bounds(&self, histogram: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let Value::Histogram(buckets) = self.one(histogram, labels) else { panic!("{histogram}") };
        buckets.iter().map(|bucket| bucket.less_than).filter(|bound| bound.is_finite()).collect()
    }
}

const DURATION: &str = "db_client_operation_duration";
const ROWS: &str = "db_client_response_returned_rows";

fn shop(database: &TestDatabase, more: &[&str]) -> Manager {
    LazyLock::force(&PROMETHEUS);
    Manager::from_config(config(&format!("databases:\n{}", database.entry("shop", more))))
}

#[tokio::test]
async fn statements_are_timed_by_operation_table_and_error() {
    let database = TestDatabase::shop().await;
    let manager = shop(&database, &["monitor: {slow_statement_threshold: 100ms}"]);
    let service = Service::serve(&manager).await;
    let pg = manager.db("shop").unwrap();
    for _ in 0..3 {
        customer::Entity::find_by_id(7).one(&pg).await.unwrap();
    }
    customer::Entity::find().stream(&pg).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    pg.execute_unprepared("INSERT INTO customer (id) VALUES (1)").await.unwrap_err();
    number(&pg, "SELECT 42::bigint FROM pg_sleep(0.2)").await;
    let dropped = pg.execute_unprepared("SELECT pg_sleep(9)");
    tokio::time::timeout(Duration::from_millis(20), dropped).await.unwrap_err();
    let session = pg.session().await.unwrap();
    session.commit().await.unwrap();

    assert_eq!(service.get("/customers").await, (200, "0 customers\n".to_owned()));
    let scraped = service.scrape().await;
    let here = ("db_namespace", database.name.as_str());
    let selects = [here, ("db_operation_name", "SELECT"), ("db_collection_name", "customer")];
    assert_eq!(scraped.count(DURATION, &selects), 3.0 + 1.0 + 1.0);
    assert_eq!(scraped.bounds(DURATION, &selects), DURATION_BUCKETS);
    assert_eq!(scraped.count(ROWS, &selects), 5.0);
    assert_eq!(scraped.bounds(ROWS, &selects), ROWS_BUCKETS);
    let sample = scraped.all(DURATION, &selects)[0];
    assert_eq!(sample.labels.get("db_system_name"), Some("postgresql"));
    let (host, port) = crate::support::server_address().await;
    assert_eq!(sample.labels.get("server_address"), Some(host.as_str()));
    assert_eq!(sample.labels.get("server_port"), Some(port.to_string().as_str()));
    // The server's word for what failed, and the label for what was given up.
    let failed = [here, ("db_operation_name", "INSERT"), ("db_response_status_code", "23502")];
    assert_eq!(scraped.count(DURATION, &failed), 1.0);
    assert_eq!(scraped.count(DURATION, &[here, ("error_type", "23502")]), 1.0);
    assert_eq!(scraped.count(DURATION, &[here, ("error_type", "dropped")]), 1.0);
    for operation in ["BEGIN", "COMMIT"] {
        assert_eq!(scraped.count(DURATION, &[here, ("db_operation_name", operation)]), 1.0);
    }
    assert_eq!(scraped.number("wharf_slow_statements", &[here]), 1.0);
    // Longer than 0.1 s and no longer than 0.5 s, unless the machine is busy.
    let Value::Histogram(buckets) = scraped
        .all(DURATION, &[here, ("db_operation_name", "SELECT")])
        .into_iter()
        .find(|sample| {
            sample.labels.get("db_collection_name").is_none()
                && sample.labels.get("error_type").is_none()
        })
        .map(|sample| &sample.value)
        .unwrap()
    else {
        panic!("no histogram")
    };
    let up_to = |bound: f64| buckets.iter().find(|bucket| bucket.less_than == bound).unwrap().count;
    assert_eq!((up_to(0.1), up_to(10.0)), (0.0, 1.0));
    // Never a statement's text, and everything is described.
    assert!(!scraped.text.contains("pg_sleep") && !scraped.text.contains("VALUES"));
    for metric in [DURATION, ROWS, "wharf_slow_statements"] {
        assert!(scraped.docs.contains_key(metric), "{metric}: {:?}", scraped.docs);
        assert!(scraped.text.contains(&format!("# TYPE {metric} ")), "{metric}");
    }
    manager.close().await;
}

#[tokio::test]
async fn pools_are_sampled_and_timed() {
    let database = TestDatabase::shop().await;
    let more =
        ["pool_size: 3", "max_overflow: 1", "min_connections: 1", "pool_timeout: 1", "database: x"];
    let manager = shop(&database, &more[..4]);
    let service = Service::serve(&manager).await;
    let pg = manager.db("shop").unwrap();
    // The pool's name is the entry's, so this test needs one of its own.
    let name = format!("pool_of_{}", database.name);
    let own = config(&format!("databases:\n{}", database.entry(&name, &more[..4])));
    let own = Manager::from_config(own);
    let pool = own.db(&name).unwrap();
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(pool.session().await.unwrap());
    }
    let here = ("db_client_connection_pool_name", name.as_str());
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.session().await.map(drop) }
    });
    let at = |scraped: &Scraped, metric: &str, state: Option<&str>| {
        let mut labels = vec![here];
        labels.extend(state.map(|state| ("db_client_connection_state", state)));
        let all = scraped.all(metric, &labels);
        match all.first().map(|sample| &sample.value) {
            Some(Value::Gauge(value) | Value::Untyped(value)) => *value,
            _ => f64::NAN,
        }
    };
    const COUNT: &str = "db_client_connection_count";
    until("the waiter is sampled", async || {
        let scraped = service.scrape().await;
        at(&scraped, "db_client_connection_pending_requests", None) == 1.0
            && at(&scraped, COUNT, Some("used")) == 4.0
    })
    .await;
    waiting.await.unwrap().unwrap_err();
    for session in sessions.drain(..3) {
        session.rollback().await.unwrap();
    }
    until("the idle ones are sampled", async || {
        let scraped = service.scrape().await;
        at(&scraped, COUNT, Some("idle")) == 3.0 && at(&scraped, COUNT, Some("used")) == 1.0
    })
    .await;
    let scraped = service.scrape().await;
    assert_eq!(at(&scraped, "db_client_connection_max", None), 4.0);
    assert_eq!(at(&scraped, "db_client_connection_idle_max", None), 3.0);
    assert_eq!(at(&scraped, "db_client_connection_idle_min", None), 1.0);
    assert_eq!(scraped.number("db_client_connection_timeouts", &[here]), 1.0);
    assert_eq!(scraped.count("db_client_connection_create_time", &[here]), 4.0);
    assert_eq!(scraped.count("db_client_connection_wait_time", &[here]), 4.0);
    assert_eq!(scraped.count("db_client_connection_use_time", &[here]), 3.0);
    drop(sessions);
    own.close().await;
    until("it is known to be empty", async || {
        let scraped = service.scrape().await;
        at(&scraped, COUNT, Some("idle")) == 0.0 && at(&scraped, COUNT, Some("used")) == 0.0
    })
    .await;
    pg.ping().await.unwrap();
    manager.close().await;
}

/// What a caller did is a use; what the pool does by itself is none.
#[tokio::test]
async fn neither_a_clean_up_nor_a_failed_ping_counts_as_a_use() {
    let database = TestDatabase::shop().await;
    let name = format!("uses_of_{}", database.name);
    let entry = database.entry(&name, &["pool_size: 1", "max_overflow: 0"]);
    let manager = Manager::from_config(config(&format!("databases:\n{entry}")));
    let service = Service::serve(&manager).await;
    let pg = manager.db(&name).unwrap();
    pg.execute_unprepared("SET work_mem = '5MB'").await.unwrap();
    until("it was cleaned up after", async || pg.stats().writer.in_use == 0).await;
    let backend = number(&pg, "SELECT pg_backend_pid()::bigint").await;
    // The clock of the pool is what is waited for here, not another task: then it is pinged before use.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let other = database.pg().await;
    number(&other, &format!("SELECT pg_terminate_backend({backend})::int::bigint")).await;
    pg.ping().await.unwrap();
    let scraped = service.scrape().await;
    let here = ("db_client_connection_pool_name", name.as_str());
    assert_eq!(scraped.count("db_client_connection_wait_time", &[here]), 3.0);
    assert_eq!(scraped.count("db_client_connection_use_time", &[here]), 3.0);
    manager.close().await;
}

#[tokio::test]
async fn a_server_that_is_down_shows() {
    let database = TestDatabase::new().await;
    let manager = {
        LazyLock::force(&PROMETHEUS);
        let down = "  down_by_metrics: {url: 'postgres://a@127.0.0.1:1/d', pool_timeout: 1}\n";
        let up = database.entry("shop", &[]);
        Manager::from_config(config(&format!("databases:\n{up}{down}")))
    };
    let service = Service::serve(&manager).await;
    let (status, said) = service.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(said.contains("shop: ok in ") && said.contains("is unreachable"), "{said}");
    assert_eq!(service.get("/healthz").await, (200, "ok\n".to_owned()));
    let scraped = service.scrape().await;
    let here = ("db_client_connection_pool_name", "down_by_metrics");
    let labels = [here, ("error_type", "unreachable")];
    assert!(scraped.number("wharf_connect_errors", &labels) >= 1.0);
    manager.close().await;
}

#[tokio::test]
async fn labels_are_bounded_whatever_statements_come() {
    let database = TestDatabase::new().await;
    let manager = shop(&database, &[]);
    let service = Service::serve(&manager).await;
    let pg = manager.db("shop").unwrap();
    for n in 0..300 {
        pg.execute_unprepared(&format!("SELECT FROM t{n}")).await.unwrap_err();
        let raises = format!("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'X{n:04}'; END $$");
        pg.execute_unprepared(&raises).await.unwrap_err();
        pg.execute_unprepared(&format!("word{n} 1")).await.unwrap_err();
    }
    let scraped = service.scrape().await;
    let here = [("db_namespace", database.name.as_str())];
    let values = |label: &str| -> BTreeSet<String> {
        let samples = scraped.all(&format!("{DURATION}_count"), &here).into_iter();
        samples.filter_map(|sample| sample.labels.get(label).map(str::to_owned)).collect()
    };
    assert_eq!(values("db_collection_name").len(), 201);
    assert!(values("db_collection_name").contains("_OTHER"));
    assert!(values("db_response_status_code").len() <= 101);
    assert!(values("error_type").contains("_OTHER"));
    let operations: Vec<_> = values("db_operation_name").into_iter().collect();
    assert_eq!(operations, ["DO", "SELECT", "_OTHER"]);
    manager.close().await;
}

#[tokio::test]
async fn a_recorder_that_comes_later_is_served_at_once() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    number(&pg, "SELECT 1::bigint").await;
    for _ in 0..2 {
        let recorder = PrometheusBuilder::new().build_recorder();
        let told = recorder.handle();
        let guard = metrics::set_default_local_recorder(&recorder);
        number(&pg, "SELECT 1::bigint").await;
        drop(guard);
        number(&pg, "SELECT 1::bigint").await;
        let told = told.render();
        let counts: Vec<_> = told.lines().filter(|line| line.contains("duration_count")).collect();
        assert_eq!(counts.len(), 1, "{told}");
        assert!(counts[0].ends_with(" 1"), "{counts:?}");
    }
}

#[tokio::test]
async fn an_n_plus_one_is_counted() {
    let database = TestDatabase::shop().await;
    let manager = shop(&database, &[]);
    let service = Service::serve(&manager).await;
    let pg = manager.db("shop").unwrap();
    wharf::scope(async {
        for _ in 0..25 {
            customer::Entity::find().count(&pg).await.unwrap();
        }
    })
    .await;
    let scraped = service.scrape().await;
    let here = [("db_namespace", database.name.as_str()), ("db_collection_name", "customer")];
    assert_eq!(scraped.number("wharf_n_plus_one", &here), 1.0);
    manager.close().await;
}

#[tokio::test]
async fn the_dashboard_asks_for_what_there_is() {
    let database = TestDatabase::shop().await;
    let more = [
        "pool_size: 1",
        "max_overflow: 0",
        "pool_timeout: 0.5",
        "monitor: {slow_statement_threshold: 1us, n_plus_one_threshold: 2}",
    ];
    let manager = shop(&database, &more);
    let service = Service::serve(&manager).await;
    let pg = manager.db("shop").unwrap();
    let session = pg.session().await.unwrap();
    pg.ping().await.unwrap_err();
    customer::Entity::find().all(&session).await.unwrap();
    customer::Entity::find().all(&session).await.unwrap();
    session.execute_unprepared("SELECT 1/0").await.unwrap_err();
    drop(session);
    until("the pool is sampled", async || {
        let scraped = service.scrape().await;
        !scraped.all("db_client_connection_max", &[]).is_empty()
    })
    .await;
    let scraped = service.scrape().await;
    let dashboard = std::fs::read_to_string("etc/grafana-dashboard.json").unwrap();
    let dashboard: sea_orm::JsonValue = dashboard.parse().unwrap();
    let mut asked = BTreeSet::new();
    expressions(&dashboard, &mut asked);
    assert!(asked.len() > 10, "{asked:?}");
    let known: BTreeSet<_> = scraped
        .text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_owned).collect()
    };
    let labels: BTreeSet<_> = scraped.samples.iter().flat_map(|s| s.labels.keys()).collect();
    for expression in &asked {
        for word in words(expression) {
            if word.starts_with("db_") || word.starts_with("wharf_") {
                let known = known.contains(word.as_str()) || labels.contains(&word);
                assert!(known, "{word} in {expression}");
            }
        }
    }
    // And shows all that there is.
    let all = asked.iter().cloned().collect::<String>();
    for metric in
        scraped.docs.keys().filter(|name| name.starts_with("db_") || name.starts_with("wharf_"))
    {
        assert!(all.contains(metric.as_str()), "no panel shows {metric}");
    }
    manager.close().await;
}

/// Every query of a dashboard.
fn expressions(json: &sea_orm::JsonValue, found: &mut BTreeSet<String>) {
    match json {
        sea_orm::JsonValue::Object(map) => {
            for (key, value) in map {
                match value.as_str() {
                    Some(text) if key == "expr" || key == "query" => {
                        found.insert(text.to_owned());
                    }
                    _ => expressions(value, found),
                }
            }
        }
        sea_orm::JsonValue::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}
