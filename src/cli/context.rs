//! What every command needs: the file, the databases, an answer to a question.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::visible::visible;
use crate::config::{self, Address, Config, DatabaseConfig};
use crate::pgserver::PgServer;
use crate::{Error, Manager, Pg, provision};

pub(super) struct Context {
    file: Option<PathBuf>,
    env_prefix: String,
    yes: Option<Yes>,
}

/// The answer to every confirmation, given on the command line.
pub(super) struct Yes {
    /// The host for which it holds, beside the file's own server.
    pub(super) host: Option<String>,
}

/// A database whose data a command is about to destroy.
pub(super) struct Doomed {
    pub(super) name: String,
    /// Where it is, if not on the file's own server.
    pub(super) host: Option<String>,
}

impl Context {
    pub(super) fn new(file: Option<PathBuf>, env_prefix: String, yes: Option<Yes>) -> Context {
        Context { file, env_prefix, yes }
    }

    /// The file that is meant.
    pub(super) fn file(&self) -> Result<PathBuf, Failure> {
        if let Some(named) = &self.file {
            return match named.is_file() {
                true => Ok(named.clone()),
                false => Err(Failure::File(format!(
                    "{} does not exist; name the file with --file or WHARF_FILE",
                    named.display()
                ))),
            };
        }
        let here = std::env::current_dir()?;
        if let Some((folder, name)) = config::find(&here) {
            // As short as a person would write it.
            let up = here.ancestors().take_while(|it| *it != folder).count();
            let above: PathBuf = std::iter::repeat_n("..", up).collect();
            return Ok(above.join(name));
        }
        Err(Failure::File(format!(
            "no configuration file: there is neither {} nor {} in {} or a parent folder; create one with \
             `wharf init`, or name it with --file or WHARF_FILE",
            config::USUAL[0],
            config::USUAL[1],
            here.display()
        )))
    }

    pub(super) fn config(&self) -> Result<Config, Failure> {
        Ok(Config::loader(self.file()?).env_prefix(self.env_prefix.as_str()).load()?)
    }

    pub(super) fn manager(&self) -> Result<Manager, Failure> {
        let mut config = self.config()?;
        // Past a pooler, because some commands need a connection of their own.
        config.databases.values_mut().for_each(DatabaseConfig::past_pooler);
        Ok(Manager::from_config(config))
    }

    /// The databases with the file's server, which it must have.
    pub(super) fn server(&self) -> Result<(Manager, PgServer), Failure> {
        let manager = self.manager()?;
        let server = manager.pgserver().cloned().ok_or(Error::NoPgServer)?;
        Ok((manager, server))
    }

    /// Asks for confirmation on the terminal. `consequence` is a sentence, or several.
    pub(super) fn ask(&self, consequence: &str) -> Result<(), Failure> {
        if self.yes.is_some() {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::Declined(format!(
                "{consequence} Standard input is not a terminal; pass --yes to confirm"
            )));
        }
        match answer(&format!("{consequence} Continue? [y/N] "))?.to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(declined()),
        }
    }

    /// Asks for confirmation before data is destroyed. On a server that is not the file's own, `y` or `--yes` is not
    /// enough, because they become a habit: the user types the database's name, or names the host with `--host`.
    pub(super) fn ask_to_destroy(
        &self,
        consequence: &str,
        doomed: &[Doomed],
    ) -> Result<(), Failure> {
        let beyond: Vec<(&str, &str)> =
            doomed.iter().filter_map(|it| Some((it.name.as_str(), it.host.as_deref()?))).collect();
        let Some((name, host)) = beyond.first() else {
            return self.ask(consequence);
        };
        if let Some(yes) = &self.yes {
            let other = beyond.iter().find(|(_, host)| yes.host.as_deref() != Some(host));
            return match other {
                None => Ok(()),
                Some((name, host)) => Err(Failure::Declined(format!(
                    "{consequence} Database `{name}` is not on the file's own server; to confirm, pass --yes --host {host}"
                ))),
            };
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::Declined(format!(
                "{consequence} Standard input is not a terminal; to confirm, pass --yes --host {host}"
            )));
        }
        match answer(&format!("{consequence}\nType the name of the database to continue: "))?
            == *name
        {
            true => Ok(()),
            false => Err(declined()),
        }
    }
}

/// Asks on the terminal and returns the line that the user types.
fn answer(question: &str) -> Result<String, Failure> {
    let mut err = io::stderr().lock();
    err.write_all(visible(question).as_bytes())?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

fn declined() -> Failure {
    Failure::Declined("declined; nothing was changed".to_owned())
}

/// Refuses a command that writes on an entry with `readonly: true`.
pub(super) fn refuse_readonly(manager: &Manager, name: &str) -> Result<(), Failure> {
    match entry(manager, name)?.readonly {
        false => Ok(()),
        true => Err(Failure::File(format!(
            "database `{name}` is `readonly: true` in the file, and this command writes; use an entry without `readonly: true`"
        ))),
    }
}

/// The name that was given, else that of the only database in the file.
pub(super) fn named(manager: &Manager, given: Option<String>) -> Result<String, Failure> {
    if let Some(name) = given {
        entry(manager, &name)?;
        return Ok(name);
    }
    let names: Vec<&str> = manager.names().collect();
    match names.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => {
            Err(Failure::File("the file names no database; add one below `databases:`".to_owned()))
        }
        several => Err(Failure::Usage(format!(
            "the file names {} databases; add the name of one: {}",
            several.len(),
            several.join(", ")
        ))),
    }
}

/// The entry of this name.
pub(super) fn entry<'a>(manager: &'a Manager, name: &str) -> Result<&'a DatabaseConfig, Failure> {
    // The manager's own error names the others.
    manager.db(name)?;
    let entry = manager.config().databases.get(name);
    entry.ok_or_else(|| Failure::File(format!("the file has no database `{name}`")))
}

/// The file's server was asked for in every way that the program knows.
pub(super) fn down(database: &str) -> Failure {
    let reason = "no runtime has it".to_owned();
    Error::PgServerDown { database: database.to_owned(), reason }.into()
}

/// Whether an entry is on the file's own server.
pub(super) fn is_on_server(entry: &DatabaseConfig) -> bool {
    matches!(entry.address, Address::PgServer | Address::PgServerReplica)
}

/// A connection to another database of an entry's server: as its superuser, if that is the file's own
/// server; else as the entry logs in.
pub(super) async fn elsewhere(
    manager: &Manager,
    name: &str,
    database: &str,
) -> Result<Pg, Failure> {
    let mut entry = entry(manager, name)?.clone();
    if is_on_server(&entry) {
        let server = manager.pgserver().ok_or(Error::NoPgServer)?;
        let running = server.running().await?;
        let at = running.ok_or_else(|| down(name))?;
        return Ok(Pg::from_config(name, provision::as_superuser(&entry, &at, database)));
    }
    entry.database = database.to_owned();
    (entry.readonly, entry.read_role, entry.schema) = (false, None, None);
    Ok(Pg::from_config(name, entry))
}

/// A path as a person would say it.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}
