//! `wharf doctor`: what is wrong, and what to do about it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, QueryResult, Statement};
use serde_json::json;

use super::context::{Context, is_on_server, shown};
use super::failure::Failure;
use super::log::Work;
use super::out::{self, Colour};
use super::project;
use super::server::extensions_of;
use super::visible::visible;
use crate::config::{Config, DatabaseConfig, Origin, Pooler};
use crate::ext::citus;
use crate::pgserver::{self, Difference, Status};
use crate::{Manager, Pg, sql};

/// A clock that is further off makes a mess of timestamps and tokens.
const CLOCK: f64 = 1.0;
/// Who has left a transaction open for longer holds locks, and keeps VACUUM from its work.
const IDLE: f64 = 300.0;
/// PostgreSQL stops taking writes at some two thousand million.
const XIDS: i64 = 1_500_000_000;

/// What was looked at, how it is, and what to do if it is not well.
struct Finding {
    about: String,
    verdict: Verdict,
    said: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Well,
    Doubtful,
    Wrong,
}

impl Verdict {
    fn word(self) -> (&'static str, Colour) {
        match self {
            Verdict::Well => ("ok", Colour::Green),
            Verdict::Doubtful => ("warning", Colour::Yellow),
            Verdict::Wrong => ("wrong", Colour::Red),
        }
    }
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, about: &str, verdict: Verdict, said: impl Into<String>) {
        self.0.push(Finding { about: about.to_owned(), verdict, said: said.into() });
    }
}

pub(super) async fn run(context: &Context, json: bool) -> Result<(), Failure> {
    let work = Work::begin("checking");
    let mut findings = Findings::default();
    let config = match context.config() {
        Ok(config) => {
            let file = shown(&context.file()?);
            let databases = out::count(config.databases.len(), "database");
            findings.add("file", Verdict::Well, format!("{file}: {databases}"));
            Some(config)
        }
        Err(failure) => {
            findings.add("file", Verdict::Wrong, failure.to_string());
            None
        }
    };
    if let Some(config) = config {
        environment(&mut findings, &config);
        machine(&mut findings, &config).await;
        let manager = Manager::from_config(config);
        server(&mut findings, &manager).await;
        for name in manager.names() {
            database(&mut findings, &manager, name).await;
        }
        manager.close().await;
    }
    drop(work);
    say(&findings, json)?;
    match findings.0.iter().any(|finding| finding.verdict == Verdict::Wrong) {
        true => Err(Failure::Code(1)),
        false => Ok(()),
    }
}

fn say(findings: &Findings, json: bool) -> Result<(), Failure> {
    if json {
        let all: Vec<_> = findings
            .0
            .iter()
            .map(|it| json!({"about": it.about, "verdict": it.verdict.word().0, "said": it.said}))
            .collect();
        return out::json(&json!(all));
    }
    let width = findings.0.iter().map(|finding| finding.about.chars().count()).max().unwrap_or(0);
    for finding in &findings.0 {
        let (word, colour) = finding.verdict.word();
        // Padded by hand: what colours a word has no width.
        let word = format!("{}{}", out::verdict(word, colour), " ".repeat(7 - word.len()));
        let (about, said) = (&finding.about, visible(&finding.said));
        out::styled(format_args!("{word}  {about:width$}  {said}"))?;
    }
    Ok(())
}

fn environment(findings: &mut Findings, config: &Config) {
    let effective = config.effective();
    let overrides: Vec<String> = effective
        .settings()
        .iter()
        .filter(|setting| matches!(setting.source, Origin::Override { .. }))
        .map(|setting| format!("{} = {}", setting.source, setting.value))
        .collect();
    let said = match overrides.is_empty() {
        true => "no overrides".to_owned(),
        false => overrides.join(", "),
    };
    findings.add("environment", Verdict::Well, said);
    for setting in effective.settings().iter().filter(|setting| !setting.has_effect) {
        let said = format!("{} has no effect; only SQLAlchemy reads it", setting.path);
        findings.add("file", Verdict::Doubtful, said);
    }
}

