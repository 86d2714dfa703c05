//! `wharf migrate`.

mod init;
mod known;
mod new;

use std::io::IsTerminal as _;
use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::{Value, json};

pub(super) use self::init::files;
pub(super) use self::known::{Known, Migrations};
use super::args::{Migrate, Of, On, Schemas, Trial};
use super::context::{Context, Doomed, entry, is_on_server, refuse_readonly};
use super::failure::Failure;
use super::log::Work;
use super::program::Program;
use super::scratch::on_scratch;
use super::{out, project};
use crate::migrate::{DryRun, Finding, Migrated, Migration, MigrationState, Work as Step};
use crate::{Error, Manager, Pg};

pub(super) async fn run(
    context: &Context,
    program: &Program,
    command: Migrate,
) -> Result<(), Failure> {
    let command = match command {
        Migrate::Init { databases } => return init::run(context, databases),
        Migrate::New { name, database } => return new::run(&name, database.as_deref()),
        Migrate::Up { dry_run: false, trial, .. } if trial.is_given() => {
            let only = "--on-target, --scratch and --min-size need --dry-run";
            return Err(Failure::Usage(only.to_owned()));
        }
        command if program.migrations.is_empty() => {
            return project::hand_over(context, databases(&command), false).await;
        }
        command => command,
    };
    let manager = context.manager()?;
    let done = known(context, program, &manager, command).await;
    manager.close().await;
    done
}

/// The databases that the command names.
fn databases(command: &Migrate) -> &[String] {
    match command {
        Migrate::Up { on, .. } | Migrate::Status { on, .. } | Migrate::Lint { on, .. } => {
            &on.databases
        }
        Migrate::Down { of, .. } | Migrate::Fresh { of, .. } | Migrate::Refresh { of, .. } => {
            of.database.as_slice()
        }
        Migrate::Init { .. } | Migrate::New { .. } => &[],
    }
}

async fn known(
    context: &Context,
    program: &Program,
    manager: &Manager,
    command: Migrate,
) -> Result<(), Failure> {
    match command {
        Migrate::Init { .. } | Migrate::New { .. } => Ok(()),
        Migrate::Up { on, dry_run: true, trial, json, .. } => {
            let targets = targets(program, manager, &on).await?;
            show(&dry_runs(manager, &targets, &trial).await?, json.json)
        }
        Migrate::Up { on, steps, json, .. } => {
            refuse_readonly_ones(program, manager, &on)?;
            let targets = targets(program, manager, &on).await?;
            apply(&targets, Step::Up(steps), json.json).await
        }
        Migrate::Status { on, json } => {
            status(&targets(program, manager, &on).await?, json.json).await
        }
        Migrate::Lint { on, trial, json } => {
            let targets = targets(program, manager, &on).await?;
            lint(&dry_runs(manager, &targets, &trial).await?, json.json)
        }
        Migrate::Down { of, steps, json } => {
            let targets = targets_to_destroy(program, manager, of).await?;
            let many = out::count(usize::try_from(steps).unwrap_or(usize::MAX), "migration");
            ask(context, manager, &format!("This rolls back {many} on"), &targets).await?;
            apply(&targets, Step::Down(steps), json.json).await
        }
        Migrate::Fresh { of, json } => {
            let targets = targets_to_destroy(program, manager, of).await?;
            let what = "This permanently drops all tables, views, types and functions of";
            ask(context, manager, what, &targets).await?;
            apply(&targets, Step::Fresh, json.json).await
        }
        Migrate::Refresh { of, json } => {
            let targets = targets_to_destroy(program, manager, of).await?;
            let what = "This rolls back all migrations, with all data in their tables, on";
            ask(context, manager, what, &targets).await?;
            apply(&targets, Step::Refresh, json.json).await
        }
    }
}

/// The one database that is meant.
fn on(program: &Program, of: Of) -> Result<On, Failure> {
    let database = match (of.database, program.migrations.as_slice()) {
        (Some(name), _) => name,
        (None, [only]) => only.database.clone(),
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|it| it.database.as_str()).collect();
            return Err(Failure::Usage(format!(
                "several databases have migrations; add the name of one: {}",
                names.join(", ")
            )));
        }
    };
    Ok(On { databases: vec![database], schemas: of.schemas })
}

