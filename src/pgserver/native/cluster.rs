//! The data folder of a native server, and the files wharf keeps beside it.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use secrecy::{ExposeSecret as _, SecretString};

use super::account::Account;
use super::programs::Installation;
use crate::files;
use crate::pgserver::conf::{line, pairs};
use crate::pgserver::difference::Difference;
use crate::pgserver::folder::random_hex;
use crate::pgserver::password;
use crate::pgserver::request::Request;

/// A socket's path must fit into 104 bytes (macOS), `/.s.PGSQL.65535` included.
const SOCKET_FOLDER_MAX: usize = 85;
/// Settings that only serve to survive a crash.
const DURABILITY: [&str; 3] = ["fsync", "full_page_writes", "synchronous_commit"];
const INCLUDE: &str = "include_if_exists = 'wharf.conf'";

/// `<server's folder>/native`.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    root: PathBuf,
}

impl Cluster {
    pub(crate) fn new(root: PathBuf) -> Cluster {
        Cluster { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("server.log")
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
        for entry in fs::read_dir(&self.root)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("data.new") {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let new = self.root.join(format!("data.new-{}", random_hex()?));
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
        let sockets = fs::read_dir(&self.root)?.flatten();
        let sockets = sockets.filter(|e| e.file_name().to_string_lossy().starts_with(".s.PGSQL."));
        let pid_file = self.data().join("postmaster.pid");
        for path in sockets.map(|entry| entry.path()).chain([pid_file]) {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes what the file asks for to where the server reads it at its start.
    pub(crate) fn configure(
        &self,
        account: Account,
        request: &Request,
        port: u16,
    ) -> io::Result<()> {
        let data = self.data();
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
        for (name, text) in [("wharf.conf", self.settings(request, port)), ("pg_hba.conf", hba)] {
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
            let free = DURABILITY.iter().filter(|key| !conf.contains_key(**key));
            lines.extend(free.map(|key| line(key, "off")));
        }
        lines.extend(conf.iter().map(|(key, value)| line(key, value)));
        lines.join("\n") + "\n"
    }

    /// The settings in which what a server was started with differs from what the file asks for
    /// now.
    pub(crate) fn differences(&self, request: &Request, port: u16) -> Vec<Difference> {
        let started = files::read(&self.data().join("wharf.conf")).unwrap_or_default();
        let wanted = self.settings(request, request.fixed_port().unwrap_or(port));
        Difference::between(&pairs(&started), &pairs(&wanted))
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
