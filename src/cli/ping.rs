//! `wharf ping`.

use serde_json::{Map, Value, json};

use super::context::Context;
use super::failure::Failure;
use super::log::Work;
use super::out;
use crate::{Manager, ServerStatus};

pub(super) async fn run(
    context: &Context,
    name: Option<String>,
    json: bool,
) -> Result<(), Failure> {
    let mut config = context.config()?;
    if let Some(name) = &name {
        // The manager's own error names the others.
        Manager::from_config(config.clone()).db(name)?;
        config.databases.retain(|key, _| key == name);
    }
    let manager = Manager::from_config(config);
    let work = Work::begin("connecting");
    let health = manager.health().await;
    drop(work);
    manager.close().await;
    if health.is_empty() {
        return Err(Failure::File(
            "the file names no database; add one below `databases:`".to_owned(),
        ));
    }
    let down = health.values().filter(|health| health.is_err()).count();
    if json {
        let all: Map<_, _> = health
            .iter()
            .map(|(name, health)| {
                let said = match health {
                    Ok(it) => json!({
                        "ok": true, "version": it.server_version,
                        "latency_ms": it.latency.as_secs_f64() * 1e3,
                        "servers": it.servers.iter().map(server).collect::<Vec<_>>(),
                    }),
                    Err(error) => json!({"ok": false, "error": error.to_string()}),
                };
                (name.clone(), said)
            })
            .collect();
        out::json(&json!(all))?;
    } else {
        let mut rows = Vec::new();
        for (name, health) in &health {
            match health {
                Ok(it) => {
                    let latency = format!("{:.1} ms", it.latency.as_secs_f64() * 1e3);
                    let version = format!("PostgreSQL {}", it.server_version);
                    rows.push(row([name, "ok", &latency, &version]));
                    let servers = it.servers.iter();
                    rows.extend(
                        servers.map(|it| row(["", it.role.as_str(), "-", &it.to_string()])),
                    );
                }
                Err(error) => rows.push(row([name, "down", "-", &error.to_string()])),
            }
        }
        out::table(&["database", "state", "latency", "server"], rows)?;
    }
    match down {
        0 => Ok(()),
        // The table has said why.
        _ => Err(Failure::Code(4)),
    }
}

fn row(cells: [&str; 4]) -> Vec<comfy_table::Cell> {
    cells.into_iter().map(out::cell).collect()
}

/// One server of an entry that reads on standbys.
fn server(it: &ServerStatus) -> Value {
    json!({
        "host": it.host, "port": it.port, "role": it.role.as_str(), "timeline": it.timeline,
        "lag_bytes": it.lag_bytes, "lag_seconds": it.lag.map(|lag| lag.as_secs_f64()),
        "problem": it.problem,
    })
}
