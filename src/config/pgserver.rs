//! The section `pgserver:`.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use super::Settings;

/// What runs the server for development.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Runtime {
    /// The first of the others that can serve what the file asks for.
    #[default]
    Auto,
    /// A container.
    Docker,
    /// PostgreSQL's programs as installed on this machine.
    Native,
    /// PostgreSQL inside this process.
    Embedded,
}

impl Runtime {
    /// As the file spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Runtime::Auto => "auto",
            Runtime::Docker => "docker",
            Runtime::Native => "native",
            Runtime::Embedded => "embedded",
        }
    }
}

/// The streaming standbys beside the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaConfig {
    /// Whether there are any. Default false.
    pub enabled: bool,
    /// How many there are if they are enabled, 1 to [`MAX_COUNT`](ReplicaConfig::MAX_COUNT). Default 1.
    pub count: u32,
    /// The port of the first on this machine; each other one has the port after it. `None` (0 in the file): free ones.
    /// `port_r` beside `port`, as older files of the Python original have it, is read as this.
    pub port: Option<u16>,
}

impl ReplicaConfig {
    /// The largest `count`: PostgreSQL's own settings serve ten connections for replication, and a clone takes two.
    pub const MAX_COUNT: u32 = 8;

    /// The number of standbys that are asked for.
    #[cfg_attr(not(feature = "pgserver"), expect(dead_code))]
    pub(crate) fn wanted(&self) -> u32 {
        if self.enabled { self.count } else { 0 }
    }

    /// The port that the file fixes for a standby, from 0 on.
    #[cfg_attr(not(feature = "pgserver"), expect(dead_code))]
    pub(crate) fn fixed_port(&self, index: u32) -> Option<u16> {
        let first = self.port.filter(|port| *port != 0)?;
        first.checked_add(u16::try_from(index).ok()?)
    }

    /// What is wrong with the ports and the count, below which key. `port` is the server's own.
    pub(crate) fn fault(&self, port: Option<u16>) -> Option<(&'static str, String)> {
        let count = self.count;
        if !(1..=Self::MAX_COUNT).contains(&count) {
            return Some(("count", format!("must be 1 to {}", Self::MAX_COUNT)));
        }
        let first = u32::from(self.port.filter(|_| self.enabled).filter(|port| *port != 0)?);
        let last = first + count - 1;
        if last > u32::from(u16::MAX) {
            return Some(("port", format!("leaves no port for {count} standbys; use a lower one")));
        }
        let taken = port.map(u32::from).filter(|port| (first..=last).contains(port))?;
        Some(match count {
            1 => ("port", "is the port of the server itself; use another one".to_owned()),
            _ => (
                "port",
                format!(
                    "gives {count} standbys the ports {first} to {last}, and {taken} is the port of the server itself; use another one"
                ),
            ),
        })
    }
}

impl Default for ReplicaConfig {
    fn default() -> ReplicaConfig {
        ReplicaConfig { enabled: false, count: 1, port: None }
    }
}

/// The server for development.
#[derive(Clone)]
#[non_exhaustive]
pub struct PgServerConfig {
    /// Names the server's data (and container). Default: the project's folder and a number made of the file's path, as in
    /// `shop-1f2e3d4c`.
    pub name: String,
    /// Whether the file left the name out.
    #[cfg_attr(not(feature = "pgserver"), expect(dead_code))]
    pub(crate) has_default_name: bool,
    /// The file that the section stands in, which the server belongs to. Another file's server of the same name is
    /// neither used nor removed. `None` for one that was made in code: it belongs to whoever names it.
    pub file: Option<PathBuf>,
    /// PostgreSQL's version, a major one (`17`) or a full one (`17.5`).
    pub version: Option<String>,
    /// Docker image.
    pub image: Option<String>,
    /// Where it listens. Default 127.0.0.1.
    pub host: String,
    /// Its port; `None` (0 in the file): a free one, chosen at the first start and kept while it is free.
    pub port: Option<u16>,
    /// Superuser. Default `postgres`.
    pub user: String,
    /// Password of the superuser; `None`: made at the first start and kept (mode 0600);
    /// empty: whoever reaches the port may log in.
    pub pass: Option<SecretString>,
    /// Any PostgreSQL setting; a list in the file is joined with commas.
    pub postgres_conf: BTreeMap<String, String>,
    /// Bytes of shared memory of its container (`/dev/shm`), which parallel workers need for a large index build or join.
    /// Default: the engine's, 64 MB. Other runtimes have the machine's.
    pub shm_size: Option<u64>,
    /// Its standbys.
    pub replica: ReplicaConfig,
    /// What runs it. Default `auto`.
    pub runtime: Runtime,
}

impl PgServerConfig {
    /// A server of that name with every default: no version asked for, 127.0.0.1, a free port,
    /// user `postgres`, a password made at the first start, runtime `auto`.
    pub fn new(name: impl Into<String>) -> PgServerConfig {
        PgServerConfig {
            name: name.into(),
            has_default_name: false,
            file: None,
            version: None,
            image: None,
            host: "127.0.0.1".to_owned(),
            port: None,
            user: "postgres".to_owned(),
            pass: None,
            postgres_conf: BTreeMap::new(),
            shm_size: None,
            replica: ReplicaConfig::default(),
            runtime: Runtime::default(),
        }
    }
}

/// Returns a server's name for the file at this place: the project's folder, so that people know it, and a number made of
/// the path, so that no two projects have the same.
pub(super) fn default_name(file: &Path) -> String {
    let is_settings = |folder: &&Path| {
        let name = folder.file_name().and_then(|name| name.to_str());
        !matches!(name, Some("etc" | "config" | "conf" | ".config"))
    };
    let project = file.ancestors().skip(1).find(is_settings);
    let project = project.and_then(|folder| folder.file_name()).unwrap_or_default();
    let readable = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let project: String = project.to_string_lossy().chars().map(readable).take(32).collect();
    let project = match project.trim_matches('-') {
        "" => "wharf",
        project => project,
    };
    // FNV-1a, because it has to be the same in every build.
    let hash =
        file.as_os_str().as_encoded_bytes().iter().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
    format!("{project}-{hash:08x}")
}

/// Returns a file's one path, whatever the folder that it was named from; `None` if it does not exist.
pub(super) fn one_path(file: &Path) -> Option<PathBuf> {
    fs::canonicalize(file).ok()
}

// Some settings of PostgreSQL hold passwords.
impl fmt::Debug for PgServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgServerConfig")
            .field("name", &self.name)
            .field("file", &self.file)
            .field("version", &self.version)
            .field("image", &self.image)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("pass", &self.pass)
            .field("postgres_conf", &Settings(self.postgres_conf.clone()))
            .field("shm_size", &self.shm_size)
            .field("replica", &self.replica)
            .field("runtime", &self.runtime)
            .finish()
    }
}

/// Whether a setting of PostgreSQL may hold a password: `primary_conninfo`, `ssl_passphrase_command`.
pub(crate) fn holds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["conninfo", "pass", "secret", "token"].iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_name_is_the_projects_and_no_other_ones() {
        let name = |file: &str| default_name(Path::new(file));
        assert!(name("/home/ada/shop/etc/infra.yaml").starts_with("shop-"));
        assert!(name("/home/ada/My Shop/infra.yaml").starts_with("my-shop-"));
        assert!(name("/infra.yaml").starts_with("wharf-"));
        assert_ne!(name("/home/ada/shop/infra.yaml"), name("/home/bob/shop/infra.yaml"));
        // The same in every build, because it is where the data is.
        assert_eq!(name("/srv/shop/infra.yaml"), "shop-4f429c0a");
    }
}
