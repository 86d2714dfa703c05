//! `${env.NAME}`.

use secrecy::ExposeSecret as _;

use crate::{main_of, says, try_load};

#[test]
fn a_variable_is_inserted_as_it_is() {
    let yaml = "databases: {main: {database: shop, user: '${env.DB_USER}', password: '${env.PW}'}}";
    let config = try_load(yaml, &[("DB_USER", "app"), ("PW", "a${b}@/:#")]).unwrap();
    assert_eq!(main_of(&config).user, "app");
    assert_eq!(main_of(&config).password.as_ref().unwrap().expose_secret(), "a${b}@/:#");
}

#[test]
fn a_whole_url_comes_from_database_url_where_the_entry_says_so() {
    let yaml = "databases: {main: {url: '${env.DATABASE_URL}', pool_size: 3}}";
    let env = [("DATABASE_URL", "postgres://app:p%40ss@db:5433/shop?sslmode=require")];
    let config = try_load(yaml, &env).unwrap();
    let main = main_of(&config);
    assert_eq!((main.user.as_str(), main.database.as_str()), ("app", "shop"));
    assert_eq!(main.password.as_ref().unwrap().expose_secret(), "p@ss");
    let shown = config.effective().to_string();
    assert!(!shown.contains("p@ss") && !shown.contains("p%40ss"), "{shown}");
}

#[test]
fn inside_of_a_url_a_variable_is_percent_encoded() {
    let yaml = "databases: {main: {url: 'postgres://app:${env.PW}@db/shop'}}";
    let config = try_load(yaml, &[("PW", "a@b/c")]).unwrap();
    assert_eq!(main_of(&config).password.as_ref().unwrap().expose_secret(), "a@b/c");
}

#[test]
fn one_that_is_not_set_is_named() {
    let yaml = "\ndatabases: {main: {url: '${env.DATABASE_URL}'}}";
    let error = try_load(yaml, &[]).unwrap_err().to_string();
    says(
        &error,
        &["infra.yaml:2: `databases.main.url`", "environment variable DATABASE_URL", "not set"],
    );
}

#[test]
fn a_variable_without_env_is_explained() {
    let yaml = "databases: {main: {database: shop, user: u, password: '${DB_PASSWORD}'}}";
    let error = try_load(yaml, &[("DB_PASSWORD", "x")]).unwrap_err().to_string();
    says(&error, &["`${…}` is a path in the file", "`${env.DB_PASSWORD}`"]);
}

#[test]
fn a_section_of_that_name_in_the_file_goes_first() {
    let yaml = "env: {NAME: a}\ndatabases: {main: {database: '${env.NAME}', user: u}}";
    assert_eq!(main_of(&try_load(yaml, &[("NAME", "b")]).unwrap()).database, "a");
}
