//! Many rows in one INSERT.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, IntoActiveModel,
    Iterable as _, QueryResult,
    sea_query::{Expr, InsertStatement, OnConflict, Query, SelectStatement},
};

use super::{
    CopyError, CopyFault, On,
    column::{self, Column},
    copy_in::{entity_table, quoted, shown},
    shape::{OfEntity, Shape},
    text,
};
use crate::error::Error;

/// Rows to insert by one statement. See [`Pg::insert_many`](crate::Pg::insert_many).
#[must_use = "nothing is inserted before it is run"]
pub struct InsertMany<'a, E: EntityTrait> {
    on: On<'a>,
    rows: Vec<E::ActiveModel>,
    conflict: Option<OnConflict>,
}

impl<'a, E> InsertMany<'a, E>
where
    E: EntityTrait,
    E::ActiveModel: Send,
{
    pub(super) fn new<R>(on: On<'a>, rows: R) -> InsertMany<'a, E>
    where
        R: IntoIterator,
        R::Item: IntoActiveModel<E::ActiveModel>,
    {
        let rows = rows.into_iter().map(IntoActiveModel::into_active_model).collect();
        InsertMany { on, rows, conflict: None }
    }

    /// What to do with rows that are there already: an upsert.
    pub fn on_conflict(mut self, conflict: OnConflict) -> InsertMany<'a, E> {
        self.conflict = Some(conflict);
        self
    }

    /// Inserts them, and gives the number of those that were inserted or changed.
    ///
    /// # Errors
    /// [`Error::Copy`] for a row that has other columns than the first; what the server says.
    pub async fn exec(self) -> Result<u64, Error> {
        let (on, Some(insert)) = self.statement().await? else { return Ok(0) };
        Ok(on.execute(&insert).await?.rows_affected())
    }

    /// Inserts them, and gives them as they are in the table, in the order in which they were given;
    /// those that a conflict left alone are not among them.
    ///
    /// # Errors
    /// As [`exec`](Self::exec).
    pub async fn exec_with_returning(self) -> Result<Vec<E::Model>, Error> {
        let (on, Some(mut insert)) = self.statement().await? else { return Ok(Vec::new()) };
        let columns = E::Column::iter().map(|column| column.select_as(Expr::col(column)));
        insert.returning(Query::returning().exprs(columns));
        let rows = on.query_all(&insert).await?;
        let model = |row: &QueryResult| E::Model::from_query_result(row, "");
        Ok(rows.iter().map(model).collect::<Result<_, DbErr>>()?)
    }

    /// None for no rows. The values of a column are one bind, the text of an array: SeaORM's own arrays
    /// hold no NULL.
    async fn statement(self) -> Result<(On<'a>, Option<InsertStatement>), Error> {
        let InsertMany { on, rows, conflict } = self;
        let table = entity_table::<E>();
        let failed = |fault| CopyError::new(on.database(), &shown(&table), fault);
        let Some(first) = rows.first() else { return Ok((on, None)) };
        let described = match &on {
            On::Pg(pg) => column::of_table(pg, &quoted(&table)).await?,
            On::Session(session) => column::of_table(*session, &quoted(&table)).await?,
        };
        let (shape, places) = OfEntity::<E>::new(first, &[], &described)
            .map_err(|why| failed(CopyFault::Refused(why)))?;
        let columns: Vec<&Column> = places.iter().filter_map(|at| described.get(*at)).collect();
        let mut lists = vec![String::new(); columns.len()];
        let mut values = Vec::new();
        for (row, number) in rows.into_iter().zip(1..) {
            let refused = |column, why| {
                let mut error = failed(CopyFault::Refused(why));
                (error.row, error.column) = (Some(number), column);
                error
            };
            shape.values(row, &mut values).map_err(|odd| refused(odd.column, odd.why))?;
            for ((list, column), value) in lists.iter_mut().zip(&columns).zip(values.drain(..)) {
                let text = text::of(&column.kind, &value)
                    .map_err(|why| refused(Some(column.name.clone()), why))?;
                list.push(if number == 1 { '{' } else { ',' });
                text::put_element(text.as_deref(), list);
            }
        }
        let lists = lists.into_iter().zip(&columns).map(|(mut list, column)| {
            list.push('}');
            let declared = &column.declared;
            // A list of lists would be flattened.
            let unnest = match declared.ends_with("[]") {
                true => format!("unnest($1::text[])::{declared}"),
                false => format!("unnest($1::{declared}[])"),
            };
            Expr::cust_with_values(unnest, [list])
        });
        let select: SelectStatement = Query::select().exprs(lists).take();
        let mut insert = Query::insert();
        insert.into_table(table.clone()).columns(columns.iter().map(|column| column.name.clone()));
        let filled = insert.select_from(select);
        filled.map_err(|error| failed(CopyFault::Refused(error.to_string())))?;
        conflict.map(|conflict| insert.on_conflict(conflict));
        Ok((on, Some(insert)))
    }
}

impl On<'_> {
    async fn execute(&self, insert: &InsertStatement) -> Result<sea_orm::ExecResult, DbErr> {
        match self {
            On::Pg(pg) => pg.execute(insert).await,
            On::Session(session) => session.execute(insert).await,
        }
    }

    async fn query_all(&self, insert: &InsertStatement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            On::Pg(pg) => pg.query_all(insert).await,
            On::Session(session) => session.query_all(insert).await,
        }
    }
}
