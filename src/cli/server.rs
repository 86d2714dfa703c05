//! `wharf server`.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::args::Server;
use super::context::{Context, is_on_server};
use super::failure::Failure;
use super::log::Work;
use super::visible::visible;
use super::{attach, backup, out};
use crate::pgserver::{Difference, Endpoint, PgServer, PgServerError, Program, Report, Status};
use crate::{Error, Manager};

/// Between two attempts to log in to a server that starts.
const INTERVAL: Duration = Duration::from_millis(100);

pub(super) async fn run(context: &Context, command: Server) -> Result<(), Failure> {
    match command {
        Server::Up { timeout, json } => up(context, timeout.limit, json.json).await,
        Server::Down => down(context).await,
        Server::Restart { timeout, json } => restart(context, timeout.limit, json.json).await,
        Server::Failover { json } => failover(context, json.json).await,
        Server::Status { json } => status(context, json.json).await,
        Server::Logs { lines, follow } => logs(context, lines, follow).await,
        Server::Psql { args } => psql(context, args).await,
        Server::Exec { args } => exec(context, args).await,
        Server::Wait { timeout } => wait(context, timeout.limit).await,
        Server::Backup { of, to, json } => backup::backup(context, of.name, &to, json.json).await,
        Server::Restore { of, from, json } => {
            backup::restore(context, of.name, &from, json.json).await
        }
        Server::Clean => clean(context).await,
    }
}

async fn up(context: &Context, timeout: Duration, json: bool) -> Result<(), Failure> {
    let (manager, server) = context.server()?;
    let begun = Instant::now();
    let work = Work::begin("looking for the server");
    let differences = server.differences().await?;
    let mut was_running = server.running().await?.is_some();
    drop(work);
    if !differences.is_empty() && agrees(context, &differences)? {
        let work = Work::begin("restarting the server");
        server.restart().await?;
        was_running = false;
        drop(work);
    }
    let work = Work::begin("starting the server");
    let patient = server.clone().deadline(timeout);
    let started = async {
        let endpoint = patient.start().await?;
        manager.ensure_databases(&endpoint).await?;
        Ok::<_, Error>(endpoint)
    };
    // Half a start helps nobody: it goes on without us, and the next `up` finds it.
    let endpoint = tokio::select! {
        started = started => started?,
        _ = tokio::signal::ctrl_c() => {
            drop(work);
            out::note("interrupted; run `wharf server up` again to go on");
            return Err(Failure::Code(130));
        }
    };
    let databases = databases(&manager, &server, &endpoint).await?;
    drop(work);
    manager.close().await;
    let took = (!was_running).then(|| begun.elapsed());
    say_up(&databases, &endpoint, took, json)?;
    if endpoint.single_connection {
        out::note("the server runs inside this process; press Ctrl-C to stop it");
        tokio::signal::ctrl_c().await?;
        server.stop().await?;
    }
    Ok(())
}

/// Whether a running server is to be started anew for what the file asks for now.
fn agrees(context: &Context, differences: &[Difference]) -> Result<bool, Failure> {
    out::note("the server runs with other settings than the file has now:");
    for difference in differences {
        out::note(format_args!("  {difference}"));
    }
    match context.ask("This restarts the server with the file's settings. Its connections are closed, its data is kept.") {
        Ok(()) => Ok(true),
        Err(Failure::Declined(_)) => {
            out::note("the server was left as it is; run `wharf server restart` to apply the file's settings");
            Ok(false)
        }
        Err(failure) => Err(failure),
    }
}

/// The entries on the server, and whether their databases exist.
async fn databases(
    manager: &Manager,
    server: &PgServer,
    at: &Endpoint,
) -> Result<Vec<(String, bool)>, Failure> {
    // An embedded engine's one connection serves whichever database it is asked for.
    let existing = match at.single_connection {
        true => None,
        false => server.report().await?.map(|report| report.databases),
    };
    let exists = |name: &str| {
        existing.as_ref().is_none_or(|databases| databases.iter().any(|it| it.name == name))
    };
    let entries = manager.config().databases.iter().filter(|(_, entry)| is_on_server(entry));
    Ok(entries.map(|(name, entry)| (name.clone(), exists(&entry.database))).collect())
}

