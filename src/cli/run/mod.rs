//! `wharf run`.

mod array;
mod effects;
mod error;
mod output;
mod script;
mod table;

use std::fs;
use std::io::Read as _;
use std::path::Path;

use sea_orm::DbErr;

use self::output::Output;
use self::script::Statement;
use super::args::Run;
use super::context::{Context, entry, named, shown};
use super::failure::Failure;
use super::log;
use crate::pg::Pg;
use crate::sql;

/// The most rows of a table, which are held to be laid out.
const TABLE: usize = 1000;

pub(super) async fn run(context: &Context, command: Run) -> Result<(), Failure> {
    let manager = context.manager()?;
    let (name, text) = input(&command)?;
    let name = named(&manager, name)?;
    if command.write && entry(&manager, &name)?.readonly {
        return Err(Failure::File(format!(
            "database `{name}` is `readonly: true` in the file; use an entry that allows writes"
        )));
    }
    if !command.write {
        let (Text::Statement(sql) | Text::Script(sql)) = &text;
        for statement in script::statements(sql) {
            if let Some(what) = effects::outside_of_transaction(&statement.sql) {
                return Err(Failure::Failed(format!(
                    "{what} acts outside of its transaction, so a read-only one does not prevent it; allow it with --write"
                )));
            }
        }
    }
    let pg = manager.db(&name)?;
    log::show_notices();
    let mut output = Output::new(&command, TABLE);
    let done = match text {
        Text::Statement(sql) => {
            one(&pg, &Statement::whole(&sql), None, command.write, &mut output).await
        }
        Text::Script(sql) => match script::statements(&sql).as_slice() {
            [] => Ok(()),
            [only] => one(&pg, only, Some(only.line), command.write, &mut output).await,
            several => all(&pg, several, command.write, &mut output).await,
        },
    };
    manager.close().await;
    done
}

enum Text {
    Statement(String),
    Script(String),
}

/// The name of the database, if it was given, and what is to be run.
fn input(command: &Run) -> Result<(Option<String>, Text), Failure> {
    let mut words = command.words.clone();
    if let Some(script) = &command.script {
        if words.len() > 1 {
            return Err(Failure::Usage("give a statement or -f FILE, not both".to_owned()));
        }
        return Ok((words.pop(), Text::Script(read(script)?)));
    }
    let Some(sql) = words.pop() else {
        return Err(Failure::Usage(
            "no statement was given; write `wharf run [NAME] SQL`, or -f FILE".to_owned(),
        ));
    };
    let text = match sql.as_str() {
        "-" => Text::Script(read(Path::new("-"))?),
        _ => Text::Statement(sql),
    };
    Ok((words.pop(), text))
}

/// A file, or standard input for `-`.
fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text)?;
    } else {
        text = fs::read_to_string(path)
            .map_err(|error| Failure::Failed(format!("{}: {error}", shown(path))))?;
    }
    // A byte order mark is no SQL.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Runs a statement by itself: read-only in a transaction, writing outside of any.
async fn one(
    pg: &Pg,
    statement: &Statement,
    line: Option<usize>,
    write: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    if let Some(keyword) = sql::Control::of(&statement.sql).keyword {
        return Err(error::transaction_control(keyword));
    }
    let done = match write {
        true => pg.text_rows(&statement.sql, output).await,
        false => {
            let session = pg.session().read_only().await?;
            session.text_rows(&statement.sql, output).await
        }
    };
    finish(statement, done, output, line)?;
    output.take_failure().map_or(Ok(()), Err)
}

/// Runs statements in one transaction.
async fn all(
    pg: &Pg,
    statements: &[Statement],
    write: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let session = match write {
        true => pg.session().await?,
        false => pg.session().read_only().await?,
    };
    for statement in statements {
        let done = session.text_rows(&statement.sql, output).await;
        finish(statement, done, output, Some(statement.line))?;
    }
    session.commit().await.map_err(|error| error::explained("", None, error))?;
    output.take_failure().map_or(Ok(()), Err)
}

fn finish(
    statement: &Statement,
    done: Result<u64, DbErr>,
    output: &mut Output,
    line: Option<usize>,
) -> Result<(), Failure> {
    // A statement that writes runs to its end, even if nobody reads its rows.
    if !output.writes
        && let Some(failure) = output.take_failure()
    {
        return Err(failure);
    }
    match done {
        Ok(affected) => output.end(affected),
        Err(error) => {
            output.break_off();
            Err(error::explained(&statement.sql, line, error))
        }
    }
}
