//! A table that is kept in chunks of time.

use std::fmt::Write as _;

use sea_orm::{
    ConnectionTrait, DbErr,
    sea_query::{IntoIden, IntoTableRef},
};

use super::{
    TimescaleError,
    interval::{Interval, Least},
    statement::Subject,
};
use crate::sql::{quote_ident, quote_literal};

const CHUNK: &str = "the chunk interval";
const AGE: &str = "the age";

/// A table that TimescaleDB keeps in chunks, one for each span of time: made by
/// [`create`](Hypertable::create), told what to keep by the other methods.
///
/// ```no_run
/// use wharf::ext::timescale::{Hypertable, Interval};
/// # async fn up(m: &sea_orm_migration::SchemaManager<'_>) -> Result<(), sea_orm::DbErr> {
/// let readings = Hypertable::new("reading", "at").chunk_interval(Interval::days(1));
/// readings.create(m.get_connection()).await?;
/// readings.set_retention(m.get_connection(), Interval::days(90)).await?;
/// # Ok(()) }
/// ```
///
/// The methods take any connection: a migration's, a [`Pg`](crate::Pg), a [`Session`](crate::Session). Each
/// is one round trip, and all of it is done or nothing; dropping the future before the answer leaves open
/// which. They give [`TimescaleError`](super::TimescaleError) inside of the `DbErr`, which
/// [`Error::of`](crate::Error::of) finds.
#[derive(Clone, Debug)]
pub struct Hypertable {
    subject: Subject,
    time: String,
    chunk: Option<Interval>,
    hashes: Vec<(String, u16)>,
    if_not_exists: bool,
    migrate_data: bool,
}

impl Hypertable {
    /// A table (an entity, its `table_ref()` where it has a schema, a name), and its column of type
    /// `timestamptz`, `timestamp` or `date`. Asks the server nothing.
    #[must_use]
    pub fn new(table: impl IntoTableRef, time: impl IntoIden) -> Hypertable {
        let mut subject = Subject::new("hypertable", table);
        let time = time.into_iden().to_string();
        subject.columns.push(time.clone());
        Hypertable {
            subject,
            time,
            chunk: None,
            hashes: Vec::new(),
            if_not_exists: false,
            migrate_data: false,
        }
    }

    /// How much time is in a chunk; 7 days unless it is said. A chunk is what is dropped, compressed, or
    /// left out of a query at once; the newest ones with their indexes should fit into a quarter of the
    /// server's memory.
    #[must_use]
    pub fn chunk_interval(mut self, interval: impl Into<Interval>) -> Hypertable {
        self.chunk = Some(interval.into());
        self
    }

    /// Splits each span of time into so many chunks more, by the hash of a column: for servers with
    /// several disks. A column that is merely filtered by wants an index.
    #[must_use]
    pub fn by_hash(mut self, column: impl IntoIden, partitions: u16) -> Hypertable {
        let column = column.into_iden().to_string();
        self.subject.columns.push(column.clone());
        self.hashes.push((column, partitions));
        self
    }

    /// Nothing is done where the table is a hypertable already, whatever its chunks are.
    #[must_use]
    pub fn if_not_exists(mut self) -> Hypertable {
        self.if_not_exists = true;
        self
    }

    /// Moves the rows that are there into chunks, which takes as long as copying them and locks the table
    /// meanwhile. Without this a table with rows is refused.
    #[must_use]
    pub fn migrate_data(mut self) -> Hypertable {
        self.migrate_data = true;
        self
    }

    /// Makes it a hypertable, and an index on its time where there is none.
    ///
    /// # Errors
    /// [`TimescaleError::NotInKey`](super::TimescaleError::NotInKey) where the primary key or a unique index
    /// lacks the time, or a column of [`by_hash`](Hypertable::by_hash);
    /// [`TimescaleError::Missing`](super::TimescaleError::Missing) without the extension;
    /// [`TimescaleError::OutOfRange`](super::TimescaleError::OutOfRange), before anything is sent, for a chunk interval
    /// of 0, below a microsecond or too long, and for partitions that are not 1 to 32,767; else
    /// [`TimescaleError::Refused`](super::TimescaleError::Refused), with the server's hint.
    pub async fn create(&self, db: &impl ConnectionTrait) -> Result<(), DbErr> {
        if let Some(chunk) = self.chunk {
            self.subject.takes(CHUNK, chunk, Least::Microsecond)?;
        }
        for (column, partitions) in &self.hashes {
            self.partitions(column, *partitions)?;
        }
        self.subject.execute(db, "a hypertable", &self.to_sql()).await
    }

