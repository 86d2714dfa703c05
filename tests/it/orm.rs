//! Code written for SeaORM's own types runs on `&Pg` and `&Session` as it is.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use entity::shop::{customer, prelude::*, purchase};
use futures_util::TryStreamExt;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IsolationLevel,
    LoaderTrait, ModelTrait, PaginatorTrait, QueryFilter, QueryOrder, Set, SqlErr, Statement,
    StreamTrait, TransactionError, TransactionSession, TransactionTrait, prelude::Decimal,
};
use wharf::{Pg, Session};

use crate::support::{TestDatabase, number};

/// What a service does in a day, generic as such code is; gives what it saw.
async fn a_day<C>(db: &C) -> Result<BTreeMap<&'static str, String>, DbErr>
where
    C: ConnectionTrait + TransactionTrait + StreamTrait,
{
    let mut seen = BTreeMap::new();
    let ada = customer::ActiveModel {
        name: Set("Ada".to_owned()),
        email: Set("ada@example.org".to_owned()),
        ..Default::default()
    };
    let ada = ada.insert(db).await?;
    let bob = customer::ActiveModel {
        name: Set("Bob".to_owned()),
        email: Set("bob@example.org".to_owned()),
        ..Default::default()
    };
    let inserted = Customer::insert(bob).exec(db).await?;
    let item = |item: &str, quantity| purchase::ActiveModel {
        customer_id: Set(ada.id),
        item: Set(item.to_owned()),
        quantity: Set(quantity),
        price: Set(Decimal::new(1250, 2)),
        ..Default::default()
    };
    Purchase::insert_many([item("rope", 2), item("anchor", 1), item("sail", 3)]).exec(db).await?;

    let found = Customer::find().filter(customer::Column::Name.eq("Ada")).one(db).await?;
    seen.insert("one", found.unwrap().email);
    let none = Customer::find().filter(customer::Column::Name.eq("Eve")).one(db).await?;
    seen.insert("none", format!("{none:?}"));
    let all = Purchase::find().order_by_asc(purchase::Column::Item).all(db).await?;
    seen.insert("all", format!("{:?}", all.iter().map(|p| &p.item).collect::<Vec<_>>()));

    let mut stream = Purchase::find().order_by_desc(purchase::Column::Quantity).stream(db).await?;
    let mut streamed = Vec::new();
    while let Some(row) = stream.try_next().await? {
        streamed.push((row.item, row.quantity));
    }
    drop(stream);
    seen.insert("stream", format!("{streamed:?}"));

    let pages = Purchase::find().order_by_asc(purchase::Column::Id).paginate(db, 2);
    seen.insert("pages", format!("{:?}", pages.num_items_and_pages().await?));
    seen.insert("page", format!("{}", pages.fetch_page(1).await?.len()));
    seen.insert("count", format!("{}", Purchase::find().count(db).await?));

    let mut ada: customer::ActiveModel = ada.into();
    ada.name = Set("Ada Lovelace".to_owned());
    let ada = ada.update(db).await?;
    seen.insert("updated", ada.name.clone());

    let people = Customer::find().order_by_asc(customer::Column::Id).all(db).await?;
    let loaded = people.load_many(Purchase, db).await?;
    seen.insert("loaded", format!("{:?}", loaded.iter().map(Vec::len).collect::<Vec<_>>()));
    let with = Customer::load().with(Purchase).order_by_asc(customer::Column::Id).all(db).await?;
    seen.insert(
        "with",
        format!("{:?}", with.iter().map(|c| c.purchases.len()).collect::<Vec<_>>()),
    );

    // A nested save opens a transaction of its own, and one inside that.
    let cyd = customer::ActiveModel::builder()
        .set_name("Cyd")
        .set_email("cyd@example.org")
        .add_purchase(
            purchase::ActiveModel::builder()
                .set_item("oar")
                .set_quantity(2)
                .set_price(Decimal::new(300, 2)),
        )
        .save(db)
        .await?;
    seen.insert("nested save", format!("{}", cyd.purchases.as_slice().len()));

    let outer = db.begin().await?;
    Purchase::delete_many().exec(&outer).await?;
    let inner = outer.begin().await?;
    Customer::delete_many().exec(&inner).await?;
    inner.commit().await?;
    outer.rollback().await?;
    seen.insert("rolled back", format!("{}", Customer::find().count(db).await?));

    let kept = db
        .transaction::<_, u64, DbErr>(|txn| {
            Box::pin(async move {
                let deleted = Purchase::delete_many().exec(txn).await?;
                Ok(deleted.rows_affected)
            })
        })
        .await;
    seen.insert("transaction", format!("{kept:?}"));
    let failed = db
        .transaction_with_config::<_, (), DbErr>(
            |txn| {
                Box::pin(async move {
                    Customer::delete_many().exec(txn).await?;
                    Err(DbErr::Custom("no".to_owned()))
                })
            },
            None,
            None,
        )
        .await;
    assert!(matches!(failed, Err(TransactionError::Transaction(DbErr::Custom(_)))));

    let again = customer::ActiveModel {
        name: Set("Bob".to_owned()),
        email: Set("bob@example.org".to_owned()),
        ..Default::default()
    };
    let savepoint = db.begin().await?;
    let error = again.insert(&savepoint).await.unwrap_err();
    savepoint.rollback().await?;
    let unique = matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)));
    seen.insert("unique", format!("{unique}"));

    let bob = Customer::find_by_id(inserted.last_insert_id).one(db).await?.unwrap();
    seen.insert("deleted", format!("{}", bob.delete(db).await?.rows_affected));
    let raw = Statement::from_sql_and_values(
        db_backend(db),
        "SELECT count(*) FROM customer WHERE name <> $1",
        ["Eve".into()],
    );
    let left: i64 = db.query_one_raw(raw).await?.unwrap().try_get_by_index(0)?;
    seen.insert("raw", format!("{left}"));
    let unprepared = db.execute_unprepared("DELETE FROM customer; SELECT 1").await?;
    seen.insert("unprepared", format!("{}", unprepared.rows_affected()));
    Ok(seen)
}

