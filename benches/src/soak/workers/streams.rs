//! Streams and cursors: all rows, or an error.

use futures_util::{Stream, StreamExt};
use sea_orm::{DbBackend, DbErr, QueryResult, Statement, StreamTrait};
use wharf::Error;

use super::Worker;
use crate::soak::{tables, waits::Call};

pub async fn run(mut worker: Worker) {
    let select = || Statement::from_string(DbBackend::Postgres, "SELECT * FROM big ORDER BY id");
    while worker.goes_on() {
        let pg = worker.world.pg.clone();
        let stops_at = (worker.rng.u8(..) < 64).then(|| worker.rng.i64(1..tables::ROWS));
        let result = if worker.rng.bool() {
            match worker.timed(Call::FirstRow, pg.stream_raw(select())).await {
                Ok(rows) => read(&worker, rows, Call::FirstRow, stops_at).await,
                Err(error) => Err(error.into()),
            }
        } else {
            cursor(&worker, select(), stops_at).await
        };
        worker.note_read(&result);
        worker.pause(100).await;
    }
}

async fn cursor(worker: &Worker, select: Statement, stops_at: Option<i64>) -> Result<(), Error> {
    let s = worker.timed(Call::Begin, worker.world.pg.session().read_only().into_future()).await?;
    let rows = worker.timed(Call::InSession, s.cursor_raw(select).fetch_size(500).rows()).await?;
    read(worker, rows, Call::NextRow, stops_at).await
}

async fn read(
    worker: &Worker,
    mut rows: impl Stream<Item = Result<QueryResult, DbErr>> + Unpin,
    first: Call,
    stops_at: Option<i64>,
) -> Result<(), Error> {
    let (mut read, mut call) = (0, first);
    loop {
        let Some(row) = worker.timed(call, rows.next()).await else { break };
        call = Call::NextRow;
        let id: i64 = row?.try_get_by_index(0)?;
        read += 1;
        if id != read {
            worker.violation("streams are whole", format!("row {read} was {id}"));
        }
        if stops_at == Some(read) {
            return Ok(());
        }
    }
    if read != tables::ROWS {
        worker.violation(
            "streams are whole",
            format!("{read} of {} rows, and no error", tables::ROWS),
        );
    }
    Ok(())
}
