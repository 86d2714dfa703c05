//! Single statements, built and raw: a transfer in one statement, which the server commits by itself.

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use wharf::Error;

use super::Worker;
use crate::soak::{history::Outcome, tables::Transfer, waits::Call};

const TRANSFER: &str = "WITH paid AS (UPDATE account SET cents = cents + CASE WHEN id = $2 THEN -$4 ELSE $4 END \
                        WHERE id IN ($2, $3) RETURNING id) \
                        INSERT INTO ledger (id, source, target, cents) SELECT $1, $2, $3, $4 FROM paid HAVING count(*) = 2";

pub async fn run(mut worker: Worker) {
    while worker.goes_on() {
        let id = worker.world.history.ledger.begin();
        let Transfer { source, target, cents } = Transfer::new(worker.world.seed, id);
        let values = [id.into(), source.into(), target.into(), cents.into()];
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, TRANSFER, values);
        let result = worker.timed(Call::Statement, worker.world.pg.execute_raw(statement)).await;
        let result = result.map_err(Error::from);
        let outcome = Outcome::of_statement(&result);
        worker.world.history.ledger.end(id, outcome);
        worker.note(outcome, &result);
        if worker.rng.u8(..) < 16 {
            let result = worker.timed(Call::Ping, worker.world.pg.ping()).await;
            if let Err(error) = result {
                worker.world.history.error(worker.name, &error.into());
            }
        }
        worker.pause(20).await;
    }
}
