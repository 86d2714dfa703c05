//! `wharf db`.

use comfy_table::Cell;
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, QueryResult, Statement};
use serde_json::{Value, json};

use super::args::Db;
use super::context::{Context, Doomed, elsewhere, entry, is_on_server, named, refuse_readonly};
use super::failure::Failure;
use super::out;
use crate::{Error, Manager, Pg, sql};

/// The database that every server has, to connect to while another is created or dropped.
const MAINTENANCE: &str = "postgres";
/// How many tables `size` names.
const TABLES: i32 = 20;

const LIST: &str = "
SELECT datname::text, pg_get_userbyid(datdba)::text,
       CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) END,
       (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid)
  FROM pg_database d WHERE NOT datistemplate ORDER BY datname";

const SIZE: &str = "
SELECT n.nspname || '.' || c.relname, pg_total_relation_size(c.oid), pg_indexes_size(c.oid),
       greatest(c.reltuples, 0)::int8
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND n.nspname NOT LIKE 'pg_toast%'
 ORDER BY 2 DESC, 1 LIMIT $1";

pub(super) async fn run(context: &Context, command: Db) -> Result<(), Failure> {
    let manager = context.manager()?;
    let done = match command {
        Db::Create { of } => create(&manager, &named(&manager, of.name)?).await,
        Db::Drop { of } => drop(context, &manager, &named(&manager, of.name)?).await,
        Db::List { name, json } => list(&manager, name, json.json).await,
        Db::Size { of, json } => size(&manager, &named(&manager, of.name)?, json.json).await,
    };
    manager.close().await;
    done
}

async fn create(manager: &Manager, name: &str) -> Result<(), Failure> {
    refuse_readonly(manager, name)?;
    let wanted = entry(manager, name)?.clone();
    let admin = elsewhere(manager, name, MAINTENANCE).await?;
    let create = format!("CREATE DATABASE {}", sql::quote_ident(&wanted.database));
    let made = match admin.execute_unprepared(&create).await.map_err(Error::from) {
        Ok(_) => true,
        // It is there.
        Err(error) if error.sqlstate().as_deref() == Some("42P04") => false,
        Err(error) => return Err(error.into()),
    };
    admin.close().await?;
    let inside = elsewhere(manager, name, &wanted.database).await?;
    for extension in &wanted.extensions {
        let create = format!("CREATE EXTENSION IF NOT EXISTS {}", sql::quote_ident(extension));
        inside.execute_unprepared(&create).await?;
    }
    inside.close().await?;
    let extensions = match wanted.extensions.is_empty() {
        true => String::new(),
        false => format!(", with {}", wanted.extensions.join(", ")),
    };
    match made {
        true => out::line(format_args!("created database `{}`{extensions}", wanted.database)),
        false => {
            out::line(format_args!("database `{}` exists already{extensions}", wanted.database))
        }
    }
}

async fn drop(context: &Context, manager: &Manager, name: &str) -> Result<(), Failure> {
    refuse_readonly(manager, name)?;
    let wanted = entry(manager, name)?.clone();
    let admin = elsewhere(manager, name, MAINTENANCE).await?;
    let there = "SELECT pg_database_size(oid), (SELECT count(*) FROM pg_stat_activity a \
                 WHERE a.datid = d.oid) FROM pg_database d WHERE datname = $1";
    let there = Statement::from_sql_and_values(
        DbBackend::Postgres,
        there,
        [wanted.database.clone().into()],
    );
    let Some(row) = admin.query_one_raw(there).await? else {
        admin.close().await?;
        return out::line(format_args!("database `{}` does not exist", wanted.database));
    };
    let (bytes, connected): (i64, i64) = (row.try_get_by(0)?, row.try_get_by(1)?);
    let to = admin.database().connect_to(false).await?;
    let (on, host) = match is_on_server(&wanted) {
        true => ("the file's own server".to_owned(), None),
        false => (to.target(None), Some(to.host)),
    };
    let consequence = format!(
        "This permanently deletes database `{}` on {on}: {}, {connected} connected.",
        wanted.database,
        out::size(u64::try_from(bytes).unwrap_or(0)),
    );
    context.ask_to_destroy(&consequence, &[Doomed { name: wanted.database.clone(), host }])?;
    let drop = format!("DROP DATABASE {} WITH (FORCE)", sql::quote_ident(&wanted.database));
    admin.execute_unprepared(&drop).await?;
    admin.close().await?;
    out::line(format_args!("dropped database `{}`", wanted.database))
}

