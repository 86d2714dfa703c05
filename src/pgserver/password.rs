//! The superuser's password: the file's, or one that is made once and kept.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use super::folder::random_hex;
use super::request::Request;

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
            let kept = fs::read_to_string(kept).ok()?;
            Some(SecretString::from(kept.trim().to_owned()))
        }
    }
}

/// The same, made and kept, closed to others, if there is none yet.
pub(crate) fn of_or_new(request: &Request, kept: &Path) -> io::Result<Option<SecretString>> {
    let known = of(request, kept);
    if known.is_some() || is_not_asked_for(request) {
        return Ok(known);
    }
    let made = random_hex()?;
    // Written beside its place and renamed, because a full disk would otherwise leave half a password.
    let new = kept.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    writeln!(file, "{made}")?;
    file.sync_all()?;
    fs::rename(&new, kept)?;
    Ok(Some(SecretString::from(made)))
}
