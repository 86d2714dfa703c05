//! Statements that leave something on their connection, and statements that look for what others left.

use sea_orm::ConnectionTrait;
use wharf::Error;

use super::{Worker, first};
use crate::soak::waits::Call;

const LEAVE: [&str; 5] = [
    "SET app.behind = 'behind'",
    "SET search_path = tenant_0, public",
    "SELECT set_config('app.behind', 'behind', false)",
    "SELECT pg_advisory_lock(17)",
    "CREATE TEMPORARY TABLE left_behind (id int)",
];

const LOOK: &str = "SELECT coalesce(current_setting('app.tenant', true), ''), coalesce(current_setting('app.behind', true), ''), \
                    current_setting('search_path'), current_setting('statement_timeout'), \
                    to_regclass('left_behind') IS NULL, \
                    NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 17 AND pid = pg_backend_pid())";

pub async fn run(mut worker: Worker) {
    while worker.goes_on() {
        if worker.rng.u8(..) < 64 {
            let leave = LEAVE[worker.rng.usize(..LEAVE.len())];
            let pg = worker.world.pg.clone();
            let result = worker.timed(Call::Statement, pg.execute_unprepared(leave)).await;
            worker.note_read(&result.map_err(Error::from));
        }
        let result = look(&worker).await;
        worker.note_read(&result);
        worker.pause(30).await;
    }
}

async fn look(worker: &Worker) -> Result<(), Error> {
    let row = worker.timed(Call::Statement, first(&worker.world.pg, LOOK)).await?;
    let texts = (0..4).map(|at| row.try_get_by_index::<String>(at));
    let texts = texts.collect::<Result<Vec<_>, _>>()?;
    let is_clean: (bool, bool) = (row.try_get_by_index(4)?, row.try_get_by_index(5)?);
    if texts != ["", "", "\"$user\", public", "3s"] || is_clean != (true, true) {
        let what = format!("a plain statement had {texts:?}, no table and no lock: {is_clean:?}");
        worker.violation("no tenant or setting leaked", what);
    }
    Ok(())
}
