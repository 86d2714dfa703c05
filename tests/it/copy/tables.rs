//! Tables that are not plain ones: with identities, behind row-level security, views.

use sea_orm::{ConnectionTrait, EntityTrait, QueryOrder, sea_query::OnConflict};
use wharf::{Pg, copy::Format};

use super::reading::{self, Reading, reading};
use crate::support::number;

fn update() -> OnConflict {
    OnConflict::column(reading::Column::Id).update_column(reading::Column::Sensor).to_owned()
}

#[tokio::test]
async fn an_upsert_gives_values_to_an_identity_that_is_always_generated() {
    let database = reading::table().await;
    let pg = database.pg().await;
    pg.execute_unprepared(
        "ALTER TABLE reading ALTER id DROP DEFAULT, ALTER id ADD GENERATED ALWAYS AS IDENTITY,
           ADD \") SELECT\" int GENERATED ALWAYS AS (id * 2) STORED",
    )
    .await
    .unwrap();
    assert_eq!(pg.copy_in::<Reading>().rows((1..=10).map(reading)).await.unwrap(), 10);
    let upsert = pg.copy_in::<Reading>().on_conflict(update());
    assert_eq!(upsert.rows((6..=15).map(reading)).await.unwrap(), 10);
    let upsert = pg.insert_many::<Reading>((11..=20).map(reading)).on_conflict(update());
    assert_eq!(upsert.exec().await.unwrap(), 10);
    let csv = "id,sensor\n20,changed\n21,new\n";
    let upsert = pg.copy_in::<Reading>().on_conflict(update());
    assert_eq!(upsert.from_reader(csv.as_bytes(), Format::Csv).await.unwrap(), 2);
    assert_eq!(pg.insert_many::<Reading>([reading(22)]).exec().await.unwrap(), 1);
    let ids: Vec<i32> = Reading::find()
        .order_by_asc(reading::Column::Id)
        .all(&pg)
        .await
        .unwrap()
        .iter()
        .map(|it| it.id)
        .collect();
    assert_eq!(ids, Vec::from_iter(1..=22));
}

#[tokio::test]
async fn where_no_copy_goes_the_error_says_what_does() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let role = database.role("tenant", "PASSWORD 'x'").await;
    pg.execute_unprepared(&format!(
        "ALTER TABLE reading ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON reading USING (id < 100);
         GRANT ALL ON reading TO {role}; GRANT USAGE ON SEQUENCE reading_id_seq TO {role}"
    ))
    .await
    .unwrap();
    let tenant = Pg::from_url(&database.url_of(&role, "x")).await.unwrap();
    let error = tenant.copy_in::<Reading>().rows([reading(1)]).await.unwrap_err().to_string();
    assert!(error.contains("with row-level security"), "{error}");
    assert!(error.ends_with("; use `insert_many`, which sends an INSERT"), "{error}");
    assert_eq!(tenant.insert_many::<Reading>([reading(1)]).exec().await.unwrap(), 1);
    // An upsert is an INSERT anyway, and its policy holds.
    let upsert = tenant.copy_in::<Reading>().on_conflict(update());
    assert_eq!(upsert.rows([reading(1), reading(2)]).await.unwrap(), 2);
    let beyond =
        tenant.insert_many::<Reading>([reading(100)]).exec().await.unwrap_err().to_string();
    assert!(
        beyond.contains("row-level security policy") && !beyond.contains("insert_many"),
        "{beyond}"
    );

    pg.execute_unprepared("ALTER TABLE reading RENAME TO base; CREATE VIEW reading AS TABLE base")
        .await
        .unwrap();
    let error = pg.copy_in::<Reading>().rows([reading(3)]).await.unwrap_err().to_string();
    assert!(
        error.contains("cannot copy to view \"reading\"") && error.contains("use `insert_many`"),
        "{error}"
    );
    assert_eq!(pg.insert_many::<Reading>([reading(3)]).exec().await.unwrap(), 1);
    assert_eq!(number(&pg, "SELECT count(*) FROM base").await, 3);
}
