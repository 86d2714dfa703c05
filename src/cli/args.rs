//! The command line: commands, arguments and their help.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use clap_complete::engine::ArgValueCandidates;

use super::complete::databases;

/// Run and inspect the PostgreSQL databases that one YAML file names.
#[derive(Debug, Parser)]
#[command(
    name = "wharf",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  wharf init --service          Write infra.yaml and a small service beside it
  wharf server up               Start the PostgreSQL server that the file describes
  wharf run shop 'SELECT 1'     Run one statement, read-only
  wharf migrate up              Apply pending migrations

Exit codes:
  0 success; 1 failure; 2 invalid command line; 3 invalid or missing file;
  4 server or database unreachable; 5 confirmation declined.
  `psql` and `exec` exit with the code of the program that they run."
)]
pub(super) struct Cli {
    /// Use this configuration file. The default is WHARF_FILE, else the nearest etc/infra.yaml or
    /// infra.yaml in this folder or a parent.
    #[arg(long, global = true, env = "WHARF_FILE", hide_env = true, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// Read overrides of the file from environment variables that begin with this prefix.
    #[arg(
        long,
        global = true,
        env = "WHARF_ENV_PREFIX",
        hide_env = true,
        default_value = "INFRA",
        value_name = "PREFIX"
    )]
    pub(super) env_prefix: String,
    /// Answer yes to every confirmation.
    #[arg(long, short, global = true)]
    pub(super) yes: bool,
    /// With --yes: the host whose database may be destroyed, if it is not the file's own server.
    #[arg(long, global = true, value_name = "HOST", requires = "yes")]
    pub(super) host: Option<String>,
    /// Print more detail; repeat for all of it.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a first infra.yaml, and a small service with --service.
    Init(Init),
    /// Start, stop and inspect the development server that `pgserver:` describes.
    #[command(subcommand)]
    Server(Server),
    /// Show or check the configuration after includes, overrides and defaults.
    Config {
        #[command(subcommand)]
        command: Option<ConfigCommand>,
        #[command(flatten)]
        json: Json,
    },
    /// Connect to databases and show their version and latency.
    Ping {
        /// Name of the database in the file; all of them by default.
        #[arg(add = ArgValueCandidates::new(databases))]
        name: Option<String>,
        #[command(flatten)]
        json: Json,
    },
    /// Check the file, the Docker engine, the server and each database, and suggest remedies.
    Doctor {
        #[command(flatten)]
        json: Json,
    },
    /// Create, drop, list and measure databases.
    #[command(subcommand)]
    Db(Db),
    /// Write, apply and check the migrations in the crate `migration`.
    #[command(subcommand)]
    Migrate(Migrate),
    /// Generate SeaORM entities in the crate `entity`.
    #[command(subcommand)]
    Entity(Entity),
    /// Open psql on a database.
    #[command(override_usage = "wharf psql [OPTIONS] [NAME] [-- PSQL_ARGS...]")]
    Psql {
        /// Name of the database in the file, then arguments for psql. The name may be left out if
        /// the file has one database.
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "NAME",
            add = ArgValueCandidates::new(databases)
        )]
        words: Vec<String>,
    },
    /// Run SQL, read-only unless --write is given.
    Run(Run),
    /// Watch connections, running statements, locks and slow statements of each server.
    #[command(after_help = "Press ? on the screen for the keys, Tab for the next server.")]
    Top {
        /// Names of the databases in the file; all of them by default.
        #[arg(value_name = "NAME", add = ArgValueCandidates::new(databases))]
        names: Vec<String>,
        /// Refresh interval in seconds.
        #[arg(long, default_value = "2", value_parser = seconds, value_name = "SECONDS")]
        interval: Duration,
        /// Print one snapshot and exit.
        #[arg(long)]
        once: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Print the shell's completion script. It completes database names, too.
    #[command(
        after_help = "Example for bash: echo 'source <(wharf completions bash)' >> ~/.bashrc"
    )]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print a manual page, or write all of them into a folder.
    Man {
        /// The command, as in `wharf man server up`; the page of wharf itself by default.
        command: Vec<String>,
        /// Write the pages of all commands into this folder.
        #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
        dir: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
pub(super) struct Init {
    /// Folder to write into; created if missing.
    #[arg(default_value = ".")]
    pub(super) folder: PathBuf,
    /// Write a service, too: Cargo.toml, an axum server, a migration, an entity and a test.
    #[arg(long)]
    pub(super) service: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Server {
    /// Start the server, or find it running, and create the databases that the file asks for.
    Up {
        #[command(flatten)]
        timeout: Timeout,
        #[command(flatten)]
        json: Json,
    },
    /// Stop the server. Its data is kept.
    Down,
    /// Stop the server and start it with the file's current settings.
    Restart {
        #[command(flatten)]
        timeout: Timeout,
        #[command(flatten)]
        json: Json,
    },
    /// Promote a standby in place of the primary, which then follows it. Each keeps its port.
    ///
    /// Asks for confirmation only if changes would be lost because no standby has received them.
    Failover {
        #[command(flatten)]
        json: Json,
    },
    /// Show the server's state, databases, extensions and standbys.
    Status {
        #[command(flatten)]
        json: Json,
    },
    /// Show the server's log.
    Logs {
        /// Number of lines to show.
        #[arg(long, short = 'n', default_value_t = 100, value_name = "LINES")]
        lines: usize,
        /// Print new lines as they are written.
        #[arg(long, short)]
        follow: bool,
    },
    /// Open the server's own psql as its superuser.
    #[command(override_usage = "wharf server psql [OPTIONS] [-- PSQL_ARGS...]")]
    Psql {
        /// Arguments for psql.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PSQL_ARGS")]
        args: Vec<String>,
    },
    /// Run a program in the server's container, or on this machine with PGHOST, PGPORT, PGUSER and
    /// PGPASSWORD set.
    #[command(override_usage = "wharf server exec [OPTIONS] [--] PROGRAM [ARGS...]")]
    Exec {
        /// The program and its arguments.
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            required = true,
            value_name = "PROGRAM"
        )]
        args: Vec<String>,
    },
    /// Wait until the server accepts logins.
    Wait {
        #[command(flatten)]
        timeout: Timeout,
    },
    /// Back up a database to a file in pg_dump's custom format, and verify that it can be listed.
    #[command(allow_missing_positional = true)]
    Backup {
        #[command(flatten)]
        of: Optional,
        /// File to write.
        #[arg(value_name = "FILE")]
        to: PathBuf,
        #[command(flatten)]
        json: Json,
    },
    /// Restore a backup in one transaction. Tables that it contains are dropped first.
    #[command(allow_missing_positional = true)]
    Restore {
        #[command(flatten)]
        of: Optional,
        /// The backup file.
        #[arg(value_name = "FILE")]
        from: PathBuf,
        #[command(flatten)]
        json: Json,
    },
    /// Delete the server with all its data: container, volumes, network and folder.
    Clean,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Show every value and its source. Secrets are masked.
    Show {
        /// Show only the values below this path, as in `databases.shop`.
        path: Option<String>,
        #[command(flatten)]
        json: Json,
    },
    /// Check that the file is valid.
    Check,
}

