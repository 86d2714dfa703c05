//! What can be said on the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

/// The databases of one file: the server to develop against, and what is in them.
#[derive(Debug, Parser)]
#[command(
    name = "wharf",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done; 1 failed; 2 the command line is wrong; 3 the file is wrong or \
                  missing; 4 the server or a database is not there; 5 a question was not answered \
                  with yes. `psql` and `exec` end with the code of what they run."
)]
pub(super) struct Cli {
    /// The file that names the databases. Else WHARF_FILE, else the nearest etc/infra.yaml or
    /// infra.yaml from here upward.
    #[arg(long, short, global = true, env = "WHARF_FILE", hide_env_values = true)]
    pub(super) file: Option<PathBuf>,
    /// Answers every question with yes.
    #[arg(long, short, global = true)]
    pub(super) yes: bool,
    /// Says more of what goes on; twice for all of it.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The PostgreSQL that the file's `pgserver:` describes.
    #[command(subcommand)]
    Server(Server),
    /// What the file says, after includes, overrides and defaults.
    Config {
        #[command(subcommand)]
        command: Option<ConfigCommand>,
        #[command(flatten)]
        json: Json,
    },
    /// Asks the databases for their version, and how long the answer takes.
    Ping {
        /// The database, as the file calls it; all of them if left out.
        name: Option<String>,
        #[command(flatten)]
        json: Json,
    },
    /// Looks for what is wrong: the file, the engine, the server, each database; and what to do.
    Doctor {
        #[command(flatten)]
        json: Json,
    },
    /// Databases as such.
    #[command(subcommand)]
    Db(Db),
    /// The migrations of this project, which are in its folder `migration`.
    #[command(subcommand)]
    Migrate(Migrate),
    /// The entities of this project, which are in its folder `entity`.
    #[command(subcommand)]
    Entity(Entity),
    /// Opens psql on a database; whatever follows its name is for psql.
    Psql {
        /// The database, as the file calls it.
        name: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Runs one statement. It only reads unless it is told that it may write.
    Run(Run),
    /// Watches the databases: connections, running statements, who waits for whom, what is slow.
    Top {
        /// The databases, as the file calls them; all of them if left out.
        names: Vec<String>,
        /// Seconds between two looks.
        #[arg(long, default_value = "2", value_parser = seconds, value_name = "SECONDS")]
        interval: Duration,
        /// Looks once and prints that.
        #[arg(long)]
        once: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Prints what a shell needs to complete wharf's commands.
    Completions { shell: Shell },
    /// Prints the manual page.
    Man,
}

#[derive(Debug, Subcommand)]
pub(super) enum Server {
    /// Starts it, or finds it running, and makes the databases that the file asks for.
    Up {
        /// Longest time until somebody can log in, in seconds.
        #[arg(long, default_value = "60", value_parser = seconds, value_name = "SECONDS")]
        timeout: Duration,
        #[command(flatten)]
        json: Json,
    },
    /// Stops it. Its data stays.
    Down,
    /// Stops it and starts it again, as the file describes it now.
    Restart,
    /// What it is doing.
    Status {
        #[command(flatten)]
        json: Json,
    },
    /// Its log.
    Logs {
        /// How many lines of it.
        #[arg(long, short = 'n', default_value_t = 100, value_name = "LINES")]
        lines: usize,
        /// Goes on with what is added.
        #[arg(long, short = 'F')]
        follow: bool,
    },
    /// Opens psql on it, as its superuser, by the psql that comes with the server; what follows is for
    /// psql.
    Psql {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Runs a program beside it: in its container, or on this machine with PGHOST, PGPORT, PGUSER and
    /// PGPASSWORD set.
    Exec {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<String>,
    },
    /// Waits until somebody can log in.
    Wait {
        /// Longest time, in seconds.
        #[arg(long, default_value = "60", value_parser = seconds, value_name = "SECONDS")]
        timeout: Duration,
    },
    /// Writes a database into a file (pg_dump's custom format) and proves it by listing it.
    Backup {
        /// The database, as the file calls it.
        name: String,
        /// Where to.
        to: PathBuf,
        #[command(flatten)]
        json: Json,
    },
    /// Puts a backup into a database: all of it, or nothing. What it has is dropped there first.
    Restore {
        /// The database, as the file calls it.
        name: String,
        /// The backup.
        from: PathBuf,
        #[command(flatten)]
        json: Json,
    },
    /// Removes it: container, volumes, network, folder, and all its data.
    Clean,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Every value with where it came from; secrets are masked.
    Show {
        /// Only what begins with this, as in `databases.shop`.
        path: Option<String>,
        #[command(flatten)]
        json: Json,
    },
    /// Says whether the file is right.
    Check,
}

#[derive(Debug, Subcommand)]
pub(super) enum Db {
    /// Makes the database, and the extensions that its entry asks for.
    Create {
        /// The database, as the file calls it.
        name: String,
    },
    /// Drops it with everything in it. Who is connected is thrown out.
    Drop {
        /// The database, as the file calls it.
        name: String,
    },
    /// The databases on a server.
    List {
        /// A database on that server, as the file calls it; all of the file's if left out.
        name: Option<String>,
        #[command(flatten)]
        json: Json,
    },
    /// How large it is, and its largest tables.
    Size {
        /// The database, as the file calls it.
        name: String,
        #[command(flatten)]
        json: Json,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Migrate {
    /// Makes the folder `migration`: a crate with a migrator a database, and the program that runs them.
    Init {
        /// The databases, as the file calls them; those that somebody may write to if left out.
        databases: Vec<String>,
    },
    /// Writes a migration, and adds it to its migrator.
    New {
        /// What it does, as in create_customer.
        name: String,
        /// The database, as the file calls it; needed where several have migrations.
        database: Option<String>,
    },
    /// Brings databases up to date. Others that do so at the same time wait, and find nothing to do.
    Up {
        #[command(flatten)]
        on: On,
        /// At most so many of the pending migrations.
        #[arg(long, short = 'n', value_name = "MIGRATIONS")]
        steps: Option<u32>,
        /// Shows the SQL, and what is unsafe in it, and changes nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Takes migrations back, the last one first.
    Down {
        #[command(flatten)]
        of: Of,
        /// So many of them.
        #[arg(long, short = 'n', value_name = "MIGRATIONS", default_value_t = 1)]
        steps: u32,
    },
    /// Which migrations are applied, pending or broken off.
    Status {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        json: Json,
    },
    /// Names what is unsafe in the pending migrations while others use the database; ends with 1 if
    /// anything is.
    Lint {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        json: Json,
    },
    /// Drops all that is in the schema, and applies all migrations.
    Fresh {
        #[command(flatten)]
        of: Of,
    },
    /// Takes all migrations back, and applies them again.
    Refresh {
        #[command(flatten)]
        of: Of,
    },
}

/// Which databases.
#[derive(Args, Debug)]
pub(super) struct On {
    /// The databases, as the file calls them; all that have migrations if left out.
    pub(super) databases: Vec<String>,
    #[command(flatten)]
    pub(super) schemas: Schemas,
}

/// Which database.
#[derive(Args, Debug)]
pub(super) struct Of {
    /// The database, as the file calls it.
    pub(super) database: String,
    #[command(flatten)]
    pub(super) schemas: Schemas,
}

#[derive(Args, Debug)]
pub(super) struct Schemas {
    /// A schema of the database in place of the entry's own, say a tenant's; with `*`, those that are
    /// there, as in 'tenant_*'. Can be given several times.
    #[arg(long = "schema", value_name = "SCHEMA")]
    pub(super) named: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Entity {
    /// Writes the entities of what the migrations make: runs them in a database that is made for it and
    /// dropped again, and reads that.
    Generate {
        /// The databases, as the file calls them; all that have migrations if left out.
        databases: Vec<String>,
        /// Writes nothing, and ends with 1 where what is there differs.
        #[arg(long)]
        check: bool,
        /// Derives serde's traits, too; the crate needs serde then.
        #[arg(long)]
        serde: bool,
    },
}

#[derive(Args, Debug)]
pub(super) struct Run {
    /// The statement, or `-` for what comes in.
    pub(super) sql: String,
    /// The database, as the file calls it.
    pub(super) name: String,
    /// It may write, and takes effect at once.
    #[arg(long)]
    pub(super) write: bool,
    /// Prints the rows as comma-separated values.
    #[arg(long, conflicts_with = "json")]
    pub(super) csv: bool,
    /// The most rows; 0 for all. A table has 1000 unless told otherwise, the other forms have all.
    #[arg(long, value_name = "ROWS")]
    pub(super) limit: Option<usize>,
    #[command(flatten)]
    pub(super) json: Json,
}

#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Json {
    /// Prints JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Cli {
    /// What the process was started with.
    pub(super) fn read() -> Cli {
        Cli::parse_from(separated(std::env::args_os().collect()))
    }
}

/// Puts `--` before what is meant for another program: else `wharf psql shop -f FILE` would be taken
/// for the file that names the databases.
fn separated(mut args: Vec<OsString>) -> Vec<OsString> {
    let word = |at: usize| args.get(at).and_then(|arg| arg.to_str()).unwrap_or_default();
    let mut at = 1;
    while word(at).starts_with('-') {
        at += if matches!(word(at), "-f" | "--file") { 2 } else { 1 };
    }
    let first = match (word(at), word(at + 1)) {
        ("psql", name) if !name.is_empty() && !name.starts_with('-') => at + 2,
        ("server", "psql" | "exec") if word(at + 2) != "--help" => at + 2,
        _ => return args,
    };
    if first < args.len() && word(first) != "--" {
        args.insert(first, "--".into());
    }
    args
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "is not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(Duration::ZERO) | Err(_) => Err("is no time".to_owned()),
        Ok(duration) => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn no_option_clashes_with_another() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn what_is_for_another_program_is_left_to_it() {
        for (given, taken) in [
            ("wharf psql shop -f x.sql -v A=1", "wharf psql shop -- -f x.sql -v A=1"),
            ("wharf -f a.yaml psql shop -y", "wharf -f a.yaml psql shop -- -y"),
            ("wharf psql shop -- -c x", "wharf psql shop -- -c x"),
            ("wharf psql shop", "wharf psql shop"),
            ("wharf psql --help", "wharf psql --help"),
            ("wharf server psql -f x", "wharf server psql -- -f x"),
            ("wharf server psql --help", "wharf server psql --help"),
            ("wharf --yes server exec sh -y", "wharf --yes server exec -- sh -y"),
            ("wharf server up -f x", "wharf server up -f x"),
        ] {
            let words = given.split(' ').map(Into::into).collect();
            let shown: Vec<_> =
                super::separated(words).into_iter().map(|it| it.into_string().unwrap()).collect();
            assert_eq!(shown.join(" "), taken);
        }
    }
}
