//! Generated code, formatted as the project's own is.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::failure::Failure;

/// The text as rustfmt has it under the settings that hold in the folder, be it there yet or not.
pub(super) fn formatted(text: &str, folder: &Path) -> Result<String, Failure> {
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.args(["--edition", "2024", "--emit", "stdout", "--quiet"]);
    // Where it looks for settings.
    rustfmt.current_dir(folder.ancestors().find(|it| it.is_dir()).unwrap_or(Path::new(".")));
    let pipes = rustfmt.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().map_err(|error| {
        Failure::Failed(format!(
            "cannot run rustfmt, which formats the generated code: {error}; install it with `rustup \
             component add rustfmt`"
        ))
    })?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(text.as_bytes())?;
    }
    let done = child.wait_with_output()?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        false => Err(Failure::Failed(format!(
            "rustfmt: {}",
            String::from_utf8_lossy(&done.stderr).trim()
        ))),
    }
}
