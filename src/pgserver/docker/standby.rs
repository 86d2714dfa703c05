//! Streaming standbys, each in a container of its own. They are numbered from 1 on.
//!
//! Each clones the primary once, by pg_basebackup, and then follows it. A replication slot on the
//! primary keeps what the standby has not read yet; the slot's name is that of the clone, so a
//! standby whose slot is gone, or was overrun, is known to be out of touch and clones anew.

use std::ops::RangeInclusive;
use std::time::Instant;

use docker_api::opts::{ContainerConnectionOpts, NetworkCreateOpts};
use secrecy::ExposeSecret as _;

use super::container::{Container, Recipe};
use super::engine::{CallError, Engine};
use super::{Docker, FILE, LABEL, STARTING, files, image, settings};
use crate::config::ReplicaConfig;
use crate::pgserver::error::PgServerError;
use crate::pgserver::folder::Remembered;
use crate::pgserver::password;
use crate::pgserver::program::Program;
use crate::pgserver::replication_slot;
use crate::pgserver::server::Endpoint;
use crate::sql;

/// The slot that a standby's container was made for.
const SLOT: &str = "wharf.slot";
const PASSFILE: &str = "/run/wharf-passfile";

/// Clones, unless there is a clone of this slot, and runs PostgreSQL as the image does. A clone takes
/// its place when it is complete, so what is in place was never interrupted. One that has become a
/// primary is nobody's copy any more, and stays. All of that as the image's user `postgres`, because what root writes into a
/// folder of that user's could be led elsewhere by a link.
const ENTRYPOINT: &str = r#"
set -e
if [ -d "$PGDATA" ] && [ "$(cat "$PGDATA.slot")" != "$WHARF_SLOT" ]; then
  if [ ! -f "$PGDATA/standby.signal" ]; then
    echo "wharf: this standby was promoted; its data is kept. Remove its volume to have it clone anew." >&2
    exit 1
  fi
  rm -rf "$PGDATA"
fi
if [ ! -d "$PGDATA" ]; then
  rm -rf "$PGDATA.new"
  echo "wharf: cloning $WHARF_PRIMARY"
  pg_basebackup -h "$WHARF_PRIMARY" -U "$WHARF_USER" -w -D "$PGDATA.new" -R -X stream -S "$WHARF_SLOT" -c fast
  rm -f "$PGDATA.slot"
  echo "$WHARF_SLOT" >"$PGDATA.slot"
  mv "$PGDATA.new" "$PGDATA"
fi
exec docker-entrypoint.sh "$@"
"#;

/// Lets standbys in, which `all` does not cover. `$1` is the file, `$2` how they prove who they are.
const ADMIT: &str = r#"
grep -q "^host replication all all " "$1" || echo "host replication all all $2" >>"$1"
"#;

impl Docker {
    pub(super) fn standby_name(&self, number: u32) -> String {
        match number {
            1 => format!("{}-replica", self.request.name()),
            _ => format!("{}-replica-{number}", self.request.name()),
        }
    }

    pub(super) fn standby_volume(&self, number: u32) -> String {
        format!("{}-data", self.standby_name(number))
    }

    /// Under which a standby's port is remembered.
    fn port_key(number: u32) -> String {
        match number {
            1 => "replica_port".to_owned(),
            _ => format!("replica_port_{number}"),
        }
    }

    /// The numbers of the standbys that are asked for.
    pub(super) fn wanted_standbys(&self) -> RangeInclusive<u32> {
        1..=self.request.config.replica.wanted()
    }

    /// The numbers of all standbys that there may be: those that are asked for, and those that are remembered. Somebody may
    /// have removed a container by hand.
    pub(super) fn known_standbys(&self) -> Vec<u32> {
        let remembered = Remembered::read(&self.remembered());
        let wanted = self.wanted_standbys();
        let is_known = |number: &u32| {
            wanted.contains(number) || remembered.get(&Docker::port_key(*number)).is_some()
        };
        (1..=ReplicaConfig::MAX_COUNT).filter(is_known).collect()
    }

    pub(super) fn network(&self) -> String {
        format!("{}-network", self.request.name())
    }

    /// The container of a standby, if there is one; one that somebody else made is an error.
    pub(super) async fn standby(
        &self,
        engine: &Engine,
        number: u32,
    ) -> Result<Option<Container>, PgServerError> {
        self.own_container(engine, &self.standby_name(number)).await
    }