/// One schema to migrate.
struct Target<'a> {
    migrations: &'a Migrations,
    pg: Pg,
    /// For messages: the database, with its schema.
    name: String,
}

async fn targets<'a>(
    program: &'a Program,
    manager: &Manager,
    on: &On,
) -> Result<Vec<Target<'a>>, Failure> {
    let mut targets = Vec::new();
    for Known { database, migrations } in chosen(program, &on.databases)? {
        entry(manager, database)?;
        let pg = manager.db(database)?;
        if on.schemas.named.is_empty() {
            targets.push(Target { migrations, pg, name: database.clone() });
            continue;
        }
        for schema in schemas(&pg, &on.schemas).await? {
            let name = format!("{database}, schema {schema}");
            targets.push(Target { migrations, pg: pg.scoped(&schema)?, name });
        }
    }
    Ok(targets)
}

/// The migrations of these databases; all there are, if none is named.
pub(super) fn chosen<'a>(
    program: &'a Program,
    databases: &[String],
) -> Result<Vec<&'a Known>, Failure> {
    if databases.is_empty() {
        return Ok(program.migrations.iter().collect());
    }
    let of = |name: &String| {
        let known = program.migrations.iter().find(|known| known.database == *name);
        known.ok_or_else(|| {
            let names: Vec<_> = program.migrations.iter().map(|it| it.database.as_str()).collect();
            Failure::File(format!(
                "database `{name}` has no migrations in this project, which has those of {}",
                names.join(", ")
            ))
        })
    };
    databases.iter().map(of).collect()
}

/// The schemas that are meant, each once.
async fn schemas(pg: &Pg, asked: &Schemas) -> Result<Vec<String>, Failure> {
    let mut schemas = Vec::new();
    for named in &asked.named {
        if !named.contains('*') {
            schemas.push(named.clone());
            continue;
        }
        let escaped = named.replace('\\', "\\\\").replace('_', "\\_").replace('%', "\\%");
        let sql = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE $1 \
                   AND nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1";
        let like = [escaped.replace('*', "%").into()];
        let found = Statement::from_sql_and_values(DbBackend::Postgres, sql, like);
        let found = pg.query_all_raw(found).await?;
        if found.is_empty() {
            return Err(Failure::Failed(format!(
                "database `{}` has no schema like {named}",
                pg.name()
            )));
        }
        for row in found {
            schemas.push(row.try_get_by_index(0).map_err(Error::from)?);
        }
    }
    let mut seen = std::collections::HashSet::new();
    schemas.retain(|schema| seen.insert(schema.clone()));
    Ok(schemas)
}

/// Refuses databases whose entry has `readonly: true`.
fn refuse_readonly_ones(program: &Program, manager: &Manager, on: &On) -> Result<(), Failure> {
    chosen(program, &on.databases)?.iter().try_for_each(|it| refuse_readonly(manager, &it.database))
}

/// Returns the targets of a command that destroys data.
async fn targets_to_destroy<'a>(
    program: &'a Program,
    manager: &Manager,
    of: Of,
) -> Result<Vec<Target<'a>>, Failure> {
    let on = on(program, of)?;
    refuse_readonly_ones(program, manager, &on)?;
    targets(program, manager, &on).await
}