/// What could run the file's server.
async fn machine(findings: &mut Findings, config: &Config) {
    if config.pgserver.is_none() {
        return;
    }
    let engine = pgserver::engine().await;
    let installed = tokio::task::spawn_blocking(pgserver::installed).await.unwrap_or_default();
    let majors = tokio::task::spawn_blocking(pgserver::majors).await.unwrap_or_default();
    // Without a version, an image is asked for, which only an engine has.
    let wanted = config.pgserver.as_ref().and_then(|server| server.version.as_deref());
    let fits = wanted.is_some_and(|wanted| {
        majors.iter().any(|major| wanted == major || wanted.starts_with(&format!("{major}.")))
    });
    let has_engine = engine.is_ok();
    match engine {
        Ok(version) => findings.add("engine", Verdict::Well, format!("Docker {version}")),
        Err(_) if fits => {
            let said = "there is no Docker engine; the installed PostgreSQL can serve the file";
            findings.add("engine", Verdict::Well, said);
        }
        Err(reason) => findings.add("engine", Verdict::Wrong, reason),
    }
    let said = match (installed.is_empty(), wanted) {
        (true, _) => "PostgreSQL is not installed on this machine".to_owned(),
        (false, Some(wanted)) if !fits && !has_engine => format!(
            "{} does not satisfy the requested version {wanted}; start a Docker engine, or install \
             PostgreSQL {wanted}",
            installed.join(", ")
        ),
        _ => installed.join(", "),
    };
    let verdict = if has_engine || fits { Verdict::Well } else { Verdict::Wrong };
    findings.add("programs", verdict, said);
}

async fn server(findings: &mut Findings, manager: &Manager) {
    let Some(server) = manager.pgserver() else {
        return;
    };
    let about = "server";
    match server.status().await {
        Ok(Status::Running(at)) => {
            let runtime = at.runtime.as_str();
            let said = format!("PostgreSQL {} ({runtime}) at {}:{}", at.version, at.host, at.port);
            findings.add(about, Verdict::Well, said);
        }
        Ok(Status::Starting { reason, .. }) => {
            findings.add(about, Verdict::Doubtful, format!("it is starting: {reason}"));
        }
        Ok(_) => {
            let said = "it is not running; run `wharf server up`";
            findings.add(about, Verdict::Doubtful, said);
        }
        Err(error) => findings.add(about, Verdict::Wrong, error.to_string()),
    }
    if let Ok(differences) = server.differences().await
        && !differences.is_empty()
    {
        let differences: Vec<String> = differences.iter().map(Difference::to_string).collect();
        let said = format!(
            "it runs with other settings than the file has now: {}; run `wharf server restart`",
            differences.join(", ")
        );
        findings.add(about, Verdict::Doubtful, said);
    }
    if let Ok(Some(report)) = server.report().await {
        for standby in report.standbys.iter().filter(|standby| standby.state == "disconnected") {
            let said = format!(
                "standby {} is not connected, and its replication slot retains WAL; run `wharf server \
                 restart`, or drop the slot",
                standby.name
            );
            findings.add(about, Verdict::Doubtful, said);
        }
    }
}

/// What one row of a database tells.
struct Facts {
    major: u32,
    version: String,
    standby: bool,
    superuser: bool,
    encrypted: bool,
    encoding: String,
    /// Seconds that its clock is ahead of this one.
    ahead: f64,
    max_connections: i64,
    /// Seconds for which somebody has left a transaction open.
    idle: Option<f64>,
    xids: i64,
    migrations: bool,
    citus: bool,
}

const FACTS: &str = "
SELECT current_setting('server_version_num')::int4 / 10000, current_setting('server_version'),
       pg_is_in_recovery(), (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
       coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false),
       pg_encoding_to_char((SELECT encoding FROM pg_database WHERE datname = current_database())),
       extract(epoch FROM clock_timestamp())::float8,
       current_setting('max_connections')::int8,
       (SELECT extract(epoch FROM max(now() - state_change))::float8 FROM pg_stat_activity
         WHERE state LIKE 'idle in transaction%' AND datname = current_database()),
       (SELECT max(age(datfrozenxid))::int8 FROM pg_database),
       to_regclass(quote_ident(current_schema()) || '.seaql_migrations') IS NOT NULL";

impl Facts {
    async fn of(pg: &Pg) -> Result<Option<Facts>, DbErr> {
        let asked = now();
        let sql = format!("{FACTS}, {}", citus::IN_DATABASE);
        let row = pg.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
        // Between the question and the answer, as far as anybody knows.
        let here = (asked + now()) / 2.0;
        row.map(|row| Facts::read(&row, here)).transpose()
    }

