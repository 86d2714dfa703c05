//! The errors of a connection that could not be opened.

use std::{io, sync::Arc, time::Duration};

use super::ConnectTo;
use crate::error::{ConnectError, ConnectErrorKind};

impl ConnectTo {
    pub(super) fn failed(&self, user: &str, elapsed: Duration, error: sqlx::Error) -> ConnectError {
        let error = self.unreadable(&error).unwrap_or(error);
        let kind = ConnectErrorKind::of(&error);
        let root_cert = self.config.ssl_root_cert.clone().filter(|_| kind == ConnectErrorKind::Tls);
        let (database, target) = (self.name.to_string(), self.target(Some(user)));
        ConnectError { database, target, kind, elapsed, source: Some(Arc::new(error)), root_cert }
    }

    pub(super) fn timed_out(&self, elapsed: Duration) -> ConnectError {
        let (database, target) = (self.name.to_string(), self.target(None));
        let kind = ConnectErrorKind::Timeout;
        ConnectError { database, target, kind, elapsed, source: None, root_cert: None }
    }

    pub(super) fn no_login(
        &self,
        elapsed: Duration,
        error: Box<dyn std::error::Error + Send + Sync>,
    ) -> ConnectError {
        let source = Some(Arc::new(sqlx::Error::Configuration(error)));
        ConnectError { kind: ConnectErrorKind::Credentials, source, ..self.timed_out(elapsed) }
    }

    /// The file of the entry that could not be read, where that is why there is no connection: the driver says
    /// only that some file was not there.
    fn unreadable(&self, error: &sqlx::Error) -> Option<sqlx::Error> {
        use io::ErrorKind::{NotFound, PermissionDenied};
        let sqlx::Error::Io(error) = error else { return None };
        if !matches!(error.kind(), NotFound | PermissionDenied) {
            return None;
        }
        let config = &self.config;
        let files = [
            ("ssl_root_cert", &config.ssl_root_cert),
            ("ssl_cert", &config.ssl_cert),
            ("ssl_key", &config.ssl_key),
        ];
        files.into_iter().find_map(|(key, file)| {
            let file = file.as_ref()?;
            let error = std::fs::File::open(file).err()?;
            let said = format!("cannot read {key} {}: {error}", file.display());
            Some(sqlx::Error::Tls(said.into()))
        })
    }
}
