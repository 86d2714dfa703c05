//! The crate time's kinds of columns (feature `with-time`), there by COPY and back by the ORM.

use sea_orm::{ConnectionTrait, EntityTrait, QueryOrder};
use time::macros::{date, datetime, time};

use crate::support::TestDatabase;

mod with_text {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "moment")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub date: Option<TimeDate>,
        pub time: Option<TimeTime>,
        pub timestamp: Option<TimeDateTime>,
        pub zoned: Option<TimeDateTimeWithTimeZone>,
        pub list: Option<Vec<TimeDateTimeWithTimeZone>>,
        #[sea_orm(column_type = "custom(\"interval\")", select_as = "text", save_as = "interval")]
        pub interval: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod plain {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "moment")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub date: Option<TimeDate>,
        pub time: Option<TimeTime>,
        pub timestamp: Option<TimeDateTime>,
        pub zoned: Option<TimeDateTimeWithTimeZone>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[tokio::test]
async fn times_of_the_crate_time_come_back_as_they_went() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.execute_unprepared(
        "CREATE TABLE moment (id int4 PRIMARY KEY, date date, time time, timestamp timestamp, zoned timestamptz,
             list timestamptz[], interval interval)",
    )
    .await
    .unwrap();
    let rows = vec![
        with_text::Model {
            id: 1,
            date: Some(date!(2024 - 02 - 29)),
            time: Some(time!(1:02:03.000004)),
            timestamp: Some(datetime!(1999-12-31 23:59:59.999999)),
            zoned: Some(datetime!(0044-03-15 12:00 UTC)),
            list: Some(vec![datetime!(2020-01-01 0:00 UTC)]),
            interval: Some("1 day".to_owned()),
        },
        with_text::Model {
            id: 2,
            date: Some(date!(-0043 - 03 - 15)),
            time: None,
            timestamp: Some(datetime!(-0043-03-15 1:00)),
            zoned: Some(datetime!(-0043-03-15 1:00 UTC)),
            list: Some(Vec::new()),
            interval: None,
        },
    ];
    let emptied = async || pg.execute_unprepared("DELETE FROM moment").await.unwrap();
    pg.copy_in::<with_text::Entity>().rows(rows.clone()).await.unwrap();
    let find = with_text::Entity::find().order_by_asc(with_text::Column::Id);
    assert_eq!(find.all(&pg).await.unwrap(), rows);

    emptied().await;
    let plain: Vec<_> = rows
        .iter()
        .map(|row| plain::Model {
            id: row.id,
            date: row.date,
            time: row.time,
            timestamp: row.timestamp,
            zoned: row.zoned,
        })
        .collect();
    pg.copy_in::<plain::Entity>().rows(plain.clone()).await.unwrap();
    let find = plain::Entity::find().order_by_asc(plain::Column::Id);
    assert_eq!(find.all(&pg).await.unwrap(), plain);

    emptied().await;
    let insert = pg.insert_many::<with_text::Entity>(rows.clone());
    assert_eq!(insert.exec_with_returning().await.unwrap(), rows);
}
