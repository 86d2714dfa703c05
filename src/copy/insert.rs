//! Many rows in one INSERT.

use sea_orm::{
    ColumnTrait as _, DbErr, EntityTrait, FromQueryResult, IntoActiveModel, Iterable as _,
    QueryResult, Value,
    sea_query::{Expr, OnConflict, Query, ReturningClause, SelectStatement},
};
use sqlx::{
    Arguments as _, Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgArguments, PgDatabaseError, PgTypeInfo, types::Oid},
};

use super::{
    CopyFault, On, binary,
    column::{Column, Kind},
    destination::Destination,
    shape::{OfEntity, Shape},
    text,
};
use crate::{
    error::{Error, driver_error, server_error},
    pool::{AllRows, Effect, Fetch},
    session::Session,
    statement::{Author, Bind},
};

/// Rows to insert by one statement. See [`Pg::insert_many`](crate::Pg::insert_many).
#[must_use = "nothing is inserted before it is run"]
pub struct InsertMany<'a, E: EntityTrait> {
    into: Destination<'a>,
    rows: Vec<E::ActiveModel>,
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
        InsertMany { into: Destination::of_entity::<E>(on), rows }
    }

    /// What to do with rows that are there already: an upsert.
    pub fn on_conflict(mut self, conflict: OnConflict) -> InsertMany<'a, E> {
        self.into.conflict = Some(conflict);
        self
    }

    /// Inserts them, and gives the number of those that were inserted or changed.
    ///
    /// # Errors
    /// [`Error::Copy`] for a row that has other columns than the first, or a value that does not fit, and for a row
    /// that the server refuses, with its error; what else the server says.
    pub async fn exec(self) -> Result<u64, Error> {
        let Some(insert) = self.statement(None).await? else { return Ok(0) };
        match insert.ask::<Effect>().await {
            Ok(done) => Ok(done.rows_affected()),
            Err(error) => Err(insert.explained(error).await),
        }
    }

    /// Inserts them, and gives them as they are in the table, in the order in which they were given;
    /// those that a conflict left alone are not among them.
    ///
    /// # Errors
    /// As [`exec`](Self::exec).
    pub async fn exec_with_returning(self) -> Result<Vec<E::Model>, Error> {
        let columns = E::Column::iter().map(|column| column.select_as(Expr::col(column)));
        let returning = Query::returning().exprs(columns);
        let Some(insert) = self.statement(Some(returning)).await? else { return Ok(Vec::new()) };
        let rows = match insert.ask::<AllRows>().await {
            Ok(rows) => rows,
            Err(error) => return Err(insert.explained(error).await),
        };
        let model = |row| E::Model::from_query_result(&QueryResult::from(row), "");
        Ok(rows.into_iter().map(model).collect::<Result<_, DbErr>>()?)
    }

    /// With the values of each column, as one bind. None for no rows.
    async fn statement(
        self,
        returning: Option<ReturningClause>,
    ) -> Result<Option<Insert<'a>>, Error> {
        let InsertMany { into, rows } = self;
        let Some(first) = rows.first() else { return Ok(None) };
        let described = match &into.on {
            On::Pg(pg) => into.described(pg).await?,
            On::Session(session) => into.described(*session).await?,
        };
        let refused = |why| into.refused(why);
        let (shape, places) = OfEntity::<E>::new(first, &[], &described).map_err(refused)?;
        let columns: Vec<&Column> = places.iter().filter_map(|at| described.get(*at)).collect();
        let mut values = Vec::new();
        let odd = |row, column, why| {
            let mut error = into.error(CopyFault::Refused(why));
            (error.row, error.column) = (Some(row), column);
            error
        };
        let length = rows.len();
        let mut lists: Vec<List> = Vec::new();
        for (row, number) in rows.into_iter().zip(1..) {
            shape.values(row, &mut values).map_err(|it| odd(number, it.column, it.why))?;
            if lists.is_empty() {
                let each = columns.iter().zip(&values);
                let each = each.map(|(column, value)| List::new((*column).clone(), value, length));
                lists = each.collect::<Result<_, String>>().map_err(refused)?;
            }
            for (list, value) in lists.iter_mut().zip(values.drain(..)) {
                let put = list.put(value);
                put.map_err(|why| odd(number, Some(list.column.name.clone()), why))?;
            }
        }
        let exprs = lists.iter().zip(1..).map(|(list, number)| Expr::cust(list.sql(number)));
        let select: SelectStatement = Query::select().exprs(exprs).take();
        let names = columns.iter().map(|column| column.name.clone());
        let sql = into.insert(names, select, returning)?;
        Ok(Some(Insert { into, sql, lists: Lists(lists), rows: length }))
    }
}

