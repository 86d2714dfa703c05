//! `${path.to.key}`.

use secrecy::ExposeSecret as _;
use wharf::config::{Address, ConfigError};

use crate::{entry, load, load_files, main_of, refusal, says};

fn application_name(name: &str, rest: &str) -> String {
    main_of(&load(&format!("{}{rest}\n", entry(&format!("application_name: \"{name}\"")))))
        .application_name
        .clone()
}

#[test]
fn a_reference_alone_keeps_what_it_leads_to() {
    let yaml = format!(
        "x: {{size: 7, flag: true, none: , list: [a, b], role: {{user: r}}}}\n{}",
        entry(
            "pool_size: '${x.size}', readonly: '${x.flag}', password: '${x.none}', extensions: '${x.list}', read_role: '${x.role}'",
        )
    );
    let config = load(&yaml);
    let main = main_of(&config);
    assert_eq!((main.pool_size, main.readonly), (7, true));
    assert!(main.password.is_none());
    assert_eq!(main.extensions, ["a", "b"]);
    assert_eq!(main.read_role.as_ref().unwrap().user, "r");
}

#[test]
fn a_reference_in_text_is_written_out() {
    assert_eq!(application_name("${x.a}-${x.b}!", "x: {a: web, b: 017}"), "web-017!");
}

#[test]
fn nothing_in_text_is_empty_text() {
    assert_eq!(application_name("a${x.none}b${x.empty}c", "x: {none: , empty: ''}"), "abc");
}

#[test]
fn two_dollars_are_a_plain_one() {
    assert_eq!(application_name("$${x} $ $$ {y}", ""), "${x} $ $$ {y}");
}

#[test]
fn references_to_references_resolve() {
    assert_eq!(application_name("${a}", "a: '${b}'\nb: 'x${c.d}'\nc: {d: 1}"), "x1");
}

#[test]
fn keys_may_hold_dots() {
    assert_eq!(application_name("${a.b.c}", "a.b: {c: 1}"), "1");
}

#[test]
fn an_included_file_reaches_the_whole_tree() {
    let files = [
        ("infra.yaml", "top: {name: shop}\ndatabases: !include etc/dbs.yaml#here\n"),
        (
            "etc/dbs.yaml",
            "here: {main: {database: '${top.name}', user: app}}\ntop: {name: wrong}\n",
        ),
    ];
    assert_eq!(main_of(&load_files(&files).unwrap()).database, "shop");
}

#[test]
fn an_unresolved_reference_names_its_place_and_the_nearest() {
    let error = refusal(&format!(
        "pgserver: {{version: 17, port: 1}}\n{}",
        entry("port: '${pgserver.prot}'")
    ));
    says(
        &error,
        &[
            "infra.yaml:3",
            "databases.main.port",
            "`${pgserver.prot}`",
            "the nearest is `pgserver.port`",
        ],
    );
}

#[test]
fn a_cycle_names_its_chain() {
    let error = refusal(&format!("a: '${{b}}'\nb: 'x${{a}}'\n{}", entry("schema: '${a}'")));
    says(&error, &["infra.yaml:4", "databases.main.schema", "a -> b -> a"]);
    let error = refusal("databases: {main: {database: '${databases.main}', user: u}}");
    says(&error, &["cyclic reference"]);
}

#[test]
fn a_map_or_a_list_inside_text_is_refused() {
    for target in ["x: {a: 1}", "x: [1]"] {
        let error = refusal(&format!("{target}\n{}", entry("schema: 'a${x}'")));
        says(&error, &["databases.main.schema", "`${x}`", "inserted into text"]);
    }
}

#[test]
fn a_reference_that_is_not_closed_is_refused() {
    says(
        &refusal(&entry("schema: 'a${b'")),
        &["infra.yaml:2", "databases.main.schema", "not closed"],
    );
}

#[test]
fn an_empty_reference_is_unresolved() {
    says(&refusal(&entry("schema: '${}'")), &["is not in the file"]);
}

#[test]
fn references_that_double_are_bounded() {
    let mut yaml = entry("schema: 'x${a39}'") + "a0: ''\nb0: [x]\n";
    for i in 1..40 {
        yaml += &format!("a{i}: '${{a{0}}}${{a{0}}}'\nb{i}: ['${{b{0}}}', '${{b{0}}}']\n", i - 1);
    }
    assert_eq!(main_of(&load(&yaml)).schema.as_deref(), Some("x"));
    says(&refusal(&yaml.replace("a0: ''", "a0: yy")), &["longer than"]);
    says(
        &refusal(&yaml.replace("schema: 'x${a39}'", "extensions: '${b39}'")),
        &["too many values"],
    );
}

#[test]
fn long_chains_are_bounded() {
    let mut yaml = entry("schema: '${a5000}'") + "a0: x\n";
    for i in 1..=5000 {
        yaml += &format!("a{i}: '${{a{}}}'\n", i - 1);
    }
    refusal(&yaml);
}

#[test]
fn a_secret_in_a_url_arrives_as_it_is() {
    for secret in ["p@ss", "a/b", "a#b?c", "50%", "%41", "ü:&=+", "a b", "[x]", ""] {
        let yaml = format!(
            "x: {{user: 'a@b', pass: '{secret}', host: db, port: 1, name: 's/h'}}\ndatabases: {{main: {{url: 'postgres://${{x.user}}:${{x.pass}}@${{x.host}}:${{x.port}}/${{x.name}}'}}}}"
        );
        let config = load(&yaml);
        let main = main_of(&config);
        assert_eq!(main.password.as_ref().unwrap().expose_secret(), secret);
        assert_eq!((main.user.as_str(), main.database.as_str()), ("a@b", "s/h"));
        assert!(matches!(&main.address, Address::Host { host, port: 1 } if host == "db"));
    }
}

#[test]
fn a_url_may_be_inserted_whole_or_by_larger_pieces() {
    for url in [
        "${x.url}",
        "postgres://${x.login}@${x.at}/${x.name}",
        "${x.start}@db/shop",
        "postgres://app:pw@db/${x.query}",
    ] {
        let yaml = format!(
            "x: {{url: 'postgres://app:pw@db/shop', login: 'app:pw', at: 'db:5432', name: shop, start: 'postgres://app:pw', query: 'shop'}}\ndatabases: {{main: {{url: '{url}'}}}}"
        );
        let config = load(&yaml);
        let main = main_of(&config);
        assert_eq!((main.user.as_str(), main.database.as_str()), ("app", "shop"), "{url}");
        assert_eq!(main.password.as_ref().unwrap().expose_secret(), "pw");
    }
}

#[test]
fn a_value_that_would_move_the_parts_of_a_url_is_refused() {
    let yaml = "x: 'a@evil'\ndatabases: {main: {url: 'postgres://app:pw@${x}/shop'}}";
    let error = crate::try_load(yaml, &[]).unwrap_err();
    assert!(matches!(error, ConfigError::Url { .. }), "{error}");
}
