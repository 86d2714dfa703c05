//! Which image, and what is in it as far as that is known before it runs.

use std::collections::BTreeSet;

use crate::pgserver::request::Request;

/// Extensions that PostgreSQL itself does not have, the setting `shared_preload_libraries` that they
/// need, and an image that has them; `{}` is the major version.
const ELSEWHERE: [(&str, Option<&str>, &str); 4] = [
    ("vector", None, "pgvector/pgvector:pg{}"),
    ("timescaledb", Some("timescaledb"), "timescale/timescaledb:latest-pg{}"),
    ("postgis", None, "postgis/postgis:{}-3.5"),
    ("pg_cron", Some("pg_cron"), "one of your own that installs postgresql-{}-cron"),
];

/// The image that the file asks for: its own, or the official one of the version.
pub(super) fn wanted(request: &Request) -> Result<String, String> {
    match (&request.config.image, &request.config.version) {
        (Some(image), _) => Ok(image.clone()),
        (None, Some(version)) => Ok(format!("postgres:{version}")),
        (None, None) => {
            Err("the file has neither `version` nor `image`; set one, such as `version: 17`"
                .to_owned())
        }
    }
}

/// What speaks against an image, whose environment is `env`: it is none of PostgreSQL's, of another
/// version, or lacks an extension.
pub(super) fn objection(request: &Request, image: &str, env: &[String]) -> Option<String> {
    let variable =
        |name: &str| env.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let Some(major) = variable("PG_MAJOR") else {
        return Some(format!(
            "{image} is not based on PostgreSQL's official image (it does not set PG_MAJOR); use one that is, such as postgres:17"
        ));
    };
    if let Some(wanted) = request.wanted_version()
        && wanted.major() != major
    {
        return Some(format!(
            "{image} has PostgreSQL {major}, which does not satisfy `version: {wanted}`; correct `version` or `image`"
        ));
    }
    lacks(request, image, major)
}

fn lacks(request: &Request, image: &str, major: &str) -> Option<String> {
    let preloaded: BTreeSet<&str> = request
        .config
        .postgres_conf
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("shared_preload_libraries"))
        .flat_map(|(_, value)| value.split(','))
        .map(|name| name.trim().trim_matches(['\'', '"']))
        .collect();
    for (extension, library, has_it) in ELSEWHERE {
        if !request.extensions.contains(extension) {
            continue;
        }
        let has_it = has_it.replace("{}", major);
        let official = image.starts_with("postgres:") || image.starts_with("library/postgres:");
        if official {
            let setting = library.map_or_else(String::new, |library| {
                format!(", and `postgres_conf: {{shared_preload_libraries: {library}}}` unless that sets it")
            });
            return Some(format!(
                "{image} lacks extension {extension}; set `image:` to one that has it, such as {has_it}{setting}"
            ));
        }
        // What the image's own configuration preloads, the command line would take away.
        if let Some(library) = library
            && !preloaded.is_empty()
            && !preloaded.contains(library)
        {
            return Some(format!(
                "extension {extension} needs `{library}` in `shared_preload_libraries`; add it to `postgres_conf`"
            ));
        }
    }
    None
}

/// The major version of PostgreSQL in an image with this environment.
pub(super) fn major_of(env: &[String]) -> Option<String> {
    env.iter().find_map(|line| line.strip_prefix("PG_MAJOR=")).map(str::to_owned)
}

/// The same as the image's tag says it: `postgres:17.5`, `pgvector/pgvector:pg17`, `timescaledb:latest-pg17`.
pub(super) fn major_in_tag(image: &str) -> Option<String> {
    // A colon before a slash is that of a registry's port.
    let (_, tag) = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
    let from = tag.find("pg").map_or(0, |at| at + 2);
    let digits: String = tag[from..].chars().take_while(char::is_ascii_digit).collect();
    (!digits.is_empty()).then_some(digits)
}

/// The folder in which the image has its data: what `PGDATA` says, which from version 18 on has the version in it.
pub(super) fn data_folder(env: &[String]) -> &str {
    let folder = env.iter().find_map(|line| line.strip_prefix("PGDATA="));
    folder.unwrap_or("/var/lib/postgresql/data")
}

