//! A million rows as they come, to models: rows/s, and the most memory that the process had.

use std::{
    collections::BTreeMap, env, fmt, pin::pin, process::Command, process::Stdio, str::FromStr,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use futures_util::{Stream, StreamExt, TryStreamExt};
use nix::sys::resource::UsageWho;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, EntityTrait};
use sqlx::Connection;
use wharf::Pg;

use crate::{machine, measure, memory, server::Server};

const ROWS: i32 = 1_000_000;
const GOAL: f64 = 0.6;
/// MiB.
const MEMORY_GOAL: f64 = 64.0;

mod row {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, sqlx::FromRow)]
    #[sea_orm(table_name = "streamed")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        #[sea_orm(column_type = "Text")]
        pub name: String,
        pub amount: f64,
        pub at: DateTimeUtc,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

const SELECT: &str = "SELECT id, name, amount, at FROM streamed";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Reader {
    TokioPostgres,
    Sqlx,
    SeaOrm,
    Wharf,
    WharfCursor,
}

impl Reader {
    fn title(self) -> &'static str {
        match self {
            Reader::TokioPostgres => "tokio-postgres, query_raw",
            Reader::Sqlx => "sqlx, fetch",
            Reader::SeaOrm => "SeaORM, stream",
            Reader::Wharf => "wharf, stream",
            Reader::WharfCursor => "wharf, cursor of 1,000",
        }
    }
}

/// Of one reading, or medians of several.
pub struct Read {
    rows_per_second: f64,
    /// Of the client, for a row, in ns.
    cpu: f64,
    /// KiB.
    peak: f64,
}

/// Reads them once, in this process.
pub async fn read(reader: Reader, url: &str) -> Result<Read> {
    match reader {
        Reader::TokioPostgres => {
            let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            let select = client.prepare(SELECT).await?;
            timed(async || {
                let rows = client.query_raw(&select, Vec::<i32>::new()).await?;
                let models = rows.map(|row| {
                    let row = row?;
                    Ok::<_, tokio_postgres::Error>(row::Model {
                        id: row.try_get(0)?,
                        name: row.try_get(1)?,
                        amount: row.try_get(2)?,
                        at: row.try_get(3)?,
                    })
                });
                sum(models).await
            })
            .await
        }
        Reader::Sqlx => {
            let mut connection = sqlx::PgConnection::connect(url).await?;
            timed(async || {
                sum(sqlx::query_as::<_, row::Model>(SELECT).fetch(&mut connection)).await
            })
            .await
        }
        Reader::SeaOrm => {
            let mut options = ConnectOptions::new(url);
            options.sqlx_logging(false);
            let on = Database::connect(options).await?;
            timed(async || sum(row::Entity::find().stream(&on).await?).await).await
        }
        Reader::Wharf => {
            let on = Pg::from_url(url).await?;
            timed(async || sum(row::Entity::find().stream(&on).await?).await).await
        }
        Reader::WharfCursor => {
            let session = Pg::from_url(url).await?.session().await?;
            timed(async || {
                let rows = session.cursor(&row::Entity::find()).fetch_size(1_000);
                sum(rows.models::<row::Model>().await?).await
            })
            .await
        }
    }
}

/// Of the ids, so that what was read is looked at.
async fn sum<E>(rows: impl Stream<Item = Result<row::Model, E>>) -> Result<i64>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let mut rows = pin!(rows);
    let mut sum = 0;
    while let Some(row) = rows.try_next().await? {
        sum += i64::from(row.id);
    }
    Ok(sum)
}

async fn timed(mut read: impl AsyncFnMut() -> Result<i64>) -> Result<Read> {
    let (before, began) = (measure::cpu(UsageWho::RUSAGE_SELF)?, Instant::now());
    let sum = read().await?;
    let took = began.elapsed().as_secs_f64();
    let cpu = measure::cpu(UsageWho::RUSAGE_SELF)? - before;
    let rows = i64::from(ROWS);
    ensure!(sum == rows * (rows + 1) / 2, "the ids come to {sum}");
    let rows = f64::from(ROWS);
    Ok(Read { rows_per_second: rows / took, cpu: cpu * 1e3 / rows, peak: memory::peak()? as f64 })
}