    /// Finds the standbys that follow the primary, or starts them; where they listen. Those that are not asked for are
    /// removed.
    pub(super) async fn follow_all(
        &self,
        engine: &Engine,
        primary: &Endpoint,
        begun: Instant,
    ) -> Result<Vec<u16>, PgServerError> {
        let wanted = self.wanted_standbys();
        let had_some = self.unfollow(engine, begun).await?;
        if wanted.is_empty() && !had_some {
            return Ok(Vec::new());
        }
        if !wanted.is_empty() {
            self.join_network(engine, begun).await?;
            self.admit(engine, primary, begun).await?;
        }
        let slots = self.slots(engine, primary, begun).await?;
        let mut ports = Vec::new();
        for (number, slot) in wanted.zip(slots) {
            ports.push(self.follow(engine, primary, number, &slot, begun).await?);
        }
        Ok(ports)
    }

    /// Finds a standby that follows the primary, or starts it; where it listens. Returns after a
    /// login succeeded.
    async fn follow(
        &self,
        engine: &Engine,
        primary: &Endpoint,
        number: u32,
        slot: &str,
        begun: Instant,
    ) -> Result<u16, PgServerError> {
        let name = self.standby_name(number);
        let port = match self.standby(engine, number).await? {
            Some(Container { running: true, port: Some(port), labels, .. })
                if labels.get(SLOT).is_some_and(|known| known == slot) =>
            {
                port
            }
            _ => self.launch_standby(engine, number, slot, begun).await?,
        };
        let at = Endpoint { port, ..primary.clone() };
        self.ready(engine, &name, &at, begun).await?;
        let follows = self.ask(&at, "SELECT pg_is_in_recovery()::text", begun).await?;
        if follows.as_deref() != Some("true") {
            let volume = self.standby_volume(number);
            return Err(self.request.invalid(format!(
                "its standby was promoted and no longer follows; rows written to it since then exist only there. Copy them if you need them; then run `docker rm -f {name} && docker volume rm {volume}`, and the next start clones it again"
            )));
        }
        Ok(port)
    }

    /// Removes the containers of standbys that are not asked for any more; whether there are or were any. Their slots are
    /// dropped by [`Docker::slots`], because the primary would keep its log for them.
    async fn unfollow(&self, engine: &Engine, begun: Instant) -> Result<bool, PgServerError> {
        let wanted = self.wanted_standbys();
        let known = self.known_standbys();
        let mut had_some = !known.is_empty();
        for number in known.into_iter().chain([1]).filter(|number| !wanted.contains(number)) {
            if self.standby(engine, number).await?.is_none() {
                continue;
            }
            had_some = true;
            let removed = Container::remove(engine, &self.standby_name(number)).await;
            removed.map_err(|error| self.failed("could not remove its standby", begun, error))?;
        }
        Ok(had_some)
    }

    /// A network on which the two find each other by name.
    async fn join_network(&self, engine: &Engine, begun: Instant) -> Result<(), PgServerError> {
        let failed = |error: CallError| self.failed("could not create its network", begun, error);
        let name = self.network();
        let network = engine.docker().networks().get(&name);
        let members = match engine.ask(network.inspect()).await {
            Ok(found) => {
                let labels = found.labels.unwrap_or_default();
                if labels.get(LABEL).map(String::as_str) != Some(self.request.name()) {
                    return Err(self.foreign("network", &name));
                }
                found.containers.unwrap_or_default()
            }
            Err(CallError::NotFound) => {
                self.remember(|it| it.set(STARTING, true))?;
                let labels = [(LABEL, self.request.name())];
                let opts = NetworkCreateOpts::builder(&name).labels(labels).build();
                let made = engine.ask(engine.docker().networks().create(&opts)).await;
                made.map_err(failed)?;
                Default::default()
            }
            Err(error) => return Err(failed(error)),
        };
        let is_primary =
            |member: Option<&String>| member.is_some_and(|it| it == self.request.name());
        if members.values().any(|member| is_primary(member.name.as_ref())) {
            return Ok(());
        }
        let opts = ContainerConnectionOpts::builder(self.request.name()).build();
        engine.ask(network.connect(&opts)).await.map_err(failed)
    }

    async fn admit(
        &self,
        engine: &Engine,
        primary: &Endpoint,
        begun: Instant,
    ) -> Result<(), PgServerError> {
        let file = self.ask(primary, "SHOW hba_file", begun).await?.unwrap_or_default();
        let method = match password::is_not_asked_for(&self.request) {
            true => "trust",
            false => "scram-sha-256",
        };
        let program = Program::new(["sh", "-c", ADMIT, "sh", &file, method]).user(files::USER);
        let what = "could not let the primary admit a standby";
        let running = engine.run(self.request.name(), program, Vec::new()).await;
        let running = running.map_err(|error| self.failed(what, begun, error))?;
        running.text().await.map_err(|error| self.failed(what, begun, error))?;
        self.ask(primary, "SELECT pg_reload_conf()::text", begun).await.map(|_| ())
    }

