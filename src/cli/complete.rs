//! Shell completion. The shell's script asks this program, which knows the names in the file.

use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, Shell};

use super::args::Cli;
use super::context::Context;
use super::failure::Failure;
use super::out;

/// Set by the shell's script: the process is to complete a command line and exit.
const VARIABLE: &str = "WHARF_COMPLETE";

/// Completes a command line and exits, if the shell started the process for that.
pub(super) fn answer() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

/// Prints the script that makes a shell ask this program.
pub(super) fn script(shell: Shell) -> Result<(), Failure> {
    let shells = Shells::builtins();
    let name = shell.to_string();
    let completer = shells
        .completer(&name)
        .ok_or_else(|| Failure::Failed(format!("completion for {name} is not supported")))?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "wharf", "wharf", "wharf", &mut script)?;
    out::exact(&script)
}

/// The names of the databases in the file; none where the file cannot be read.
pub(super) fn databases() -> Vec<CompletionCandidate> {
    let mut words = std::env::args_os().skip_while(|word| word != "--file").skip(1);
    let named = words.next().or_else(|| std::env::var_os("WHARF_FILE"));
    let prefix = std::env::var("WHARF_ENV_PREFIX").unwrap_or_else(|_| "INFRA".to_owned());
    let Ok(config) = Context::new(named.map(PathBuf::from), prefix, None).config() else {
        return Vec::new();
    };
    config.databases.into_keys().map(CompletionCandidate::new).collect()
}
