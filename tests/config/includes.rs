//! `!include`, and what a file may be.

use wharf::config::{Config, ConfigError};

use crate::{folder, load, load_files, main_of, refusal, says};

const MAIN: &str = "main: {database: shop, user: app}\n";

fn mistake(files: &[(&str, &str)]) -> String {
    load_files(files).expect_err("a refusal").to_string()
}

#[test]
fn a_whole_file_is_included() {
    let config =
        load_files(&[("infra.yaml", "databases: !include dbs.yaml\n"), ("dbs.yaml", MAIN)])
            .unwrap();
    assert_eq!(main_of(&config).database, "shop");
}

#[test]
fn a_section_is_included_by_its_dotted_path() {
    let files = [
        ("infra.yaml", "databases: !include 'x.yaml#a.b'\n"),
        ("x.yaml", "a: {b: {main: {database: shop, user: app}}}"),
    ];
    assert_eq!(main_of(&load_files(&files).unwrap()).database, "shop");
}

#[test]
fn an_entry_and_a_value_may_be_included() {
    let files = [
        ("infra.yaml", "databases:\n  main: !include x.yaml#entry\n"),
        ("x.yaml", "entry: {database: !include 'name.yaml', user: app}\n"),
        ("name.yaml", "shop"),
    ];
    assert_eq!(main_of(&load_files(&files).unwrap()).database, "shop");
}

#[test]
fn names_are_relative_to_the_including_file() {
    let files = [
        ("infra.yaml", "databases: !include \"./etc/a.yaml\"\n"),
        ("etc/a.yaml", "main: !include sub/b.yaml\n"),
        ("etc/sub/b.yaml", "{database: !include ../c.yaml, user: app}\n"),
        ("etc/c.yaml", "shop"),
    ];
    assert_eq!(main_of(&load_files(&files).unwrap()).database, "shop");
}

#[test]
fn the_document_itself_may_be_an_include() {
    let files = [
        ("infra.yaml", "!include other.yaml\n"),
        ("other.yaml", "databases: {main: {database: shop, user: app}}"),
    ];
    assert_eq!(main_of(&load_files(&files).unwrap()).database, "shop");
}

#[test]
fn a_section_is_found_through_merges_and_includes() {
    let files = [
        ("infra.yaml", "databases: !include a.yaml#x.y\n"),
        ("a.yaml", "<<: [{other: 1}, !include b.yaml]\n"),
        ("b.yaml", "x: !include c.yaml\n"),
        ("c.yaml", "y: {main: {database: shop, user: app}}\n"),
    ];
    assert_eq!(main_of(&load_files(&files).unwrap()).database, "shop");
}

#[test]
fn a_file_may_include_a_section_of_itself() {
    let files = [(
        "infra.yaml",
        "databases: {main: !include infra.yaml#mine}\nmine: {database: shop, user: app}\n",
    )];
    assert_eq!(main_of(&load_files(&files).unwrap()).database, "shop");
}

#[test]
fn anchors_and_merge_keys_work() {
    let config = load(
        "x: &base {user: app, pool_size: 3}\ndatabases:\n  main: {<<: *base, database: shop, pool_size: 4}\n",
    );
    assert_eq!((main_of(&config).user.as_str(), main_of(&config).pool_size), ("app", 4));
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load("no/such/infra.yaml").unwrap_err();
    assert!(matches!(&error, ConfigError::Missing { included_at: None, .. }));
    says(&error.to_string(), &["no/such/infra.yaml", "does not exist", "no/such)"]);
}

#[test]
fn a_missing_file_names_the_folder_in_full_and_the_nearest_file_in_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("infra.yaml"), "{}").unwrap();
    std::fs::write(dir.path().join("other.txt"), "").unwrap();
    let error = Config::load(dir.path().join("infra.yml")).unwrap_err().to_string();
    let folder = format!("{})", dir.path().display());
    says(&error, &["infra.yml does not exist", "the nearest is `infra.yaml`", &folder]);
    let error = Config::load("no-such-file.yaml").unwrap_err().to_string();
    says(&error, &[std::env::current_dir().unwrap().to_str().unwrap()]);
}