/// What the volume's first start is told: text has the order that it has on a native server. What the image asks for itself
/// comes after that, and so has the last word.
pub(super) fn initdb_args(env: &[String]) -> String {
    const NAME: &str = "POSTGRES_INITDB_ARGS=";
    let own = env.iter().find_map(|line| line.strip_prefix(NAME)).unwrap_or_default();
    format!("{NAME}--encoding=UTF8 --locale=C.UTF-8 {own}").trim_end().to_owned()
}

/// Where the image's volume is put: from version 18 on one level up.
pub(super) fn data_mount(env: &[String]) -> &'static str {
    match major_of(env).and_then(|major| major.parse::<u32>().ok()) {
        Some(18..) => "/var/lib/postgresql",
        _ => "/var/lib/postgresql/data",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PgServerConfig;

    fn request(version: Option<&str>, image: Option<&str>, extensions: &[&str]) -> Request {
        let mut config = PgServerConfig::new("wharf");
        config.version = version.map(str::to_owned);
        config.image = image.map(str::to_owned);
        Request::new(config, extensions.iter().map(|name| (*name).to_owned()))
    }

    fn env(major: &str) -> Vec<String> {
        vec!["PATH=/usr/bin".to_owned(), format!("PG_MAJOR={major}")]
    }

    #[test]
    fn the_version_names_the_official_image_unless_the_file_names_another() {
        assert_eq!(wanted(&request(Some("17"), None, &[])).unwrap(), "postgres:17");
        let both = request(Some("17"), Some("pgvector/pgvector:pg17"), &[]);
        assert_eq!(wanted(&both).unwrap(), "pgvector/pgvector:pg17");
        assert!(wanted(&request(None, None, &[])).unwrap_err().contains("`version: 17`"));
    }

    #[test]
    fn what_does_not_go_together_is_said_before_anything_starts() {
        let plain = request(Some("17"), None, &[]);
        assert_eq!(objection(&plain, "postgres:17", &env("17")), None);
        let said = |request: &Request, image: &str, major: &str| {
            objection(request, image, &env(major)).unwrap()
        };
        assert!(said(&plain, "mine", "16").contains("does not satisfy `version: 17`"));
        assert!(objection(&plain, "nginx", &[]).unwrap().contains("does not set PG_MAJOR"));
        let timescale = request(Some("17"), None, &["timescaledb"]);
        let text = said(&timescale, "postgres:17", "17");
        assert!(text.contains("timescale/timescaledb:latest-pg17"), "{text}");
        assert!(text.contains("shared_preload_libraries: timescaledb"), "{text}");
        assert_eq!(objection(&timescale, "timescale/timescaledb:latest-pg17", &env("17")), None);
        let mut other = timescale.clone();
        let preload = "shared_preload_libraries".to_owned();
        other.config.postgres_conf.insert(preload, "pg_stat_statements".to_owned());
        assert!(
            said(&other, "timescale/timescaledb:latest-pg17", "17")
                .contains("add it to `postgres_conf`")
        );
        let contrib = request(Some("17"), None, &["pg_trgm"]);
        assert_eq!(objection(&contrib, "postgres:17", &env("17")), None);
    }

    #[test]
    fn a_tag_tells_the_major_version() {
        for (image, major) in [
            ("postgres:17", Some("17")),
            ("postgres:17.5-alpine", Some("17")),
            ("pgvector/pgvector:pg16", Some("16")),
            ("timescale/timescaledb:latest-pg17", Some("17")),
            ("postgis/postgis:17-3.5", Some("17")),
            ("registry.local:5000/mine", None),
            ("postgres:latest", None),
        ] {
            assert_eq!(major_in_tag(image).as_deref(), major, "{image}");
        }
    }

    #[test]
    fn what_an_image_asks_of_initdb_is_added() {
        let args = "POSTGRES_INITDB_ARGS=--encoding=UTF8 --locale=C.UTF-8";
        assert_eq!(initdb_args(&env("17")), args);
        let own = ["POSTGRES_INITDB_ARGS=--no-data-checksums --locale=de_DE.utf8".to_owned()];
        let own = initdb_args(&own);
        assert_eq!(own, format!("{args} --no-data-checksums --locale=de_DE.utf8"));
    }

    #[test]
    fn data_lies_one_level_up_from_version_18_on() {
        assert_eq!(data_mount(&env("17")), "/var/lib/postgresql/data");
        assert_eq!(data_mount(&env("18")), "/var/lib/postgresql");
    }
}
