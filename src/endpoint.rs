//! Where the file's server listens, as written into its state folder by whoever starts it. Every build
//! reads that, also one that cannot start a server.

use std::collections::BTreeMap;
#[cfg(any(feature = "pgserver", test))]
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _};

use crate::config::{Address, DatabaseConfig, HostPort, PgServerConfig, Reads};
use crate::files;

const FILE: &str = "endpoint";

/// Names the configuration file that a server belongs to.
pub(crate) const OWNER: &str = "owner";

/// How long the server at a recorded address may take to tell who it is.
const DEADLINE: Duration = Duration::from_secs(5);

/// The folder of all servers of this user. Root's own data folder is closed to user postgres, who runs
/// the server then, so root's servers are kept with the machine's.
///
/// # Errors
/// Why the user's data folder is not known.
pub(crate) fn servers_folder() -> Result<PathBuf, String> {
    #[cfg(unix)]
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/wharf/pgserver"));
    }
    use etcetera::BaseStrategy as _;
    let strategy = etcetera::choose_base_strategy().map_err(|error| {
        format!("the user's data folder is not known ({error}); set HOME or XDG_DATA_HOME")
    })?;
    Ok(strategy.data_dir().join("wharf").join("pgserver"))
}

/// Returns the configuration file that the server in this folder belongs to.
pub(crate) fn owner(folder: &Path) -> Option<PathBuf> {
    let owner = files::read(&folder.join(OWNER)).ok()?;
    Some(PathBuf::from(owner.trim_end_matches('\n'))).filter(|it| it.is_absolute())
}

/// Returns the file that the server belongs to, if that is another one than `file` and still exists. A project that was
/// moved keeps its server.
pub(crate) fn other_owner(folder: &Path, file: Option<&Path>) -> Option<PathBuf> {
    let file = file?;
    owner(folder).filter(|owner| owner != file && owner.exists())
}

/// Notes which file the server belongs to.
#[cfg(feature = "pgserver")]
pub(crate) fn set_owner(folder: &Path, file: &Path) -> io::Result<()> {
    files::write(&folder.join(OWNER), &format!("{}\n", file.display()), |_| Ok(()))
}

/// A server's address and identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointFile {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Of its standbys.
    pub(crate) replica_ports: Vec<u16>,
    /// The superuser.
    pub(crate) user: String,
    /// Where the superuser's password is, unless the configuration has it.
    pub(crate) password_file: PathBuf,
    /// PostgreSQL's system identifier, which no other server has but a standby of this one.
    pub(crate) system_identifier: String,
}

impl EndpointFile {
    /// Writes it into a server's folder, whole or not at all, for this user only.
    #[cfg(feature = "pgserver")]
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        let mut text = format!(
            "host={}\nport={}\nuser={}\npassword_file={}\nsystem_identifier={}\n",
            self.host,
            self.port,
            self.user,
            self.password_file.display(),
            self.system_identifier
        );
        if let Some(first) = self.replica_ports.first() {
            // Earlier versions read the first alone.
            let all: Vec<String> = self.replica_ports.iter().map(u16::to_string).collect();
            text.push_str(&format!("replica_port={first}\nreplica_ports={}\n", all.join(",")));
        }
        files::write(&folder.join(FILE), &text, |_| Ok(()))
    }

    /// Removes it; fine if there is none.
    #[cfg(feature = "pgserver")]
    pub(crate) fn remove(folder: &Path) -> io::Result<()> {
        match fs::remove_file(folder.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn read(folder: &Path) -> io::Result<EndpointFile> {
        let text = files::read(&folder.join(FILE))?;
        let values: BTreeMap<&str, &str> =
            text.lines().filter_map(|line| line.split_once('=')).collect();
        let value = |key: &str| {
            let missing = || io::Error::new(io::ErrorKind::InvalidData, format!("it has no {key}"));
            values.get(key).map(|value| (*value).to_owned()).ok_or_else(missing)
        };
        let port = |text: &str| {
            text.parse()
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "its port is no port"))
        };
        Ok(EndpointFile {
            host: value("host")?,
            port: port(&value("port")?)?,
            replica_ports: match value("replica_ports").or_else(|_| value("replica_port")) {
                Ok(ports) => ports.split(',').map(port).collect::<Result<_, _>>()?,
                Err(_) => Vec::new(),
            },
            user: value("user")?,
            password_file: value("password_file")?.into(),
            system_identifier: value("system_identifier")?,
        })
    }

    /// Checks that the server at a port is the one that was recorded; else says why not.
    async fn check(&self, port: u16, password: Option<&SecretString>) -> Result<(), String> {
        let at = format!("{}:{port}", self.host);
        let asked = system_identifier(&self.host, port, &self.user, password);
        let found = tokio::time::timeout(DEADLINE, asked)
            .await
            .map_err(|_| format!("the server at {at} does not answer"))?
            .map_err(|error| format!("the server at {at} is unreachable: {error}"))?;
        match found == self.system_identifier {
            true => Ok(()),
            false => Err(format!("another server listens at {at} now")),
        }
    }

    /// The superuser's password: the configuration's, else the one that was generated.
    fn password(&self, server: &PgServerConfig) -> io::Result<Option<SecretString>> {
        match &server.pass {
            Some(pass) if pass.expose_secret().is_empty() => Ok(None),
            Some(pass) => Ok(Some(pass.clone())),
            None => {
                let text = files::read(&self.password_file)?;
                Ok(Some(text.trim().to_owned().into()))
            }
        }
    }
}

