//! What a temporary server must leave nothing of.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::folder::Folder;
#[cfg(unix)]
use super::switch::Switch;

/// The folder of a temporary server, shared by the clones of it.
#[derive(Debug)]
pub(crate) struct Temporary {
    base: PathBuf,
    made: Mutex<Option<Made>>,
}

/// Ends the native server and removes the folder when dropped.
#[derive(Debug)]
struct Made {
    #[cfg(unix)]
    switch: Switch,
    #[cfg(not(unix))]
    base: PathBuf,
}

impl Temporary {
    pub(crate) fn new(base: PathBuf) -> Temporary {
        Temporary { base, made: Mutex::default() }
    }

    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// Makes the folder, once, and sees to its end. Blocks.
    pub(crate) fn make(&self, folder: &Folder) -> io::Result<()> {
        let mut made = self.lock();
        if made.is_none() {
            // Fails if somebody else made it: what is in there would not be ours.
            fs::create_dir(&self.base)?;
            *made = Some(Made::new(folder.path(), &self.base)?);
        }
        Ok(())
    }

    /// Ends it now. Blocks.
    pub(crate) fn end(&self) -> io::Result<()> {
        match self.lock().take() {
            Some(made) => made.end(),
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(unix)]
impl Made {
    fn new(server: &Path, base: &Path) -> io::Result<Made> {
        let switch = Switch::arm(server, base)?;
        Ok(Made { switch })
    }

    fn end(self) -> io::Result<()> {
        self.switch.fire()
    }
}

#[cfg(not(unix))]
impl Made {
    fn new(_: &Path, base: &Path) -> io::Result<Made> {
        let base = base.to_owned();
        Ok(Made { base })
    }

    fn end(self) -> io::Result<()> {
        fs::remove_dir_all(&self.base)
    }
}

#[cfg(feature = "embedded")]
impl Drop for Temporary {
    fn drop(&mut self) {
        let Some(made) = self.lock().take() else {
            return;
        };
        let base = self.base.clone();
        // Away from the thread that drops, which may run futures. The engine ends before its
        // folder goes.
        let _ = std::thread::Builder::new().spawn(move || {
            super::embedded::abandon(&base);
            let _ = made.end();
        });
    }
}