async fn list(manager: &Manager, name: Option<String>, json: bool) -> Result<(), Failure> {
    let names: Vec<String> = match name {
        Some(name) => vec![name],
        None => manager.names().map(str::to_owned).collect(),
    };
    let mut found: Vec<(String, Listed)> = Vec::new();
    let mut servers = Vec::new();
    for name in names {
        let pg = elsewhere(manager, &name, MAINTENANCE).await?;
        let to = pg.database().located(false).await?;
        // Several entries are often on one server.
        let server = format!("{}:{}", to.host, to.port);
        if !servers.contains(&server) {
            let databases = listed(&pg).await?;
            found.extend(databases.into_iter().map(|it| (server.clone(), it)));
            servers.push(server);
        }
        pg.close().await?;
    }
    if json {
        let all: Vec<Value> = found
            .iter()
            .map(|(server, it)| {
                json!({
                    "server": server, "name": it.name, "owner": it.owner, "size_bytes": it.size,
                    "connections": it.connections,
                })
            })
            .collect();
        return out::json(&json!(all));
    }
    let rows = found.iter().map(|(server, it)| {
        let size = it.size.map_or_else(|| "-".to_owned(), out::size);
        let texts = [server.clone(), it.name.clone(), it.owner.clone(), size];
        let mut row: Vec<Cell> = texts.into_iter().map(out::cell).collect();
        row.push(out::cell(it.connections));
        row
    });
    out::table(&["server", "database", "owner", "size", "connections"], rows.collect())
}

struct Listed {
    name: String,
    owner: String,
    /// `None` for one that this login may not look at.
    size: Option<u64>,
    connections: i64,
}

async fn listed(pg: &Pg) -> Result<Vec<Listed>, Failure> {
    let rows = pg.query_all_raw(Statement::from_string(DbBackend::Postgres, LIST)).await?;
    let read = |row: &QueryResult| -> Result<Listed, DbErr> {
        let size: Option<i64> = row.try_get_by(2)?;
        Ok(Listed {
            name: row.try_get_by(0)?,
            owner: row.try_get_by(1)?,
            size: size.and_then(|bytes| u64::try_from(bytes).ok()),
            connections: row.try_get_by(3)?,
        })
    };
    let listed: Result<_, DbErr> = rows.iter().map(read).collect();
    Ok(listed?)
}

async fn size(manager: &Manager, name: &str, json: bool) -> Result<(), Failure> {
    let pg = manager.db(name)?;
    let whole = "SELECT pg_database_size(current_database())";
    let whole = pg.query_one_raw(Statement::from_string(DbBackend::Postgres, whole)).await?;
    let whole: i64 = match whole {
        Some(row) => row.try_get_by(0)?,
        None => 0,
    };
    let tables = Statement::from_sql_and_values(DbBackend::Postgres, SIZE, [TABLES.into()]);
    let rows = pg.query_all_raw(tables).await?;
    let mut tables: Vec<(String, i64, i64, i64)> = Vec::new();
    for row in &rows {
        let table =
            (row.try_get_by(0)?, row.try_get_by(1)?, row.try_get_by(2)?, row.try_get_by(3)?);
        tables.push(table);
    }
    if json {
        let tables: Vec<Value> = tables
            .iter()
            .map(|(name, size, indexes, rows)| {
                json!({"name": name, "size_bytes": size, "indexes_bytes": indexes, "rows": rows})
            })
            .collect();
        return out::json(&json!({"size_bytes": whole, "tables": tables}));
    }
    let shown = |bytes: i64| out::size(u64::try_from(bytes).unwrap_or(0));
    out::line(format_args!("{name}: {}", shown(whole)))?;
    let rows = tables.into_iter().map(|(name, size, indexes, rows)| {
        let cells = [name, shown(size), shown(indexes), format!("~{rows}")];
        cells.into_iter().map(out::cell).collect()
    });
    out::table(&["table", "size", "indexes", "rows"], rows.collect())
}
