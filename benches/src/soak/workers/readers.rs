//! Read-only sessions: each sees the books balanced, and may write nothing.

use sea_orm::{ConnectionTrait, IsolationLevel};
use wharf::{Error, Session};

use super::{Worker, first};
use crate::soak::{tables, waits::Call};

pub async fn run(mut worker: Worker) {
    while worker.goes_on() {
        let pg = match worker.rng.bool() {
            true => worker.world.pg.read_only(),
            false => worker.world.pg.read(),
        };
        let session = pg.session().read_only().isolation(IsolationLevel::RepeatableRead);
        // On a standby, the position is asked first, and the primary after that.
        let result = match worker.timed(Call::Read, session.into_future()).await {
            Ok(s) => look(&mut worker, &s).await,
            Err(error) => Err(error),
        };
        worker.note_read(&result);
        worker.pause(50).await;
    }
}

async fn look(worker: &mut Worker, s: &Session) -> Result<(), Error> {
    let sum = "SELECT sum(cents)::int8, count(*) FROM account";
    let row = worker.timed(Call::InSession, first(s, sum)).await?;
    let found: (i64, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    if found != (tables::TOTAL, i64::from(tables::ACCOUNTS)) {
        let what = format!("a session saw {} cents in {} accounts", found.0, found.1);
        worker.violation("nothing is lost or doubled", what);
    }
    if worker.rng.u8(..) < 32 {
        let write = s.execute_unprepared("UPDATE account SET cents = cents + 1 WHERE id = 1");
        if worker.timed(Call::InSession, write).await.is_ok() {
            worker.violation("no tenant or setting leaked", "a read-only session wrote".to_owned());
        }
    }
    Ok(())
}
