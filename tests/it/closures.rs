//! Which async closures run in a task and in a handler, whose futures have to be `Send`.

use sea_orm::{ConnectionTrait, DbErr};
use wharf::{Error, Pg, Session};

use crate::support::{TestDatabase, number};

async fn add(s: &Session, name: &str) -> Result<(), DbErr> {
    s.execute_unprepared(&format!("INSERT INTO item VALUES ('{name}')")).await.map(|_| ())
}

async fn table() -> (TestDatabase, Pg) {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.execute_unprepared("CREATE TABLE item (name text)").await.unwrap();
    (database, pg)
}

#[tokio::test]
async fn a_task_runs_a_closure_that_owns_what_it_uses() {
    let (_database, pg) = table().await;
    let own = pg.clone();
    let task = async move {
        let (by_value, twice) = ("a".to_owned(), "b".to_owned());
        own.session().run(async move |s| add(s, &by_value).await).await?;
        own.session()
            .run(async move |s| {
                add(s, &twice).await?;
                add(s, &twice).await
            })
            .await?;
        Ok::<_, Error>(())
    };
    tokio::spawn(task).await.unwrap().unwrap();
    assert_eq!(number(&pg, "SELECT count(*) FROM item").await, 3);
}

#[tokio::test]
async fn a_task_runs_a_closure_again_that_owns_what_it_uses() {
    let (_database, pg) = table().await;
    let own = pg.clone();
    let task = async move {
        let twice = "b".to_owned();
        own.session()
            .retry(1)
            .run(async move |s| {
                let twice = twice.clone();
                add(s, &twice).await?;
                add(s, &twice).await
            })
            .await
            .map_err(Error::from)
    };
    tokio::spawn(task).await.unwrap().unwrap();
    assert_eq!(number(&pg, "SELECT count(*) FROM item").await, 2);
}

#[tokio::test]
async fn a_task_runs_what_borrows_in_a_session_that_is_awaited() {
    let (_database, pg) = table().await;
    let own = pg.clone();
    let task = async move {
        let borrowed = "a".to_owned();
        let s = own.session().await?;
        add(&s, &borrowed).await?;
        add(&s, &borrowed).await?;
        s.commit().await?;
        Ok::<_, Error>(borrowed)
    };
    assert_eq!(tokio::spawn(task).await.unwrap().unwrap(), "a");
    assert_eq!(number(&pg, "SELECT count(*) FROM item").await, 2);
}

#[tokio::test]
async fn outside_of_a_task_a_closure_may_borrow() {
    let (_database, pg) = table().await;
    let borrowed = "a".to_owned();
    pg.session().run(async |s| add(s, &borrowed).await).await.unwrap();
    pg.session().retry(1).run(async |s| add(s, &borrowed).await).await.unwrap();
    assert_eq!(number(&pg, "SELECT count(*) FROM item").await, 2);
}