#[derive(Debug, Subcommand)]
pub(super) enum Db {
    /// Create the database and the extensions that its entry lists.
    Create {
        #[command(flatten)]
        of: Optional,
    },
    /// Drop the database with all its data. Its connections are closed.
    Drop {
        #[command(flatten)]
        of: Optional,
    },
    /// List the databases on a server.
    List {
        /// Name of a database on that server; the servers of all databases by default.
        #[arg(add = ArgValueCandidates::new(databases))]
        name: Option<String>,
        #[command(flatten)]
        json: Json,
    },
    /// Show the size of the database and of its largest tables.
    Size {
        #[command(flatten)]
        of: Optional,
        #[command(flatten)]
        json: Json,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Migrate {
    /// Create the crate `migration`: one migrator per database, and the program that runs them.
    Init {
        /// Names of the databases in the file; all that are not `readonly` by default.
        #[arg(value_name = "NAME", add = ArgValueCandidates::new(databases))]
        databases: Vec<String>,
    },
    /// Write an empty migration and add it to its migrator.
    #[command(allow_missing_positional = true)]
    New {
        /// Name of the database in the file; needed if several have migrations.
        #[arg(value_name = "NAME", add = ArgValueCandidates::new(databases))]
        database: Option<String>,
        /// Name of the migration, as in create_customer.
        #[arg(value_name = "MIGRATION")]
        name: String,
    },
    /// Apply pending migrations. Processes that run this at the same time wait for each other.
    Up {
        #[command(flatten)]
        on: On,
        /// Apply at most this many migrations.
        #[arg(long, short = 'n', value_name = "MIGRATIONS")]
        steps: Option<u32>,
        /// Print the SQL and its hazards, recorded on a scratch database; change nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        trial: Trial,
        #[command(flatten)]
        json: Json,
    },
    /// Roll back migrations, the last one first.
    Down {
        #[command(flatten)]
        of: Of,
        /// Number of migrations to roll back.
        #[arg(long, short = 'n', value_name = "MIGRATIONS", default_value_t = 1)]
        steps: u32,
        #[command(flatten)]
        json: Json,
    },
    /// Show which migrations are applied, pending or incomplete.
    Status {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        json: Json,
    },
    /// Report statements in pending migrations that block or break a database in use. Exit with 1
    /// if there are any. The migrations run on a scratch database.
    ///
    /// A comment before a statement, or in it, allows one rule and gives the reason:
    /// -- wharf:allow type-change: the table has 20 rows
    Lint {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        trial: Trial,
        #[command(flatten)]
        json: Json,
    },
    /// Drop everything in the schema and apply all migrations.
    Fresh {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        json: Json,
    },
    /// Roll back all migrations and apply them again.
    Refresh {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        json: Json,
    },
}

/// Where pending migrations run to be looked at.
#[derive(Args, Debug)]
pub(super) struct Trial {
    /// Create the scratch database on the server of this database in the file. The default is the file's
    /// own server, or that of tests.
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(databases))]
    pub(super) scratch: Option<String>,
    /// Run the migrations on the database itself, in a transaction that is rolled back. Their locks
    /// block others until then.
    #[arg(long, conflicts_with = "scratch")]
    pub(super) on_target: bool,
    /// Ignore hazards that grow with a table if it is smaller in this database, as in 8MB. By default,
    /// every table counts as large.
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(super) min_size: Option<i64>,
}

