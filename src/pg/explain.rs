//! Has the server explain statements that were slow.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use tokio::{runtime::Handle, sync::Mutex};

use super::Pg;
use crate::{
    config::MonitorConfig,
    database::{Database, Shared},
    monitor::{Explainer, ToExplain},
};

/// Planning takes milliseconds; what takes longer waits for a lock.
const MAY_TAKE: Duration = Duration::from_secs(5);

/// Explains on tasks of their own, while `database` is there.
pub(super) fn explainer(database: Weak<Shared>, config: &MonitorConfig) -> Explainer {
    let with_values = config.log_bind_values;
    let turn = Arc::new(Mutex::new(()));
    Explainer::new(move |asked| {
        if let (Some(database), Ok(runtime)) = (database.upgrade(), Handle::try_current()) {
            let turn = Arc::clone(&turn);
            runtime.spawn(async move {
                // By one connection, however many ask.
                let _turn = turn.lock().await;
                explain(database, asked, with_values).await;
            });
        }
    })
}

async fn explain(database: Arc<Shared>, asked: ToExplain, with_values: bool) {
    let view = asked.view.clone().unwrap_or_default();
    let pg = Pg { database: Database::from_shared(database, true, view) };
    // A database that has no connection to spare has something better to do.
    if pg.stats().reader.waiting > 0 || pg.stats().writer.waiting > 0 {
        return;
    }
    match plan(&pg, &asked.statement).await {
        Ok(lines) => asked.explained(pg.name(), &lines, with_values),
        Err(error) => {
            tracing::debug!(database = pg.name(), %error, "could not explain a slow statement");
        }
    }
}

/// EXPLAIN without ANALYZE runs nothing; the session sees to it all the same.
async fn plan(pg: &Pg, statement: &Statement) -> Result<Vec<String>, DbErr> {
    let limit = format!("{}ms", MAY_TAKE.as_millis());
    let session = pg
        .session()
        .set_local("statement_timeout", limit.as_str())
        .set_local("lock_timeout", limit.as_str())
        .await?;
    let values = statement.values.iter().flat_map(|values| values.0.iter().cloned());
    let sql = format!("EXPLAIN {}", statement.sql);
    let explain = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    let rows = session.query_all_raw(explain).await?;
    session.rollback().await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}
