//! Tenants: a schema for each, and a setting for each. Nobody sees another one's rows or settings.

use std::time::Duration;

use sea_orm::ConnectionTrait;
use wharf::Error;

use super::{Worker, first};
use crate::soak::{history::Outcome, tables, waits::Call};

const VERDICT: &str = "no tenant or setting leaked";

pub async fn run(mut worker: Worker, number: usize) {
    while worker.goes_on() {
        let tenant = (number + worker.rng.usize(..2)) % tables::TENANTS;
        let is_dropped = worker.rng.u8(..) < 32;
        let limit = Duration::from_micros(worker.rng.u64(100..20_000));
        let in_session = worker.rng.bool();
        let work = once(&worker, tenant, in_session);
        let result = if is_dropped {
            match tokio::time::timeout(limit, work).await {
                Ok(result) => result,
                Err(_) => {
                    worker.world.history.count(worker.name, Outcome::Unknown);
                    continue;
                }
            }
        } else {
            work.await
        };
        worker.note_read(&result);
        worker.pause(40).await;
    }
}

async fn once(worker: &Worker, tenant: usize, in_session: bool) -> Result<(), Error> {
    let schema = tables::tenant(tenant);
    let view = worker.world.pg.scoped(&schema)?.with_local("app.tenant", tenant.to_string());
    let insert = format!("INSERT INTO note (tenant) VALUES ({tenant})");
    let look = "SELECT current_setting('app.tenant', true), current_schema()::text, \
                (SELECT count(*) FROM (SELECT tenant FROM note ORDER BY id DESC LIMIT 100) AS last \
                 WHERE tenant <> current_setting('app.tenant')::int)";
    let row = if in_session {
        let s = worker.timed(Call::Begin, view.session().into_future()).await?;
        worker.timed(Call::InSession, s.execute_unprepared(&insert)).await?;
        let row = worker.timed(Call::InSession, first(&s, look)).await?;
        worker.timed(Call::Commit, s.commit()).await?;
        row
    } else {
        worker.timed(Call::ViewStatement, view.execute_unprepared(&insert)).await?;
        worker.timed(Call::ViewStatement, first(&view, look)).await?
    };
    let setting: Option<String> = row.try_get_by_index(0)?;
    let seen: String = row.try_get_by_index(1)?;
    let foreign: i64 = row.try_get_by_index(2)?;
    if setting != Some(tenant.to_string()) || seen != schema || foreign != 0 {
        let what =
            format!("tenant {tenant} had {setting:?} in {seen}, and saw {foreign} rows of others");
        worker.violation(VERDICT, what);
    }
    Ok(())
}