    /// The server counts them in 16 bits with a sign.
    fn partitions(&self, column: &str, partitions: u16) -> Result<(), TimescaleError> {
        const MOST: u16 = i16::MAX.unsigned_abs();
        match (1..=MOST).contains(&partitions) {
            true => Ok(()),
            false => Err(self.subject.out_of_range(format!(
                "{partitions} partitions by the hash of `{column}`; give 1 to {MOST}"
            ))),
        }
    }

    /// What [`create`](Hypertable::create) sends.
    #[must_use]
    pub fn to_sql(&self) -> String {
        let table = self.subject.literal();
        let flag = if self.if_not_exists { ", if_not_exists => true" } else { "" };
        let migrate = if self.migrate_data { ", migrate_data => true" } else { "" };
        let mut range = quote_literal(&self.time);
        if let Some(chunk) = self.chunk {
            // Writing to a String cannot fail.
            let _ = write!(range, ", {}", chunk.sql());
        }
        let mut sql =
            format!("SELECT create_hypertable({table}, by_range({range}){flag}{migrate})");
        for (column, partitions) in &self.hashes {
            let column = quote_literal(column);
            let hash = format!("by_hash({column}, {partitions})");
            let _ = write!(sql, "; SELECT add_dimension({table}, {hash}{flag})");
        }
        sql
    }

    /// How much time is in the chunks that are made from now on.
    ///
    /// # Errors
    /// [`TimescaleError::OutOfRange`](super::TimescaleError::OutOfRange), as [`create`](Hypertable::create); what the
    /// server says.
    pub async fn set_chunk_interval(
        &self,
        db: &impl ConnectionTrait,
        interval: impl Into<Interval>,
    ) -> Result<(), DbErr> {
        let interval = interval.into();
        self.subject.takes(CHUNK, interval, Least::Microsecond)?;
        let (table, interval) = (self.subject.literal(), interval.sql());
        let sql = format!("SELECT set_chunk_time_interval({table}, {interval})");
        self.subject.execute(db, "a chunk interval", &sql).await
    }

    /// Drops the chunks of which every row is older than `age`, **with their rows**; how many they were. In
    /// every licence, and for a job of one's own what [`set_retention`](Hypertable::set_retention) is in the
    /// server. It drops files, whatever is in them, and waits for those who use the table.
    ///
    /// # Errors
    /// [`TimescaleError::OutOfRange`](super::TimescaleError::OutOfRange), before anything is sent, for an age above 0 and
    /// below a microsecond, or too long; what the server says.
    pub async fn drop_chunks(
        &self,
        db: &impl ConnectionTrait,
        age: impl Into<Interval>,
    ) -> Result<u64, DbErr> {
        let age = age.into();
        self.subject.takes(AGE, age, Least::Zero)?;
        let (table, age) = (self.subject.literal(), age.sql());
        let sql = format!("SELECT count(*) FROM drop_chunks({table}, older_than => {age})");
        let dropped: i64 =
            self.subject.row(db, "dropping chunks", sql).await?.try_get_by_index(0)?;
        Ok(dropped.unsigned_abs())
    }

    /// Has the server drop chunks of which every row is older than `age`, **with their rows**, once a day;
    /// in place of what it was told before.
    ///
    /// # Errors
    /// [`TimescaleError::Licence`](super::TimescaleError::Licence) on an Apache build:
    /// [`drop_chunks`](Hypertable::drop_chunks) is there.
    pub async fn set_retention(
        &self,
        db: &impl ConnectionTrait,
        age: impl Into<Interval>,
    ) -> Result<(), DbErr> {
        let age = age.into();
        self.subject.takes(AGE, age, Least::Zero)?;
        self.subject.execute(db, "a retention policy", &self.retention(age)).await
    }

    /// Has the server keep all; fine if it does.
    ///
    /// # Errors
    /// As [`set_retention`](Hypertable::set_retention).
    pub async fn remove_retention(&self, db: &impl ConnectionTrait) -> Result<(), DbErr> {
        let sql = self.without("retention");
        self.subject.execute(db, "a retention policy", &sql).await
    }

    /// Has the server compress chunks once they are old enough, in place of what it was told before. Chunks
    /// that are compressed already stay as they are.
    ///
    /// # Errors
    /// [`TimescaleError::Licence`](super::TimescaleError::Licence) on an Apache build.
    pub async fn set_compression(
        &self,
        db: &impl ConnectionTrait,
        compression: Compression,
    ) -> Result<(), DbErr> {
        self.subject.takes(AGE, compression.after, Least::Zero)?;
        self.subject.execute(db, "compression", &self.compression(&compression)).await
    }