    fn read(row: &QueryResult, here: f64) -> Result<Facts, DbErr> {
        let major: i32 = row.try_get_by(0)?;
        let theirs: f64 = row.try_get_by(6)?;
        Ok(Facts {
            major: u32::try_from(major).unwrap_or(0),
            version: row.try_get_by(1)?,
            standby: row.try_get_by(2)?,
            superuser: row.try_get_by::<Option<bool>, _>(3)?.unwrap_or(false),
            encrypted: row.try_get_by(4)?,
            encoding: row.try_get_by(5)?,
            ahead: theirs - here,
            max_connections: row.try_get_by(7)?,
            idle: row.try_get_by(8)?,
            xids: row.try_get_by(9)?,
            migrations: row.try_get_by(10)?,
            citus: row.try_get_by(11)?,
        })
    }
}

async fn database(findings: &mut Findings, manager: &Manager, name: &str) {
    let (Ok(pg), Some(entry)) = (manager.db(name), manager.config().databases.get(name)) else {
        return;
    };
    let begun = std::time::Instant::now();
    let facts = match Facts::of(&pg).await {
        Ok(Some(facts)) => facts,
        Ok(None) => return,
        Err(error) => {
            let said = crate::Error::from(error).to_string();
            return findings.add(name, Verdict::Wrong, said);
        }
    };
    let said = format!("PostgreSQL {}, answered in {:.0?}", facts.version, begun.elapsed());
    findings.add(name, Verdict::Well, said);
    let host = match pg.database().current().await {
        Ok(to) => to.host,
        Err(_) => String::new(),
    };
    for (verdict, said) in doubts(&facts, entry, &host) {
        findings.add(name, verdict, said);
    }
    for (verdict, said) in pooling(&pg, entry).await {
        findings.add(name, verdict, said);
    }
    match pg.servers().await {
        Ok(servers) => {
            for server in servers {
                let verdict = match server.problem {
                    Some(_) => Verdict::Doubtful,
                    None => Verdict::Well,
                };
                findings.add(name, verdict, server.to_string());
            }
        }
        Err(error) => findings.add(name, Verdict::Wrong, error.to_string()),
    }
    if facts.citus {
        match nodes(&pg).await {
            Ok((verdict, said)) => findings.add(name, verdict, said),
            Err(error) => findings.add(name, Verdict::Wrong, crate::Error::from(error).to_string()),
        }
    }
    match extensions_of(manager, name).await {
        Ok(there) => {
            let has = |wanted: &&String| there.iter().any(|(name, _)| name == *wanted);
            for missing in entry.extensions.iter().filter(|wanted| !has(wanted)) {
                let said = match remedy(&pg, &facts, is_on_server(entry), name, missing).await {
                    Ok(remedy) => format!("it lacks the extension {missing}; {remedy}"),
                    Err(error) => error.to_string(),
                };
                findings.add(name, Verdict::Wrong, said);
            }
        }
        Err(error) => findings.add(name, Verdict::Wrong, error.to_string()),
    }
    let here = in_project(name);
    if facts.migrations || !here.is_empty() {
        let (verdict, said) = match migrations(&pg, &here, facts.migrations).await {
            Ok(told) => told,
            Err(error) => (Verdict::Wrong, error.to_string()),
        };
        findings.add(name, verdict, said);
    }
}

/// Whether the entry says how its pooler lends connections, and what its settings cost behind that.
async fn pooling(pg: &Pg, entry: &DatabaseConfig) -> Vec<(Verdict, String)> {
    let lends = match pg.database().current().await {
        Ok(to) => to.lends_by_transaction().await,
        Err(_) => return Vec::new(),
    };
    let mut findings = Vec::new();
    match (lends, entry.pooler) {
        (Ok(true), Pooler::None | Pooler::Session) => findings.push((
            Verdict::Wrong,
            "a pooler lends its connections for a transaction each; say `pooler: transaction`, because settings, locks and \
             prepared statements reach other clients otherwise"
                .to_owned(),
        )),
        (Ok(_), _) => {}
        (Err(error), _) => findings.push((Verdict::Wrong, error.to_string())),
    }
    if entry.pooler == Pooler::Transaction {
        match pg.database().settings_by_transaction(pg.is_read_only()).await {
            Ok(needed) if !needed.is_empty() => findings.push((
                Verdict::Doubtful,
                format!(
                    "each statement outside of a session costs two round trips more, to set {needed} in a transaction; give the \
                     login those settings, by ALTER ROLE {} SET …",
                    sql::quote_ident(&entry.user)
                ),
            )),
            Ok(_) => {}
            Err(error) => findings.push((Verdict::Wrong, error.to_string())),
        }
        if entry.direct.is_none() {
            let said =
                "it names no `direct` address past its pooler, so it cannot migrate or listen";
            findings.push((Verdict::Doubtful, said.to_owned()));
        }
    }
    findings
}