fn db_backend<C: ConnectionTrait>(db: &C) -> sea_orm::DbBackend {
    db.get_database_backend()
}

#[tokio::test]
async fn the_same_code_sees_the_same_on_seaorms_types_and_on_ours() {
    let database = TestDatabase::shop().await;
    let sea_orm = database.sea_orm().await;
    let expected = a_day(&sea_orm).await.unwrap();
    sea_orm.execute_unprepared("TRUNCATE customer, purchase RESTART IDENTITY").await.unwrap();
    let transaction = sea_orm.begin().await.unwrap();
    assert_eq!(a_day(&transaction).await.unwrap(), expected);
    transaction.rollback().await.unwrap();

    let pg = database.pg().await;
    pg.execute_unprepared("TRUNCATE customer, purchase RESTART IDENTITY").await.unwrap();
    assert_eq!(a_day(&pg).await.unwrap(), expected);
    pg.execute_unprepared("TRUNCATE customer, purchase RESTART IDENTITY").await.unwrap();
    let session = pg.session().await.unwrap();
    assert_eq!(a_day(&session).await.unwrap(), expected);
    session.commit().await.unwrap();
    let nested = pg.session().await.unwrap();
    let nested = nested.begin().await.unwrap();
    assert_eq!(a_day(&nested).await.unwrap(), expected);
}

/// What people call by name, on each of the types that they call it on.
macro_rules! by_name {
    ($db:expr, $transaction:ty) => {{
        let db = $db;
        let counted = db
            .transaction_async(async |txn: &$transaction| Customer::find().count(txn).await)
            .await
            .unwrap();
        let refused = db
            .transaction_async(async |txn: &$transaction| {
                Customer::delete_many().exec(txn).await?;
                Err::<(), _>(DbErr::Custom("no".to_owned()))
            })
            .await;
        assert!(matches!(refused, Err(TransactionError::Transaction(_))));
        counted
    }};
}

