//! What is looked up: pgbench's accounts. Every peer makes this model of a row.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel, sqlx::FromRow)]
#[sea_orm(table_name = "pgbench_accounts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub aid: i32,
    pub bid: Option<i32>,
    pub abalance: Option<i32>,
    #[sea_orm(column_type = "Char(Some(84))")]
    pub filler: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