/// What Citus knows of its nodes and tables. Not from the view `citus_tables`, which asks every node for sizes.
async fn nodes(pg: &Pg) -> Result<(Verdict, String), DbErr> {
    let sql = "SELECT (SELECT count(*) FROM pg_dist_node),
                      (SELECT string_agg(concat(nodename, ':', nodeport), ', ' ORDER BY nodename, nodeport)
                         FROM pg_dist_node WHERE NOT isactive),
                      count(*) FILTER (WHERE partkey IS NOT NULL),
                      count(*) FILTER (WHERE partkey IS NULL AND repmodel = 't')
                 FROM pg_dist_partition";
    let row = pg.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound("pg_dist_node gave no row".to_owned()))?;
    let count = |at: usize, what: &str| -> Result<String, DbErr> {
        let count: i64 = row.try_get_by(at)?;
        Ok(out::count(usize::try_from(count).unwrap_or(0), what))
    };
    let version = citus::version(pg).await?.unwrap_or_default();
    let said = format!(
        "Citus {version}: {}, {}, {}",
        count(0, "node")?,
        count(2, "distributed table")?,
        count(3, "reference table")?
    );
    Ok(match row.try_get_by::<Option<String>, _>(1)? {
        None => (Verdict::Well, said),
        Some(inactive) => {
            let remedy =
                "start them if they are down, then run SELECT citus_activate_node(host, port)";
            (Verdict::Doubtful, format!("{said}; inactive: {inactive}; {remedy}"))
        }
    })
}

/// How to create an extension, if the server has it and the login has the rights.
async fn remedy(
    pg: &Pg,
    facts: &Facts,
    own: bool,
    name: &str,
    extension: &str,
) -> Result<String, DbErr> {
    let sql = "SELECT coalesce(bool_or(v.trusted), false) AND \
               has_database_privilege(current_database(), 'CREATE') \
               FROM pg_available_extension_versions v WHERE v.name = $1 HAVING count(*) > 0";
    let asked = Statement::from_sql_and_values(DbBackend::Postgres, sql, [extension.into()]);
    let Some(row) = pg.query_one_raw(asked).await? else {
        let major = facts.major;
        let image = match extension {
            "vector" => Some(format!("pgvector/pgvector:pg{major}")),
            "timescaledb" => Some(format!("timescale/timescaledb:latest-pg{major}")),
            "postgis" => Some(format!("postgis/postgis:{major}-3.5")),
            _ => None,
        };
        return Ok(match (own, image) {
            (true, Some(image)) => format!(
                "this server does not have it; write `image: {image}` below `pgserver:`, then run \
                 `wharf server restart`"
            ),
            (true, None) => {
                "this server does not have it; name an image that has it below `pgserver:`"
                    .to_owned()
            }
            (false, _) => {
                "this server does not have it; install its package on the server".to_owned()
            }
        });
    };
    let trusted: bool = row.try_get_by(0)?;
    Ok(match (own, facts.superuser || trusted) {
        (true, _) => "run `wharf server up`".to_owned(),
        (false, true) => format!("run `wharf db create {name}`"),
        (false, false) => format!("have a superuser run CREATE EXTENSION {extension}"),
    })
}