impl Trial {
    pub(super) fn is_given(&self) -> bool {
        self.on_target || self.scratch.is_some() || self.min_size.is_some()
    }
}

/// Reads a size as PostgreSQL does: 512kB, 8MB, 1GB.
fn bytes(text: &str) -> Result<i64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "B" => Some(1),
        "kB" => Some(1 << 10),
        "MB" => Some(1 << 20),
        "GB" => Some(1 << 30),
        "TB" => Some(1 << 40),
        _ => None,
    };
    let number = digits.trim().parse::<u32>().ok().map(i64::from);
    match number.zip(unit).and_then(|(number, unit)| number.checked_mul(unit)) {
        Some(bytes) => Ok(bytes),
        None => Err("must be a number with kB, MB, GB or TB, as in 8MB".to_owned()),
    }
}

/// Which database; it may be left out where the file has one.
#[derive(Args, Debug)]
pub(super) struct Optional {
    /// Name of the database in the file. It may be left out if the file has one database.
    #[arg(add = ArgValueCandidates::new(databases))]
    pub(super) name: Option<String>,
}

/// Which databases.
#[derive(Args, Debug)]
pub(super) struct On {
    /// Names of the databases in the file; all that have migrations by default.
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(databases))]
    pub(super) databases: Vec<String>,
    #[command(flatten)]
    pub(super) schemas: Schemas,
}