async fn ask(
    context: &Context,
    manager: &Manager,
    what: &str,
    targets: &[Target<'_>],
) -> Result<(), Failure> {
    let (mut shown, mut doomed) = (Vec::new(), Vec::new());
    for Target { pg, name, .. } in targets {
        let to = pg.database().connect_to(false).await?;
        let (at, host) = match is_on_server(entry(manager, pg.name())?) {
            true => (name.clone(), None),
            false => {
                let size = "SELECT pg_database_size(current_database())";
                let size = Statement::from_string(DbBackend::Postgres, size);
                // A database that cannot be measured has nothing to lose yet, or the command itself fails.
                let size = match pg.query_one_raw(size).await {
                    Ok(Some(row)) => row.try_get_by_index::<i64>(0).unwrap_or(0),
                    _ => 0,
                };
                let size = out::size(u64::try_from(size).unwrap_or(0));
                (format!("{name} ({}, {size})", to.target(None)), Some(to.host.clone()))
            }
        };
        shown.push(at);
        doomed.push(Doomed { name: to.config.database.clone(), host });
    }
    context.ask_to_destroy(&format!("{what} {}.", shown.join("; ")), &doomed)
}

/// Migrates each target, also after one has failed.
async fn apply(targets: &[Target<'_>], step: Step, json: bool) -> Result<(), Failure> {
    let mut done = Vec::new();
    let mut failed = 0;
    for target in targets {
        let work = Work::begin(&format!("migrating {}", target.name));
        let migrated = target.migrations.apply(&target.pg, step).await;
        drop(work);
        match migrated {
            Ok(migrated) if json => done.push(json!({
                "target": target.name, "migrations": migrated.migrations,
                "took_ms": milliseconds(migrated.took), "waited_ms": milliseconds(migrated.waited),
            })),
            Ok(migrated) => said(&target.name, &migrated, step)?,
            Err(error) => {
                let failure = Failure::from(error);
                if json {
                    done.push(json!({"target": target.name, "error": failure.to_string()}));
                }
                if targets.len() == 1 && !json {
                    return Err(failure);
                }
                out::note(format_args!("{}: {failure}", target.name));
                failed += 1;
            }
        }
    }
    if json {
        out::json(&Value::from(done))?;
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Failed(format!("{failed} of {} failed", targets.len()))),
    }
}

fn said(name: &str, migrated: &Migrated, step: Step) -> Result<(), Failure> {
    let what = match step {
        Step::Up(_) | Step::Fresh => "applied",
        Step::Down(_) => "rolled back",
        Step::Refresh => "rolled back or applied",
    };
    for migration in &migrated.migrations {
        out::line(format_args!("  {migration}"))?;
    }
    let waited = match migrated.waited < Duration::from_millis(100) {
        true => String::new(),
        false => format!(", after waiting {:.1?} for another process", migrated.waited),
    };
    match migrated.migrations.len() {
        0 => out::line(format_args!("{name}: nothing to do{waited}")),
        many => {
            let many = out::count(many, "migration");
            out::line(format_args!("{name}: {many} {what} in {:.1?}{waited}", migrated.took))
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

async fn status(targets: &[Target<'_>], json: bool) -> Result<(), Failure> {
    let mut all: Vec<(&str, Migration)> = Vec::new();
    for target in targets {
        let status = target.migrations.status(&target.pg).await?;
        all.extend(status.into_iter().map(|migration| (target.name.as_str(), migration)));
    }
    if json {
        return out::json(&Value::from_iter(all.iter().map(|(target, it)| {
            let (state, ago, error) = told(&it.state);
            json!({
                "target": target, "migration": it.name, "state": state,
                "seconds_ago": ago.map(|ago| ago.as_secs()), "error": error,
            })
        })));
    }
    let rows = all.iter().map(|(target, it)| {
        let (state, ago, error) = told(&it.state);
        let mut state = state.to_owned();
        if let Some(error) = error {
            state = format!("{state}: {error}");
        }
        let ago = ago.map_or_else(String::new, |ago| format!("{} ago", out::ago(ago)));
        vec![out::cell(target), out::cell(&it.name), out::cell(state), out::cell(ago)]
    });
    out::table(&["database", "migration", "state", "since"], rows.collect())
}

fn told(state: &MigrationState) -> (&'static str, Option<Duration>, Option<&str>) {
    match state {
        MigrationState::Applied { ago } => ("applied", Some(*ago), None),
        MigrationState::Pending => ("pending", None, None),
        MigrationState::Incomplete { ago, error } => ("incomplete", Some(*ago), error.as_deref()),
        MigrationState::Missing { ago } => {
            ("applied, but missing from this build", Some(*ago), None)
        }
    }
}

/// Records the SQL of the pending migrations, on a scratch database unless the target is asked for.
async fn dry_runs(
    manager: &Manager,
    targets: &[Target<'_>],
    trial: &Trial,
) -> Result<Vec<(String, DryRun)>, Failure> {
    let mut all = Vec::new();
    for Target { migrations, pg, name } in targets {
        let work = Work::begin(&format!("recording the SQL for {name}"));
        let mut planned = match trial.on_target {
            true => {
                refuse_readonly(manager, pg.name())?;
                migrations.dry_run(pg).await?
            }
            false => {
                let scratch = trial.scratch.as_deref();
                on_scratch(manager, pg.name(), scratch, async |scratch| {
                    let scratch = match pg.schema() {
                        Some(schema) => scratch.scoped(schema)?,
                        None => scratch.clone(),
                    };
                    Ok(migrations.dry_run_on(pg, &scratch).await?)
                })
                .await?
            }
        };
        drop(work);
        let ran = match trial.on_target {
            true => "the database itself, in a transaction that was rolled back".to_owned(),
            false => format!("a scratch database; {name} was only read"),
        };
        out::note(format_args!("{name}: the migrations ran on {ran}"));
        for migration in &mut planned.migrations {
            migration.findings.retain(|it| {
                let is_small = it.size.zip(trial.min_size).is_some_and(|(size, min)| size < min);
                !(is_small && it.what.depends_on_size())
            });
        }
        all.push((name.clone(), planned));
    }
    Ok(all)
}

fn show(all: &[(String, DryRun)], json: bool) -> Result<(), Failure> {
    if json {
        return out::json(&Value::from_iter(all.iter().map(|(target, planned)| {
            let migrations = planned.migrations.iter().map(|it| {
                json!({
                    "migration": it.name, "statements": it.statements, "error": it.error,
                    "in_transaction": it.in_transaction,
                    "unsafe": Value::from_iter(it.findings.iter().map(finding)),
                })
            });
            json!({"target": target, "migrations": Value::from_iter(migrations)})
        })));
    }
    for (name, planned) in all {
        match planned.migrations.is_empty() {
            true => out::line(format_args!("-- {name}: nothing is pending"))?,
            false => {
                out::line(format_args!("-- {name}"))?;
                // Piped on, it is the migrations' own SQL.
                match std::io::stdout().is_terminal() {
                    true => out::line(planned.to_string().trim_end())?,
                    false => out::exact(planned.to_string().as_bytes())?,
                }
            }
        }
    }
    Ok(())
}

fn finding(finding: &Finding) -> Value {
    json!({
        "rule": finding.what.rule(), "table": finding.table, "size_bytes": finding.size,
        "statement": finding.statement, "what": finding.to_string(),
    })
}

fn lint(all: &[(String, DryRun)], json: bool) -> Result<(), Failure> {
    let (mut found, mut pending) = (Vec::new(), 0);
    for (target, planned) in all {
        pending += planned.migrations.len();
        for migration in &planned.migrations {
            let name = &migration.name;
            for it in &migration.findings {
                let mut value = finding(it);
                value["target"] = json!(target);
                value["migration"] = json!(name);
                found.push((value, format!("{target}, {name}: {it}")));
            }
            // Nothing after the failed statement was checked, nor any later migration.
            if let Some(error) = &migration.error {
                let what = format!("incomplete, because the migration failed here: {error}");
                let value =
                    json!({"target": target, "migration": name, "rule": "failed", "what": what});
                found.push((value, format!("{target}, {name}: {what}")));
            }
        }
    }
    if json {
        out::json(&Value::from_iter(found.iter().map(|(value, _)| value.clone())))?;
    } else {
        for (_, line) in &found {
            out::line(line)?;
        }
    }
    match found.len() {
        0 => {
            let pending = out::count(pending, "pending migration");
            out::note(format_args!("nothing unsafe in {pending}"));
            Ok(())
        }
        // They have been printed.
        _ => Err(Failure::Code(1)),
    }
}
