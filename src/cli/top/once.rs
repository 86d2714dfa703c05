//! One snapshot, printed.

use comfy_table::CellAlignment;
use serde_json::{Value, json};

use super::cluster;
use super::columns::{Column, Kind};
use super::rows::{Row, View};
use super::sample::Sample;
use super::{SAMPLE_AT_MOST, Server, look};
use crate::ServerRole;
use crate::cli::failure::Failure;
use crate::cli::out;

/// The most rows of a list that are printed as text; JSON has all.
const ROWS: usize = 20;

pub(super) async fn run(servers: Vec<Server>, json: bool) -> Result<(), Failure> {
    let mut all = Vec::new();
    let mut is_down = false;
    for server in servers {
        let member = server.member.as_ref();
        let look = look(&server.pg, member, SAMPLE_AT_MOST, 0, false).await;
        is_down |= look.sample.is_err();
        let target = look.target.or(server.target);
        let status = member.and_then(|it| look.statuses.get(it.place));
        let role = match &look.sample {
            Ok(sample) if sample.is_standby => ServerRole::Standby,
            Ok(_) => ServerRole::Primary,
            Err(_) => status.map_or(ServerRole::Unknown, |it| it.role),
        };
        let lag_bytes = status.and_then(|it| it.lag_bytes);
        // The name of an entry with several servers does not tell which one.
        let (mut who, mut shown_role) = (server.names.join(", "), role.as_str().to_owned());
        if let (Some(at), Some(_)) = (&server.at, member) {
            (who, shown_role) = (format!("{who} at {at}"), cluster::role_and_lag(role, lag_bytes));
        }
        match look.sample {
            Ok(sample) if json => {
                all.push(as_json(&server.names, target.as_deref(), role, lag_bytes, &sample))
            }
            Err(error) if json => all.push(json!({
                "names": server.names, "target": target, "role": role.as_str(),
                "lag_bytes": lag_bytes, "error": error,
            })),
            Ok(sample) => print(&who, &shown_role, &sample)?,
            Err(error) if member.is_some() => out::error(&format!("{who}: {error}")),
            Err(error) => out::error(&error),
        }
        server.pg.close_by_ref().await?;
    }
    if json {
        out::json(&json!({ "servers": all }))?;
    }
    if is_down { Err(Failure::Code(4)) } else { Ok(()) }
}

fn print(who: &str, role: &str, sample: &Sample) -> Result<(), Failure> {
    let states: Vec<String> =
        sample.states.iter().map(|(state, count)| format!("{state} {count}")).collect();
    out::line(format_args!(
        "{who}: PostgreSQL {}, {role}, up {}, connections {} of {}{}",
        sample.version,
        out::ago(sample.uptime),
        sample.connections(),
        sample.max_connections,
        if states.is_empty() { String::new() } else { format!(" ({})", states.join(", ")) }
    ))?;
    if let Some(blind) = &sample.blind {
        out::note(blind);
    }
    for view in View::ALL {
        match view.rows(None, sample) {
            Ok(rows) if rows.is_empty() => {}
            Ok(rows) => {
                out::line(format_args!("\n{}", view.name()))?;
                table(view.columns(), &rows)?;
                if rows.len() > ROWS {
                    out::note(format_args!(
                        "{} rows more; use --json to see them",
                        rows.len() - ROWS
                    ));
                }
            }
            Err(reason) => out::note(reason),
        }
    }
    Ok(())
}

/// The rows without rates: those need two samples.
fn table(columns: &[Column], rows: &[Row]) -> Result<(), Failure> {
    let is_rate = |column: &Column| column.name == "load" || column.name.ends_with("/s");
    let shown: Vec<usize> = (0..columns.len()).filter(|at| !is_rate(&columns[*at])).collect();
    let names: Vec<&str> = shown.iter().map(|at| columns[*at].name).collect();
    let rows = rows.iter().take(ROWS).map(|row| {
        let cells = shown.iter().filter_map(|at| {
            let cell = out::cell(&row.cells.get(*at)?.text);
            Some(match columns[*at].kind {
                Kind::Figure(_) => cell.set_alignment(CellAlignment::Right),
                Kind::Text(_) | Kind::Rest => cell,
            })
        });
        cells.collect()
    });
    out::table(&names, rows.collect())
}

fn as_json(
    names: &[String],
    target: Option<&str>,
    role: ServerRole,
    lag_bytes: Option<u64>,
    sample: &Sample,
) -> Value {
    let states: serde_json::Map<_, _> =
        sample.states.iter().map(|(state, count)| (state.clone(), json!(count))).collect();
    let activity: Vec<Value> = sample
        .activity
        .iter()
        .map(|it| {
            json!({
                "pid": it.pid, "database": it.database, "user": it.user,
                "application": it.application, "state": it.state,
                "age_seconds": it.age.as_secs_f64(), "wait": it.wait, "blocked_by": it.blocked_by,
                "query": it.query,
            })
        })
        .collect();
    let locks: Vec<Value> = sample
        .locks
        .iter()
        .map(|it| {
            json!({
                "waiting": it.waiting, "blocking": it.blocking, "mode": it.mode, "on": it.on,
                "age_seconds": it.age.as_secs_f64(), "blocking_state": it.blocking_state,
                "waiting_query": it.waiting_query, "blocking_query": it.blocking_query,
            })
        })
        .collect();
    let databases: Vec<Value> = sample
        .databases
        .iter()
        .map(|it| {
            json!({
                "name": it.name, "size_bytes": it.size, "connections": it.connections,
                "commits": it.commits, "rollbacks": it.rollbacks, "rows_read": it.rows_read,
                "rows_written": it.rows_written, "cache_percent": it.cache(),
                "deadlocks": it.deadlocks, "temporary_bytes": it.temporary,
            })
        })
        .collect();
    let slowest = match &sample.slowest {
        Ok(slowest) => slowest
            .iter()
            .map(|it| {
                json!({
                    "calls": it.counters.calls,
                    "total_seconds": it.counters.total.as_secs_f64(),
                    "mean_seconds": it.counters.mean().as_secs_f64(),
                    "rows": it.counters.rows, "query": it.query,
                })
            })
            .collect(),
        Err(reason) => json!({"error": reason}),
    };
    json!({
        "names": names, "target": target, "version": sample.version, "standby": sample.is_standby,
        "role": role.as_str(), "lag_bytes": lag_bytes,
        "uptime_seconds": sample.uptime.as_secs(), "max_connections": sample.max_connections,
        "states": states, "activity": activity, "locks": locks, "databases": databases,
        "slowest": slowest, "blind": sample.blind,
    })
}
