//! Rows by the million into a table: rows/s of each way there is, from what each is handed in memory.

use std::{
    collections::BTreeMap,
    env,
    path::Path,
    pin::pin,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use pgvector::Vector;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, EntityTrait, prelude::PgVector};
use tokio_postgres::{binary_copy::BinaryCopyInWriter, types::Type};
use wharf::{
    Pg,
    config::{PgServerConfig, Runtime},
    copy::Format,
    pgserver::{Endpoint, PgServer},
};

use crate::{machine, memory};

const IMAGE: &str = "pgvector/pgvector:pg17";
const FILE: &str = "BENCHES_FILE";
/// As many as SeaORM takes in one statement and still gains by.
const CHUNK: usize = 10_000;
const DIMENSIONS: usize = 384;

/// What is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Table {
    /// A million of (int4, text, float8, timestamptz).
    Narrow,
    /// A hundred thousand of (int4, vector(384)).
    Vectors,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Writer {
    Psql,
    TokioPostgres,
    SeaOrm,
    Wharf,
    WharfInsert,
}

mod narrow {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "narrow")]
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

mod embedded {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "vectors")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        #[sea_orm(column_type = "Vector(Some(384))")]
        pub embedding: PgVector,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Table::Narrow => "narrow",
            Table::Vectors => "vectors",
        }
    }

    /// Nobody else gets at either server.
    fn password(self) -> &'static str {
        match self {
            Table::Narrow => "",
            Table::Vectors => "benches",
        }
    }

    fn rows(self) -> usize {
        match self {
            Table::Narrow => 1_000_000,
            Table::Vectors => 100_000,
        }
    }

    fn create(self) -> &'static str {
        match self {
            Table::Narrow => {
                "CREATE TABLE narrow (id int4 NOT NULL, name text NOT NULL, amount float8 NOT NULL, at timestamptz NOT NULL)"
            }
            // As it comes; what is larger than 2 kB is otherwise compressed, which takes longest.
            Table::Vectors => {
                "CREATE EXTENSION vector; CREATE TABLE vectors (id int4 NOT NULL, embedding vector(384) NOT NULL)"
            }
        }
    }

    /// At least so much of whose rate.
    fn goals(self) -> &'static [(Writer, f64)] {
        match self {
            Table::Narrow => {
                &[(Writer::Psql, 0.9), (Writer::TokioPostgres, 0.95), (Writer::SeaOrm, 2.8)]
            }
            Table::Vectors => &[(Writer::Psql, 0.8), (Writer::SeaOrm, 2.5)],
        }
    }
}

impl Writer {
    fn title(self) -> &'static str {
        match self {
            Writer::Psql => "psql, `\\copy` of a binary file",
            Writer::TokioPostgres => "tokio-postgres, BinaryCopyInWriter",
            Writer::SeaOrm => "SeaORM, insert_many by 10,000",
            Writer::Wharf => "wharf, copy_in",
            Writer::WharfInsert => "wharf, insert_many by 10,000",
        }
    }
}

/// Every way, turn by turn, each in a process of its own.
pub async fn all(rounds: usize, tables: Vec<Table>) -> Result<()> {
    let tables = if tables.is_empty() { Table::value_variants().to_vec() } else { tables };
    let folder = tempfile::tempdir()?;
    for table in tables {
        let server = server(table);
        let at = server.start().await?;
        let done = turns(table, &at, rounds, folder.path()).await;
        match table {
            Table::Narrow => server.stop().await?,
            Table::Vectors => server.remove().await?,
        }
        done?;
    }
    Ok(())
}

fn server(table: Table) -> PgServer {
    let mut config = PgServerConfig::new(server_name(table));
    let settings = [
        ("autovacuum", "off"),
        ("checkpoint_timeout", "1d"),
        ("fsync", "off"),
        ("max_wal_size", "8GB"),
        ("shared_buffers", "512MB"),
    ];
    config.postgres_conf = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    config.pass = Some(table.password().to_owned().into());
    match table {
        Table::Narrow => {
            config.runtime = Runtime::Native;
            PgServer::temporary(config, Vec::new())
        }
        Table::Vectors => {
            config.runtime = Runtime::Docker;
            config.image = Some(IMAGE.to_owned());
            PgServer::new(config, Vec::new())
        }
    }
}

