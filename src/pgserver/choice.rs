//! The choice of a runtime, made before anything is started or stopped.
//!
//! A runtime that runs the server is chosen first, then one that has its data, then the first that can serve the
//! file. So no second server is started beside a running one, and no empty one while the data is elsewhere.

use super::error::{Declined, PgServerError};
use super::folder::Folder;
use super::launcher::{Data, Launcher, Offer};
use super::server::PgServer;
use crate::config::Runtime;

/// The purpose of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// A start, which leaves what runs as it is.
    Start,
    /// A start after everything that runs has been stopped.
    Restart,
    /// The log of a server that is stopped.
    Log,
}

/// A runtime, and what is known of it.
struct Way {
    launcher: Box<dyn Launcher>,
    is_running: bool,
    data: Option<Data>,
    offer: Result<Offer, String>,
}

impl Way {
    fn runtime(&self) -> Runtime {
        self.launcher.runtime()
    }

    fn name(&self) -> &'static str {
        self.runtime().as_str()
    }

    /// `native (folder /…)`, or its name alone.
    fn with_place(&self) -> String {
        match &self.data {
            Some(data) => format!("{} ({})", self.name(), data.place),
            None => self.name().to_owned(),
        }
    }
}

impl PgServer {
    /// Chooses a runtime, and logs which; at debug level, why, and why not the others.
    pub(super) async fn choose(&self, purpose: For) -> Result<Box<dyn Launcher>, PgServerError> {
        if purpose != For::Log {
            self.request.check_password()?;
        }
        let mut ways = self.ways().await?;
        let (at, why) = match self.settled(&ways, purpose)? {
            Some(settled) => {
                if purpose == For::Restart {
                    ways[settled.0].launcher.prepare().await?;
                }
                settled
            }
            None => (
                self.first_that_serves(&ways, purpose).await?,
                "it is the first that can serve the file",
            ),
        };
        let server = self.request.name();
        let way = ways.swap_remove(at);
        let what = way.offer.as_ref().map_or_else(String::clone, |offer| offer.what.clone());
        if purpose != For::Log {
            tracing::info!("pgserver `{server}`: runtime {}, {what}", way.name());
        }
        tracing::debug!("pgserver `{server}`: runtime {} because {why}", way.name());
        for Declined { runtime, reason } in self.declined(&ways) {
            tracing::debug!("pgserver `{server}`: not {}: {reason}", runtime.as_str());
        }
        if self.request.config.runtime != Runtime::Auto && way.data.is_none() {
            for other in ways.iter().filter(|other| other.data.is_some()) {
                tracing::warn!(
                    "pgserver `{server}`: the file says `runtime: {}`, which has no data; its data in {} is left there",
                    way.name(),
                    other.with_place(),
                );
            }
        }
        Ok(way.launcher)
    }

    async fn ways(&self) -> Result<Vec<Way>, PgServerError> {
        let mut ways = Vec::new();
        for launcher in self.launchers()? {
            let is_running = matches!(launcher.running().await, Ok(Some(_)));
            let data = launcher.data().await?;
            // Only a runtime that may be used is asked, because asking an engine costs time.
            let offer = match is_running || self.may_use(launcher.runtime()) {
                true => launcher.can_serve().await,
                false => Err(String::new()),
            };
            ways.push(Way { launcher, is_running, data, offer });
        }
        Ok(ways)
    }

    /// Returns the way to take because it runs or because it has the data, if there is one.
    fn settled(
        &self,
        ways: &[Way],
        purpose: For,
    ) -> Result<Option<(usize, &'static str)>, PgServerError> {
        let named = self.request.config.runtime;
        let is_named = |way: &Way| self.may_use(way.runtime());
        if purpose != For::Log {
            let running: Vec<usize> = (0..ways.len()).filter(|at| ways[*at].is_running).collect();
            if let ([first, second, ..], For::Start) = (running.as_slice(), purpose) {
                return Err(self.elsewhere(format!(
                    "two servers of this name are running, in {} and in {}; stop both with `wharf server down`, then set `runtime:` to the one whose data you want",
                    ways[*first].with_place(),
                    ways[*second].with_place(),
                )));
            }
            let runs = running.iter().map(|at| (*at, &ways[*at]));
            for (at, way) in runs {
                match (&way.offer, purpose) {
                    (_, For::Start) if !is_named(way) => {
                        return Err(self.elsewhere(format!(
                            "it is running in {}, and the file says `runtime: {}`; stop it first with `wharf server down`, which keeps its data, or set `runtime: {}`",
                            way.with_place(),
                            named.as_str(),
                            way.name(),
                        )));
                    }
                    (Err(reason), For::Start) => {
                        return Err(self.elsewhere(format!(
                            "it is running in {}, which cannot serve the file any more: {reason}",
                            way.with_place(),
                        )));
                    }
                    (Ok(_), _) if is_named(way) => {
                        self.fits_its_data(way, purpose)?;
                        return Ok(Some((at, "it is running already")));
                    }
                    _ => {}
                }
            }
        }
        let holders: Vec<usize> =
            (0..ways.len()).filter(|at| ways[*at].data.is_some() && is_named(&ways[*at])).collect();
        match holders.as_slice() {
            [] => Ok(None),
            [only] => {
                self.fits_its_data(&ways[*only], purpose).map(|()| Some((*only, "it has the data")))
            }
            [first, second, ..] => Err(self.elsewhere(format!(
                "both {} and {} have data of it; set `runtime:` to the one to use",
                ways[*first].with_place(),
                ways[*second].with_place(),
            ))),
        }
    }