/// Which database.
#[derive(Args, Debug)]
pub(super) struct Of {
    /// Name of the database in the file. It may be left out if one database has migrations.
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(databases))]
    pub(super) database: Option<String>,
    #[command(flatten)]
    pub(super) schemas: Schemas,
}

#[derive(Args, Debug)]
pub(super) struct Schemas {
    /// Use this schema instead of the entry's own, such as a tenant's. `*` matches existing
    /// schemas, as in 'tenant_*'. May be repeated.
    #[arg(long = "schema", value_name = "SCHEMA")]
    pub(super) named: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Entity {
    /// Generate SeaORM entities from the migrations: apply them to a scratch database and read its
    /// schema.
    Generate {
        /// Names of the databases in the file; all that have migrations by default.
        #[arg(value_name = "NAME", add = ArgValueCandidates::new(databases))]
        databases: Vec<String>,
        /// Write nothing; exit with 1 if the generated entities are out of date.
        #[arg(long)]
        check: bool,
        /// Derive serde's Serialize and Deserialize, too. Later runs remember it; --serde=false ends it.
        #[arg(
            long,
            num_args = 0..=1,
            require_equals = true,
            default_missing_value = "true",
            value_name = "BOOL"
        )]
        serde: Option<bool>,
    },
}

#[derive(Args, Debug)]
#[command(after_help = "In JSON, columns of the same name get a number: name, name_2.")]
#[command(override_usage = "wharf run [OPTIONS] [NAME] SQL
       wharf run [OPTIONS] [NAME] -f FILE")]
pub(super) struct Run {
    /// Name of the database in the file, then the statement; `-` reads the statement from standard
    /// input. The name may be left out if the file has one database.
    #[arg(value_name = "NAME|SQL", num_args = 0..=2, add = ArgValueCandidates::new(databases))]
    pub(super) words: Vec<String>,
    /// Read the statements from this file. Several run one after the other, in one transaction; --json
    /// prints an array for each.
    #[arg(short = 'f', long = "script", value_name = "FILE")]
    pub(super) script: Option<PathBuf>,
    /// Allow writes. Without it, statements run in a read-only transaction, and those that act outside of
    /// one (COPY TO PROGRAM, pg_terminate_backend) are refused by their words. A superuser's DO blocks
    /// and functions can still hide such an action.
    #[arg(long)]
    pub(super) write: bool,
    /// Print rows as comma-separated values. NULL is an empty field, an empty text is "".
    #[arg(long, conflicts_with = "json")]
    pub(super) csv: bool,
    /// Print at most this many rows; 0 for all. The default is 1000 for tables, all for --csv and
    /// --json.
    #[arg(long, value_name = "ROWS")]
    pub(super) limit: Option<usize>,
    /// Print one column per line. `auto` does so if a row is wider than the terminal.
    #[arg(long, short = 'x', value_enum, default_value = "auto", default_missing_value = "on",
          num_args = 0..=1, require_equals = true, value_name = "WHEN")]
    pub(super) expanded: Expanded,
    #[command(flatten)]
    pub(super) json: Json,
}

/// When a row is printed with one column per line, as psql's `\x` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Expanded {
    Auto,
    On,
    Off,
}

#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Timeout {
    /// Longest time to wait until the server accepts logins, in seconds.
    #[arg(long = "timeout", default_value = "60", value_parser = seconds, value_name = "SECONDS")]
    pub(super) limit: Duration,
}

#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Json {
    /// Print JSON; errors, too.
    #[arg(long)]
    pub(super) json: bool,
}