    /// Has the server compress no further chunks; fine if it does not. What is compressed stays so.
    ///
    /// # Errors
    /// As [`set_compression`](Hypertable::set_compression).
    pub async fn remove_compression(&self, db: &impl ConnectionTrait) -> Result<(), DbErr> {
        let sql = self.without("compression");
        self.subject.execute(db, "compression", &sql).await
    }

    fn retention(&self, age: Interval) -> String {
        let (remove, table) = (self.without("retention"), self.subject.literal());
        format!("{remove}; SELECT add_retention_policy({table}, drop_after => {})", age.sql())
    }

    fn compression(&self, compression: &Compression) -> String {
        let Compression { after, segment_by, order_by } = compression;
        let mut set = String::from("timescaledb.compress");
        // Lists of SQL inside of SQL's text.
        for (key, list) in [("compress_segmentby", segment_by), ("compress_orderby", order_by)] {
            if !list.is_empty() {
                let _ = write!(set, ", timescaledb.{key} = {}", quote_literal(&list.join(", ")));
            }
        }
        let (quoted, table) = (self.subject.quoted(), self.subject.literal());
        let (remove, after) = (self.without("compression"), after.sql());
        format!(
            "ALTER TABLE {quoted} SET ({set}); {remove}; \
             SELECT add_compression_policy({table}, compress_after => {after})"
        )
    }

    fn without(&self, policy: &str) -> String {
        format!("SELECT remove_{policy}_policy({}, if_exists => true)", self.subject.literal())
    }
}

/// How chunks are compressed, and when: column by column, in batches of up to 1,000 rows.
///
/// ```
/// use wharf::ext::timescale::{Compression, Interval};
/// let compression = Compression::after(Interval::days(7)).segment_by("device").order_by_desc("at");
/// ```
#[derive(Clone, Debug)]
pub struct Compression {
    after: Interval,
    segment_by: Vec<String>,
    order_by: Vec<String>,
}

impl Compression {
    /// Chunks of which every row is older than this.
    #[must_use]
    pub fn after(age: impl Into<Interval>) -> Compression {
        Compression { after: age.into(), segment_by: Vec::new(), order_by: Vec::new() }
    }

    /// A batch has one value of this column: that of a device, say, by which queries filter. Columns
    /// together; some hundred rows of each value in a chunk are enough.
    #[must_use]
    pub fn segment_by(mut self, column: impl IntoIden) -> Compression {
        self.segment_by.push(quote_ident(&column.into_iden().to_string()));
        self
    }

    /// How rows are sorted within a batch: ascending by this column; unless it is said, by time, newest first.
    #[must_use]
    pub fn order_by_asc(mut self, column: impl IntoIden) -> Compression {
        self.order_by.push(format!("{} ASC", quote_ident(&column.into_iden().to_string())));
        self
    }

    /// The same, descending.
    #[must_use]
    pub fn order_by_desc(mut self, column: impl IntoIden) -> Compression {
        self.order_by.push(format!("{} DESC", quote_ident(&column.into_iden().to_string())));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{Compression, Hypertable, Interval};

    #[test]
    fn whatever_a_table_is_called_stays_a_name() {
        let odd =
            Hypertable::new(("Plant \"1\"", "it's"), "Time").chunk_interval(Interval::days(1));
        assert_eq!(
            odd.by_hash("unit", 4).if_not_exists().migrate_data().to_sql(),
            "SELECT create_hypertable('\"Plant \"\"1\"\"\".\"it''s\"', by_range('Time', INTERVAL '1 days'), \
             if_not_exists => true, migrate_data => true); SELECT add_dimension('\"Plant \"\"1\"\"\".\"it''s\"', \
             by_hash('unit', 4), if_not_exists => true)"
        );
    }

    /// The build that these run on has neither: see tests/ext/timescale.rs.
    #[test]
    fn what_the_community_licence_has_is_said_as_its_manual_does() {
        let readings = Hypertable::new("reading", "at");
        assert_eq!(
            readings.retention(Interval::months(3)),
            "SELECT remove_retention_policy('\"reading\"', if_exists => true); \
             SELECT add_retention_policy('\"reading\"', drop_after => INTERVAL '3 months')"
        );
        let compression = Compression::after(Interval::days(7));
        let by = compression.segment_by("site").segment_by("Device").order_by_desc("at");
        assert_eq!(
            readings.compression(&by),
            "ALTER TABLE \"reading\" SET (timescaledb.compress, \
             timescaledb.compress_segmentby = '\"site\", \"Device\"', \
             timescaledb.compress_orderby = '\"at\" DESC'); \
             SELECT remove_compression_policy('\"reading\"', if_exists => true); \
             SELECT add_compression_policy('\"reading\"', compress_after => INTERVAL '7 days')"
        );
    }
}
