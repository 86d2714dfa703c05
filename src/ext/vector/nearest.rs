//! The nearest.

use std::marker::PhantomData;

use sea_orm::{
    ColumnTrait, EntityTrait, ExprTrait as _, FromQueryResult, QueryResult, QueryTrait as _,
    Select,
    sea_query::{Alias, Expr, Func, Order, SelectStatement},
};

use super::{
    AnyVector, Distance, Kind, VectorError,
    search::{DISTANCE, EF_SEARCH, MOST_ROWS, Scan, Search, is_whole},
    value::Declared,
};
use crate::{error::Error, pg::Pg, session::Session};

/// What of `find` is nearest to a vector, by `column`: ten by cosine distance, unless told otherwise.
///
/// ```no_run
/// # mod passage {
/// #     use sea_orm::entity::prelude::*;
/// #     #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
/// #     #[sea_orm(table_name = "passage")]
/// #     pub struct Model {
/// #         #[sea_orm(primary_key)]
/// #         pub id: i64,
/// #         pub topic: String,
/// #         #[sea_orm(column_type = "Vector(Some(384))")]
/// #         pub embedding: PgVector,
/// #     }
/// #     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
/// #     pub enum Relation {}
/// #     impl ActiveModelBehavior for ActiveModel {}
/// # }
/// # async fn doc(pg: wharf::Pg, question: Vec<f32>) -> Result<(), wharf::Error> {
/// use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
/// use wharf::ext::vector;
///
/// let find = passage::Entity::find().filter(passage::Column::Topic.eq("music"));
/// let found = vector::nearest(find, passage::Column::Embedding, question).limit(5).all(&pg).await?;
/// # Ok(()) }
/// ```
/// # What is found
/// Always as many as were asked for, if there are as many. An index by itself gives its nearest 40
/// (`hnsw.ef_search`) and lets a filter take from those. A filtered search goes on through the index
/// (`iterative_scan`) until 4 times as many are found as were asked for, and takes the nearest of them. Where
/// the index ends before there are enough (`hnsw.max_scan_tuples`: 20,000 by default), the table is read by
/// the filter; so it is at once where the planner sees that the filter keeps little. An index on what is
/// filtered by makes that quick.
///
/// Which they are is as exact as the index is: [`ef_search`](Nearest::ef_search),
/// [`candidates`](Nearest::candidates) and [`probes`](Nearest::probes) make it more so. Rows without a vector
/// are never among them, nor are rows from which there is no distance: under the cosine distance those whose
/// vector is all zeros, for which pgvector gives NaN and which its indexes do not have.
///
/// # What it costs
/// | search | round trips |
/// |---|---|
/// | up to 40 of a whole table | 1 |
/// | filtered, joined, re-ranked, scoped, over 40, or with another `ef_search` | 2, in a read-only session |
/// | one that the index does not answer in full | up to 2 more, one of which reads the table |
///
/// Dropping the future cancels it, as a statement.
pub fn nearest<E: EntityTrait>(
    find: Select<E>,
    column: E::Column,
    to: impl Into<AnyVector>,
) -> Nearest<E> {
    Nearest {
        find,
        column,
        to: to.into(),
        distance: Distance::default(),
        limit: 10,
        scan: Scan { ef_search: None, probes: None, filtered: false, to_the_end: true },
        candidates: None,
        rerank: None,
        model: PhantomData,
    }
}

/// A search for the [`nearest`].
#[derive(Clone, Debug)]
#[must_use = "a search runs by its `all`"]
pub struct Nearest<E: EntityTrait, M = <E as EntityTrait>::Model> {
    find: Select<E>,
    column: E::Column,
    to: AnyVector,
    distance: Distance,
    limit: u64,
    scan: Scan,
    candidates: Option<u64>,
    rerank: Option<Rerank>,
    model: PhantomData<fn() -> M>,
}

/// By which smaller index candidates are found, before they are ordered by their exact distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rerank {
    /// That of [`VectorIndex::halves`](super::VectorIndex::halves), which loses next to nothing.
    Halves,
    /// That of [`VectorIndex::bits`](super::VectorIndex::bits), which needs many candidates, and vectors of
    /// hundreds of dimensions.
    Bits,
}

/// One that was found, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Near<M> {
    /// The row.
    pub model: M,
    /// Its distance, exact. Less is nearer.
    pub distance: f64,
}

impl<E: EntityTrait, M> Nearest<E, M> {
    /// By another distance than the cosine's. An index serves the one that it was made for.
    pub fn by(mut self, distance: Distance) -> Self {
        self.distance = distance;
        self
    }

    /// How many; 10 by default.
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// How many candidates an HNSW index has at hand, 1 to 1,000: more finds more of the right ones, and
    /// takes longer. Default: the server's (`hnsw.ef_search`, 40); as many as there are candidates, where
    /// these are over 40.
    pub fn ef_search(mut self, candidates: u32) -> Self {
        self.scan.ef_search = Some(candidates);
        self
    }

    /// How many lists of an IVFFlat index are read at a time; the server's own default is 1, which finds
    /// little. The square root of its lists is a good start.
    pub fn probes(mut self, lists: u32) -> Self {
        self.scan.probes = Some(lists);
        self
    }

    /// How many are found by the index, before the nearest are chosen from them by their exact distance.
    /// Default: of a whole table as many as are asked for; filtered or by halves 4 times, by bits 20 times
    /// as many. More finds more of the right ones.
    pub fn candidates(mut self, candidates: u64) -> Self {
        self.candidates = Some(candidates);
        self
    }

