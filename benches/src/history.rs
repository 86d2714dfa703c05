//! What is inserted: pgbench's history.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "pgbench_history")]
pub struct Model {
    // The table has no key; SeaORM wants one.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tid: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub bid: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub aid: i32,
    pub delta: i32,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
