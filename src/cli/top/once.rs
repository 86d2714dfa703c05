//! One look, printed.

use comfy_table::Cell;
use serde_json::{Value, json};

use super::sample::Sample;
use super::screen::age;
use super::{SAMPLE, look};
use crate::Pg;
use crate::cli::failure::Failure;
use crate::cli::out;

pub(super) async fn run(watched: &[Pg], json: bool) -> Result<(), Failure> {
    let mut all = serde_json::Map::new();
    let mut down = false;
    for (at, pg) in watched.iter().enumerate() {
        let look = tokio::time::timeout(SAMPLE[1] * 2, look(pg, at, SAMPLE[1])).await;
        let sample = match look {
            Ok(look) => look.sample,
            Err(_) => Err(format!("database `{}` did not answer", pg.name())),
        };
        down |= sample.is_err();
        match (sample, json) {
            (Ok(sample), true) => {
                all.insert(pg.name().to_owned(), as_json(&sample));
            }
            (Err(error), true) => {
                all.insert(pg.name().to_owned(), json!({"error": error}));
            }
            (Ok(sample), false) => say(pg.name(), &sample)?,
            (Err(error), false) => out::error(&error),
        }
        pg.close_by_ref().await?;
    }
    if json {
        out::json(&Value::Object(all))?;
    }
    if down { Err(Failure::Code(4)) } else { Ok(()) }
}

fn say(name: &str, sample: &Sample) -> Result<(), Failure> {
    let states: Vec<String> =
        sample.states.iter().map(|(state, count)| format!("{state} {count}")).collect();
    out::line(format_args!(
        "{name}: PostgreSQL {}, up {}, connections {} of {} ({})",
        sample.version,
        out::ago(sample.uptime),
        sample.connections(),
        sample.max_connections,
        states.join(", ")
    ))?;
    if let Some(blind) = &sample.blind {
        out::note(blind);
    }
    let rows = sample.activity.iter().map(|it| {
        let waits: Vec<String> = it.blocked_by.iter().map(|pid| format!("lock of {pid}")).collect();
        let waits = match waits.is_empty() {
            true => it.wait.clone().unwrap_or_default(),
            false => waits.join(", "),
        };
        let pid = it.pid.to_string();
        let age = age(it.age);
        [&pid, &it.database, &it.user, &it.state, &age, &waits, &it.query].map(Cell::new).into()
    });
    let rows: Vec<Vec<Cell>> = rows.collect();
    if !rows.is_empty() {
        out::table(&["pid", "database", "user", "state", "for", "waits for", "statement"], rows)?;
    }
    match &sample.slowest {
        Ok(slowest) => {
            let rows = slowest.iter().take(10).map(|it| {
                let cells = [age(it.total), it.calls.to_string(), age(it.mean), it.query.clone()];
                cells.map(Cell::new).into()
            });
            out::table(&["total", "calls", "mean", "statement"], rows.collect())
        }
        Err(reason) => {
            out::note(reason);
            Ok(())
        }
    }
}

fn as_json(sample: &Sample) -> Value {
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
                "commits": it.commits, "rollbacks": it.rollbacks, "cache_percent": it.cache(),
                "deadlocks": it.deadlocks, "temporary_bytes": it.temporary,
            })
        })
        .collect();
    let slowest = match &sample.slowest {
        Ok(slowest) => slowest
            .iter()
            .map(|it| {
                json!({
                    "calls": it.calls, "total_seconds": it.total.as_secs_f64(),
                    "mean_seconds": it.mean.as_secs_f64(), "rows": it.rows, "query": it.query,
                })
            })
            .collect(),
        Err(reason) => json!({"error": reason}),
    };
    json!({
        "version": sample.version, "standby": sample.standby,
        "uptime_seconds": sample.uptime.as_secs(), "max_connections": sample.max_connections,
        "states": states, "activity": activity, "locks": locks, "databases": databases,
        "slowest": slowest, "blind": sample.blind,
    })
}
