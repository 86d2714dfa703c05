//! The works as SeaORM's entities do them, on whatever is a connection of theirs.

use anyhow::{Context, Result};
use sea_orm::{ActiveValue::Set, ExprTrait};
use sea_orm::{ConnectionTrait, entity::prelude::*, sea_query::Expr};

use crate::{
    account, history,
    work::{Change, Range},
};

pub async fn look_up<C: ConnectionTrait>(on: &C, aid: i32) -> Result<account::Model> {
    account::Entity::find_by_id(aid).one(on).await?.context("no such account")
}

pub async fn rows<C: ConnectionTrait>(on: &C, range: Range) -> Result<Vec<account::Model>> {
    let between = account::Column::Aid.between(range.first, range.last);
    Ok(account::Entity::find().filter(between).all(on).await?)
}

/// Gives how many accounts were updated.
pub async fn write<C: ConnectionTrait>(on: &C, change: Change) -> Result<u64> {
    let Change { tid, bid, aid, delta } = change;
    let balance = account::Column::Abalance;
    let updated = account::Entity::update_many()
        .col_expr(balance, Expr::col(balance).add(delta))
        .filter(account::Column::Aid.eq(aid))
        .exec(on)
        .await?;
    let line =
        history::ActiveModel { tid: Set(tid), bid: Set(bid), aid: Set(aid), delta: Set(delta) };
    history::Entity::insert(line).exec_without_returning(on).await?;
    Ok(updated.rows_affected)
}
