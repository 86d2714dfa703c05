//! The data folder of a native server, and the files wharf keeps beside it.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use secrecy::{ExposeSecret as _, SecretString};

use super::account::Account;
use super::postmaster::Postmaster;
use super::programs::Installation;
use super::upstream::{self, Upstream};
use crate::config::ReplicaConfig;
use crate::files;
use crate::pgserver::conf::{line, pairs};
use crate::pgserver::difference::Difference;
use crate::pgserver::folder::{Remembered, random_hex};
use crate::pgserver::password;
use crate::pgserver::request::Request;

/// A socket's path must fit into 104 bytes (macOS), `/.s.PGSQL.65535` included.
const SOCKET_FOLDER_MAX: usize = 85;
/// Settings that only serve to survive a crash.
const DURABILITY: [&str; 3] = ["fsync", "full_page_writes", "synchronous_commit"];
const CONF: &str = "wharf.conf";
const INCLUDE: &str = "include_if_exists = 'wharf.conf'";

/// Remembered as the number of the data folder that the primary runs on.
const PRIMARY: &str = "primary";
/// What stands in a standby's data folder, and in no primary's.
const SIGNAL: &str = "standby.signal";
/// The largest number of a data folder: all standbys that there can be, and the primary.
const NODE_MAX: u32 = ReplicaConfig::MAX_COUNT;
/// What a standby that is gone may keep of the primary's log, until the disk would be full.
const SLOT_KEEPS: (&str, &str) = ("max_slot_wal_keep_size", "8GB");

/// One data folder of a native server, below `<server's folder>/native`: `data` is that of the first primary, node 0;
/// `data-1`, `data-2`, … are those of its standbys. After a failover another node than 0 is the primary.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    root: PathBuf,
    node: u32,
}

impl Cluster {
    /// The node that is the primary now, as it is remembered; without that, the first that is no standby.
    pub(crate) fn primary(root: PathBuf) -> Cluster {
        let first = Cluster { root, node: 0 };
        let remembered = Remembered::read(&first.remembered());
        let node = remembered.get(PRIMARY).and_then(|node| node.parse().ok());
        let node = node.filter(|node| *node <= NODE_MAX).or_else(|| {
            let mut nodes = first.nodes().into_iter();
            nodes.find(|node| !node.is_standby()).map(|found| found.node)
        });
        Cluster { node: node.unwrap_or(0), ..first }
    }

    /// Another node of the same server.
    pub(crate) fn at(&self, node: u32) -> Cluster {
        Cluster { root: self.root.clone(), node }
    }

    /// The nodes that there are, running or not.
    pub(crate) fn nodes(&self) -> Vec<Cluster> {
        let all = (0..=NODE_MAX).map(|node| self.at(node));
        all.filter(|node| node.data().exists()).collect()
    }

    /// The numbers of the nodes that are the standbys of this one, if so many are asked for.
    pub(crate) fn standbys(&self, wanted: u32) -> Vec<u32> {
        let others = (0..=NODE_MAX).filter(|node| *node != self.node);
        others.take(wanted as usize).collect()
    }

