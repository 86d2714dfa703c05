//! `wharf init`.

use super::args::Init;
use super::failure::Failure;

pub(super) fn run(command: Init) -> Result<(), Failure> {
    let _ = (command.folder, command.service);
    Err(Failure::Failed("not written yet".to_owned()))
}