/// `took` is how long the start took; none if the server was running.
fn say_up(
    databases: &[(String, bool)],
    at: &Endpoint,
    took: Option<Duration>,
    json: bool,
) -> Result<(), Failure> {
    if json {
        let (existing, missing): (Vec<_>, Vec<_>) =
            databases.iter().partition(|(_, exists)| *exists);
        let names = |databases: Vec<&(String, bool)>| -> Vec<String> {
            databases.into_iter().map(|(name, _)| name.clone()).collect()
        };
        return out::json(&json!({
            "runtime": at.runtime.as_str(), "version": at.version, "host": at.host,
            "port": at.port, "replica_port": at.replica_ports.first(),
            "replica_ports": at.replica_ports, "user": at.user, "databases": names(existing), "missing_databases": names(missing),
            "took_ms": took.map(|took| took.as_millis() as u64),
        }));
    }
    let how = match took {
        Some(took) => format!("started in {:.1} s", took.as_secs_f64()),
        None => "already running".to_owned(),
    };
    let (version, runtime) = (&at.version, at.runtime.as_str());
    out::line(format_args!("PostgreSQL {version} ({runtime}) at {}:{}, {how}", at.host, at.port))?;
    say_standbys(at)?;
    for (name, exists) in databases {
        match exists {
            true => out::line(format_args!("database {name}: wharf psql {name}"))?,
            false => out::line(format_args!(
                "database {name} does not exist; run `wharf db create {name}`"
            ))?,
        }
    }
    Ok(())
}

fn say_standbys(at: &Endpoint) -> Result<(), Failure> {
    let mut ports = at.replica_ports.iter();
    ports.try_for_each(|port| out::line(format_args!("standby at {}:{port}", at.host)))
}

/// A standby in place of the primary.
async fn failover(context: &Context, json: bool) -> Result<(), Failure> {
    let (_, server) = context.server()?;
    let old = must_run(&server).await?;
    let mut begun = Instant::now();
    let work = Work::begin("promoting a standby");
    let mut outcome = server.failover(false).await;
    drop(work);
    if let Err(PgServerError::WouldLose { reason, .. }) = &outcome {
        context.ask(&format!(
            "This permanently loses the latest changes of pgserver `{}`, because {reason}.",
            server.config().name
        ))?;
        begun = Instant::now();
        let _work = Work::begin("promoting a standby");
        outcome = server.failover(true).await;
    }
    let at = outcome?;
    if json {
        return out::json(&json!({
            "host": at.host, "port": at.port, "old_port": old.port,
            "replica_port": at.replica_ports.first(), "replica_ports": at.replica_ports,
            "took_ms": begun.elapsed().as_millis() as u64,
        }));
    }
    let (host, took) = (&at.host, begun.elapsed().as_secs_f64());
    out::line(format_args!(
        "primary at {host}:{}, was {host}:{}; took {took:.1} s",
        at.port, old.port
    ))?;
    say_standbys(&at)
}

async fn down(context: &Context) -> Result<(), Failure> {
    let (_, server) = context.server()?;
    let was = server.running().await?;
    let work = Work::begin("stopping the server");
    server.stop().await?;
    drop(work);
    match was {
        Some(at) => out::line(format_args!(
            "stopped PostgreSQL {} at {}:{}; its data is kept",
            at.version, at.host, at.port
        )),
        None => out::line("the server is not running"),
    }
}

async fn restart(context: &Context, timeout: Duration, json: bool) -> Result<(), Failure> {
    let (manager, server) = context.server()?;
    let server = server.deadline(timeout);
    let begun = Instant::now();
    let work = Work::begin("restarting the server");
    let endpoint = server.restart().await?;
    manager.ensure_databases(&endpoint).await?;
    let databases = databases(&manager, &server, &endpoint).await?;
    drop(work);
    manager.close().await;
    say_up(&databases, &endpoint, Some(begun.elapsed()), json)
}

async fn status(context: &Context, json: bool) -> Result<(), Failure> {
    let (manager, server) = context.server()?;
    let work = Work::begin("asking the server");
    let status = server.status().await?;
    let (at, starting) = match &status {
        Status::Running(at) => (at, None),
        Status::Starting { at, reason } => (at, Some(reason)),
        Status::Stopped => {
            drop(work);
            let holdings = server.holdings().await?;
            if json {
                out::json(&json!({"state": "stopped", "holdings": holdings}))?;
            } else {
                out::line("stopped; run `wharf server up` to start it")?;
                holdings.iter().try_for_each(|holding| out::line(format_args!("  {holding}")))?;
            }
            return Err(Failure::Code(4));
        }
    };
    if let Some(reason) = starting {
        drop(work);
        match json {
            true => out::json(&json!({"state": "starting", "port": at.port, "reason": reason}))?,
            false => out::line(format_args!("starting; it does not accept logins yet: {reason}"))?,
        }
        return Err(Failure::Code(4));
    }
    let report = server.report().await?;
    let differences = server.differences().await?;
    let extensions = extensions(&manager).await;
    manager.close().await;
    drop(work);
    let Some(report) = report else {
        return Err(Failure::Absent(
            "the server has just stopped; run `wharf server up`".to_owned(),
        ));
    };
    match json {
        true => out::json(&status_json(at, &report, &differences, &extensions)),
        false => say_status(at, &report, &differences, &extensions),
    }
}