    /// Finds candidates by a smaller index.
    pub fn rerank(mut self, by: Rerank) -> Self {
        self.rerank = Some(by);
        self
    }

    /// Gives what the index gives, if that is fewer than asked for, and does not read the table then.
    pub fn as_indexed(mut self) -> Self {
        self.scan.to_the_end = false;
        self
    }

    /// Makes another model of a row, for a select of some columns. The embedding itself need not come back:
    /// `find().select_only().columns([…])`.
    pub fn into_model<N: FromQueryResult>(self) -> Nearest<E, N> {
        let Nearest { find, column, to, distance, limit, scan, candidates, rerank, .. } = self;
        let model = PhantomData;
        Nearest { find, column, to, distance, limit, scan, candidates, rerank, model }
    }
}

impl<E: EntityTrait, M: FromQueryResult> Nearest<E, M> {
    /// What is found, nearest first.
    ///
    /// # Errors
    /// [`Error::Vector`](crate::Error::Vector), before anything is sent, where the vector has not as many
    /// dimensions as the column, a number that is not finite or, for the cosine distance, no direction (all
    /// zeros), or where the search is none; else as a statement's.
    pub async fn all(self, pg: &Pg) -> Result<Vec<Near<M>>, Error> {
        let (search, scan, plain) = self.prepare()?;
        // A scoped view's statement would be a session anyway.
        if plain && pg.schema().is_none() {
            let rows = search.rows(pg).await?;
            if !scan.to_the_end || !search.falls_short(&rows) {
                return near(rows);
            }
        }
        near(scan.run(pg, &search).await?)
    }

    /// The same in a session, which keeps its settings until it ends. One round trip more than its search.
    ///
    /// # Errors
    /// As [`all`](Nearest::all).
    pub async fn all_in(self, session: &Session) -> Result<Vec<Near<M>>, Error> {
        let (search, scan, _) = self.prepare()?;
        near(scan.run_in(session, &search).await?)
    }

    /// The search, how it is to be run, and whether it needs no more than a statement.
    fn prepare(self) -> Result<(Search, Scan, bool), VectorError> {
        let Nearest { find, column, to, distance, limit, scan, candidates, rerank, .. } = self;
        let declared = Declared::of(&column)?;
        declared.measures(distance, &to)?;
        scan.check(&declared)?;
        let whole = is_whole(&find, &declared)?;
        let scan = Scan { filtered: !whole, ..scan };
        let times = match rerank {
            None if whole => 1,
            None | Some(Rerank::Halves) => 4,
            Some(Rerank::Bits) => 20,
        };
        declared.counts("limit", limit)?;
        let looked_at =
            candidates.unwrap_or_else(|| Ord::min(limit.saturating_mul(times), MOST_ROWS));
        declared.counts("candidates", looked_at)?;
        if looked_at < limit {
            let reason = format!("{looked_at} candidates are fewer than the requested {limit}");
            return Err(VectorError::Search { place: declared.place, reason });
        }
        let of = Expr::col(column.as_column_ref());
        let mut select = find.into_query();
        select.expr_as(distance.between(of.clone(), to.clone().into_expr()), DISTANCE);
        has_one(&mut select, &column, &declared);
        match rerank {
            None => select.order_by(Alias::new(DISTANCE), Order::Asc),
            Some(by) => select.order_by_expr(by.order(&declared, distance, of, to)?, Order::Asc),
        };
        if whole && rerank.is_none() && candidates.is_none() {
            let tuned = scan.ef_search.is_some() || scan.probes.is_some();
            let plain = !tuned && limit <= u64::from(EF_SEARCH);
            return Ok((Search::as_ordered(select, limit), scan.at_least(limit), plain));
        }
        Ok((Search::reordered(select, looked_at, limit), scan.at_least(looked_at), false))
    }
}

impl Rerank {
    /// As the index of [`VectorIndex`](super::VectorIndex) has it, to the letter.
    fn order(
        self,
        column: &Declared,
        distance: Distance,
        of: Expr,
        to: AnyVector,
    ) -> Result<Expr, VectorError> {
        let refuse = |reason: &str| {
            Err(VectorError::Search { place: column.place.clone(), reason: reason.to_owned() })
        };
        let (Kind::Vector, Some(length)) = (column.kind, column.dimensions) else {
            return refuse("only a vector with a declared number of dimensions is re-ranked");
        };
        let to = to.into_expr();
        Ok(match self {
            Rerank::Halves => {
                let halves = format!("halfvec({length})");
                distance.between(of.cast_as(halves.clone()), to.cast_as(halves))
            }
            Rerank::Bits => {
                let bits = |vector: Expr| Expr::from(Func::cust("binary_quantize").arg(vector));
                let length = format!("bit({length})");
                Distance::Hamming.between(bits(of).cast_as(length), bits(to))
            }
        })
    }
}

/// Leaves out rows without a vector, which have no distance and come last, but come.
pub(super) fn has_one(
    select: &mut SelectStatement,
    column: &impl ColumnTrait,
    declared: &Declared,
) {
    if declared.nullable {
        select.and_where(column.is_not_null());
    }
}

fn near<M: FromQueryResult>(rows: Vec<QueryResult>) -> Result<Vec<Near<M>>, Error> {
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let distance = row.try_get("", DISTANCE)?;
        found.push(Near { model: M::from_query_result(&row, "")?, distance });
    }
    found.sort_by(|one, other| one.distance.total_cmp(&other.distance));
    Ok(found)
}
