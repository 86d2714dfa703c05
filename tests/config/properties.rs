//! No input makes the library panic, hang or overflow.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use wharf::config::DatabaseConfig;

use crate::try_load;

const VALID: &str = "\
pgserver: &p
  version: 17.5
  port: 5433
  user: postgres
  pass: 'p@ss'
  postgres_conf: {max_connections: 50, shared_preload_libraries: [a, b]}
  replica: {enabled: true, count: 2, port: 5434}
x: {<<: *p, y: '${pgserver.port}'}
databases:
  main:
    url: \"postgresql://${pgserver.user}:${pgserver.pass}@localhost:${x.y}/shop?sslmode=prefer\"
    pool_size: 5
    statement_timeout: 30s
  other:
    host: db
    database: shop
    user: app
    extensions: [vector]
    read_role: {user: r, password: ~}
  third: {pgserver: true, database: !!str 12}
";

const PIECES: &[&str] = &[
    "databases",
    "dbs",
    "pgserver",
    "main",
    "url",
    "database",
    "user",
    "pool_size",
    "pool_timeout",
    "version",
    "replica",
    ":",
    ": ",
    "\n",
    "\n  ",
    "\n    ",
    "- ",
    "? ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "'",
    "\"",
    "|",
    ">",
    "|-\n",
    "&a ",
    "*a",
    "<<: *a",
    "!include ",
    "!include x.yaml#y",
    "!t ",
    "!!str ",
    "!<x> ",
    "${",
    "}",
    "$${",
    "${a.b}",
    "${databases.main.url}",
    "postgres://",
    "u:p@h/d",
    "@",
    "#",
    " # ",
    "%",
    "%YAML 1.2\n",
    "%TAG ! x\n",
    "---\n",
    "...\n",
    "\t",
    "\r",
    "\r\n",
    "\0",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "ü",
    "0",
    "-1",
    "1e9",
    ".inf",
    "17.10",
    "~",
    "null",
    "true",
    "yes",
    "\\",
    "\"\\x41\"",
    "=",
];

fn bounded(yaml: &str, env: &[(&str, &str)]) {
    let start = Instant::now();
    if let Err(error) = try_load(yaml, env) {
        assert!(!error.to_string().is_empty());
    }
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig {
        // PROPTEST_CASES for longer runs.
        cases: ProptestConfig::default().cases.max(500),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn arbitrary_text(text in any::<String>()) {
        bounded(&text, &[]);
    }

    #[test]
    fn pieces_of_yaml(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60)) {
        bounded(&pieces.concat(), &[]);
        bounded(&format!("databases:\n  main: {}", pieces.concat()), &[]);
    }

    #[test]
    fn valid_files_with_mutations(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, prop::sample::select(PIECES)), 1..6),
    ) {
        let mut text: Vec<char> = VALID.chars().collect();
        for (at, removed, piece) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, piece.chars());
        }
        bounded(&text.iter().collect::<String>(), &[("INFRA_PGSERVER_PORT", "1")]);
    }

    #[test]
    fn overrides_of_any_kind(name in "[A-Za-z_]{0,12}", text in any::<String>()) {
        for variable in [format!("INFRA_{name}"), format!("INFRA_DATABASES_OTHER_{name}"), "INFRA_DATABASES_OTHER_EXTENSIONS".to_owned(),
            "INFRA_PGSERVER_PASS".to_owned(), "INFRA_DATABASES_OTHER_POOL_TIMEOUT".to_owned(), "INFRA_DATABASES".to_owned()] {
            bounded(VALID, &[(&variable, &text)]);
        }
    }

    #[test]
    fn urls(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..12), text in any::<String>()) {
        for url in [format!("postgres://{}", pieces.concat()), format!("postgres://u:p@h/d{}", pieces.concat()), text] {
            if let Err(error) = DatabaseConfig::from_url(&url) {
                assert!(!error.to_string().is_empty());
            }
        }
    }

    #[test]
    fn passwords_in_urls_arrive_as_they_are(password in "[^\\x00$]{0,20}") {
        use secrecy::ExposeSecret as _;
        let yaml = "x: {p: ''}\ndatabases: {main: {url: 'postgres://u:${x.p}@h/d'}}";
        let config = try_load(yaml, &[("INFRA_X_P", &password)]).unwrap();
        prop_assert_eq!(config.databases["main"].password.as_ref().unwrap().expose_secret(), &password);
    }
}

#[test]
fn the_file_that_is_mutated_is_valid() {
    assert_eq!(crate::load(VALID).databases.len(), 3);
}

#[test]
fn large_files_are_read_in_bounded_time() {
    for piece in [
        "a: b\n", "- a\n", "[a], ", "{a: b}, ", "a ", "\n", "'", "\"\\x41", "&a ", "*a ", "? a\n",
        "| \n", "#", "!t ", "--- ", "a\n ", ": ", "\t", "%",
    ] {
        let body = piece.repeat((256 << 10) / piece.len());
        for text in [
            body.clone(),
            format!("x: [{body}"),
            format!("x: \"{body}"),
            format!("x: |\n  {body}"),
            format!("x: {{{body}"),
        ] {
            let start = Instant::now();
            let _ = try_load(&text, &[]);
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{piece:?} took {:?}",
                start.elapsed()
            );
        }
    }
}
