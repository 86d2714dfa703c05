//! Files in, files out.

use std::{fs, io, path::PathBuf};

use futures_util::TryStreamExt as _;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    Statement,
};
use wharf::{Error, Pg, copy::Format};

use super::reading::{self, Reading, reading};
use crate::support::{TestDatabase, number};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let files = fs::read_dir(self.0.path()).unwrap();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[tokio::test]
async fn a_file_that_was_written_is_read_again() {
    let database = reading::table().await;
    let pg = database.pg().await;
    pg.copy_in::<Reading>().rows((1..=10_000).map(reading)).await.unwrap();
    pg.execute_unprepared("CREATE TABLE before AS TABLE reading").await.unwrap();
    let folder = Folder::new();
    for (name, format) in [("readings.csv", Format::Csv), ("readings.bin", Format::Binary)] {
        let file = folder.file(name);
        let find = Reading::find().order_by_asc(reading::Column::Id);
        assert_eq!(pg.copy_out(find).to_file(&file, format).await.unwrap(), 10_000);
        pg.execute_unprepared("DELETE FROM reading").await.unwrap();
        let copied = pg.copy_in::<Reading>().from_file(&file, format).await.unwrap();
        assert_eq!(copied, 10_000);
        let other = "SELECT count(*) FROM (TABLE before EXCEPT TABLE reading) x";
        assert_eq!(number(&pg, other).await, 0);
    }
    assert_eq!(folder.names().len(), 2, "{:?}", folder.names());
}

#[tokio::test]
async fn a_query_says_which_rows_and_columns_go_out() {
    let database = reading::table().await;
    let pg = database.pg().await;
    pg.copy_in::<Reading>().rows((1..=100).map(reading)).await.unwrap();
    let find = Reading::find()
        .filter(reading::Column::Sensor.eq("sensor 7\t\\é\n"))
        .order_by_asc(reading::Column::Id);
    let mut csv = Vec::new();
    let rows = pg.copy_out(find.clone()).to_writer(&mut csv, Format::Csv).await.unwrap();
    let csv = String::from_utf8(csv).unwrap();
    assert_eq!(rows, 1);
    assert!(csv.starts_with("id,sensor,value,at\n7,\"sensor 7\t\\é\n\",1.75,2023-11-14"), "{csv}");
    // The same in a session, whose own rows it sees, and from a view that only reads.
    let session = pg.begin().await.unwrap();
    session.copy_in::<Reading>().rows([reading(107)]).await.unwrap();
    let bytes = session.copy_out(find.clone()).bytes(Format::Csv).await.unwrap();
    let lines: Vec<_> = bytes.try_collect().await.unwrap();
    assert_eq!(lines.len(), 3, "the names and two rows");
    assert_eq!(number(&session, "SELECT count(*) FROM reading").await, 101);
    drop(session);
    let bytes = pg.read_only().copy_out(find).bytes(Format::Csv).await.unwrap();
    assert_eq!(bytes.try_collect::<Vec<_>>().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_csv_names_its_columns() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let csv = "\"at\",sensor,id\n2024-01-01T00:00:00Z,\"a, b\",7\n2024-01-02T00:00:00Z,,8\n";
    let error = pg.copy_in::<Reading>().from_reader(csv.as_bytes(), Format::Csv).await.unwrap_err();
    // An empty one is NULL.
    assert!(error.is_not_null_violation());
    assert!(error.to_string().contains("into reading, because of line 3"), "{error}");
    let csv = csv.replace(",,", ",\"\",");
    let copied = pg.copy_in::<Reading>().from_reader(csv.as_bytes(), Format::Csv).await.unwrap();
    assert_eq!(copied, 2);
    assert_eq!(
        number(&pg, "SELECT count(*) FROM reading WHERE id = 7 AND sensor = 'a, b'").await,
        1
    );

    let error = pg
        .copy_in::<Reading>()
        .from_reader(&b"id,senser\n1,a\n"[..], Format::Csv)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("it has no column `senser`; its columns are id"), "{error}");
    let names = &b"id,sensor"[..];
    assert_eq!(pg.copy_in::<Reading>().from_reader(names, Format::Csv).await.unwrap(), 0);
    assert_eq!(pg.copy_in::<Reading>().from_reader(&b""[..], Format::Csv).await.unwrap(), 0);
}