async fn turns(table: Table, at: &Endpoint, rounds: usize, folder: &Path) -> Result<()> {
    let url = url(table, at)?;
    let pg = Pg::from_url(&url).await?;
    pg.execute_unprepared(table.create()).await?;
    let file = folder.join(table.name());
    let truncate = format!("TRUNCATE {}", table.name());
    // What psql copies is what all others do.
    fill(table, &pg).await?;
    match table {
        Table::Narrow => pg.copy_out(narrow::Entity::find()).to_file(&file, Format::Binary).await?,
        Table::Vectors => {
            pg.copy_out(embedded::Entity::find()).to_file(&file, Format::Binary).await?
        }
    };
    let mut measured: BTreeMap<Writer, Vec<(f64, f64)>> = BTreeMap::new();
    for round in 0..rounds {
        eprintln!("{}: round {} of {rounds}", table.name(), round + 1);
        let mut writers = Writer::value_variants().to_vec();
        let first = round % writers.len();
        writers.rotate_left(first);
        for writer in writers {
            for sql in [&*truncate, "CHECKPOINT"] {
                pg.execute_unprepared(sql).await?;
            }
            let line = child(writer, table, &url, &file)?;
            let (rate, peak) = line.trim().split_once(' ').context("not two figures")?;
            measured.entry(writer).or_default().push((rate.parse()?, peak.parse()?));
            let count = match table {
                Table::Narrow => {
                    sea_orm::PaginatorTrait::count(narrow::Entity::find(), &pg).await?
                }
                Table::Vectors => {
                    sea_orm::PaginatorTrait::count(embedded::Entity::find(), &pg).await?
                }
            };
            ensure!(count == table.rows() as u64, "{writer:?} wrote {count} rows");
        }
    }
    print(table, &at.version, rounds, &measured);
    Ok(())
}

fn child(writer: Writer, table: Table, url: &str, file: &Path) -> Result<String> {
    let name = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
        value().map_or_else(String::new, |it| it.get_name().to_owned())
    };
    let mut command = Command::new(env::current_exe()?);
    command.arg("copy").arg(name(&|| writer.to_possible_value()));
    command.arg(name(&|| table.to_possible_value()));
    command.env(crate::server::URL, url).env(FILE, file).stderr(Stdio::inherit());
    let output = command.output()?;
    ensure!(output.status.success(), "{writer:?}, {table:?}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn print(table: Table, version: &str, rounds: usize, measured: &BTreeMap<Writer, Vec<(f64, f64)>>) {
    println!("\n### {} rows into `{}`, medians of {rounds} rounds\n", table.rows(), table.name());
    println!("{}\n", machine::line(version));
    println!("| way | rows/s | wharf's, of that | rounds | goal | reached |");
    println!("|---|--:|--:|---|--:|---|");
    let wharf = measured.get(&Writer::Wharf).map(Vec::as_slice).unwrap_or_default();
    for (writer, rounds) in measured {
        let rate = median(rounds.iter().map(|(rate, _)| *rate));
        let ratios: Vec<f64> =
            wharf.iter().zip(rounds).map(|((wharf, _), (peer, _))| wharf / peer).collect();
        let ratio = median(ratios.iter().copied());
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        let goal = table.goals().iter().find(|(peer, _)| peer == writer).map(|(_, goal)| *goal);
        let (goal, reached) = match goal {
            Some(goal) if ratio >= goal => (format!("≥ {goal}"), "yes"),
            Some(goal) => (format!("≥ {goal}"), "**no**"),
            None => ("–".to_owned(), "–"),
        };
        println!(
            "| {} | {rate:.0} | {ratio:.2} | {least:.2} to {most:.2} | {goal} | {reached} |",
            writer.title()
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Rows/s of one way, and the most memory that the process had, in KiB.
pub async fn one(writer: Writer, table: Table, url: &str) -> Result<String> {
    let took = match (writer, table) {
        (Writer::Psql, table) => psql(table, url)?,
        (Writer::TokioPostgres, table) => tokio_postgres_copy(table, url).await?,
        (Writer::SeaOrm, Table::Narrow) => {
            sea_orm_insert::<narrow::Entity>(url, narrow_rows()).await?
        }
        (Writer::SeaOrm, Table::Vectors) => {
            sea_orm_insert::<embedded::Entity>(url, embedded_rows()).await?
        }
        (Writer::Wharf, table) => {
            let pg = Pg::from_url(url).await?;
            match table {
                Table::Narrow => {
                    let rows = narrow_rows();
                    let begun = Instant::now();
                    pg.copy_in::<narrow::Entity>().rows(rows).await?;
                    begun.elapsed().as_secs_f64()
                }
                Table::Vectors => {
                    let rows = embedded_rows();
                    let begun = Instant::now();
                    pg.copy_in::<embedded::Entity>().rows(rows).await?;
                    begun.elapsed().as_secs_f64()
                }
            }
        }
        (Writer::WharfInsert, table) => {
            let pg = Pg::from_url(url).await?;
            match table {
                Table::Narrow => wharf_insert::<narrow::Entity>(&pg, narrow_rows()).await?,
                Table::Vectors => wharf_insert::<embedded::Entity>(&pg, embedded_rows()).await?,
            }
        }
    };
    Ok(format!("{} {}", table.rows() as f64 / took, memory::peak()?))
}

fn psql(table: Table, url: &str) -> Result<f64> {
    let file = env::var(FILE).context("a part of `benches` is not run by hand")?;
    let sql = format!("\\copy {} from '{file}' with (format binary)", table.name());
    let begun = Instant::now();
    let output = Command::new("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", &sql, url])
        .output()?;
    let took = begun.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "psql: {said}");
    Ok(took)
}

async fn tokio_postgres_copy(table: Table, url: &str) -> Result<f64> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let sql = format!("COPY {} FROM STDIN (FORMAT binary)", table.name());
    match table {
        Table::Narrow => {
            let rows = narrow_rows();
            let begun = Instant::now();
            let types = [Type::INT4, Type::TEXT, Type::FLOAT8, Type::TIMESTAMPTZ];
            let mut writer = pin!(BinaryCopyInWriter::new(client.copy_in(&sql).await?, &types));
            for row in &rows {
                writer.as_mut().write(&[&row.id, &row.name, &row.amount, &row.at]).await?;
            }
            writer.finish().await?;
            Ok(begun.elapsed().as_secs_f64())
        }
        Table::Vectors => {
            let rows: Vec<_> = embedded_rows()
                .into_iter()
                .map(|row| (row.id, Vector::from(row.embedding.to_vec())))
                .collect();
            let vector = client.prepare("SELECT embedding FROM vectors").await?;
            let vector = vector.columns().first().context("no column")?.type_().clone();
            let begun = Instant::now();
            let types = [Type::INT4, vector];
            let mut writer = pin!(BinaryCopyInWriter::new(client.copy_in(&sql).await?, &types));
            for (id, embedding) in &rows {
                writer.as_mut().write(&[id, embedding]).await?;
            }
            writer.finish().await?;
            Ok(begun.elapsed().as_secs_f64())
        }
    }
}

