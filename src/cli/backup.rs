//! `wharf server backup` and `restore`.

use std::path::Path;

use serde_json::json;

use super::context::{Context, entry, is_on_server, named, refuse_readonly, shown};
use super::failure::Failure;
use super::log::Work;
use super::out;
use super::server::must_run;
use crate::pgserver::{Contents, PgServer};

pub(super) async fn backup(
    context: &Context,
    name: Option<String>,
    to: &Path,
    json: bool,
) -> Result<(), Failure> {
    let (server, name, database) = on_server(context, name, false).await?;
    if to.exists() {
        context.ask(&format!("This overwrites {}.", shown(to)))?;
    }
    let work = Work::begin("backing up");
    let contents = server.backup(&database, to, work.bytes(None)).await?;
    drop(work);
    say(&contents, &format!("backed up database {name} to {}", shown(to)), json)
}

pub(super) async fn restore(
    context: &Context,
    name: Option<String>,
    from: &Path,
    json: bool,
) -> Result<(), Failure> {
    let (server, name, database) = on_server(context, name, true).await?;
    let contents = server.contents(from).await?;
    context.ask(&format!(
        "{} has {}. This drops them in database `{database}` and restores them from the file.",
        shown(from),
        out::count(contents.tables.len(), "table")
    ))?;
    let work = Work::begin("restoring");
    let contents = server.restore(&database, from, work.bytes(Some(contents.size))).await?;
    drop(work);
    say(&contents, &format!("restored database {name} from {}", shown(from)), json)
}

/// The running server, and the database that an entry on it means.
async fn on_server(
    context: &Context,
    name: Option<String>,
    writes: bool,
) -> Result<(PgServer, String, String), Failure> {
    let (manager, server) = context.server()?;
    let name = named(&manager, name)?;
    if writes {
        refuse_readonly(&manager, &name)?;
    }
    let entry = entry(&manager, &name)?;
    if !is_on_server(entry) {
        return Err(Failure::File(format!(
            "database `{name}` is not on the file's own server (`pgserver: true`); use pg_dump and \
             pg_restore with its address"
        )));
    }
    must_run(&server).await?;
    Ok((server, name, entry.database.clone()))
}

fn say(contents: &Contents, what: &str, json: bool) -> Result<(), Failure> {
    if json {
        return out::json(&json!({
            "size_bytes": contents.size, "entries": contents.entries, "tables": contents.tables,
        }));
    }
    out::line(format_args!(
        "{what}: {}, {}",
        out::count(contents.tables.len(), "table"),
        out::size(contents.size)
    ))
}