impl Cli {
    /// The command line that the process was started with.
    pub(super) fn read() -> Cli {
        let args = separated(std::env::args_os().collect());
        Cli::try_parse_from(args).unwrap_or_else(|error| with_suggestion(error).exit())
    }
}

/// The error of a command that belongs to another one, such as `up`, suggests `server up`.
fn with_suggestion(mut error: clap::Error) -> clap::Error {
    use clap::{
        CommandFactory as _,
        error::{ContextKind, ContextValue},
    };
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let program = Cli::command();
    let whole: Vec<String> = program
        .get_subcommands()
        .filter(|command| command.find_subcommand(given).is_some())
        .map(|command| format!("{} {given}", command.get_name()))
        .collect();
    if !whole.is_empty() {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(whole));
    }
    error
}

impl Command {
    /// Whether `--json` was given, so that errors are JSON, too.
    pub(super) fn wants_json(&self) -> bool {
        let json = match self {
            Command::Config { command: Some(ConfigCommand::Show { json: own, .. }), json } => {
                return own.json || json.json;
            }
            Command::Config { json, .. }
            | Command::Ping { json, .. }
            | Command::Doctor { json }
            | Command::Run(Run { json, .. })
            | Command::Top { json, .. }
            | Command::Server(
                Server::Up { json, .. }
                | Server::Restart { json, .. }
                | Server::Status { json }
                | Server::Backup { json, .. }
                | Server::Restore { json, .. },
            )
            | Command::Db(Db::List { json, .. } | Db::Size { json, .. })
            | Command::Migrate(
                Migrate::Up { json, .. }
                | Migrate::Down { json, .. }
                | Migrate::Status { json, .. }
                | Migrate::Lint { json, .. }
                | Migrate::Fresh { json, .. }
                | Migrate::Refresh { json, .. },
            ) => json,
            _ => return false,
        };
        json.json
    }
}

/// Puts `--` before the arguments of another program: clap would otherwise take `wharf psql shop -y`'s
/// `-y` for its own.
fn separated(mut args: Vec<OsString>) -> Vec<OsString> {
    let word = |at: usize| args.get(at).and_then(|arg| arg.to_str()).unwrap_or_default();
    let mut at = 1;
    while word(at).starts_with('-') {
        at += if word(at) == "--file" { 2 } else { 1 };
    }
    let first = match (word(at), word(at + 1), word(at + 2)) {
        ("psql", "--help" | "-h", _) | ("server", "psql" | "exec", "--help" | "-h") => return args,
        ("psql", ..) => at + 1,
        ("server", "psql" | "exec", _) => at + 2,
        _ => return args,
    };
    if first < args.len() && word(first) != "--" {
        args.insert(first, "--".into());
    }
    args
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(Duration::ZERO) | Err(_) => Err("must be a number of seconds > 0".to_owned()),
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
    fn arguments_of_another_program_are_left_to_it() {
        for (given, taken) in [
            ("wharf psql shop -f x.sql -v A=1", "wharf psql -- shop -f x.sql -v A=1"),
            ("wharf --file a.yaml psql shop -y", "wharf --file a.yaml psql -- shop -y"),
            ("wharf psql shop -- -c x", "wharf psql -- shop -- -c x"),
            ("wharf psql -c x", "wharf psql -- -c x"),
            ("wharf psql shop", "wharf psql -- shop"),
            ("wharf psql", "wharf psql"),
            ("wharf psql --help", "wharf psql --help"),
            ("wharf server psql -f x", "wharf server psql -- -f x"),
            ("wharf server psql --help", "wharf server psql --help"),
            ("wharf --yes server exec sh -y", "wharf --yes server exec -- sh -y"),
            ("wharf server logs -f x", "wharf server logs -f x"),
        ] {
            let words = given.split(' ').map(Into::into).collect();
            let shown: Vec<_> =
                super::separated(words).into_iter().map(|it| it.into_string().unwrap()).collect();
            assert_eq!(shown.join(" "), taken);
        }
    }
}