fn doubts(facts: &Facts, entry: &DatabaseConfig, host: &str) -> Vec<(Verdict, String)> {
    let mut doubts = Vec::new();
    let mut doubt = |verdict: Verdict, said: String| doubts.push((verdict, said));
    if ended(facts.major, now()) {
        doubt(
            Verdict::Doubtful,
            format!(
                "PostgreSQL {} is no longer supported; upgrade to a newer major version",
                facts.major
            ),
        );
    }
    if facts.ahead.abs() > CLOCK {
        let way = if facts.ahead > 0.0 { "ahead of" } else { "behind" };
        doubt(
            Verdict::Doubtful,
            format!(
                "its clock is {:.1} s {way} this machine's; check NTP on both",
                facts.ahead.abs()
            ),
        );
    }
    if facts.standby && !entry.readonly {
        let said = "it is a standby, which refuses writes; write `readonly: true`, or the address of its \
                    primary";
        doubt(Verdict::Wrong, said.to_owned());
    }
    let own = is_on_server(entry);
    if facts.superuser && !own {
        let said = "its user is a superuser; give the service a role of its own";
        doubt(Verdict::Doubtful, said.to_owned());
    }
    let near = host.starts_with('/') || matches!(host, "localhost" | "127.0.0.1" | "::1");
    if !facts.encrypted && !own && !near {
        let said = "traffic to this host is not encrypted; write `ssl_mode: verify-full`, if the server has TLS";
        doubt(Verdict::Doubtful, said.to_owned());
    }
    if facts.encoding != "UTF8" {
        let said = format!(
            "its encoding is {}, which cannot hold all text; create it with UTF8",
            facts.encoding
        );
        doubt(Verdict::Doubtful, said);
    }
    let most = i64::from(entry.pool_size) + i64::from(entry.max_overflow);
    if most > facts.max_connections {
        doubt(
            Verdict::Wrong,
            format!(
                "one process may open {most} connections, but the server allows {}; lower pool_size or \
                 max_overflow",
                facts.max_connections
            ),
        );
    }
    if let Some(idle) = facts.idle.filter(|idle| *idle > IDLE) {
        let since = out::ago(Duration::try_from_secs_f64(idle).unwrap_or_default());
        doubt(
            Verdict::Doubtful,
            format!("a session has been idle in transaction for {since}; see `wharf top`"),
        );
    }
    if facts.xids > XIDS {
        let said = format!(
            "its oldest transaction ID is {} old, and at 2 000 000 000 the server refuses writes; find out \
             what keeps VACUUM from freezing rows",
            facts.xids
        );
        doubt(Verdict::Wrong, said);
    }
    doubts
}

/// Whether the community has ended its support: in November of the fifth year after the release.
fn ended(major: u32, now: f64) -> bool {
    const YEAR: f64 = 31_556_952.0;
    let year = 1970.0 + now / YEAR;
    year > f64::from(major) + 2012.87
}

/// The migrations that are applied, beside those that lie in the project.
async fn migrations(
    pg: &Pg,
    here: &[String],
    some_applied: bool,
) -> Result<(Verdict, String), DbErr> {
    let mut applied: Vec<String> = Vec::new();
    if some_applied {
        let sql = "SELECT version FROM seaql_migrations";
        for row in pg.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await? {
            applied.push(row.try_get_by(0)?);
        }
    }
    let pending: Vec<&String> = here.iter().filter(|name| !applied.contains(name)).collect();
    let said = format!("{} applied", out::count(applied.len(), "migration"));
    Ok(match pending.as_slice() {
        [] => (Verdict::Well, said),
        [first, ..] => (
            Verdict::Doubtful,
            format!(
                "{said}, {} in migration/src pending, the first is {first}; run `wharf migrate up {}`",
                pending.len(),
                pg.name()
            ),
        ),
    })
}

/// The migrations of a project that keeps them where `wharf migrate init` and sea-orm-cli put them.
fn in_project(database: &str) -> Vec<String> {
    let Ok(Some(folder)) = project::folder("migration") else {
        return Vec::new();
    };
    let src = folder.join("src");
    let own = src.join(project::module(database));
    let Ok(files) = std::fs::read_dir(if own.is_dir() { own } else { src }) else {
        return Vec::new();
    };
    let mut names: Vec<String> = files
        .flatten()
        .filter_map(|file| file.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .filter(|name| {
            name.strip_prefix('m')
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
        .collect();
    names.sort();
    names
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_major_version_is_supported_for_five_years() {
        let day = |years: f64| (years - 1970.0) * 31_556_952.0;
        assert!(!ended(15, day(2026.9)));
        assert!(ended(14, day(2026.9)));
        assert!(!ended(14, day(2026.8)));
        assert!(ended(9, day(2026.0)));
    }
}
