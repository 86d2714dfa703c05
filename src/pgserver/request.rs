//! What is asked of a server, whatever runs it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::error::PgServerError;
use super::version::Version;
use crate::config::PgServerConfig;

/// PostgreSQL's own limit for names; also keeps socket paths and folder names short.
const NAME_MAX: usize = 63;

/// The file's section, what the file's databases need, and where to keep it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) config: PgServerConfig,
    /// Extensions that must be there, `plpgsql` left out as it always is.
    pub(crate) extensions: BTreeSet<String>,
    /// Where servers are kept, if not in the user's data folder.
    pub(crate) base: Option<PathBuf>,
    /// Whether the data may be lost, so that nothing need reach the disk.
    pub(crate) temporary: bool,
    /// How long a start may take until a login succeeds.
    pub(crate) deadline: Duration,
}

impl Request {
    pub(crate) fn new(
        config: PgServerConfig,
        extensions: impl IntoIterator<Item = String>,
    ) -> Request {
        let extensions = extensions.into_iter().filter(|name| name != "plpgsql");
        Request {
            config,
            extensions: extensions.collect(),
            base: None,
            temporary: false,
            deadline: Duration::from_secs(60),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// Refuses what no runtime could serve. The name becomes a folder, the settings become lines
    /// of a file: neither may break out of its place.
    pub(crate) fn check(&self) -> Result<(), PgServerError> {
        let name = self.name();
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty()
            || name.len() > NAME_MAX
            || name.starts_with('.')
            || !name.chars().all(plain)
        {
            return Err(self.invalid(format!(
                "`name` must be 1 to {NAME_MAX} bytes of letters, digits, `-`, `_` and `.`, and not start with `.`, because it names a folder"
            )));
        }
        if let Some(version) = &self.config.version
            && Version::parse(version).is_none()
        {
            return Err(self.invalid(format!(
                "`version: \"{version}\"` is not a version of PostgreSQL; write a major version (\"17\") or a full one (\"17.5\")"
            )));
        }
        if let Some((key, reason)) = self.config.replica.fault(self.fixed_port()) {
            return Err(self.invalid(format!("`replica.{key}` {reason}")));
        }
        let setting = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        for (key, value) in &self.config.postgres_conf {
            if key.is_empty() || !key.chars().all(setting) || value.contains(['\n', '\r', '\0']) {
                return Err(self.invalid(format!(
                    "setting {key:?} in `postgres_conf` is not valid: a name has letters, digits, `_` and `.`, and a value is one line"
                )));
            }
            let elsewhere = match key.to_ascii_lowercase().as_str() {
                "port" => "pgserver.port",
                "listen_addresses" => "pgserver.host",
                _ => continue,
            };
            return Err(self.invalid(format!(
                "`postgres_conf` sets `{key}`; use `{elsewhere}` instead, so that the file's databases find the server"
            )));
        }
        Ok(())
    }

    /// Refuses to start a server on which other machines could log in without a password. One that runs can still be
    /// stopped.
    pub(crate) fn check_password(&self) -> Result<(), PgServerError> {
        if super::password::is_not_asked_for(self) && !is_loopback(&self.config.host) {
            return Err(self.invalid(format!(
                "`pass: \"\"` lets anybody log in as its superuser, and `host: {}` is reachable from other machines; give it a password, or listen at 127.0.0.1",
                self.config.host
            )));
        }
        Ok(())
    }

    /// Why a version is not the one asked for.
    pub(crate) fn version_reason(&self, have: &Version) -> Option<String> {
        let wanted = self.wanted_version()?;
        (!have.meets(&wanted))
            .then(|| format!("PostgreSQL {have} does not satisfy the requested version {wanted}"))
    }

    /// Why a way that runs one server alone is not what is asked for.
    #[cfg(feature = "embedded")]
    pub(crate) fn standby_reason(&self) -> Option<String> {
        let asked_for = self.config.replica.enabled;
        asked_for.then(|| {
            "it cannot run a standby, and the file requests one; set `replica: {enabled: false}`, or override that on this machine"
                .to_owned()
        })
    }

    /// What a machine has to have, if nothing on it can serve this: the end of a sentence.
    pub(crate) fn needs(&self) -> String {
        let version = self.config.version.as_deref();
        let image = self.config.image.clone();
        let image = image.or_else(|| version.map(|version| format!("postgres:{version}")));
        let postgresql = version.map_or_else(String::new, |version| format!(" {version}"));
        let extensions: Vec<&str> = self.extensions.iter().map(String::as_str).collect();
        let with = match extensions.as_slice() {
            [] => String::new(),
            [one] => format!(" with extension {one}"),
            several => format!(" with extensions {}", several.join(", ")),
        };
        format!(
            "a Docker engine that runs {}, or PostgreSQL{postgresql}{with}",
            image.as_deref().unwrap_or("the image")
        )
    }

    pub(crate) fn wanted_version(&self) -> Option<Version> {
        self.config.version.as_deref().and_then(Version::parse)
    }

    /// The port that the file fixes, if it does.
    pub(crate) fn fixed_port(&self) -> Option<u16> {
        self.config.port.filter(|port| *port != 0)
    }

    /// Where clients connect: a server that listens everywhere is reached over loopback.
    pub(crate) fn connect_host(&self) -> &str {
        connect_host(&self.config.host)
    }

    /// What to bind to find out whether a port is free.
    pub(crate) fn bind_host(&self) -> &str {
        match self.config.host.as_str() {
            "*" => "0.0.0.0",
            host => host,
        }
    }

    /// A part of the work came to nothing, for which there is no better error.
    pub(crate) fn failed(
        &self,
        what: &str,
        begun: Instant,
        reason: impl ToString,
    ) -> PgServerError {
        PgServerError::Failed {
            server: self.config.name.clone(),
            what: what.to_owned(),
            after: begun.elapsed(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn not_running(&self) -> PgServerError {
        self.invalid("the server is not running; run `wharf server up`".to_owned())
    }

    /// `by` is who has it, if that can be seen.
    pub(crate) fn port_taken(&self, port: u16, by: Option<String>) -> PgServerError {
        PgServerError::PortTaken {
            server: self.config.name.clone(),
            host: self.config.host.clone(),
            port,
            by,
        }
    }

    pub(crate) fn invalid(&self, reason: String) -> PgServerError {
        PgServerError::Invalid { server: self.config.name.clone(), reason }
    }
}

/// Where clients connect to a server that listens at `host`.
fn connect_host(host: &str) -> &str {
    match host {
        "*" | "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    }
}

/// Whether a client that connects to `host` reaches a server that listens at `listens`, judged by their names.
pub(crate) fn is_same_host(host: &str, listens: &str) -> bool {
    host.eq_ignore_ascii_case(listens) || is_loopback(host) && is_loopback(connect_host(listens))
}

/// Whether an address can be reached from this machine only.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::{Request, is_same_host};
    use crate::config::PgServerConfig;

    #[test]
    fn a_name_stays_inside_its_folder() {
        for name in ["", ".", "..", "../x", "a/b", "a\\b", "a\0", &"x".repeat(64)] {
            let request = Request::new(PgServerConfig::new(name), []);
            assert!(request.check().is_err(), "{name:?}");
        }
        for name in ["wharf", "my-app_2.test", &"x".repeat(63)] {
            let request = Request::new(PgServerConfig::new(name), []);
            assert!(request.check().is_ok(), "{name:?}");
        }
    }

    #[test]
    fn names_of_this_machine_are_one() {
        for (host, listens) in [
            ("localhost", "127.0.0.1"),
            ("127.0.0.1", "localhost"),
            ("localhost", "0.0.0.0"),
            ("::1", "*"),
            ("db.example.com", "DB.example.com"),
        ] {
            assert!(is_same_host(host, listens), "{host} {listens}");
        }
        for (host, listens) in [("db.example.com", "127.0.0.1"), ("db.example.com", "0.0.0.0")] {
            assert!(!is_same_host(host, listens), "{host} {listens}");
        }
    }

    #[test]
    fn a_superuser_without_a_password_is_not_opened_to_others() {
        for (host, pass, is_right) in [
            ("127.0.0.1", Some(""), true),
            ("localhost", Some(""), true),
            ("::1", Some(""), true),
            ("0.0.0.0", Some(""), false),
            ("*", Some(""), false),
            ("::", Some(""), false),
            ("db.example.com", Some(""), false),
            ("0.0.0.0", Some("secret"), true),
            ("0.0.0.0", None, true),
        ] {
            let mut config = PgServerConfig::new("wharf");
            (config.host, config.pass) = (host.to_owned(), pass.map(Into::into));
            let checked = Request::new(config, []).check_password();
            assert_eq!(checked.is_ok(), is_right, "{host} {pass:?}");
        }
    }

    #[test]
    fn a_setting_stays_on_its_line_and_leaves_the_address_alone() {
        for (key, value) in [
            ("work_mem", "1MB\nport = 1"),
            ("a b", "1"),
            ("", "1"),
            ("Port", "5433"),
            ("listen_addresses", "*"),
        ] {
            let mut config = PgServerConfig::new("wharf");
            config.postgres_conf.insert(key.into(), value.into());
            assert!(Request::new(config, []).check().is_err(), "{key:?}");
        }
    }
}