    /// Refuses a way that cannot serve the file with the data that it has.
    fn fits_its_data(&self, way: &Way, purpose: For) -> Result<(), PgServerError> {
        let (Some(data), true) = (&way.data, purpose != For::Log) else { return Ok(()) };
        let offer = match &way.offer {
            Ok(offer) => offer,
            Err(reason) if self.request.config.runtime == way.runtime() => {
                let declined = Declined { runtime: way.runtime(), reason: reason.clone() };
                let server = self.request.name().to_owned();
                return Err(PgServerError::Unavailable { server, declined });
            }
            Err(reason) => {
                return Err(self.elsewhere(format!(
                    "its data is in {}, which cannot serve the file: {reason}; correct that, or set `runtime:` to another runtime to start an empty server there",
                    way.with_place(),
                )));
            }
        };
        match (&data.major, &offer.major) {
            (Some(made), Some(wanted)) if made != wanted => Err(PgServerError::DataVersion {
                server: self.request.name().to_owned(),
                data: made.clone(),
                wanted: match self.request.wanted_version() {
                    Some(version) => format!("the file requests {version}"),
                    None => format!("{} has PostgreSQL {wanted}", way.name()),
                },
                folder: data.folder.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Returns the first way that can serve the file. If its image cannot be pulled, another with the same major
    /// version is used instead.
    async fn first_that_serves(&self, ways: &[Way], purpose: For) -> Result<usize, PgServerError> {
        let fits = |way: &Way| self.may_use(way.runtime()) && way.offer.is_ok();
        let mut fitting = (0..ways.len()).filter(|at| fits(&ways[*at]));
        let Some(first) = fitting.next() else {
            return Err(self.nothing_fits(ways));
        };
        if purpose == For::Log {
            return Ok(first);
        }
        let Err(error) = ways[first].launcher.prepare().await else { return Ok(first) };
        if self.request.config.runtime != Runtime::Auto {
            return Err(error);
        }
        let major = |at: usize| ways[at].offer.as_ref().ok().and_then(|offer| offer.major.clone());
        let wanted = major(first);
        let mut declined = self.declined(ways);
        let reason = error.to_string();
        declined.insert(0, Declined { runtime: ways[first].runtime(), reason: reason.clone() });
        for at in fitting {
            let way = &ways[at];
            if wanted.is_some() && major(at) == wanted {
                tracing::warn!(
                    "{reason}; runtime {} is used in place of {}, because it has the same major version",
                    way.name(),
                    ways[first].name(),
                );
                return Ok(at);
            }
            let has = major(at).unwrap_or_else(|| "of an unknown version".to_owned());
            let wants = wanted.as_deref().unwrap_or("of an unknown version");
            declined.push(Declined {
                runtime: way.runtime(),
                reason: format!("it has PostgreSQL {has}, and the image PostgreSQL {wants}; set `version:` to the one to use"),
            });
        }
        let server = self.request.name().to_owned();
        Err(PgServerError::NoRuntime { server, needs: self.request.needs(), tried: declined })
    }

    fn elsewhere(&self, reason: String) -> PgServerError {
        PgServerError::Elsewhere { server: self.request.name().to_owned(), reason }
    }

    /// Why the ways that the file allows cannot serve it.
    fn declined(&self, ways: &[Way]) -> Vec<Declined> {
        let allowed = ways.iter().filter(|way| self.may_use(way.runtime()));
        let refused = allowed.filter_map(|way| {
            let reason = way.offer.as_ref().err()?.clone();
            Some(Declined { runtime: way.runtime(), reason })
        });
        refused.chain(self.not_built()).collect()
    }

    fn nothing_fits(&self, ways: &[Way]) -> PgServerError {
        let mut declined = self.declined(ways);
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
