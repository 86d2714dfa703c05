//! The program `wharf`: each command a thin layer over the library.

mod args;
mod attach;
mod backup;
mod config;
mod context;
mod db;
mod doctor;
mod failure;
mod log;
mod out;
mod ping;
mod psql;
mod run;
mod server;
mod top;

use std::process::ExitCode;

use clap::CommandFactory as _;

use self::args::{Cli, Command};
use self::context::Context;
use self::failure::Failure;

/// Runs the command that the process was started with; what the program `wharf` does.
///
/// For a program of one's own that does the same: it sets up a runtime, a log and signal handlers, so
/// it is to be called from `main` and by nobody else.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::read();
    log::listen(cli.verbose);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            out::error(&format!("no runtime could be made: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(run(cli));
    // Whoever reads standard input reads on until there is some.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                out::error(message);
            }
            failure.code()
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let context = Context::new(&cli);
    match cli.command {
        Command::Server(command) => server::run(&context, command).await,
        Command::Config { command, json } => config::run(&context, command, json.json),
        Command::Ping { name, json } => ping::run(&context, name, json.json).await,
        Command::Doctor { json } => doctor::run(&context, json.json).await,
        Command::Db(command) => db::run(&context, command).await,
        Command::Psql { name, args } => psql::run(&context, &name, args).await,
        Command::Run(command) => run::run(&context, command).await,
        Command::Top { names, interval, once, json } => {
            top::run(&context, names, interval, once, json.json).await
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "wharf", &mut script);
            out::raw(&script)
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            out::raw(&page)
        }
    }
}
