//! `pooler`, `direct` and `prepared` of an entry.

use wharf::config::{HostPort, Pooler};

use crate::{refused, says, try_load};

const ENTRY: &str =
    "databases:\n  main:\n    host: pgbouncer\n    port: 6432\n    database: shop\n    user: app\n";

#[test]
fn an_entry_says_how_its_pooler_lends_and_where_the_server_is() {
    let main =
        |lines: &str| try_load(&format!("{ENTRY}{lines}"), &[]).unwrap().databases["main"].clone();
    let none = main("");
    assert_eq!((none.pooler, &none.direct, none.prepared), (Pooler::None, &None, true));
    let all = main("    pooler: transaction\n    direct: pg1\n    prepared: off\n");
    assert_eq!((all.pooler, all.prepared), (Pooler::Transaction, false));
    assert_eq!(all.direct, Some(HostPort { host: "pg1".to_owned(), port: 5432 }));
    assert_eq!(main("    pooler: session\n").pooler, Pooler::Session);
}

#[test]
fn each_value_is_shown_and_can_be_overridden() {
    let yaml = format!("{ENTRY}    pooler: session\n    direct: pg1:5433\n");
    let variables =
        [("INFRA_DATABASES_MAIN_POOLER", "transaction"), ("INFRA_DATABASES_MAIN_PREPARED", "off")];
    let effective = try_load(&yaml, &variables).unwrap().effective();
    let at = |path: &str| effective.get(&format!("databases.main.{path}")).unwrap().value.clone();
    assert_eq!([at("pooler"), at("direct"), at("prepared")], ["transaction", "pg1:5433", "false"]);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (lines, parts) in [
        ("    pooler: statement\n", ["pooler", "one of none, session, transaction"]),
        (
            "    direct: pg1\n",
            ["direct", "the entry has none; add `pooler: transaction` or `session`"],
        ),
        (
            "    host: a\n    pooler: session\n    direct: a\n",
            ["direct", "names a:5432, where the pooler is"],
        ),
        (
            "    hosts: [a, b]\n    pooler: session\n    direct: b\n",
            ["direct", "names b:5432, where the pooler is"],
        ),
        ("    pooler: session\n    direct: a:b\n", ["direct", "port"]),
        ("    pooler: session\n    direct: [a, b]\n", ["direct", "a host, such as pg1:5432"]),
        ("    prepared: never\n", ["prepared", "true or false"]),
    ] {
        says(&refused(lines), &parts);
    }
    let yaml = "pgserver: {version: 15}\ndatabases:\n  main: {pgserver: true, database: shop, pooler: session}\n";
    says(
        &try_load(yaml, &[]).unwrap_err().to_string(),
        &["pooler", "there is none before the file's own server"],
    );
}
