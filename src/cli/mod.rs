//! The program `wharf`: each command a thin layer over the library.

mod args;
mod attach;
mod backup;
mod complete;
mod config;
mod context;
mod db;
mod doctor;
mod entity;
mod failure;
mod init;
mod log;
mod man;
mod migrate;
mod out;
mod ping;
mod program;
mod project;
mod psql;
mod run;
mod rustfmt;
mod scratch;
mod server;
mod top;
mod visible;
mod workspace;

use std::process::ExitCode;

use self::args::{Cli, Command};
use self::context::{Context, Yes};
use self::failure::Failure;
pub use self::program::Program;

/// Runs the command that the process was started with; what the program `wharf` does. One that knows a
/// project's migrations is a [`Program`].
#[must_use]
pub fn main() -> ExitCode {
    Program::new().main()
}

async fn run(cli: Cli, program: &Program) -> Result<(), Failure> {
    let context = Context::new(cli.file, cli.env_prefix, cli.yes.then_some(Yes { host: cli.host }));
    match cli.command {
        Command::Server(command) => server::run(&context, command).await,
        Command::Config { command, json } => config::run(&context, command, json.json),
        Command::Init(command) => init::run(command).await,
        Command::Ping { name, json } => ping::run(&context, name, json.json).await,
        Command::Doctor { json } => doctor::run(&context, json.json).await,
        Command::Db(command) => db::run(&context, command).await,
        Command::Migrate(command) => migrate::run(&context, program, command).await,
        Command::Entity(command) => entity::run(&context, program, command).await,
        Command::Psql { words } => psql::run(&context, words).await,
        Command::Run(command) => run::run(&context, command).await,
        Command::Top { names, interval, once, json } => {
            top::run(&context, names, interval, once, json.json).await
        }
        Command::Completions { shell } => complete::script(shell),
        Command::Man { command, dir } => man::run(&command, dir.as_deref()),
    }
}