/// The entry with the address of the file's server, as its folder in `servers` has it, once the server
/// there has proven to be that one. One login and one query.
///
/// # Errors
/// Why it was not found, as the end of a sentence.
pub(crate) async fn locate(
    mut entry: DatabaseConfig,
    server: &PgServerConfig,
    servers: &Path,
) -> Result<DatabaseConfig, String> {
    let folder = servers.join(&server.name);
    if let Some(owner) = other_owner(&folder, server.file.as_deref()) {
        return Err(format!(
            "pgserver `{}` belongs to {}; give this project's server a `name:` of its own",
            server.name,
            owner.display()
        ));
    }
    let path = folder.join(FILE);
    let recorded = match EndpointFile::read(&folder) {
        Ok(recorded) => recorded,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("{} does not exist", path.display()));
        }
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let ports = match entry.address {
        Address::PgServerReplica => recorded.replica_ports.clone(),
        _ => vec![recorded.port],
    };
    let password = recorded.password(server).map_err(|error| {
        format!("cannot read its password in {}: {error}", recorded.password_file.display())
    })?;
    // The first standby that serves will do.
    let mut located = Err(format!("{} names no standby", path.display()));
    for port in ports {
        let checked = recorded.check(port, password.as_ref()).await;
        located = checked.map(|()| port);
        if located.is_ok() {
            break;
        }
    }
    let port = located?;
    let has_none = entry.password.is_none() && entry.password_file.is_none();
    if has_none && entry.user == recorded.user {
        entry.password = password;
    }
    entry.address = address(&entry, recorded.host, port, &recorded.replica_ports);
    Ok(entry)
}

/// Returns the address of an entry on the file's server, which listens at `port`: with its standbys if the entry reads on those.
pub(crate) fn address(
    entry: &DatabaseConfig,
    host: String,
    port: u16,
    standbys: &[u16],
) -> Address {
    let has_standbys = entry.address == Address::PgServer && !standbys.is_empty();
    if entry.reads == Reads::Primary || !has_standbys {
        return Address::Host { host, port };
    }
    let ports = std::iter::once(&port).chain(standbys);
    Address::Hosts(ports.map(|port| HostPort { host: host.clone(), port: *port }).collect())
}

/// The system identifier of a server, which tells it from any other at the same address.
pub(crate) async fn system_identifier(
    host: &str,
    port: u16,
    user: &str,
    password: Option<&SecretString>,
) -> Result<String, sqlx::Error> {
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(host)
        .port(port)
        .username(user)
        .database("postgres")
        .application_name("wharf")
        .ssl_mode(PgSslMode::Disable)
        .disable_statement_logging();
    if let Some(password) = password {
        options = options.password(password.expose_secret());
    }
    let mut connection = PgConnection::connect_with(&options).await?;
    let sql = "SELECT system_identifier::text FROM pg_control_system()";
    let identifier = sqlx::query(sql).fetch_one(&mut connection).await?.try_get(0)?;
    let _ = connection.close().await;
    Ok(identifier)
}

#[cfg(all(test, unix, feature = "pgserver"))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::{Config, Runtime};
    use crate::pgserver::PgServer;

    #[tokio::test]
    async fn any_build_finds_the_server_by_what_its_start_has_written_and_no_other_server() {
        let yaml = "pgserver: {name: recorded, version: 15, runtime: native}\n\
                    databases: {shop: {pgserver: true, database: postgres}}";
        let mut config = Config::loader("infra.yaml").text(yaml).env([]).load().unwrap();
        let entry = config.databases.remove("shop").unwrap();
        let mut described = config.pgserver.unwrap();
        // Whichever major is installed.
        described.version = None;
        described.runtime = Runtime::Native;
        let dir = tempfile::Builder::new().prefix("wharf-endpoint").tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let server = PgServer::new(described.clone(), []).data_dir(dir.path());
        let nothing = locate(entry.clone(), &described, dir.path()).await.unwrap_err();
        assert!(nothing.contains("does not exist"), "{nothing}");

        let at = server.start().await.unwrap();
        let path = dir.path().join("recorded").join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        let password = at.password.clone().unwrap();
        assert!(!text.contains(password.expose_secret()), "{text}");
        let found = locate(entry.clone(), &described, dir.path()).await.unwrap();
        assert_eq!(found.address, Address::Host { host: at.host.clone(), port: at.port });
        assert_eq!(found.password.unwrap().expose_secret(), password.expose_secret());

        // The same address, and somebody else there.
        let other = text.replace("system_identifier=", "system_identifier=1");
        fs::write(&path, other).unwrap();
        let refused = locate(entry.clone(), &described, dir.path()).await.unwrap_err();
        assert!(refused.contains("another server listens at"), "{refused}");

        // One that died and left its file.
        server.stop().await.unwrap();
        assert!(!path.exists());
        fs::write(&path, text).unwrap();
        let stale = locate(entry, &described, dir.path()).await.unwrap_err();
        assert!(stale.contains("is unreachable"), "{stale}");
        server.remove().await.unwrap();
    }
}