/// The extensions of an entry's database.
struct Extensions {
    entry: String,
    there: Vec<(String, String)>,
    missing: Vec<String>,
    error: Option<String>,
}

async fn extensions(manager: &Manager) -> Vec<Extensions> {
    let mut all = Vec::new();
    for (name, entry) in &manager.config().databases {
        if !is_on_server(entry) {
            continue;
        }
        let there = extensions_of(manager, name).await;
        let (there, error) = match there {
            Ok(there) => (there, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let has = |wanted: &&String| there.iter().any(|(name, _)| name == *wanted);
        let missing = match error {
            None => entry.extensions.iter().filter(|wanted| !has(wanted)).cloned().collect(),
            Some(_) => Vec::new(),
        };
        all.push(Extensions { entry: name.clone(), there, missing, error });
    }
    all
}

/// Name and version of the extensions that a database has, PostgreSQL's own language left out.
pub(super) async fn extensions_of(
    manager: &Manager,
    name: &str,
) -> Result<Vec<(String, String)>, Error> {
    use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
    let pg = manager.db(name)?;
    let sql = "SELECT extname::text, extversion FROM pg_extension WHERE extname <> 'plpgsql' \
               ORDER BY extname";
    let rows = pg.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
    let pair = |row: &sea_orm::QueryResult| Ok((row.try_get_by(0)?, row.try_get_by(1)?));
    let pairs: Result<_, sea_orm::DbErr> = rows.iter().map(pair).collect();
    Ok(pairs?)
}

fn say_status(
    at: &Endpoint,
    report: &Report,
    differences: &[Difference],
    extensions: &[Extensions],
) -> Result<(), Failure> {
    let role = if report.standbys.is_empty() { "" } else { ", the primary" };
    let mut pairs = vec![
        ("state", format!("running ({}), login in {}", at.runtime.as_str(), millis(report.login))),
        ("version", format!("PostgreSQL {}", report.version)),
        ("address", format!("{}:{} as {}{role}", at.host, at.port, at.user)),
        ("uptime", out::ago(report.uptime)),
        (
            "connections",
            format!(
                "{} of {} ({} active, {} idle in transaction)",
                report.connections,
                report.max_connections,
                report.active,
                report.idle_in_transaction
            ),
        ),
    ];
    let databases: Vec<String> = report
        .databases
        .iter()
        .map(|it| format!("{}: {}, {} connected", it.name, out::size(it.size), it.connections))
        .collect();
    pairs.push(("databases", databases.join("\n")));
    let mut lines: Vec<String> = Vec::new();
    for it in extensions {
        let there: Vec<String> =
            it.there.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let mut line = format!("{}: {}", it.entry, there.join(", "));
        if there.is_empty() {
            line.push_str("none");
        }
        if !it.missing.is_empty() {
            line.push_str(&format!("; missing: {}", it.missing.join(", ")));
        }
        lines.push(it.error.clone().unwrap_or(line));
    }
    if !lines.is_empty() {
        pairs.push(("extensions", lines.join("\n")));
    }
    for standby in &report.standbys {
        let behind = match (standby.lag_bytes, standby.lag) {
            (Some(0), _) => "no lag".to_owned(),
            (Some(bytes), Some(lag)) => format!("{} and {} behind", out::size(bytes), millis(lag)),
            (Some(bytes), None) => format!("{} behind", out::size(bytes)),
            (None, _) => "lag unknown".to_owned(),
        };
        let port = standby.port.map_or_else(String::new, |port| format!(" at {}:{port}", at.host));
        pairs.push(("standby", format!("{} {}{port}, {behind}", standby.name, standby.state)));
    }
    if !differences.is_empty() {
        let shown: Vec<String> = differences.iter().map(Difference::to_string).collect();
        let remedy = "run `wharf server restart` to apply them";
        pairs.push(("changes", format!("{}\n{remedy}", shown.join("\n"))));
    }
    out::pairs(pairs)
}

fn status_json(
    at: &Endpoint,
    report: &Report,
    differences: &[Difference],
    extensions: &[Extensions],
) -> Value {
    let databases: Vec<Value> = report
        .databases
        .iter()
        .map(|it| json!({"name": it.name, "size_bytes": it.size, "connections": it.connections}))
        .collect();
    let extensions: Vec<Value> = extensions
        .iter()
        .map(|it| {
            let there: serde_json::Map<_, _> =
                it.there.iter().map(|(name, version)| (name.clone(), json!(version))).collect();
            json!({"database": it.entry, "there": there, "missing": it.missing, "error": it.error})
        })
        .collect();
    let standbys: Vec<Value> = report
        .standbys
        .iter()
        .map(|it| {
            json!({
                "name": it.name, "port": it.port, "state": it.state, "lag_bytes": it.lag_bytes,
                "lag_seconds": it.lag.map(|lag| lag.as_secs_f64()),
            })
        })
        .collect();
    let differences: Vec<Value> = differences
        .iter()
        .map(|it| json!({"setting": it.setting, "running": it.running, "wanted": it.wanted}))
        .collect();
    json!({
        "state": "running", "runtime": at.runtime.as_str(), "version": report.version,
        "host": at.host, "port": at.port, "replica_port": at.replica_ports.first(),
        "replica_ports": at.replica_ports, "user": at.user,
        "login_ms": report.login.as_secs_f64() * 1e3, "uptime_seconds": report.uptime.as_secs(),
        "connections": {
            "total": report.connections, "active": report.active,
            "idle_in_transaction": report.idle_in_transaction, "max": report.max_connections,
        },
        "databases": databases, "extensions": extensions, "standbys": standbys,
        "differences": differences,
    })
}

async fn logs(context: &Context, lines: usize, follow: bool) -> Result<(), Failure> {
    let (_, server) = context.server()?;
    let mut lines = server.logs(lines, follow).await?;
    let is_terminal = std::io::stdout().is_terminal();
    // One for all lines: a Ctrl-C between two of them is not lost.
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            next = lines.next() => match next {
                Some(text) => {
                    let text = text?;
                    // A file is exact.
                    let text = if is_terminal { visible(&text) } else { text.into() };
                    out::stream(format!("{text}\n").as_bytes())?;
                }
                None => return Ok(()),
            },
            _ = &mut interrupted => return Ok(()),
        }
    }
}

