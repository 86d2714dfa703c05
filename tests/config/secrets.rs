//! A password is nowhere to be seen, wherever it stands and whatever is wrong around it.

use wharf::config::{Config, DatabaseConfig};

use crate::try_load;

const SECRET: &str = "hunter2-visible";

#[track_caller]
fn hidden(text: &str) {
    assert!(!text.contains("hunter2"), "shown in: {text}");
}

/// Loads, and looks at everything that can be printed.
#[track_caller]
fn check(yaml: &str, env: &[(&str, &str)]) {
    hidden(&crate::log_of(|| drop(try_load(yaml, env))));
    match try_load(yaml, env) {
        Ok(config) => {
            hidden(&format!("{config:?} {config:#?}"));
            hidden(&format!("{} {:?}", config.effective(), config.effective()));
        }
        Err(error) => {
            hidden(&format!("{error} {error:?} {error:#?}"));
            hidden(&format!("{}", wharf::Error::from(error)));
        }
    }
}

fn accepted(yaml: &str, env: &[(&str, &str)]) {
    assert!(try_load(yaml, env).is_ok(), "{:?}", try_load(yaml, env).err());
    check(yaml, env);
}

fn refused(yaml: &str, env: &[(&str, &str)]) {
    assert!(try_load(yaml, env).is_err(), "{yaml}");
    check(yaml, env);
}

#[test]
fn in_parts_and_roles_and_the_server() {
    accepted(
        &format!(
            "databases: {{main: {{database: s, user: u, password: {SECRET}, read_role: {{user: r, password: {SECRET}}}}}}}\n\
             pgserver: {{version: 17, pass: {SECRET}, postgres_conf: {{primary_conninfo: 'password={SECRET}'}}}}"
        ),
        &[],
    );
}

#[test]
fn in_a_url() {
    accepted(&format!("databases: {{main: {{url: 'postgres://:{SECRET}@h/d'}}}}"), &[]);
    accepted(&format!("databases: {{main: {{url: 'postgres://u:{SECRET}@h/d'}}}}"), &[]);
    accepted(&format!("databases: {{main: {{url: 'postgres://u@h/d?password={SECRET}'}}}}"), &[]);
}

#[test]
fn in_a_reference_in_a_url() {
    accepted(
        &format!(
            "vault: {{a: '{SECRET}@/'}}\ndatabases: {{main: {{url: 'postgres://u:${{vault.a}}@h/d'}}}}"
        ),
        &[],
    );
}

#[test]
fn in_an_override() {
    let yaml = "databases: {main: {database: s, user: u}}";
    accepted(yaml, &[("INFRA_DATABASES_MAIN_PASSWORD", SECRET)]);
    accepted(
        "databases: {main: {url: 'postgres://u@h/d'}}",
        &[("INFRA_DATABASES_MAIN_URL", &format!("postgres://u:{SECRET}@h/d"))],
    );
    refused(yaml, &[("INFRA_DATABASES_MAIN_PASSWORT", SECRET)]);
    refused(yaml, &[("INFRA_DATABASES_MAIN_POOL_SIZE", SECRET)]);
    refused(yaml, &[("INFRA_DATABASES_MAIN_EXTENSIONS", &format!("[{SECRET}"))]);
    refused(yaml, &[("INFRA_DATABASES_MAIN_READ_ROLE", SECRET)]);
    refused(yaml, &[("INFRA_DATABASES_MAIN", SECRET)]);
    refused(yaml, &[("INFRA_DATABASES", SECRET)]);
}

#[test]
fn beside_keys_without_effect() {
    accepted(
        &format!("databases: {{main: {{url: 'postgres://u:{SECRET}@h/d', echo: {SECRET}}}}}"),
        &[],
    );
}

