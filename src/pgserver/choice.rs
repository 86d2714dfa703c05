//! Which way to run a server is taken, and why.

use super::error::{Declined, PgServerError};
use super::folder::Folder;
use super::launcher::Launcher;
use super::server::PgServer;
use crate::config::Runtime;

impl PgServer {
    /// Chooses a runtime, and logs which; at debug level, why, and why not the others.
    pub(super) async fn choose(&self) -> Result<Box<dyn Launcher>, PgServerError> {
        let server = self.request.name();
        let mut declined: Vec<Declined> = Vec::new();
        let mut fit: Vec<(Box<dyn Launcher>, String)> = Vec::new();
        for launcher in self.launchers()? {
            let runtime = launcher.runtime();
            if !self.may_use(runtime) {
                continue;
            }
            match launcher.can_serve().await {
                Ok(what) => fit.push((launcher, what)),
                Err(mut reason) => {
                    if matches!(launcher.running().await, Ok(Some(_))) {
                        reason.push_str(" (it is running there, with data)");
                    }
                    declined.push(Declined { runtime, reason });
                }
            }
        }
        declined.extend(self.not_built());
        // One that runs goes first, or its data would seem gone.
        let mut taken = 0;
        let mut why = "it is the first that can serve the file";
        if self.request.config.runtime != Runtime::Auto {
            why = "the file names it";
        } else {
            for (at, (launcher, _)) in fit.iter().enumerate() {
                if matches!(launcher.running().await, Ok(Some(_))) {
                    (taken, why) = (at, "it is running already");
                    break;
                }
            }
        }
        if taken >= fit.len() {
            return Err(self.nothing_fits(declined));
        }
        let (launcher, what) = fit.swap_remove(taken);
        tracing::info!("pgserver `{server}`: runtime {}, {what}", launcher.runtime().as_str());
        tracing::debug!(
            "pgserver `{server}`: runtime {} because {why}",
            launcher.runtime().as_str()
        );
        for declined in &declined {
            tracing::debug!("pgserver `{server}`: not {declined}");
        }
        Ok(launcher)
    }

    fn nothing_fits(&self, mut declined: Vec<Declined>) -> PgServerError {
        let server = self.request.name().to_owned();
        if self.request.config.runtime != Runtime::Auto && declined.len() == 1 {
            let declined = declined.remove(0);
            return PgServerError::Unavailable { server, declined };
        }
        PgServerError::NoRuntime { server, needs: self.request.needs(), tried: declined }
    }

    pub(super) fn may_use(&self, runtime: Runtime) -> bool {
        let wanted = self.request.config.runtime;
        wanted == Runtime::Auto || wanted == runtime
    }

    /// Every way that is built in, in the order in which `auto` tries them.
    pub(super) fn launchers(&self) -> Result<Vec<Box<dyn Launcher>>, PgServerError> {
        let folder = Folder::of(&self.request)?;
        let _ = &folder;
        Ok(vec![
            #[cfg(feature = "docker")]
            Box::new(super::docker::Docker::new(self.request.clone(), folder.clone())),
            #[cfg(unix)]
            Box::new(super::native::Native::new(self.request.clone(), folder.clone())),
            #[cfg(feature = "embedded")]
            Box::new(super::embedded::Embedded::new(self.request.clone(), folder.clone())),
        ])
    }

    /// The ways that this build leaves out, of those the file allows.
    fn not_built(&self) -> Vec<Declined> {
        let mut ways = Vec::new();
        if cfg!(not(feature = "docker")) {
            ways.push((Runtime::Docker, "not in this build; enable wharf's feature `docker`"));
        }
        if cfg!(not(unix)) {
            ways.push((Runtime::Native, "not supported on this system"));
        }
        if cfg!(not(feature = "embedded")) {
            ways.push((Runtime::Embedded, "not in this build; enable wharf's feature `embedded`"));
        }
        let ways = ways.into_iter().filter(|(way, _)| self.may_use(*way));
        ways.map(|(runtime, reason)| Declined { runtime, reason: reason.to_owned() }).collect()
    }
}
