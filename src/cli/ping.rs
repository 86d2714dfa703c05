//! `wharf ping`.

use serde_json::{Map, json};

use super::context::Context;
use super::failure::Failure;
use super::log::Work;
use super::out;
use crate::Manager;

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
                    }),
                    Err(error) => json!({"ok": false, "error": error.to_string()}),
                };
                (name.clone(), said)
            })
            .collect();
        out::json(&json!(all))?;
    } else {
        let rows = health.iter().map(|(name, health)| match health {
            Ok(it) => {
                let latency = format!("{:.1} ms", it.latency.as_secs_f64() * 1e3);
                let version = format!("PostgreSQL {}", it.server_version);
                vec![out::cell(name), out::cell("ok"), out::cell(latency), out::cell(version)]
            }
            Err(error) => {
                vec![out::cell(name), out::cell("down"), out::cell("-"), out::cell(error)]
            }
        });
        out::table(&["database", "state", "latency", "server"], rows.collect())?;
    }
    match down {
        0 => Ok(()),
        // The table has said why.
        _ => Err(Failure::Code(4)),
    }
}