#[tokio::test]
async fn the_bad_line_of_a_csv_is_named_and_nothing_of_it_stays() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let mut csv = "id,sensor,value\n".to_owned();
    for id in 1..=50_000 {
        csv.push_str(&format!("{id},s,{}\n", if id == 40_000 { "one" } else { "1.5" }));
    }
    let error = pg.copy_in::<Reading>().from_reader(csv.as_bytes(), Format::Csv).await.unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains("nothing was copied into reading, because of line 40001, column `value`"),
        "{told}"
    );
    assert!(told.contains("\"one\""), "{told}");
    assert_eq!(Reading::find().count(&pg).await.unwrap(), 0);
}

/// Up to PostgreSQL 17 such a line ends COPY's data, and what follows it is thrown away.
#[tokio::test]
async fn no_line_of_a_csv_ends_the_rest() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let words = |pg: &Pg| pg.copy_in_named("words", ["word"]);
    let kept = async |csv: &str| -> Vec<String> {
        pg.execute_unprepared(
            "DROP TABLE IF EXISTS words; CREATE TABLE words (n serial, word text)",
        )
        .await
        .unwrap();
        let reader = csv.as_bytes();
        let copied = words(&pg).from_reader(reader, Format::Csv).await.unwrap();
        // Nor does it where the file comes byte by byte.
        let (mut to, from) = tokio::io::duplex(1);
        let write = async {
            tokio::io::AsyncWriteExt::write_all(&mut to, reader).await.unwrap();
            drop(to);
        };
        let again = async { words(&pg).from_reader(from, Format::Csv).await.unwrap() };
        assert_eq!(tokio::join!(again, write).0, copied);
        let rows = pg
            .query_all_raw(Statement::from_string(
                DbBackend::Postgres,
                "SELECT word FROM words ORDER BY n",
            ))
            .await
            .unwrap();
        let rows: Vec<String> = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        assert_eq!(rows.len() as u64, 2 * copied);
        rows[rows.len() / 2..].to_vec()
    };
    assert_eq!(kept("word\n1\n\\.\n2\n3\n").await, ["1", "\\.", "2", "3"]);
    assert_eq!(kept("word\n\\.\n\\.\n\\.").await, ["\\.", "\\.", "\\."]);
    assert_eq!(kept("word\r\n1\r\n\\.\r\n2\r\n").await, ["1", "\\.", "2"]);
    // What only looks like one is as it was.
    let others = "word\n\"\\.\"\n\"a\n\\.\nb\"\n\\.c\n \\.\n\\\n\\..\n\"\"\"\n\\.\"\n";
    let expected = ["\\.", "a\n\\.\nb", "\\.c", " \\.", "\\", "\\..", "\"\n\\."];
    assert_eq!(kept(others).await, expected);

    // Over many messages, of which each has some; and where a row has more columns it is no row.
    let many = 200_000;
    let csv = format!("word\n{}", "\\.\nx\n".repeat(many / 2));
    assert_eq!(kept(&csv).await.len(), many);
    pg.execute_unprepared("ALTER TABLE words ADD other text; DELETE FROM words").await.unwrap();
    let csv = &b"word,other\n1,a\n\\.\n2,b\n"[..];
    let error = words(&pg).from_reader(csv, Format::Csv).await.unwrap_err();
    assert!(error.to_string().contains("because of line 3"), "{error}");
    assert!(error.to_string().contains("missing data for column \"other\""), "{error}");
    // Not even the line of the names.
    pg.execute_unprepared("ALTER TABLE words RENAME word TO \"\\.\"").await.unwrap();
    let csv = &b"\\.\n1\n2\n"[..];
    let copied = pg.copy_in_named("words", ["n"]).from_reader(csv, Format::Csv).await.unwrap();
    assert_eq!(copied, 2);
}

#[tokio::test]
async fn a_binary_file_that_goes_on_behind_its_end_is_an_error() {
    let database = reading::table().await;
    let pg = database.pg().await;
    pg.copy_in::<Reading>().rows((1..=10).map(reading)).await.unwrap();
    let mut file = Vec::new();
    pg.copy_out(Reading::find()).to_writer(&mut file, Format::Binary).await.unwrap();
    let twice = [file.clone(), file].concat();
    pg.execute_unprepared("DELETE FROM reading").await.unwrap();
    let error = pg.copy_in::<Reading>().from_reader(&*twice, Format::Binary).await.unwrap_err();
    assert!(error.to_string().contains("received copy data after EOF marker"), "{error}");
    assert_eq!(Reading::find().count(&pg).await.unwrap(), 0);
}