/// The psql that comes with the server, at its own end of the line.
async fn psql(context: &Context, args: Vec<String>) -> Result<(), Failure> {
    let (_, server) = context.server()?;
    let mut argv = vec!["psql".to_owned()];
    // Without one it takes the user's name for a database's.
    if !args.iter().any(|arg| !arg.starts_with('-') || arg.starts_with("--dbname")) {
        argv.extend(["--dbname".to_owned(), "postgres".to_owned()]);
    }
    argv.extend(args);
    attach::run(&server, Program::new(argv)).await
}

async fn exec(context: &Context, args: Vec<String>) -> Result<(), Failure> {
    let (_, server) = context.server()?;
    attach::run(&server, Program::new(args)).await
}

async fn wait(context: &Context, timeout: Duration) -> Result<(), Failure> {
    let (_, server) = context.server()?;
    let _work = Work::begin("waiting for the server");
    let begun = Instant::now();
    loop {
        let status = server.status().await?;
        if let Status::Running(_) = status {
            return Ok(());
        }
        if begun.elapsed() >= timeout {
            let state = match status {
                Status::Starting { reason, .. } => format!("it is starting: {reason}"),
                _ => "it is not running; run `wharf server up`".to_owned(),
            };
            return Err(Failure::Absent(format!(
                "the server did not accept logins within {timeout:?}: {state}"
            )));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn clean(context: &Context) -> Result<(), Failure> {
    let (_, server) = context.server()?;
    let holdings = server.holdings().await?;
    if holdings.is_empty() {
        return out::line("nothing to delete");
    }
    context.ask(&format!(
        "This permanently deletes {1} of pgserver `{0}`.",
        server.config().name,
        holdings.join("; ")
    ))?;
    let work = Work::begin("deleting the server");
    server.remove().await?;
    drop(work);
    holdings.iter().try_for_each(|holding| out::line(format_args!("deleted {holding}")))
}

/// The running server; an error if it is not running.
pub(super) async fn must_run(server: &PgServer) -> Result<Endpoint, Failure> {
    match server.running().await? {
        Some(at) => Ok(at),
        None => Err(Failure::Absent(format!(
            "pgserver `{}` is not running; run `wharf server up`",
            server.config().name
        ))),
    }
}

fn millis(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1e3)
}