macro_rules! by_name_on_a_connection {
    ($db:expr, $transaction:ty) => {{
        let db = $db;
        assert_eq!(db.get_database_backend(), sea_orm::DbBackend::Postgres);
        db.get_schema_builder().apply(db).await.unwrap();
        db.get_schema_registry("entity::shop::*").sync(db).await.unwrap();
        db.ping().await.unwrap();
        let serializable = db
            .transaction_with_config_async(
                async |txn: &$transaction| {
                    let statement = Statement::from_string(
                        sea_orm::DbBackend::Postgres,
                        "SHOW transaction_isolation",
                    );
                    let row = txn.query_one_raw(statement).await?.unwrap();
                    row.try_get_by_index::<String>(0)
                },
                Some(IsolationLevel::Serializable),
                None,
            )
            .await
            .unwrap();
        assert_eq!(serializable, "serializable");
        by_name!(db, $transaction);
        let clone = db.clone();
        clone.close_by_ref().await.unwrap();
        clone.close().await.unwrap();
        assert!(db.ping().await.is_err());
    }};
}

#[tokio::test]
async fn what_people_call_by_name_is_there_under_that_name() {
    let database = TestDatabase::shop().await;
    let sea_orm = database.sea_orm().await;
    let transaction = sea_orm.begin().await.unwrap();
    assert_eq!(by_name!(&transaction, sea_orm::DatabaseTransaction), 0);
    transaction.commit().await.unwrap();
    by_name_on_a_connection!(&sea_orm, sea_orm::DatabaseTransaction);

    let pg = database.pg().await;
    let session = pg.session().await.unwrap();
    assert_eq!(by_name!(&session, Session), 0);
    session.commit().await.unwrap();
    by_name_on_a_connection!(&pg, Session);
}

#[tokio::test]
async fn a_schema_is_made_from_the_registered_entities() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.get_schema_registry("entity::shop::*").sync(&pg).await.unwrap();
    assert_eq!(number(&pg, "SELECT count(*) FROM customer").await, 0);
}

#[tokio::test]
async fn a_streams_connection_comes_back_when_the_stream_ends() {
    let database = TestDatabase::shop().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    for _ in 0..3 {
        let numbers = Statement::from_string(
            pg.get_database_backend(),
            "SELECT n FROM generate_series(1, 5000) n",
        );
        let rows: Vec<_> = pg.stream_raw(numbers).await.unwrap().try_collect().await.unwrap();
        assert_eq!(rows.len(), 5000);
    }
    assert_eq!(pg.stats().writer.open, 1);
}