/// The statement, ready to be sent.
struct Insert<'a> {
    into: Destination<'a>,
    sql: String,
    lists: Lists,
    rows: usize,
}

impl Insert<'_> {
    async fn ask<F: Fetch>(&self) -> Result<F::Answer, DbErr> {
        let insert = Author::Bound { sql: &self.sql, binds: &self.lists };
        match &self.into.on {
            On::Pg(pg) => pg.ask::<F>(insert).await,
            On::Session(session) => session.ask::<F>(insert).await,
        }
    }

    /// Returns the server's error, with the row that caused it if that can be found.
    async fn explained(&self, error: DbErr) -> Error {
        if !is_of_row(&error) {
            return error.into();
        }
        const WHAT: &str = "finding the row that cannot be inserted";
        let session = match &self.into.on {
            On::Pg(pg) => pg.session_for(WHAT).await.ok(),
            // Another session does not see what this one has written, so only errors of the row alone compare.
            On::Session(session) if is_of_row_alone(&error) => session.beside(WHAT).await,
            On::Session(_) => None,
        };
        let found = match session {
            // An error of the search is less important than the original one.
            Some(session) => self.first_wrong(&session).await.unwrap_or(None),
            None => None,
        };
        let is_same =
            |wrong: &Wrong| matches!(self.into.on, On::Pg(_)) || are_alike(&wrong.error, &error);
        let wrong = found.filter(is_same);
        let row = wrong.as_ref().map(|wrong| wrong.row as u64);
        let (error, column) = match wrong {
            Some(wrong) => (wrong.error, wrong.column),
            None => {
                let column = column_of(&error);
                (error, column)
            }
        };
        let mut copy = self.into.error(CopyFault::Server(error));
        (copy.row, copy.column) = (row, column);
        copy.into()
    }

    /// Finds the first row that cannot be inserted after those before it. Returns None if all can be by now. The caller rolls
    /// `session` back.
    async fn first_wrong(&self, session: &Session) -> Result<Option<Wrong>, Error> {
        // A lock of somebody else must not hold up an error that is known.
        session.own("SET LOCAL lock_timeout = '1s'").await?;
        let (mut fit, mut fail, mut error) = (0, self.rows, None);
        while fail - fit > 1 {
            let middle = fit + (fail - fit) / 2;
            match tried(session, &self.sql, &self.lists.part(0, middle)?).await? {
                None => fit = middle,
                Some(refusal) => (fail, error) = (middle, Some(refusal)),
            }
        }
        let error = match error {
            Some(error) => error,
            // Only shorter parts were tried so far.
            None => match tried(session, &self.sql, &self.lists).await? {
                Some(refusal) => refusal,
                None => return Ok(None),
            },
        };
        let column = match column_of(&error) {
            None if is_of_value(&error) => self.wrong_column(session, fit, &error).await?,
            column => column,
        };
        Ok(Some(Wrong { row: fail, column, error }))
    }

    /// Finds the column that causes `error` in a row, which is counted from 0. The server converts values to their columns'
    /// types before it checks anything else, so inserting a column alone gives the same error.
    async fn wrong_column(
        &self,
        session: &Session,
        row: usize,
        error: &DbErr,
    ) -> Result<Option<String>, Error> {
        for list in self.lists.part(row, row + 1)?.0 {
            let select: SelectStatement = Query::select().expr(Expr::cust(list.sql(1))).take();
            let name = list.column.name.clone();
            let sql = self.into.insert(std::iter::once(name.clone()), select, None)?;
            let refusal = tried(session, &sql, &Lists(vec![list])).await?;
            if refusal.is_some_and(|refusal| are_alike(&refusal, error)) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

/// A row that the server refuses.
struct Wrong {
    /// Counted from 1.
    row: usize,
    column: Option<String>,
    error: DbErr,
}

/// Runs a statement with these rows and rolls it back. Returns the error if the server refuses a row.
async fn tried(session: &Session, sql: &str, binds: &Lists) -> Result<Option<DbErr>, Error> {
    let nested = session.begin().await?;
    let done = nested.ask::<Effect>(Author::Bound { sql, binds }).await;
    nested.rollback().await?;
    match done {
        Ok(_) => Ok(None),
        Err(error) if is_of_row(&error) => Ok(Some(error)),
        Err(error) => Err(error.into()),
    }
}

fn said(error: &DbErr) -> Option<&PgDatabaseError> {
    driver_error(error).and_then(server_error)
}

/// Whether a row causes the error: a value does not fit its column, a constraint is violated, or a row is updated twice.
fn is_of_row(error: &DbErr) -> bool {
    said(error).is_some_and(|error| matches!(error.code().get(..2), Some("21" | "22" | "23")))
}

/// Whether a row causes the error regardless of other rows: a value, NOT NULL, a check.
fn is_of_row_alone(error: &DbErr) -> bool {
    let is_own = |code: &str| code.starts_with("22") || matches!(code, "23502" | "23514");
    said(error).is_some_and(|error| is_own(error.code()))
}

/// Whether one value causes the error: it is too long, too large, of another type, or violates its domain.
fn is_of_value(error: &DbErr) -> bool {
    said(error).is_some_and(|error| error.code().starts_with("22") || error.data_type().is_some())
}

fn column_of(error: &DbErr) -> Option<String> {
    said(error).and_then(PgDatabaseError::column).map(str::to_owned)
}

fn are_alike(one: &DbErr, other: &DbErr) -> bool {
    let kind =
        |error| said(error).map(|it| (it.code(), it.constraint(), it.column(), it.data_type()));
    kind(one) == kind(other)
}

struct Lists(Vec<List>);

impl Lists {
    /// The values of some rows.
    fn part(&self, from: usize, to: usize) -> Result<Lists, Error> {
        let part = |list: &List| list.part(from, to);
        let failed = |why| DbErr::Custom(format!("a list of values cannot be divided: {why}"));
        Ok(Lists(self.0.iter().map(part).collect::<Result<_, _>>().map_err(failed)?))
    }
}

impl Bind for Lists {
    fn bind(&self) -> Result<PgArguments, BoxDynError> {
        let mut arguments = PgArguments::default();
        self.0.iter().try_for_each(|list| arguments.add(list))?;
        Ok(arguments)
    }
}

/// The values of one column, as an array of the server's: SeaORM's own hold neither NULL nor a vector.
struct List {
    column: Column,
    as_text: bool,
    array: u32,
    bytes: PgArgumentBuffer,
}

/// Below it are the types that every server has.
const FIRST_OF_USERS: u32 = 16_384;
const TEXT: u32 = 25;
const TEXT_ARRAY: u32 = 1009;

impl List {
    /// A list of lists would be flattened, so that these are text, as is what has no binary form, and a list
    /// of an enum's, which the driver asks the server about and does not understand the answer.
    fn new(column: Column, first: &Value, length: usize) -> Result<List, String> {
        let is_list = matches!(column.kind, Kind::Array(..));
        let is_enum = column.kind == Kind::Text && column.oid >= FIRST_OF_USERS;
        let as_text = is_list || is_enum || column.array_oid == 0 || !column.kind.takes(first);
        let (element, array) =
            if as_text { (TEXT, TEXT_ARRAY) } else { (column.oid, column.array_oid) };
        let mut bytes = PgArgumentBuffer::default();
        binary::begin_array(element, length, &mut bytes)?;
        Ok(List { column, as_text, array, bytes })
    }

    /// The values of some rows.
    fn part(&self, from: usize, to: usize) -> Result<List, String> {
        let element = if self.as_text { TEXT } else { self.column.oid };
        let mut bytes = PgArgumentBuffer::default();
        binary::begin_array(element, to - from, &mut bytes)?;
        // What an array begins with has one length, unless it is empty.
        let mut rest = self.bytes.get(bytes.len()..).unwrap_or_default();
        for at in 0..to {
            let (length, behind) = rest.split_first_chunk().ok_or("it ends too early")?;
            // That of NULL is negative.
            let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
            let (value, behind) = behind.split_at_checked(length).ok_or("it ends too early")?;
            if at >= from {
                bytes.extend_from_slice(&rest[..4]);
                bytes.extend_from_slice(value);
            }
            rest = behind;
        }
        let List { column, as_text, array, .. } = self;
        Ok(List { column: column.clone(), as_text: *as_text, array: *array, bytes })
    }

    fn put(&mut self, value: Value) -> Result<(), String> {
        if self.as_text {
            let text = Value::String(text::of(&self.column.kind, &value)?);
            return binary::put(&Kind::Text, &text, &mut self.bytes);
        }
        binary::put(&self.column.kind, &value, &mut self.bytes)
    }

    fn sql(&self, number: usize) -> String {
        match self.as_text {
            true => format!("unnest(${number})::{}", self.column.declared),
            // With its type, because the driver keeps a statement by its text: a column's type may change.
            false => format!("unnest(${number} /* type {} */)", self.array),
        }
    }
}

impl Type<Postgres> for List {
    /// Each list has its own, see `produces`.
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(TEXT_ARRAY))
    }
}

impl Encode<'_, Postgres> for List {
    fn encode_by_ref(&self, out: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        out.extend_from_slice(&self.bytes);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.array)))
    }

    fn size_hint(&self) -> usize {
        self.bytes.len()
    }
}
