//! The forms of an entry, and urls.

use secrecy::ExposeSecret as _;
use wharf::config::{Address, ConfigError, DatabaseConfig, SslMode};

use crate::{load, main_of, refusal, says, try_load};

fn host(host: &str, port: u16) -> (String, u16) {
    (host.to_owned(), port)
}

fn address(database: &DatabaseConfig) -> (String, u16) {
    match &database.address {
        Address::Host { host, port } => (host.clone(), *port),
        other => panic!("{other:?}"),
    }
}

fn of_url(url: &str) -> DatabaseConfig {
    DatabaseConfig::from_url(url).unwrap_or_else(|error| panic!("{error}"))
}

fn url_refusal(url: &str) -> String {
    DatabaseConfig::from_url(url).expect_err("a refusal").to_string()
}

#[test]
fn an_entry_is_given_by_parts() {
    let config = load(
        "databases: {main: {type: postgresql, host: db.example.com, port: 6432, database: shop, user: app, password: x y}}",
    );
    let main = main_of(&config);
    assert_eq!(address(main), host("db.example.com", 6432));
    assert_eq!((main.database.as_str(), main.user.as_str()), ("shop", "app"));
    assert_eq!(main.password.as_ref().unwrap().expose_secret(), "x y");
}

#[test]
fn host_and_port_have_defaults() {
    let config = load("databases: {main: {database: shop, user: app}}");
    assert_eq!(address(main_of(&config)), host("localhost", 5432));
    assert!(main_of(&config).password.is_none());
}

#[test]
fn an_entry_is_given_by_url() {
    let config = load(
        "databases: {main: {url: 'postgres://app:s%40cret@db:6432/shop?sslmode=require', pool_size: 2}}",
    );
    let main = main_of(&config);
    assert_eq!(address(main), host("db", 6432));
    assert_eq!(main.password.as_ref().unwrap().expose_secret(), "s@cret");
    assert_eq!((main.ssl_mode, main.pool_size), (SslMode::Require, 2));
}

