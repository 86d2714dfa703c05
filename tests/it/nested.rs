//! Nested sessions: within each other, side by side, dropped half-way.

use std::sync::{Arc, Mutex};

use futures_util::future::{join, join_all};
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, TransactionSession,
    TransactionTrait,
};
use wharf::{Error, Pg, Session};

use crate::support::{Log, TestDatabase, dropped_after, number};

async fn table() -> (TestDatabase, Pg) {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0", "pool_timeout: 5"]);
    pg.execute_unprepared("CREATE TABLE entry (n int)").await.unwrap();
    (database, pg)
}

async fn add(on: &impl ConnectionTrait, n: u32) -> Result<(), DbErr> {
    let sql = "INSERT INTO entry VALUES ($1)";
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [(n as i32).into()]);
    on.execute_raw(statement).await.map(drop)
}

async fn entries(on: &impl ConnectionTrait) -> Vec<u32> {
    let sql = "SELECT n FROM entry ORDER BY n";
    let rows = on.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap();
    let n = |row: &QueryResult| row.try_get_by_index::<i32>(0).unwrap() as u32;
    rows.iter().map(n).collect()
}

fn is_refused(error: DbErr) -> bool {
    matches!(Error::from(error), Error::NestedSessions { .. })
}

#[tokio::test]
async fn helpers_side_by_side_each_keep_what_they_did() {
    let (_database, pg) = table().await;
    let session = pg.session().await.unwrap();
    let helpers = (1..=5).map(|n| {
        let session = &session;
        async move {
            let nested = session.begin().await?;
            add(&nested, n).await?;
            nested.commit().await
        }
    });
    for helped in join_all(helpers).await {
        helped.unwrap();
    }
    add(&session, 6).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(entries(&pg).await, [1, 2, 3, 4, 5, 6]);
}

/// `a+` begins a nested session, `aa+` one within that, `a1` adds a row, `a!` commits.
const INTERLEAVINGS: [&str; 7] = [
    "a+ a1 a! b+ b2 b!",
    "a+ b+ a1 b2 b! a!",
    "a+ b+ a1 b2 a! b!",
    "a+ b+ c+ c1 a2 b3 b! a! c!",
    "a+ a1 b+ o2 b3 a! o4 b! o5",
    "a+ aa+ aa1 b+ b2 aa! a! b!",
    "a+ aa+ b+ a1 a! aa2 aa! b3 b!",
];

/// What each of them keeps.
async fn interleaved<C>(outermost: &C) -> Vec<Vec<u32>>
where
    C: ConnectionTrait + TransactionTrait,
    C::Transaction:
        ConnectionTrait + TransactionSession + TransactionTrait<Transaction = C::Transaction>,
{
    let mut kept = Vec::new();
    for script in INTERLEAVINGS {
        let session = outermost.begin().await.unwrap();
        let mut nested = std::collections::HashMap::new();
        for step in script.split(' ') {
            let at = step.find(|c: char| !c.is_ascii_lowercase()).unwrap();
            let (name, what) = step.split_at(at);
            let around = match name.len() {
                2 if what == "+" => nested.get(&name[..1]).unwrap(),
                _ => &session,
            };
            match what {
                "+" => {
                    let inner = around.begin().await.unwrap();
                    nested.insert(name, inner);
                }
                "!" => nested.remove(name).unwrap().commit().await.unwrap(),
                n if name == "o" => add(&session, n.parse().unwrap()).await.unwrap(),
                n => add(&nested[name], n.parse().unwrap()).await.unwrap(),
            }
        }
        session.commit().await.unwrap();
        kept.push(entries(outermost).await);
        outermost.execute_unprepared("TRUNCATE entry").await.unwrap();
    }
    kept
}

#[tokio::test]
async fn what_works_on_seaorm_works_here() {
    let (database, pg) = table().await;
    let sea_orm = database.sea_orm().await;
    let by_sea_orm = interleaved(&sea_orm).await;
    assert_eq!(interleaved(&pg).await, by_sea_orm);
    assert_eq!(by_sea_orm[3], [1, 2, 3]);
}

/// What a script of calls should have come to.
#[derive(Default)]
struct Model {
    /// Of each session, the one around it, and whether it is open.
    sessions: Vec<(usize, bool)>,
    /// Rows, and whose they are.
    rows: Vec<(u32, usize)>,
}

impl Model {
    fn is_within(&self, mut session: usize, ancestor: usize) -> bool {
        while session != ancestor && session != 0 {
            session = self.sessions[session].0;
        }
        session == ancestor
    }

    fn commit(&mut self, session: usize) {
        let parent = self.sessions[session].0;
        self.sessions[session].1 = false;
        self.rows.iter_mut().filter(|(_, of)| *of == session).for_each(|(_, of)| *of = parent);
        self.sessions.iter_mut().filter(|(of, _)| *of == session).for_each(|(of, _)| *of = parent);
    }