#[test]
fn in_a_broken_url() {
    for url in [
        "postgres//u:S@h/d",
        "postgres://u:S@h",
        "postgres://u:S#x@h/d",
        "postgres://u:x#S@h/d",
        "postgres://u:S/x@h/d",
        "postgres://u:x/S@h/d",
        "postgres://u:12/S@h/d",
        "postgres://u:x?S@h/d",
        "postgres://u:x?S",
        "postgres://u:x?S=1",
        "postgres://h:S/d",
        "postgres://u:S%zz@h/d",
        "postgres://u:S x@h/d",
        "S://u:S@h/d",
        "mysql://u:S@h/d",
        "postgres://u@h:S/d",
        "S",
        "postgres://u:S@h/d?S",
        "postgres://u:S@h/d?x=S",
        "postgres://u:S@h/d?sslmode=S",
        "postgres://u:S@h/d?connect_timeout=S",
        "postgres://u:S@h,/d",
        "postgres://u:S@[h/d",
        "postgres://u:S@h/d/e",
        "postgres://u:S@h/d?password=S",
        "postgres://u:${S}@h/d",
        "postgres://u:${S@h/d",
        "postgresql+S://u:S@h/d/e",
    ] {
        let url = url.replace('S', SECRET);
        refused(&format!("databases: {{main: {{url: '{url}'}}}}"), &[]);
        // Without a file, `${` has no meaning.
        match DatabaseConfig::from_url(&url) {
            Ok(config) => {
                assert!(url.contains("${"), "{url}");
                hidden(&format!("{config:?}"));
            }
            Err(error) => hidden(&format!("{error} {error:?}")),
        }
    }
}

#[test]
fn in_a_value_of_the_wrong_type() {
    for keys in [
        "password: [S]",
        "password: {a: S}",
        "pool_size: S",
        "port: S",
        "readonly: S",
        "pool_timeout: S",
        "ssl_mode: S",
        "type: S",
        "extensions: S",
        "read_role: S",
        "read_role: [S]",
        "read_role: {user: a, password: [S]}",
        "password: '${S}'",
        "password: 'a${S'",
        "password: !odd S",
        "pool_size: '${vault}'",
        "url: S",
        "url: [S]",
        "pgserver: S",
        "password: S, pool_size: 0",
        "password: S, passwort: S",
        "password: S, password: S",
        "schema: '${vault}${no.where}'",
    ] {
        let yaml = format!(
            "vault: {SECRET}\ndatabases: {{main: {{database: d, user: u, {}}}}}",
            keys.replace('S', SECRET)
        );
        refused(&yaml, &[]);
    }
    for text in [
        "pgserver: S",
        "databases: S",
        "databases: [S]",
        "databases: {main: S}",
        "pgserver: {version: S}",
        "pgserver: {image: x, name: '../S'}",
        "pgserver: {image: x, pass: [S]}",
        "pgserver: {image: x, runtime: S}",
        "S",
        "[S]",
        "databases: {main: {password: \"S\n",
        "password: %S",
        "password: @S",
    ] {
        refused(&text.replace('S', SECRET), &[]);
    }
}

#[test]
fn in_a_key_whose_space_is_missing() {
    refused(&format!("databases: {{main: {{database: d, password:{SECRET}}}}}"), &[]);
    refused(&format!("databases: {{main: {{password:{SECRET}, password:{SECRET}}}}}"), &[]);
    refused(&format!("pgserver: {{image: x, postgres_conf: {{a:{SECRET}: b}}}}"), &[]);
    refused(&format!("databases:\n  main:\n    database: d\n    password:{SECRET}\n"), &[]);
}

#[test]
fn in_what_the_loader_was_given() {
    let loader = Config::loader("x").text(SECRET).env([("INFRA_X".to_owned(), SECRET.to_owned())]);
    hidden(&format!("{loader:?}"));
}

#[test]
fn a_setting_whose_name_says_that_it_is_secret_is_not_printed() {
    let yaml = format!(
        "databases: {{db: {{database: x, settings: {{app.secret: {SECRET}, work_mem: 64MB}}}}}}"
    );
    let config = Config::loader("infra.yaml").text(&yaml).env([]).load().unwrap();
    let shown = format!("{:?} {}", config.databases["db"], config.effective());
    assert!(shown.contains("64MB") && !shown.contains(SECRET), "{shown}");
}