#[tokio::test]
async fn a_file_that_cannot_be_is_an_error_that_names_it() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let folder = Folder::new();
    let error =
        pg.copy_in::<Reading>().from_file(folder.file("none.csv"), Format::Csv).await.unwrap_err();
    assert!(error.to_string().contains("could not open"), "{error}");
    let to = folder.file("no/such/folder.csv");
    let error = pg.copy_out(Reading::find()).to_file(&to, Format::Csv).await.unwrap_err();
    assert!(matches!(&error, Error::Write { .. }), "{error}");
    assert!(error.to_string().contains("folder.csv: No such file"), "{error}");
    // A binary one of another table.
    let error = pg
        .copy_in::<Reading>()
        .from_reader(&b"no such thing"[..], Format::Binary)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("COPY file signature not recognized"), "{error}");
}

#[tokio::test]
async fn a_file_is_there_when_it_is_whole() {
    let database = reading::table().await;
    let pg = database.pg().await;
    pg.copy_in::<Reading>().rows((1..=1_000).map(reading)).await.unwrap();
    let folder = Folder::new();
    let file = folder.file("readings.csv");
    fs::write(&file, "as it was").unwrap();
    // Division by zero, after some rows.
    pg.execute_unprepared(
        "ALTER TABLE reading RENAME TO r;
         CREATE VIEW reading AS SELECT id / (1000 - id) AS id, sensor, value, at FROM r ORDER BY r.id",
    )
    .await
    .unwrap();
    let error = pg.copy_out(Reading::find()).to_file(&file, Format::Csv).await.unwrap_err();
    assert_eq!(error.sqlstate().as_deref(), Some("22012"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "as it was");
    assert_eq!(folder.names(), ["readings.csv"]);
    // And the connection is as good as before.
    assert_eq!(number(&pg, "SELECT count(*) FROM r").await, 1_000);
}

/// The driver does not read such an error to its end.
#[tokio::test]
async fn a_query_that_the_server_refuses_ends_its_session_and_nothing_else() {
    let database = reading::table().await;
    let pg = database.pg().await;
    pg.execute_unprepared("ALTER TABLE reading RENAME TO other").await.unwrap();
    let session = pg.begin().await.unwrap();
    let error =
        session.copy_out(Reading::find()).to_writer(Vec::new(), Format::Csv).await.unwrap_err();
    assert_eq!(error.sqlstate().as_deref(), Some("42P01"), "{error}");
    let error = session.execute_unprepared("SELECT 1").await.unwrap_err();
    assert!(matches!(Error::from(error), Error::SessionEnded { .. }));
    assert!(session.commit().await.is_err());
    for n in 0..5 {
        let session = pg.begin().await.unwrap();
        session.copy_out(Reading::find()).to_writer(Vec::new(), Format::Csv).await.unwrap_err();
        session.rollback().await.unwrap();
        pg.copy_out(Reading::find()).to_writer(Vec::new(), Format::Csv).await.unwrap_err();
        assert_eq!(number(&pg, &format!("SELECT {n}::int8")).await, n);
    }
}

#[tokio::test]
async fn a_reader_or_writer_that_fails_leaves_nothing() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let good = io::Cursor::new(b"id,sensor\n1,a\n");
    let reader = tokio::io::AsyncReadExt::chain(good, Broken);
    let error = pg.copy_in::<Reading>().from_reader(reader, Format::Csv).await.unwrap_err();
    assert!(error.to_string().ends_with("the disk is on fire"), "{error}");
    assert_eq!(Reading::find().count(&pg).await.unwrap(), 0);

    pg.copy_in::<Reading>().rows((1..=1_000).map(reading)).await.unwrap();
    let (near, far) = tokio::io::duplex(1024);
    drop(far);
    let error = pg.copy_out(Reading::find()).to_writer(near, Format::Csv).await.unwrap_err();
    assert!(error.to_string().contains("cannot write to a writer"), "{error}");
    for _ in 0..5 {
        assert_eq!(Reading::find().count(&pg).await.unwrap(), 1_000);
    }
}

/// Fails at once.
struct Broken;

impl tokio::io::AsyncRead for Broken {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Err(io::Error::other("the disk is on fire")))
    }
}