/// Rounds, and in each every reader in its turn.
pub async fn all(rounds: usize) -> Result<()> {
    let server = Server::start(None).await?;
    let result = measured(rounds, &server).await;
    let version = server.version().to_owned();
    server.stop().await?;
    let measured = result?;
    println!("{}\n\nMedians of {rounds} rounds of {ROWS} rows.\n", machine::line(&version));
    print(&measured);
    Ok(())
}

async fn measured(rounds: usize, server: &Server) -> Result<BTreeMap<Reader, Vec<Read>>> {
    let pg = Pg::from_url(&server.url()).await?;
    for sql in [
        "CREATE TABLE streamed (id int PRIMARY KEY, name text NOT NULL, amount float8 NOT NULL, \
         at timestamptz NOT NULL)",
        &format!(
            "INSERT INTO streamed SELECT n, 'name of row ' || n, n / 7.0::float8, \
             timestamptz '2026-01-01' + n * interval '1 second' FROM generate_series(1, {ROWS}) n"
        ),
        "VACUUM ANALYZE streamed",
        "CHECKPOINT",
    ] {
        pg.execute_unprepared(sql).await?;
    }
    let readers = Reader::value_variants();
    let mut measured = BTreeMap::<_, Vec<_>>::new();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        // Each is first in some round.
        for at in 0..readers.len() {
            let reader = readers[(round + at) % readers.len()];
            measured.entry(reader).or_default().push(child(server, reader)?);
        }
    }
    Ok(measured)
}

/// Reads in a process of its own. Blocks: nothing else is to run.
fn child(server: &Server, reader: Reader) -> Result<Read> {
    let name = reader.to_possible_value().context("a reader without a name")?;
    let mut command = server.environment(Command::new(env::current_exe()?));
    command.args(["stream", name.get_name()]).stderr(Stdio::inherit());
    let output = command.output()?;
    ensure!(output.status.success(), "{reader:?}: {}", output.status);
    String::from_utf8(output.stdout)?.parse()
}

fn print(measured: &BTreeMap<Reader, Vec<Read>>) {
    println!(
        "| reader | rows/s | of tokio-postgres' | least and most of the rounds | goal | reached | CPU \
         ns/row | peak MiB |\n|---|--:|--:|--:|--:|---|--:|--:|"
    );
    let Some(theirs) = measured.get(&Reader::TokioPostgres) else { return };
    let of = Read::medians(theirs).rows_per_second;
    for (reader, rounds) in measured {
        let Read { rows_per_second, cpu, peak } = Read::medians(rounds);
        let (ratio, peak) = (rows_per_second / of, peak / 1024.0);
        let each = || rounds.iter().zip(theirs).map(|(a, b)| a.rows_per_second / b.rows_per_second);
        let (least, most) = (each().fold(f64::MAX, f64::min), each().fold(0.0, f64::max));
        let (goal, reached) = match reader {
            Reader::Wharf if ratio >= GOAL && peak < MEMORY_GOAL => ("≥ 0.6, < 64 MiB", "yes"),
            Reader::Wharf => ("≥ 0.6, < 64 MiB", "**no**"),
            _ => ("–", "–"),
        };
        println!(
            "| {} | {rows_per_second:.0} | {ratio:.2} | {least:.2} – {most:.2} | {goal} | {reached} | \
             {cpu:.0} | {peak:.1} |",
            reader.title()
        );
    }
}

impl Read {
    /// Figure by figure.
    fn medians(rounds: &[Read]) -> Read {
        let median = |figure: fn(&Read) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(figure).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        Read {
            rows_per_second: median(|read| read.rows_per_second),
            cpu: median(|read| read.cpu),
            peak: median(|read| read.peak),
        }
    }
}

impl fmt::Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Read { rows_per_second, cpu, peak } = self;
        write!(f, "{rows_per_second} {cpu} {peak}")
    }
}

impl FromStr for Read {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Read> {
        let figures: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
        match figures.with_context(|| format!("not figures: {line}"))?[..] {
            [rows_per_second, cpu, peak] => Ok(Read { rows_per_second, cpu, peak }),
            _ => anyhow::bail!("not three figures: {line}"),
        }
    }
}
