//! Causal readers: what was acknowledged in a scope is seen by its reads, and by another process that has its token.

use sea_orm::{
    ConnectionTrait, IsolationLevel,
    sea_query::{Expr, ExprTrait, Query},
};
use wharf::{CausalToken, Error, Pg, Session};

use super::{Worker, first};
use crate::soak::{history::Outcome, waits::Call};

const VERDICT: &str = "nothing stale was read";

pub async fn run(mut worker: Worker) {
    while worker.goes_on() {
        let id = worker.world.history.ledger.begin();
        let (way, is_single) = (worker.rng.u8(..4), worker.rng.u8(..) < 64);
        wharf::causal(async {
            let written = write(&worker, id, is_single).await;
            worker.world.history.ledger.end(id, written);
            if written != Outcome::Acknowledged {
                return;
            }
            for way in [way, (way + 1) % 4] {
                let result = read(&worker, &worker.world.pg.read(), id, way).await;
                if let Ok(false) = result {
                    worker.violation(VERDICT, format!("row {id} was not there (way {way})"));
                }
                worker.note_read(&result);
            }
            pass_on(&worker, id, way).await;
        })
        .await;
        worker.pause(30).await;
    }
}

async fn write(worker: &Worker, id: i64, is_single: bool) -> Outcome {
    let pg = &worker.world.pg;
    // An entry of no cents, so that the books stay balanced.
    let insert = format!("INSERT INTO ledger (id, source, target, cents) VALUES ({id}, 1, 1, 0)");
    let (outcome, error) = if is_single {
        let result = worker.timed(Call::Statement, pg.execute_unprepared(&insert)).await;
        let result = result.map_err(Error::from);
        (Outcome::of_statement(&result), result.err())
    } else {
        let hand = worker.hand.clone();
        let work = pg.session().run(async move |s| {
            hand.timed(Call::InSession, s.execute_unprepared(&insert)).await.map_err(Error::from)
        });
        let result = worker.timed(Call::Run, work).await;
        (Outcome::of_session(&result), result.err())
    };
    if let Some(error) = error {
        worker.world.history.error(worker.name, &error);
    }
    outcome
}

/// Whether a row is there, in one of four ways.
async fn read(worker: &Worker, pg: &Pg, id: i64, way: u8) -> Result<bool, Error> {
    match way {
        0 => {
            let mut select = Query::select();
            select.column("id").from("ledger").and_where(Expr::col("id").eq(id));
            Ok(worker.timed(Call::Read, pg.query_one(&select)).await?.is_some())
        }
        1 => {
            let exists =
                format!("SELECT EXISTS (SELECT FROM ledger WHERE id = {id}), pg_is_in_recovery()");
            let row = worker.timed(Call::Read, first(pg, &exists)).await?;
            if row.try_get_by_index(1)? {
                worker.world.history.count("(reads that a standby served)", Outcome::Acknowledged);
            }
            Ok(row.try_get_by_index(0)?)
        }
        2 => {
            let s = worker.timed(Call::Read, pg.session().into_future()).await?;
            is_there(worker, &s, id).await
        }
        _ => {
            let session = pg.session().isolation(IsolationLevel::RepeatableRead);
            let s = worker.timed(Call::Read, session.into_future()).await?;
            is_there(worker, &s, id).await
        }
    }
}

async fn is_there(worker: &Worker, s: &Session, id: i64) -> Result<bool, Error> {
    let count = format!("SELECT count(*) FROM ledger WHERE id = {id}");
    let row = worker.timed(Call::InSession, first(s, &count)).await?;
    Ok(row.try_get_by_index::<i64>(0)? == 1)
}

/// Another process reads with the token, as a text.
async fn pass_on(worker: &Worker, id: i64, way: u8) {
    let token = match worker.timed(Call::Token, worker.world.pg.causal_token()).await {
        Ok(token) => token,
        Err(error) => return worker.world.history.error(worker.name, &error),
    };
    let Some(token) = token else {
        if worker.world.is_cluster {
            worker.violation(VERDICT, format!("no token after row {id}"));
        }
        return;
    };
    let Ok(token) = token.to_string().parse::<CausalToken>() else {
        return worker.violation(VERDICT, format!("the token {token} cannot be read"));
    };
    let result = read(worker, &worker.world.other.read().at_least(token), id, way).await;
    if let Ok(false) = result {
        worker.violation(VERDICT, format!("row {id} was not there for {token} (way {way})"));
    }
    worker.note_read(&result);
}
