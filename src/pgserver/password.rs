//! The superuser's password: the file's, or one that is made once and kept.

use std::fs::File;
use std::io;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use super::folder::random_hex;
use super::request::Request;
use crate::files;

/// `pass: ""`: whoever reaches the port may log in.
pub(crate) fn is_not_asked_for(request: &Request) -> bool {
    let pass = request.config.pass.as_ref();
    pass.is_some_and(|pass| pass.expose_secret().is_empty())
}

/// The file's, or the one that is kept in `kept`. `None` where none is asked for, or none was made yet.
pub(crate) fn of(request: &Request, kept: &Path) -> Option<SecretString> {
    match &request.config.pass {
        Some(_) if is_not_asked_for(request) => None,
        Some(password) => Some(password.clone()),
        None => {
            let kept = files::read(kept).ok()?;
            Some(SecretString::from(kept.trim().to_owned()))
        }
    }
}

/// The same, made and kept, closed to others, if there is none yet.
///
/// `finish` has the file before it is in its place.
pub(crate) fn of_or_new(
    request: &Request,
    kept: &Path,
    finish: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<Option<SecretString>> {
    let known = of(request, kept);
    if known.is_some() || is_not_asked_for(request) {
        return Ok(known);
    }
    let made = random_hex()?;
    files::write(kept, &format!("{made}\n"), finish)?;
    Ok(Some(SecretString::from(made)))
}