async fn sea_orm_insert<E>(url: &str, rows: Vec<E::Model>) -> Result<f64>
where
    E: EntityTrait,
    E::Model: sea_orm::IntoActiveModel<E::ActiveModel>,
    E::ActiveModel: Send,
{
    let mut options = ConnectOptions::new(url);
    options.sqlx_logging(false).test_before_acquire(false);
    let db = Database::connect(options).await?;
    let begun = Instant::now();
    let mut rows = rows.into_iter().map(sea_orm::IntoActiveModel::into_active_model).peekable();
    while rows.peek().is_some() {
        E::insert_many(rows.by_ref().take(CHUNK)).exec_without_returning(&db).await?;
    }
    Ok(begun.elapsed().as_secs_f64())
}

async fn wharf_insert<E>(pg: &Pg, rows: Vec<E::Model>) -> Result<f64>
where
    E: EntityTrait,
    E::Model: sea_orm::IntoActiveModel<E::ActiveModel>,
    E::ActiveModel: Send,
{
    let begun = Instant::now();
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        pg.insert_many::<E>(rows.by_ref().take(CHUNK)).exec().await?;
    }
    Ok(begun.elapsed().as_secs_f64())
}

async fn fill(table: Table, pg: &Pg) -> Result<u64> {
    Ok(match table {
        Table::Narrow => pg.copy_in::<narrow::Entity>().rows(narrow_rows()).await?,
        Table::Vectors => pg.copy_in::<embedded::Entity>().rows(embedded_rows()).await?,
    })
}

fn narrow_rows() -> Vec<narrow::Model> {
    let at = |second: i64| sea_orm::prelude::DateTimeUtc::from_timestamp(1_700_000_000 + second, 0);
    (0..1_000_000)
        .map(|id| narrow::Model {
            id,
            name: format!("name number {id}"),
            amount: f64::from(id) / 7.0,
            at: at(i64::from(id)).unwrap_or_default(),
        })
        .collect()
}

fn embedded_rows() -> Vec<embedded::Model> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..100_000)
        .map(|id| {
            let vector: Vec<f32> = (0..DIMENSIONS).map(|_| random.f32() - 0.5).collect();
            embedded::Model { id, embedding: PgVector::from(vector) }
        })
        .collect()
}

fn url(table: Table, at: &Endpoint) -> Result<String> {
    let password = table.password();
    let address = match table {
        Table::Narrow => format!("{}:{}", at.host, at.port),
        // Not through Docker's proxy, a program that copies every byte once more and has a core to itself.
        Table::Vectors => format!("{}:5432", container_address(table)?),
    };
    Ok(format!("postgres://{}:{password}@{address}/postgres", at.user))
}

fn container_address(table: Table) -> Result<String> {
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let name = server_name(table);
    let output = Command::new("docker").args(["inspect", &name, "--format", format]).output()?;
    ensure!(output.status.success(), "docker inspect: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn server_name(table: Table) -> String {
    format!("benches-{}", table.name())
}