#[test]
fn a_missing_include_is_named_with_the_line_that_names_it() {
    let error = mistake(&[("infra.yaml", "a: 1\nlogging: !include lg.yaml\n")]);
    says(&error, &["lg.yaml does not exist", "infra.yaml:2"]);
}

#[test]
fn a_missing_section_is_named_with_the_nearest() {
    let error =
        mistake(&[("infra.yaml", "databases: !include a.yaml#dbz\n"), ("a.yaml", "dbs: {}\n")]);
    says(&error, &["infra.yaml:1", "a.yaml has no section `dbz`", "the nearest is `dbs`"]);
}

#[test]
fn a_cyclic_include_is_named_with_its_chain() {
    let error = mistake(&[
        ("infra.yaml", "databases: !include a.yaml\n"),
        ("a.yaml", "main: !include b.yaml#x\n"),
        ("b.yaml", "x: !include a.yaml\n"),
    ]);
    says(&error, &["b.yaml:1", "cyclic include", "a.yaml includes ", "b.yaml#x includes "]);
    says(&mistake(&[("infra.yaml", "databases: !include infra.yaml\n")]), &["cyclic include"]);
}

#[test]
fn includes_that_double_are_bounded() {
    let mut files = vec![(
        "infra.yaml".to_owned(),
        "a: !include f0.yaml#x\nb: !include f0.yaml#y\ndatabases: {}\n".to_owned(),
    )];
    for i in 0..30 {
        let next = format!("!include f{}.yaml", i + 1);
        files.push((
            format!("f{i}.yaml"),
            format!("<<: [{next}#x, {next}#x]\nx: [{next}#x, {next}#x]\n"),
        ));
    }
    files.push(("f30.yaml".to_owned(), "x: 1\n".to_owned()));
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    says(&mistake(&files), &["too many values"]);
}

#[test]
fn an_include_without_a_file_is_refused() {
    for text in ["!include", "!include ''", "!include '#x'", "!include [a]", "!include {a: b}"] {
        says(&refusal(&format!("databases: {text}\n")), &["infra.yaml:1", "`!include`"]);
    }
}

#[test]
fn a_folder_is_not_a_file() {
    let folder = folder(&[("infra.yaml/x", "")]);
    let error = Config::load(folder.path().join("infra.yaml")).unwrap_err();
    assert!(matches!(&error, ConfigError::Unreadable { .. }));
    says(&error.to_string(), &["infra.yaml", "folder"]);
}

#[test]
fn an_empty_file_is_refused() {
    for text in ["", "\n# nothing\n", "---\n", "null\n", "\u{feff}"] {
        let error = load_files(&[("infra.yaml", text)]).unwrap_err();
        assert!(matches!(error, ConfigError::Empty { .. }), "{text:?}: {error}");
    }
    says(
        &mistake(&[("infra.yaml", "databases: !include a.yaml"), ("a.yaml", "")]),
        &["a.yaml:1", "empty"],
    );
}

#[test]
fn a_file_that_is_not_utf8_is_refused_by_line() {
    let folder = folder(&[]);
    let path = folder.path().join("infra.yaml");
    std::fs::write(&path, b"a: 1\nb: \xff\n").unwrap();
    says(&Config::load(&path).unwrap_err().to_string(), &["infra.yaml:2", "UTF-8"]);
}

#[test]
fn yaml_that_does_not_parse_is_refused_by_line() {
    let error = load_files(&[("infra.yaml", "databases:\n  main: [1\n")]).unwrap_err();
    assert!(matches!(error, ConfigError::Syntax { .. }), "{error}");
    says(&error.to_string(), &["infra.yaml:", "not valid YAML"]);
    let error =
        mistake(&[("infra.yaml", "databases: !include a.yaml\n"), ("a.yaml", "x\n  y: }\n")]);
    says(&error, &["a.yaml:", "not valid YAML"]);
}

