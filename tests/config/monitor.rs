//! The section `monitor:`, of the file and of an entry.

use std::time::Duration;

use wharf::config::{MonitorConfig, NPlusOne};

use crate::try_load;

const FILE: &str = "\
monitor:
  slow_statement_threshold: 2
  explain: true
databases:
  shop: {url: 'postgres://a@h/shop'}
  reports:
    url: 'postgres://a@h/shop'
    monitor: {slow_statement_threshold: 0, n_plus_one: error}
";

#[test]
fn an_entrys_values_come_before_the_files_and_those_before_the_defaults() {
    let config = try_load(FILE, &[]).unwrap();
    let shop = &config.databases["shop"].monitor;
    assert_eq!(shop.slow_statement_threshold, Some(Duration::from_secs(2)));
    assert!(shop.explain && shop.enabled && !shop.log_bind_values);
    let reports = &config.databases["reports"].monitor;
    assert_eq!(reports.slow_statement_threshold, None);
    assert_eq!((reports.n_plus_one, reports.explain), (NPlusOne::Error, true));
    let plain = try_load("databases: {main: {url: 'postgres://a@h/d'}}", &[]).unwrap();
    assert_eq!(plain.databases["main"].monitor, MonitorConfig::default());
}

#[test]
fn the_effective_value_tells_which_of_them_it_is() {
    let effective = try_load(FILE, &[]).unwrap().effective();
    let at = |path: &str| {
        let setting = effective.get(path).unwrap_or_else(|| panic!("{path}"));
        (setting.value.clone(), setting.source.to_string())
    };
    let value = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    assert_eq!(at("databases.shop.monitor.slow_statement_threshold"), value("2s", "infra.yaml:2"));
    assert_eq!(
        at("databases.reports.monitor.slow_statement_threshold"),
        value("off", "infra.yaml:8")
    );
    assert_eq!(at("databases.reports.monitor.explain"), value("true", "infra.yaml:3"));
    assert_eq!(at("databases.shop.monitor.top_statements"), value("500", "default"));
}

#[test]
fn variables_name_it_where_the_file_does_not() {
    let file = "databases: {main: {url: 'postgres://a@h/d'}}";
    let config = try_load(
        file,
        &[
            ("INFRA_MONITOR_N_PLUS_ONE", "error"),
            ("INFRA_DATABASES_MAIN_MONITOR_TOP_STATEMENTS", "7"),
        ],
    )
    .unwrap();
    let monitor = &config.databases["main"].monitor;
    assert_eq!((monitor.n_plus_one, monitor.top_statements), (NPlusOne::Error, 7));
    let error = try_load(file, &[("INFRA_MONITOR_N_PLUS_ONES", "error")]).unwrap_err();
    assert!(error.to_string().contains("INFRA_MONITOR_N_PLUS_ONE`"), "{error}");
}

#[test]
fn what_is_wrong_is_refused_with_its_place() {
    for (monitor, said) in [
        ("{slow_threshold: 1s}", "infra.yaml:1: `monitor.slow_threshold`"),
        ("{slow_statement_threshold: -1}", "is negative; 0 switches it off"),
        ("{top_statements: 0}", "`monitor.top_statements` is not between 1 and 100000"),
        ("{n_plus_one: panic}", "one of off, warn, error"),
        ("{n_plus_one_threshold: 1}", "is less than 2"),
        ("7", "`monitor` must be a map"),
    ] {
        let file = format!("monitor: {monitor}\ndatabases: {{main: {{url: 'postgres://a@h/d'}}}}");
        let error = try_load(&file, &[]).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let file = "databases: {main: {url: 'postgres://a@h/d', monitor: {explian: true}}}";
    let error = try_load(file, &[]).unwrap_err().to_string();
    assert!(
        error.contains("databases.main.monitor.explian") && error.contains("`explain`"),
        "{error}"
    );
}