fn hosts(database: &DatabaseConfig) -> Vec<String> {
    match &database.address {
        Address::Hosts(hosts) => hosts.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cluster_is_given_by_its_hosts_or_by_a_url_that_names_them() {
    let all = ["pg1:6432", "pg2:5432", "[::1]:5433"];
    let config = load(
        "databases: {main: {hosts: ['pg1:6432', pg2, '[::1]:5433'], database: shop, user: app}}",
    );
    assert_eq!(hosts(main_of(&config)), all);
    let url = "postgres://app:s%2Ccret@pg1:6432,pg2,[::1]:5433/shop";
    for end in ["", "?target_session_attrs=primary", "?target_session_attrs=read-write"] {
        let database = of_url(&format!("{url}{end}"));
        assert_eq!(hosts(&database), all);
        assert_eq!(database.password.as_ref().unwrap().expose_secret(), "s,cret");
    }
    let variable = [("INFRA_DATABASES_MAIN_HOSTS", "pg3,pg4:6432")];
    let file = "databases: {main: {hosts: [pg1], database: shop, user: app}}";
    let config = try_load(file, &variable).unwrap();
    assert_eq!(hosts(main_of(&config)), ["pg3:5432", "pg4:6432"]);
    // One is a cluster that may grow.
    let config = load("databases: {main: {hosts: [pg1], database: shop, user: app}}");
    assert_eq!(hosts(main_of(&config)), ["pg1:5432"]);
}

#[test]
fn what_names_no_hosts_is_refused() {
    for (given, said) in [
        ("hosts: []", "is empty; name the hosts"),
        ("hosts: ['']", "is empty"),
        ("hosts: ['pg1:']", "a port that is not a number from 1 to 65535"),
        ("hosts: ['pg1:0']", "a port that is not a number"),
        ("hosts: ['pg1:+5432']", "a port that is not a number"),
        ("hosts: ['::1']", "write an IPv6 address in brackets"),
        ("hosts: ['[::1']", "has a `[` without a `]`"),
        ("hosts: ['[::1]x']", "has something other than `:port` after its `]`"),
        ("hosts: [pg1, 'pg1:5432']", "names pg1:5432 again"),
        ("hosts: pg1", "a list of hosts, such as [pg1:5432, pg2]"),
        ("hosts: [pg1], host: pg2", "`hosts`"),
        ("hosts: [pg1], port: 5433", "`port`"),
        ("hosts: [pg1], url: 'postgres://a@b/c'", "`url`"),
    ] {
        let rest = if given.contains("url") { "" } else { ", database: shop, user: app" };
        let refused = refusal(&format!("databases: {{main: {{{given}{rest}}}}}"));
        assert!(refused.contains(said), "{given}: {refused}");
    }
    for (url, said) in [
        ("postgres://a@pg1,/c", "its host is empty"),
        ("postgres://a@pg1:x,pg2/c", "its host has a port"),
        ("postgres://a@pg1,pg2/c?target_session_attrs=any", "neither `primary` nor `read-write`"),
        ("postgres://a@/c?host=pg1,pg2", "write them before the database"),
    ] {
        let refused = url_refusal(url);
        assert!(refused.contains(said), "{url}: {refused}");
    }
}

#[test]
fn dbs_is_the_same_as_databases() {
    assert_eq!(load("dbs: {main: {database: shop, user: app}}").databases.len(), 1);
}

#[test]
fn both_spellings_in_one_file_are_refused() {
    says(
        &refusal("databases: {}\ndbs: {}\n"),
        &["`databases` (infra.yaml:1)", "`dbs` (infra.yaml:2)", "keep one"],
    );
}

#[test]
fn both_forms_in_one_entry_are_refused() {
    let yaml = "databases:\n  main:\n    url: postgres://a@b/c\n    host: d\n";
    says(&refusal(yaml), &["databases.main", "`url` (infra.yaml:3)", "`host` (infra.yaml:4)"]);
}

#[test]
fn neither_form_in_an_entry_is_refused() {
    for keys in ["pool_size: 3", "host: db, user: app", ""] {
        let error = refusal(&format!("\ndatabases:\n  main: {{{keys}}}\n"));
        says(&error, &["infra.yaml:3", "`databases.main`", "neither `url` nor `database`"]);
    }
}

#[test]
fn a_value_in_the_url_and_beside_it_is_refused() {
    let yaml = "databases: {main: {url: 'postgres://a@b/c?sslmode=allow', ssl_mode: require}}";
    says(&refusal(yaml), &["`url`", "`ssl_mode`"]);
}

#[test]
fn an_entry_is_on_the_files_own_server() {
    let config = load(
        "pgserver: {version: 17, user: boss, pass: pw}\ndatabases: {main: {pgserver: true, database: shop}}",
    );
    let main = main_of(&config);
    assert_eq!(main.address, Address::PgServer);
    assert_eq!(main.user, "boss");
    assert_eq!(main.password.as_ref().unwrap().expose_secret(), "pw");
}

#[test]
fn an_entry_that_only_reads_is_on_the_standby_of_the_files_own_server() {
    let server = "pgserver: {version: 17, replica: {enabled: true, port: 5433}}\n";
    let entry = "databases: {main: {pgserver: replica, database: shop, readonly: true}}";
    let config = load(&format!("{server}{entry}"));
    assert_eq!(main_of(&config).address, Address::PgServerReplica);
    let effective = config.effective();
    assert_eq!(effective.get("databases.main.pgserver").unwrap().value, "replica");

    says(&refusal(&format!("pgserver: {{version: 17}}\n{entry}")), &["replica: {enabled: true}"]);
    let writes = "databases: {main: {pgserver: replica, database: shop}}";
    says(&refusal(&format!("{server}{writes}")), &["`databases.main.readonly`", "readonly: true"]);
    let both = "databases: {main: {pgserver: replica, host: h, database: shop, readonly: true}}";
    says(&refusal(&format!("{server}{both}")), &["`pgserver`", "`host`"]);
    let what = "databases: {main: {pgserver: standby, database: shop, readonly: true}}";
    says(&refusal(&format!("{server}{what}")), &["true, false or replica"]);
}

#[test]
fn another_user_does_not_get_the_superusers_password() {
    let config = load(
        "pgserver: {version: 17, pass: pw}\ndatabases: {main: {pgserver: true, database: shop, user: app}}",
    );
    assert!(main_of(&config).password.is_none());
}

#[test]
fn the_files_own_server_needs_a_section() {
    says(
        &refusal("databases: {main: {pgserver: true, database: shop}}"),
        &["databases.main.pgserver", "the section `pgserver:`, which the file lacks"],
    );
}

#[test]
fn the_files_own_server_has_no_other_address() {
    for key in ["host: db", "port: 1", "url: 'postgres://a@b/c'"] {
        let error = refusal(&format!(
            "pgserver: {{version: 17}}\ndatabases: {{main: {{pgserver: true, database: s, {key}}}}}"
        ));
        says(&error, &["`pgserver`", key.split(':').next().unwrap()]);
    }
}

#[test]
fn an_entry_without_a_user_is_the_system_users_as_in_libpq() {
    let name =
        String::from_utf8(std::process::Command::new("id").arg("-un").output().unwrap().stdout);
    let name = name.unwrap().trim().to_owned();
    for entry in
        ["{database: shop}", "{url: 'postgresql://localhost/shop'}", "{url: 'postgres:///shop'}"]
    {
        let config = load(&format!("databases: {{main: {entry}}}"));
        assert_eq!(main_of(&config).user, name, "{entry}");
    }
}

#[test]
fn a_url_without_a_database_is_refused() {
    says(&url_refusal("postgres://app@db"), &["no database"]);
    says(&url_refusal("postgres://app@db/"), &["no database"]);
}

#[test]
fn a_url_may_name_sqlalchemys_driver() {
    assert_eq!(of_url("postgresql+psycopg2://app@db/shop").database, "shop");
}

#[test]
fn other_types_are_refused() {
    says(
        &refusal("databases: {main: {type: mysql, database: s, user: a}}"),
        &["databases.main.type", "`postgresql`"],
    );
    says(&url_refusal("mysql://app@db/shop"), &["postgresql"]);
}

#[test]
fn a_url_takes_libpqs_parameters() {
    let url = "postgres:///?host=%2Frun%2Fpg&port=6000&user=app&password=p&dbname=shop&sslrootcert=ca&sslcert=c&sslkey=k\
               &application_name=a%20b&connect_timeout=3";
    let main = of_url(url);
    assert_eq!(address(&main), host("/run/pg", 6000));
    assert_eq!((main.user.as_str(), main.database.as_str()), ("app", "shop"));
    assert_eq!(main.application_name, "a b");
    assert_eq!(main.connect_timeout.as_secs(), 3);
    assert_eq!(main.ssl_root_cert.unwrap().to_str(), Some("ca"));
}

#[test]
fn an_unknown_parameter_is_refused_with_the_nearest() {
    says(
        &url_refusal("postgres://a@b/c?sslmod=require"),
        &["`sslmod`", "the nearest is `sslmode`"],
    );
}

#[test]
fn a_host_may_be_an_ipv6_address_or_a_socket() {
    assert_eq!(address(&of_url("postgres://a@[::1]:6000/c")), host("::1", 6000));
    assert_eq!(address(&of_url("postgres://a@%2Fvar%2Frun/c")), host("/var/run", 5432));
}

#[test]
fn a_password_that_cuts_the_url_in_two_is_refused() {
    for password in ["a/1", "12/3", "a#b", "a?b", "1#", "%zz", "a b", "1?x=2"] {
        let error = url_refusal(&format!("postgres://app:{password}@db/shop"));
        assert!(error.contains("percent-encode"), "{password}: {error}");
    }
}

#[test]
fn an_at_sign_in_a_password_is_part_of_it() {
    let main = of_url("postgres://app:p@ss@db/shop");
    assert_eq!(main.password.unwrap().expose_secret(), "p@ss");
    assert_eq!(address(&of_url("postgres://app:p@ss@db/shop")), host("db", 5432));
}

#[test]
fn urls_that_name_no_place_are_refused() {
    for url in [
        "",
        "shop",
        "postgres:/a@b/c",
        "postgres://a@b,/d",
        "postgres://a@[::1/c",
        "postgres://a@b:99999/c",
        "postgres://a@b:0/c",
        "postgres://a@b/c/d",
        "postgres://a@b/c?host=x",
        "postgres://a@b/%00",
    ] {
        assert!(matches!(DatabaseConfig::from_url(url), Err(ConfigError::Url { .. })), "{url}");
    }
}

#[test]
fn what_is_wrong_in_a_url_alone_names_no_file() {
    says(&url_refusal("postgres://a@b"), &["the url given: `url` is not a valid url"]);
    says(&url_refusal("postgres://a@b/c?sslmode=x"), &["the url given: `ssl_mode` must be"]);
    says(
        &url_refusal("postgres://a@b/c?connect_timeout=0"),
        &["the url given: `connect_timeout` must be at least 1ms"],
    );
}

#[test]
fn a_url_alone_has_all_the_defaults() {
    let (a, b) = (
        of_url("postgres://app@db/shop"),
        load("databases: {main: {host: db, database: shop, user: app}}"),
    );
    assert_eq!(format!("{a:?}"), format!("{:?}", main_of(&b)));
}

#[test]
fn an_entry_without_a_map_is_refused() {
    let error = try_load("databases: {main: 'postgres://a:hunter2@b/c'}", &[]).unwrap_err();
    assert!(matches!(error, ConfigError::WrongType { .. }), "{error}");
}