#[test]
fn a_document_that_is_no_map_is_refused() {
    for text in ["text", "[1, 2]"] {
        says(&refusal(text), &["infra.yaml:1", "a map of sections"]);
    }
}

#[test]
fn a_second_document_is_refused() {
    says(&refusal("databases: {}\n---\ndatabases: {}\n"), &["infra.yaml:2", "one document"]);
}

#[test]
fn a_key_given_twice_is_refused() {
    says(
        &refusal("databases: {}\ndatabases: {}\n"),
        &["infra.yaml:2", "`databases`", "infra.yaml:1"],
    );
    says(&refusal("databases: {main: {user: a, user: b}}\n"), &["`user`"]);
}

#[test]
fn a_key_that_is_not_text_is_refused() {
    says(&refusal("databases:\n  ? [a]\n  : b\n"), &["infra.yaml:2", "key"]);
}

#[test]
fn an_unknown_tag_is_refused() {
    says(&refusal("databases: !merge {}\n"), &["infra.yaml:1", "`!merge`"]);
    says(&refusal("databases: {main: {database: !!binary aGk=, user: a}}\n"), &["`!!binary`"]);
    load("databases: {main: {database: !!str 12, user: a, pool_size: !!int '3'}}\n");
}

#[test]
fn a_merge_of_something_else_is_refused() {
    says(&refusal("databases: {<<: 3}\n"), &["infra.yaml:1", "`<<`"]);
}

#[test]
fn deep_nesting_is_refused() {
    for text in
        ["[".repeat(20_000), "- ".repeat(20_000), "{a: ".repeat(20_000), "? ".repeat(20_000)]
    {
        refusal(&format!("a: {text}"));
        refusal(&text);
    }
}

#[test]
fn aliases_that_nest_are_refused() {
    let mut yaml = "a0: &a0 [x]\n".to_owned();
    for i in 1..5000 {
        yaml += &format!("a{i}: &a{i} [*a{}]\n", i - 1);
    }
    says(&refusal(&yaml), &["nested more than 64 deep"]);
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut yaml = "databases: {}\na0: &a0 [x]\n".to_owned();
    for i in 1..40 {
        yaml += &format!("a{i}: &a{i} [*a{0}, *a{0}]\n", i - 1);
    }
    says(&refusal(&yaml), &["too many values"]);
}

#[test]
fn an_alias_to_what_it_stands_in_is_refused() {
    says(&refusal("databases: &a {main: *a}\n"), &["infra.yaml:1", "alias"]);
    refusal("databases: *nobody\n");
}

#[test]
fn a_file_beyond_all_measure_is_refused() {
    let text = format!("databases: {{}}\nx: {}\n", "y".repeat(2 << 20));
    says(&mistake(&[("infra.yaml", &text)]), &["longer than"]);
}

#[test]
fn a_document_may_be_on_top_of_other_files() {
    let config = crate::load_files(&[
        (
            "infra.yaml",
            "# ours\n!include base.yaml\n!include more.yaml\n\ndatabases:\n  main: {pool_size: 7}\n",
        ),
        ("base.yaml", "databases:\n  main: {database: shop, user: app, pool_size: 3, max_overflow: 1}\n"),
        ("more.yaml", "databases:\n  main: {max_overflow: 2}\n  other: {database: o, user: u}\n"),
    ])
    .unwrap();
    let main = crate::main_of(&config);
    assert_eq!((main.database.as_str(), main.pool_size, main.max_overflow), ("shop", 7, 2));
    assert!(config.databases.contains_key("other"));
    // Lines are still those of the file.
    let error = crate::load_files(&[
        ("infra.yaml", "!include base.yaml\ndatabases:\n  main: {pool_size: x}\n"),
        ("base.yaml", "databases: {main: {database: shop, user: app}}\n"),
    ]);
    says(&error.unwrap_err().to_string(), &["infra.yaml:3", "pool_size"]);
}