#[tokio::test]
async fn sessions_run_in_spawned_tasks() {
    let database = TestDatabase::shop().await;
    let pg: Pg = database.pg().await;
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let pg = pg.clone();
            tokio::spawn(async move {
                pg.session()
                    .run(async |s| {
                        let model = customer::ActiveModel {
                            name: Set(format!("customer {n}")),
                            email: Set(format!("{n}@example.org")),
                            ..Default::default()
                        };
                        model.insert(s).await
                    })
                    .await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(Customer::find().count(&pg).await.unwrap(), 20);
}

#[tokio::test]
async fn a_metric_callback_is_told_what_seaorms_own_tells() {
    async fn told(db: &(impl ConnectionTrait + TransactionTrait)) {
        Customer::find().count(db).await.unwrap();
        let transaction = db.begin().await.unwrap();
        Customer::find().one(&transaction).await.unwrap();
        transaction.rollback().await.unwrap();
        let wrong = Statement::from_string(db_backend(db), "SELECT 1 / 0");
        db.execute_raw(wrong).await.unwrap_err();
        db.execute_unprepared("SELECT 1").await.unwrap();
    }
    let database = TestDatabase::shop().await;
    type Heard = Arc<Mutex<Vec<(String, bool)>>>;
    let heard: [Heard; 2] = Default::default();
    let listen = |heard: &Heard| {
        let heard = Arc::clone(heard);
        move |info: &sea_orm::metric::Info<'_>| {
            assert!(info.elapsed > Duration::ZERO);
            heard.lock().unwrap().push((info.statement.sql.clone(), info.failed));
        }
    };
    let mut sea_orm = database.sea_orm().await;
    sea_orm.set_metric_callback(listen(&heard[0]));
    told(&sea_orm).await;
    let mut pg = database.pg().await;
    pg.set_metric_callback(listen(&heard[1]));
    told(&pg).await;
    let [expected, heard] = heard.map(|heard| heard.lock().unwrap().clone());
    assert_eq!(heard.len(), 3);
    assert_eq!(heard, expected);
}

/// The driver would panic at these.
#[tokio::test]
async fn a_date_that_no_rust_type_holds_is_an_error_that_names_it() {
    let database = TestDatabase::shop().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    customer::ActiveModel {
        name: Set("Ada".to_owned()),
        email: Set("ada@example.org".to_owned()),
        ..Default::default()
    }
    .insert(&pg)
    .await
    .unwrap();
    let connection = number(&pg, "SELECT pg_backend_pid()::bigint").await;
    for (value, named) in [
        ("infinity", "`infinity`"),
        ("-infinity", "`-infinity`"),
        ("290000-01-01", "the year 290000"),
    ] {
        let update = format!("UPDATE customer SET created_at = '{value}'");
        pg.execute_unprepared(&update).await.unwrap();
        let session = pg.session().await.unwrap();
        let mut errors = vec![
            Customer::find().one(&session).await.unwrap_err(),
            Customer::find().all(&session).await.unwrap_err(),
        ];
        session.commit().await.unwrap();
        errors.push(Customer::find().one(&pg).await.unwrap_err());
        errors.push(Customer::find().all(&pg.read_only()).await.unwrap_err());
        let stream = Customer::find().stream(&pg).await.unwrap();
        errors.push(stream.try_collect::<Vec<_>>().await.unwrap_err());
        for error in errors {
            let said = error.to_string();
            assert!(said.contains("`created_at`") && said.contains(named), "{said}");
        }
    }
    for sql in [
        "SELECT ARRAY[NULL, 'infinity'::timestamptz] AS at",
        "SELECT '-infinity'::date AS at",
        "SELECT ARRAY['-infinity'::date] AS at",
        "SELECT 'infinity'::timestamp AS at",
    ] {
        let statement = Statement::from_string(pg.get_database_backend(), sql);
        let error = pg.query_one_raw(statement).await.unwrap_err().to_string();
        assert!(error.contains("`at`") && error.contains("infinity"), "{error}");
    }
    // The statements went well: their connection stays.
    assert_eq!(number(&pg, "SELECT pg_backend_pid()::bigint").await, connection);
}

/// What the table of docs/connections.md says.
#[tokio::test]
async fn values_that_rust_cannot_hold_are_refused_or_rounded_as_documented() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let ask = async |sql: &str| {
        let statement = Statement::from_string(pg.get_database_backend(), sql);
        pg.query_one_raw(statement).await.unwrap().unwrap()
    };
    for sql in [
        "'NaN'::numeric",
        "'Infinity'::numeric",
        "123456789012345678901234567890.5",
        "0.12345678901234567890123456789012345",
    ] {
        let row = ask(&format!("SELECT {sql}")).await;
        let error = row.try_get_by_index::<Decimal>(0).unwrap_err().to_string();
        assert!(error.contains("column"), "{sql}: {error}");
    }
    let row = ask("SELECT '24:00:00'::time").await;
    let midnight = row.try_get_by_index::<sea_orm::prelude::ChronoTime>(0).unwrap();
    assert_eq!(midnight, sea_orm::prelude::ChronoTime::MIN);
}