    /// A slot for each standby that is asked for: that of its clone, if the primary can still serve it, else one whose
    /// container is gone, else a new one. All others are dropped.
    async fn slots(
        &self,
        engine: &Engine,
        primary: &Endpoint,
        begun: Instant,
    ) -> Result<Vec<String>, PgServerError> {
        let lost = "SELECT count(pg_drop_replication_slot(slot_name))::text FROM pg_replication_slots \
                    WHERE slot_name LIKE 'wharf\\_%' AND wal_status = 'lost' AND NOT active";
        self.ask(primary, lost, begun).await?;
        let known = "SELECT string_agg(slot_name, ' ' ORDER BY active DESC, slot_name) \
                     FROM pg_replication_slots WHERE slot_name LIKE 'wharf\\_%'";
        let known = self.ask(primary, known, begun).await?.unwrap_or_default();
        let mut free: Vec<String> = known.split_whitespace().map(str::to_owned).collect();
        let mut slots: Vec<Option<String>> = Vec::new();
        for number in self.wanted_standbys() {
            let container = self.standby(engine, number).await?;
            let own = container.and_then(|mut container| container.labels.remove(SLOT));
            let at = free.iter().position(|slot| own.as_ref() == Some(slot));
            slots.push(at.map(|at| free.remove(at)));
        }
        let mut free = free.into_iter();
        for slot in slots.iter_mut().filter(|slot| slot.is_none()) {
            *slot = free.next();
        }
        let others: Vec<String> = free.map(|slot| sql::quote_literal(&slot)).collect();
        if !others.is_empty() {
            let drop = format!(
                "SELECT count(pg_drop_replication_slot(slot_name))::text FROM pg_replication_slots \
                 WHERE slot_name IN ({}) AND NOT active",
                others.join(", ")
            );
            self.ask(primary, &drop, begun).await?;
        }
        let mut all = Vec::new();
        for slot in slots {
            all.push(match slot {
                Some(known) => known,
                None => self.new_slot(primary, begun).await?,
            });
        }
        Ok(all)
    }

    async fn new_slot(&self, primary: &Endpoint, begun: Instant) -> Result<String, PgServerError> {
        let failed = |error| self.failed("could not generate a name", begun, error);
        let slot = replication_slot::new_name(failed)?;
        self.ask(primary, &replication_slot::create(&slot), begun).await?;
        Ok(slot)
    }

    async fn launch_standby(
        &self,
        engine: &Engine,
        number: u32,
        slot: &str,
        begun: Instant,
    ) -> Result<u16, PgServerError> {
        let (image, env) = self.image(engine, begun).await?;
        self.remember(|it| it.set(STARTING, true))?;
        let name = self.standby_name(number);
        let failed = |error: CallError| self.failed("could not create its standby", begun, error);
        Container::remove(engine, &name).await.map_err(failed)?;
        self.volume_for(engine, &self.standby_volume(number), &env, begun).await?;
        let shm = self.shared_memory(engine, &name).await.map_err(failed)?;
        let (volume, network) = (self.standby_volume(number), self.network());
        let file = self.file();
        let mount = image::data_mount(&env);
        let secret = password::of(&self.request, &self.root().join("password")).map(|secret| {
            // A backslash keeps a colon from ending the password.
            let secret = secret.expose_secret().replace('\\', "\\\\").replace(':', "\\:");
            (PASSFILE, format!("*:*:*:*:{secret}\n"))
        });
        let folder = format!("{mount}/standby");
        // What the primary calls it by.
        let mut conf = self.settings();
        conf.entry("cluster_name".to_owned()).or_insert_with(|| name.clone());
        let recipe = Recipe {
            name: &name,
            image: &image,
            entrypoint: Some(["sh", "-c", ENTRYPOINT, "sh"].map(str::to_owned).into()),
            user: Some(files::USER),
            conf: settings::text(&conf, &folder),
            env: vec![
                format!("POSTGRES_USER={}", self.request.config.user),
                format!("PGDATA={folder}"),
                format!("PGPASSFILE={PASSFILE}"),
                format!("WHARF_SLOT={slot}"),
                format!("WHARF_PRIMARY={}", self.request.name()),
                format!("WHARF_USER={}", self.request.config.user),
            ],
            labels: vec![(LABEL, self.request.name()), (FILE, &file), (SLOT, slot)],
            volume: (&volume, mount),
            shm,
            network: Some(&network),
            host: self.listen_host(engine),
            secret,
        };
        let fixed = self.request.config.replica.fixed_port(number - 1);
        self.start_one(engine, &recipe, &Docker::port_key(number), fixed, begun).await
    }

    /// The first column of the first row that the primary answers, as text.
    pub(super) async fn ask(
        &self,
        primary: &Endpoint,
        sql: &str,
        begun: Instant,
    ) -> Result<Option<String>, PgServerError> {
        let asked = primary.login().ask(sql).await;
        asked.map_err(|error| self.failed("could not ask the server", begun, error))
    }
}