#[test]
fn files_are_relative_to_the_file_that_names_them() {
    let url = "postgres://app@db/shop?sslrootcert=ca.pem";
    let main = format!(
        "databases: {{main: !include etc/a.yaml, other: {{url: '{url}', password_file: o.txt}}}}\n"
    );
    let included = "{database: shop, user: app, password_file: secret/p.txt, ssl_root_cert: /all/ca.pem, ssl_cert: ../c.pem, \
                    read_role: {user: r, password_file: r.txt}}\n";
    let config = load_files(&[("infra.yaml", &main), ("etc/a.yaml", included)]).unwrap();
    let main = &config.databases["main"];
    let ends = |path: &Option<std::path::PathBuf>, with: &str| {
        let path = path.as_ref().unwrap();
        assert!(path.is_absolute() && path.ends_with(with), "{}", path.display());
    };
    ends(&main.password_file, "etc/secret/p.txt");
    ends(&main.ssl_cert, "etc/../c.pem");
    assert_eq!(main.ssl_root_cert.as_deref().unwrap().to_str(), Some("/all/ca.pem"));
    ends(&main.read_role.as_ref().unwrap().password_file, "etc/r.txt");
    let other = &config.databases["other"];
    ends(&other.password_file, "o.txt");
    ends(&other.ssl_root_cert, "ca.pem");
    assert!(!other.ssl_root_cert.as_ref().unwrap().ends_with("etc/ca.pem"));
}

#[test]
fn files_that_a_variable_names_are_relative_to_the_process() {
    let yaml = "databases: {main: {database: shop, user: app}}";
    let loader = Config::loader("etc/infra.yaml").text(yaml);
    let loaded = loader.env([("INFRA_DATABASES_MAIN_PASSWORD_FILE".into(), "p.txt".into())]).load();
    let config = loaded.unwrap();
    assert_eq!(config.databases["main"].password_file.as_deref().unwrap().to_str(), Some("p.txt"));
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe.yaml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", dir.path().join("zero.yaml")).unwrap();
    for included in ["pipe.yaml", "zero.yaml", "/dev/zero", "/dev/stdin"] {
        let file = dir.path().join("infra.yaml");
        std::fs::write(&file, format!("databases:\n  it: !include {included}\n")).unwrap();
        let loaded = Config::loader(&file).env([]).load();
        let error = loaded.unwrap_err().to_string();
        assert!(error.contains("infra.yaml:2"), "{error}");
        let is_refused = error.contains("a pipe, a socket or a device; name a regular file")
            || error.contains("reads files named *.yaml");
        assert!(is_refused, "{included}: {error}");
    }
    let pipe = Config::loader(&pipe).env([]).load().unwrap_err().to_string();
    assert!(pipe.contains("name a regular file"), "{pipe}");
}

/// Whoever can write the file must not read others' files by what errors say of them.
#[test]
fn no_error_shows_a_line_of_a_file_that_is_no_yaml() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("infra.yaml");
    for text in [
        "TOPSECRET",
        "TOPSECRET: x",
        "a: b\nTOPSECRET: [",
        "- TOPSECRET: {",
        "root:TOPSECRET:0\nx: TOPSECRET: y",
        "%TOPSECRET\n",
        "*TOPSECRET",
        "&a !TOPSECRET b",
        "\"TOPSECRET",
        "url: TOPSECRET",
        "pool_size: TOPSECRET",
        "port: {TOPSECRET: 1}",
    ] {
        std::fs::write(dir.path().join("shadow"), text).unwrap();
        std::fs::remove_file(dir.path().join("link.yaml")).unwrap_or_default();
        std::os::unix::fs::symlink("shadow", dir.path().join("link.yaml")).unwrap();
        for part in [
            "databases: !include shadow",
            "databases: {it: !include shadow}",
            "pgserver: !include shadow",
        ] {
            std::fs::write(&file, format!("{part}\n")).unwrap();
            let error = Config::loader(&file).env([]).load().unwrap_err();
            for said in [error.to_string(), format!("{error:?}")] {
                assert!(!said.contains("TOPSECRET"), "{text:?} in {part}: {said}");
            }
        }
    }
}
