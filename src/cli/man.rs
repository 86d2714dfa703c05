//! `wharf man`.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use super::args::Cli;
use super::context::shown;
use super::failure::Failure;
use super::out;

/// Prints the page of a command, or writes the pages of all commands into a folder.
pub(super) fn run(path: &[String], dir: Option<&Path>) -> Result<(), Failure> {
    let mut root = Cli::command();
    // Gives every command its whole name, as in `wharf-server-up`, and the global options.
    root.build();
    if let Some(dir) = dir {
        fs::create_dir_all(dir)?;
        let pages = write(&root, dir)?;
        return out::line(format_args!("{} written to {}", out::count(pages, "page"), shown(dir)));
    }
    let mut command = &root;
    for name in path {
        command = command
            .find_subcommand(name)
            .ok_or_else(|| Failure::Failed(format!("wharf has no command `{}`", path.join(" "))))?;
    }
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    out::exact(&page)
}

/// Writes the page of this command and those below it; how many that were.
fn write(command: &Command, dir: &Path) -> Result<usize, Failure> {
    let page = Man::new(command.clone());
    let mut text = Vec::new();
    page.render(&mut text)?;
    fs::write(dir.join(page.get_filename()), text)?;
    let below: Result<Vec<usize>, Failure> =
        command.get_subcommands().map(|command| write(command, dir)).collect();
    Ok(1 + below?.into_iter().sum::<usize>())
}
