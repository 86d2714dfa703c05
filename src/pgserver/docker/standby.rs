//! A streaming standby, in a container of its own.
//!
//! It clones the primary once, by pg_basebackup, and then follows it. A replication slot on the
//! primary keeps what the standby has not read yet; the slot's name is that of the clone, so a
//! standby whose slot is gone, or was overrun, is known to be out of touch and clones anew.

use std::time::Instant;

use docker_api::opts::{ContainerConnectionOpts, NetworkCreateOpts};
use secrecy::ExposeSecret as _;

use super::container::{Container, Recipe};
use super::engine::{CallError, Engine};
use super::{Docker, FILE, LABEL, STARTING, files, image, settings};
use crate::pgserver::error::PgServerError;
use crate::pgserver::folder::{Remembered, random_hex};
use crate::pgserver::password;
use crate::pgserver::program::Program;
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
    pub(super) fn standby_name(&self) -> String {
        format!("{}-replica", self.request.name())
    }

    pub(super) fn standby_volume(&self) -> String {
        format!("{}-replica-data", self.request.name())
    }

    pub(super) fn network(&self) -> String {
        format!("{}-network", self.request.name())
    }

    /// The container of the standby, if there is one; one that somebody else made is an error.
    pub(super) async fn standby(
        &self,
        engine: &Engine,
    ) -> Result<Option<Container>, PgServerError> {
        self.own_container(engine, &self.standby_name()).await
    }

    /// Finds the standby that follows the primary, or starts it; where it listens. Returns after a
    /// login succeeded.
    pub(super) async fn follow(
        &self,
        engine: &Engine,
        primary: &Endpoint,
        begun: Instant,
    ) -> Result<u16, PgServerError> {
        self.join_network(engine, begun).await?;
        self.admit(engine, primary, begun).await?;
        let slot = self.slot(primary, begun).await?;
        let name = self.standby_name();
        let port = match self.standby(engine).await? {
            Some(Container { running: true, port: Some(port), labels, .. })
                if labels.get(SLOT) == Some(&slot) =>
            {
                port
            }
            _ => self.launch_standby(engine, &slot, begun).await?,
        };
        let at = Endpoint { port, ..primary.clone() };
        self.ready(engine, &name, &at, begun).await?;
        let follows = self.ask(&at, "SELECT pg_is_in_recovery()::text", begun).await?;
        if follows.as_deref() != Some("true") {
            let volume = self.standby_volume();
            return Err(self.request.invalid(format!(
                "its standby was promoted and no longer follows; rows written to it since then exist only there. Copy them if you need them; then run `docker rm -f {name} && docker volume rm {volume}`, and the next start clones it again"
            )));
        }
        Ok(port)
    }

    /// Removes a standby that is not asked for any more, and its slot, for which the primary would
    /// keep its log for ever.
    pub(super) async fn unfollow(
        &self,
        engine: &Engine,
        primary: &Endpoint,
        begun: Instant,
    ) -> Result<(), PgServerError> {
        // Somebody may have removed the container by hand: its slot is still there.
        let was_there = Remembered::read(&self.remembered()).get("replica_port").is_some();
        if self.standby(engine).await?.is_none() && !was_there {
            return Ok(());
        }
        let removed = Container::remove(engine, &self.standby_name()).await;
        removed.map_err(|error| self.failed("could not remove its standby", begun, error))?;
        let drop = "SELECT pg_drop_replication_slot(slot_name)::text FROM pg_replication_slots \
                    WHERE slot_name LIKE 'wharf\\_%' AND NOT active";
        self.ask(primary, drop, begun).await.map(|_| ())
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

    /// The slot of the clone there is, if the primary can still serve it; else a new one.
    async fn slot(&self, primary: &Endpoint, begun: Instant) -> Result<String, PgServerError> {
        let lost = "SELECT pg_drop_replication_slot(slot_name)::text FROM pg_replication_slots \
                    WHERE slot_name LIKE 'wharf\\_%' AND wal_status = 'lost' AND NOT active";
        self.ask(primary, lost, begun).await?;
        let known = "SELECT slot_name::text FROM pg_replication_slots \
                     WHERE slot_name LIKE 'wharf\\_%' ORDER BY active DESC, slot_name LIMIT 1";
        if let Some(slot) = self.ask(primary, known, begun).await? {
            // There is one standby, so others are of one that is gone.
            let others = format!(
                "SELECT pg_drop_replication_slot(slot_name)::text FROM pg_replication_slots \
                 WHERE slot_name LIKE 'wharf\\_%' AND slot_name <> {} AND NOT active",
                sql::quote_literal(&slot)
            );
            self.ask(primary, &others, begun).await?;
            return Ok(slot);
        }
        let random =
            random_hex().map_err(|error| self.failed("could not generate a name", begun, error))?;
        let slot = format!("wharf_{}", &random[..12]);
        let make = format!("SELECT pg_create_physical_replication_slot('{slot}', true)::text");
        self.ask(primary, &make, begun).await?;
        Ok(slot)
    }

    async fn launch_standby(
        &self,
        engine: &Engine,
        slot: &str,
        begun: Instant,
    ) -> Result<u16, PgServerError> {
        let (image, env) = self.image(engine, begun).await?;
        self.remember(|it| it.set(STARTING, true))?;
        let name = self.standby_name();
        let failed = |error: CallError| self.failed("could not create its standby", begun, error);
        Container::remove(engine, &name).await.map_err(failed)?;
        self.volume_for(engine, &self.standby_volume(), &env, begun).await?;
        let shm = self.shared_memory(engine, &name).await.map_err(failed)?;
        let (volume, network) = (self.standby_volume(), self.network());
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
        let fixed = self.request.config.replica.port;
        self.start_one(engine, &recipe, "replica_port", fixed, begun).await
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