    pub(crate) fn node(&self) -> u32 {
        self.node
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The name of the node's data folder.
    fn name(&self) -> String {
        match self.node {
            0 => "data".to_owned(),
            node => format!("data-{node}"),
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.join(self.name())
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join(match self.node {
            0 => "server.log".to_owned(),
            node => format!("server-{node}.log"),
        })
    }

    /// Whether the data is a standby's.
    pub(crate) fn is_standby(&self) -> bool {
        self.data().join(SIGNAL).exists()
    }

    /// Makes a standby of what is there.
    pub(crate) fn make_standby(&self, account: Account, data: &Path) -> io::Result<()> {
        account.write(&data.join(SIGNAL), "")
    }

    /// Under which its port is remembered.
    pub(crate) fn port_key(&self) -> String {
        match self.node {
            0 => "port".to_owned(),
            node => format!("port_{node}"),
        }
    }

    /// The port that the file fixes for this node, if it does. The port of the
    /// file is that of a primary without standbys, whichever node it is.
    pub(crate) fn fixed_port(&self, request: &Request) -> Option<u16> {
        let replica = request.config.replica;
        match self.node {
            0 => request.fixed_port(),
            _ if !replica.enabled => request.fixed_port(),
            node if node > replica.count => None,
            node => replica.fixed_port(node - 1),
        }
    }

    /// Remembers that this node is the primary.
    pub(crate) fn set_primary(&self, remembered: &mut Remembered) {
        remembered.set(PRIMARY, self.node);
    }

    /// Removes what an interrupted start has left half made.
    pub(crate) fn sweep_new(&self) -> io::Result<()> {
        let prefix = format!("{}.new", self.name());
        for entry in fs::read_dir(&self.root)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// A folder beside the data, to be moved into its place when it is complete.
    pub(crate) fn new_data(&self) -> io::Result<PathBuf> {
        Ok(self.root.join(format!("{}.new-{}", self.name(), random_hex()?)))
    }

    /// What the last start is remembered by.
    pub(crate) fn remembered(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The major version that made the data, if there is data.
    pub(crate) fn data_version(&self) -> Option<String> {
        let version = files::read(&self.data().join("PG_VERSION")).ok()?;
        Some(version.trim().to_owned())
    }

    /// Makes the folder, closed to others.
    pub(crate) fn make(&self, account: Account) -> io::Result<()> {
        fs::create_dir_all(&self.root)?;
        fs::set_permissions(&self.root, fs::Permissions::from_mode(0o700))?;
        account.own(&self.root)
    }

    /// Initialises the data beside its place and moves it there when it is complete: whatever is
    /// in place was never interrupted, and what an interrupted first start left is swept away.
    pub(crate) fn initialise(
        &self,
        installation: &Installation,
        account: Account,
        request: &Request,
        password: Option<&SecretString>,
    ) -> io::Result<()> {
        self.sweep_new()?;
        let new = self.new_data()?;
        // C.UTF-8 is not everywhere; a failed try costs some milliseconds.
        let mut outcome = Ok(());
        for locale in ["C.UTF-8", "C"] {
            let mut initdb = account.command(&installation.program("initdb"));
            initdb.arg("-D").arg(&new).args(["-U", &request.config.user]);
            initdb.args(["--encoding=UTF8", &format!("--locale={locale}")]);
            // Nothing is served yet, and each start says itself who may log in.
            initdb.arg("--auth=trust");
            if request.temporary {
                initdb.arg("--no-sync");
            }
            outcome = succeeded(initdb.output()?);
            if outcome.is_ok() {
                break;
            }
            let _ = fs::remove_dir_all(&new);
        }
        outcome?;
        if let Some(password) = password {
            // Not by initdb, which shows a password in its errors.
            set_password(&new, installation, account, &request.config.user, password)?;
        }
        fs::rename(&new, self.data())
    }

    /// Removes what a killed server locked: its data and its socket.
    pub(crate) fn sweep_locks(&self) -> io::Result<()> {
        let running =
            self.nodes().into_iter().filter_map(|node| Postmaster::of(&node.data())?.port);
        // With the dot that begins the name of a lock.
        let kept: Vec<String> = running.map(|port| format!(".s.PGSQL.{port}.")).collect();
        let sockets = fs::read_dir(&self.root)?.flatten().filter(|entry| {
            let name = format!("{}.", entry.file_name().to_string_lossy());
            name.starts_with(".s.PGSQL.") && !kept.iter().any(|kept| name.starts_with(kept))
        });
        let pid_file = self.data().join("postmaster.pid");
        for path in sockets.map(|entry| entry.path()).chain([pid_file]) {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes what the file asks for to where the server reads it at its start. `upstream` is what it follows, if it is a
    /// standby.
    pub(crate) fn configure(
        &self,
        account: Account,
        request: &Request,
        port: u16,
        upstream: Option<&Upstream>,
    ) -> io::Result<()> {
        self.configure_in(&self.data(), account, request, port, upstream)
    }

    /// The same for data that is not in its place yet.
    pub(crate) fn configure_in(
        &self,
        data: &Path,
        account: Account,
        request: &Request,
        port: u16,
        upstream: Option<&Upstream>,
    ) -> io::Result<()> {
        let main = data.join("postgresql.conf");
        let text = account.read(&main)?;
        if !text.lines().any(|line| line.trim() == INCLUDE) {
            // At the end, so that it has the last word.
            account.write(&main, &format!("{}\n{INCLUDE}\n", text.trim_end()))?;
        }
        let method = match password::is_not_asked_for(request) {
            true => "trust",
            false => "scram-sha-256",
        };
        let hba = format!(
            "# Written by wharf at each start. listen_addresses says who gets as far as here.\n\
             local all all {method}\nhost all all all {method}\n\
             local replication all {method}\nhost replication all all {method}\n"
        );
        let settings = upstream::joined(&self.settings(request, port), upstream, port);
        for (name, text) in [(CONF, settings), ("pg_hba.conf", hba)] {
            account.write(&data.join(name), &text)?;
        }
        Ok(())
    }

    /// The lines of `wharf.conf`.
    pub(crate) fn settings(&self, request: &Request, port: u16) -> String {
        let conf = &request.config.postgres_conf;
        let mut lines = vec![
            "# Written by wharf at each start from `pgserver` in the service's file.".to_owned(),
            line("listen_addresses", &request.config.host),
            format!("port = {port}"),
        ];
        if !conf.contains_key("unix_socket_directories") {
            let folder = self.root.to_string_lossy();
            let fits = folder.len() <= SOCKET_FOLDER_MAX && !folder.contains(',');
            lines.push(line("unix_socket_directories", if fits { &folder } else { "" }));
        }
        if request.temporary {
            // Without synchronous commits, standbys receive what was written some 200 ms later.
            let has_standbys = request.config.replica.enabled;
            let is_kept = |key: &str| has_standbys && key == "synchronous_commit";
            let is_free = |key: &&&str| !conf.contains_key(**key) && !is_kept(key);
            let free = DURABILITY.iter().filter(is_free);
            lines.extend(free.map(|key| line(key, "off")));
        }
        if request.config.replica.enabled && !conf.contains_key(SLOT_KEEPS.0) {
            lines.push(line(SLOT_KEEPS.0, SLOT_KEEPS.1));
        }
        lines.extend(conf.iter().map(|(key, value)| line(key, value)));
        lines.join("\n") + "\n"
    }

    /// The settings in which what a server was started with differs from what the file asks for
    /// now.
    pub(crate) fn differences(&self, request: &Request, port: u16) -> Vec<Difference> {
        let started = self.started_with();
        let wanted = self.settings(request, self.fixed_port(request).unwrap_or(port));
        Difference::between(&pairs(&started), &pairs(&wanted))
    }

    /// The lines of `wharf.conf` as they were at the last start.
    pub(crate) fn started_with(&self) -> String {
        files::read(&self.data().join(CONF)).unwrap_or_default()
    }

    /// Writes lines of `wharf.conf` that a running server takes without a restart.
    pub(crate) fn rewrite(&self, account: Account, text: &str) -> io::Result<()> {
        account.write(&self.data().join(CONF), text)
    }

    /// Those lines with the limit for what standbys keep if the file asks for standbys, and without it otherwise.
    /// `None` if that is how they are.
    pub(crate) fn with_slot_limit(&self, request: &Request) -> Option<String> {
        let (name, value) = SLOT_KEEPS;
        let limit = line(name, value);
        let started = self.started_with();
        let has = started.lines().any(|line| line == limit);
        let wanted = request.config.replica.enabled;
        let is_the_files = request.config.postgres_conf.contains_key(name);
        if is_the_files || has == wanted {
            return None;
        }
        let mut lines: Vec<&str> = started.lines().filter(|line| *line != limit).collect();
        if wanted {
            lines.push(&limit);
        }
        Some(lines.join("\n") + "\n")
    }

    /// Where libpq finds the superuser's password, if there is one.
    pub(crate) fn passfile(&self) -> PathBuf {
        self.root.join("passfile")
    }

    /// Where the superuser's password is kept, if the file gives none.
    pub(crate) fn password_file(&self) -> PathBuf {
        self.root.join("password")
    }

    /// The superuser's password, made and kept if there is none yet.
    pub(crate) fn password_or_new(
        &self,
        account: Account,
        request: &Request,
    ) -> io::Result<Option<SecretString>> {
        let kept = self.password_file();
        password::of_or_new(request, &kept, |file| account.own_file(file))
    }

    /// Gives the superuser another password while the server is stopped.
    pub(crate) fn change_password(
        &self,
        installation: &Installation,
        account: Account,
        user: &str,
        password: &SecretString,
    ) -> io::Result<()> {
        set_password(&self.data(), installation, account, user, password)
    }
}

/// Through the standard input of a single-user backend: nobody need log in with another password,
/// and the new one stands in no argument, file or log.
fn set_password(
    data: &Path,
    installation: &Installation,
    account: Account,
    user: &str,
    password: &SecretString,
) -> io::Result<()> {
    let mut postgres = account.command(&installation.program("postgres"));
    // -j ends a statement at `;` and an empty line instead of at each line.
    postgres.args(["--single", "-j", "-D"]).arg(data);
    postgres.args(["-c", "log_statement=none", "-c", "log_min_duration_statement=-1"]);
    postgres.args(["-c", "log_min_error_statement=panic", "postgres"]);
    postgres.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = postgres.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        let user = user.replace('"', "\"\"");
        let secret = password.expose_secret().replace('\'', "''");
        let statement = format!("ALTER ROLE \"{user}\" PASSWORD '{secret}';\n\n");
        stdin.write_all(statement.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    // It ends well also when its statement failed.
    let said = String::from_utf8_lossy(&output.stderr);
    let wrong = said.lines().find(|line| line.contains("ERROR:") || line.contains("FATAL:"));
    match wrong {
        Some(line) => Err(io::Error::other(format!("setting the password: {line}"))),
        None if output.status.success() => Ok(()),
        None => Err(io::Error::other(format!("setting the password: {}", output.status))),
    }
}

/// A program's own words as the error, if it failed.
pub(crate) fn succeeded(output: Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let mut said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if said.is_empty() {
        said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    }
    Err(io::Error::other(format!("{said} ({})", output.status)))
}