    fn roll_back(&mut self, session: usize) {
        let gone: Vec<bool> =
            (0..self.sessions.len()).map(|it| self.is_within(it, session)).collect();
        self.rows.retain(|(_, of)| !gone[*of]);
        self.sessions
            .iter_mut()
            .zip(gone)
            .filter(|(_, gone)| *gone)
            .for_each(|(it, _)| it.1 = false);
    }
}

/// Calls in an order that only chance makes: either what is kept is what each call said, or nothing is, and
/// the COMMIT says so.
#[tokio::test]
async fn nothing_is_lost_while_a_call_says_that_it_is_kept() {
    let (_database, pg) = table().await;
    let mut chance = fastrand::Rng::with_seed(14);
    let (mut kept, mut refused) = (0, 0);
    for script in 0..400 {
        let with_rollbacks = script % 4 != 0;
        let session = pg.session().await.unwrap();
        let mut model = Model { sessions: vec![(0, true)], rows: Vec::new() };
        let mut nested: Vec<(usize, Session)> = Vec::new();
        let mut said = Vec::new();
        for step in 0..chance.u32(4..16) {
            let at = chance.usize(0..=nested.len());
            let (id, on) = match nested.get(at) {
                Some((id, nested)) => (*id, nested),
                None => (0, &session),
            };
            let is_open = model.sessions[id].1;
            match chance.u32(0..10) {
                0..=2 => match on.begin().await {
                    Ok(inner) => {
                        assert!(is_open);
                        nested.push((model.sessions.len(), inner));
                        model.sessions.push((id, true));
                    }
                    Err(error) => said.push((is_open, error)),
                },
                3..=6 => match add(on, step).await {
                    Ok(()) => {
                        assert!(is_open, "{script}");
                        model.rows.push((step, id));
                    }
                    Err(error) => said.push((is_open, error)),
                },
                7 | 8 if id != 0 => {
                    let (_, nested) = nested.swap_remove(at);
                    match nested.commit().await {
                        Ok(()) => model.commit(id),
                        Err(error) => {
                            model.roll_back(id);
                            said.push((is_open, error));
                        }
                    }
                }
                9 if id != 0 && with_rollbacks => {
                    let (_, nested) = nested.swap_remove(at);
                    if is_open {
                        model.roll_back(id);
                    }
                    match chance.bool() {
                        true => drop(nested),
                        false => {
                            if let Err(error) = nested.rollback().await {
                                said.push((is_open, error));
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        // Those that are left open are dropped, and so rolled back; or committed, where none may be.
        for (id, nested) in nested {
            match with_rollbacks || !model.sessions[id].1 {
                true => {
                    model.roll_back(id);
                    drop(nested);
                }
                false => {
                    nested.commit().await.unwrap();
                    model.commit(id);
                }
            }
        }
        for (is_open, error) in said {
            let error = Error::from(error);
            let expected = match &error {
                Error::NestedSessions { .. } => with_rollbacks,
                Error::SessionEnded { .. } => !is_open,
                _ => false,
            };
            assert!(expected, "{script}: {error}");
        }
        match session.commit().await {
            Ok(()) => {
                let mut rows: Vec<u32> = model.rows.iter().map(|(n, _)| *n).collect();
                rows.sort_unstable();
                assert_eq!(entries(&pg).await, rows, "script {script}");
                kept += 1;
            }
            Err(error) => {
                assert!(with_rollbacks && is_refused(error), "script {script}");
                assert_eq!(entries(&pg).await, Vec::<u32>::new());
                refused += 1;
            }
        }
        pg.execute_unprepared("TRUNCATE entry").await.unwrap();
    }
    assert!(kept > 200 && refused > 20, "{kept} kept, {refused} refused");
}

#[tokio::test]
async fn a_rollback_that_would_lose_anothers_rows_names_that_one() {
    let (_database, pg) = table().await;
    let session = pg.session().await.unwrap();
    let first = session.begin().await.unwrap();
    let at_first = format!("{}:{}", file!(), line!() - 1);
    let second = session.begin().await.unwrap();
    let at_second = format!("{}:{}", file!(), line!() - 1);
    add(&first, 1).await.unwrap();
    first.commit().await.unwrap();
    let error = second.rollback().await.unwrap_err().to_string();
    assert!(error.contains(&at_second) && error.contains(&at_first), "{error}");
    assert!(is_refused(add(&session, 2).await.unwrap_err()));
    assert!(is_refused(session.commit().await.unwrap_err()));
    assert_eq!(entries(&pg).await, Vec::<u32>::new());

    let session = pg.session().await.unwrap();
    let first = session.begin().await.unwrap();
    let at_first = format!("{}:{}", file!(), line!() - 1);
    let second = session.begin().await.unwrap();
    add(&first, 1).await.unwrap();
    let error = second.rollback().await.unwrap_err().to_string();
    assert!(error.contains(&at_first), "{error}");
    // Once the other one goes as well, the outermost session goes on.
    drop(first);
    add(&session, 3).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(entries(&pg).await, [3]);
}

#[tokio::test]
async fn whatever_of_a_nested_session_is_dropped_the_outer_one_goes_on() {
    let (_database, pg) = table().await;
    for end in ["commit", "rollback"] {
        for times in 0..40 {
            let session = pg.session().await.unwrap();
            add(&session, 1).await.unwrap();
            let work = async {
                let nested = session.begin().await?;
                add(&nested, 2).await?;
                match end {
                    "commit" => nested.commit().await,
                    _ => nested.rollback().await,
                }
            };
            let done = dropped_after(times, work).await;
            add(&session, 3).await.unwrap();
            let again = session.begin().await.unwrap();
            add(&again, 4).await.unwrap();
            again.commit().await.unwrap();
            session.commit().await.unwrap();
            let mut rows = entries(&pg).await;
            // Whether the one that was dropped is kept is known where its end was waited for.
            match done {
                Some(done) => {
                    done.unwrap();
                    assert_eq!(rows.contains(&2), end == "commit", "{times}: {rows:?}");
                }
                None => assert!(end == "commit" || !rows.contains(&2), "{times}: {rows:?}"),
            }
            rows.retain(|n| *n != 2);
            assert_eq!(rows, [1, 3, 4], "{end} dropped after {times}");
            pg.execute_unprepared("TRUNCATE entry").await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_commit_of_what_had_failed_is_refused_and_the_outer_one_goes_on() {
    let (_database, pg) = table().await;
    let session = pg.session().await.unwrap();
    add(&session, 1).await.unwrap();
    let nested = session.begin().await.unwrap();
    nested.execute_unprepared("SELECT 1 / 0").await.unwrap_err();
    nested.commit().await.unwrap_err();
    add(&session, 2).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(entries(&pg).await, [1, 2]);
}

#[tokio::test]
async fn raw_savepoints_do_not_reach_past_a_nested_session() {
    let (_database, pg) = table().await;
    let session = pg.session().await.unwrap();
    session.execute_unprepared("SAVEPOINT mine").await.unwrap();
    let nested = session.begin_with_config(None, Some(AccessMode::ReadOnly)).await.unwrap();
    for escape in [
        "ROLLBACK TO SAVEPOINT wharf_1",
        "ROLLBACK TO wharf_1",
        "RELEASE \"wharf_1\"",
        "ROLLBACK TO U&\"\\0077harf_1\"",
        "ROLLBACK TO SAVEPOINT mine",
        "SELECT 1; ROLLBACK TRANSACTION TO mine",
    ] {
        let error = nested.execute_unprepared(escape).await.unwrap_err();
        assert!(is_refused(error), "{escape}");
        let error = session.execute_unprepared(escape).await.unwrap_err();
        assert!(is_refused(error), "{escape}");
    }
    let error = Error::from(add(&nested, 1).await.unwrap_err());
    assert_eq!(error.sqlstate().as_deref(), Some("25006"), "it only reads: {error}");
    drop(nested);
    add(&session, 2).await.unwrap();
    session.execute_unprepared("ROLLBACK TO SAVEPOINT mine; RELEASE mine").await.unwrap();
    add(&session, 3).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(entries(&pg).await, [3]);
}

#[tokio::test]
async fn hooks_of_those_side_by_side_are_called_for_what_is_kept() {
    let (_database, pg) = table().await;
    let (log, _guard) = Log::of_this_thread();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = |what: &'static str| {
        let told = Arc::clone(&told);
        move || told.lock().unwrap().push(what)
    };
    let session = pg.session().await.unwrap();
    let (first, second) = (session.begin().await.unwrap(), session.begin().await.unwrap());
    let third = second.begin().await.unwrap();
    first.after_commit(tell("first"));
    second.after_commit(|| panic!("a hook of the second"));
    second.after_commit(tell("second"));
    third.after_commit(tell("third"));
    third.commit().await.unwrap();
    first.rollback().await.unwrap();
    second.commit().await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(*told.lock().unwrap(), ["second", "third"]);
    assert_eq!(log.times("an after_commit hook panicked"), 1);
}

/// A cancellation that comes before the COMMIT runs leaves the transaction open, and it has failed.
/// Whoever has the connection next does not meet it.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_canceled_leaves_nothing_on_its_connection() {
    let (database, pg) = table().await;
    let other = database.pg().await;
    let mut canceled = 0;
    for _ in 0..2000 {
        let session = pg.session().await.unwrap();
        let pid = number(&session, "SELECT pg_backend_pid()::bigint").await;
        let storm = format!("SELECT pg_cancel_backend({pid}) FROM generate_series(1, 2000)");
        add(&session, 1).await.unwrap();
        let (stormed, committed) = join(other.execute_unprepared(&storm), session.commit()).await;
        stormed.unwrap();
        if let Err(error) = committed {
            let error = Error::from(error);
            assert_eq!(error.sqlstate().as_deref(), Some("57014"), "{error}");
            pg.ping().await.unwrap();
            assert_eq!(number(&pg, "SELECT 1::bigint").await, 1);
            canceled += 1;
        }
        if canceled == 10 {
            return;
        }
    }
    // How many depends on how busy the machine is.
    assert!(canceled > 0, "no commit could be canceled");
}
