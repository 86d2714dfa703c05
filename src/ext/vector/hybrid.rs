//! Nearest in meaning and full text, together.

use sea_orm::{
    ColumnTrait, ColumnType, EntityTrait, ExprTrait as _, FromQueryResult, Iterable,
    PrimaryKeyToColumn as _, QueryResult, QuerySelect as _, QueryTrait as _, Select,
    sea_query::{
        Alias, BinOper, Condition, Expr, Func, IntoColumnRef as _, JoinType, Order, Query,
        SelectStatement, UnionType,
    },
};

use super::{
    AnyVector, Distance, VectorError,
    nearest::has_one,
    search::{DISTANCE, Scan, Search, is_whole},
    value::Declared,
};
use crate::{error::Error, pg::Pg, session::Session, sql::quote_literal};

const SCORE: &str = "wharf_score";
const NEAR: &str = "wharf_near";
const TEXT: &str = "wharf_text";
const RANK: &str = "wharf_rank";
const FUSED: &str = "wharf_fused";

/// The words that a text is searched for.
///
/// ```
/// # mod passage {
/// #     use sea_orm::entity::prelude::*;
/// #     #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
/// #     #[sea_orm(table_name = "passage")]
/// #     pub struct Model {
/// #         #[sea_orm(primary_key)]
/// #         pub id: i64,
/// #         pub text: String,
/// #     }
/// #     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
/// #     pub enum Relation {}
/// #     impl ActiveModelBehavior for ActiveModel {}
/// # }
/// use wharf::ext::vector::Words;
/// let words = Words::new(passage::Column::Text, "english", "slacken mainsheet -jib");
/// ```
#[derive(Clone, Debug)]
pub struct Words<C> {
    column: C,
    language: String,
    query: String,
}

impl<C: ColumnTrait> Words<C> {
    /// Words as people write them to a search engine (`websearch_to_tsquery`: quotes, `or`, `-`), in a
    /// column of text or of type tsvector. `language` is a text search configuration: `english`, `simple`.
    ///
    /// An index for a column of text is `USING gin (to_tsvector('english', "text"))`.
    pub fn new(column: C, language: impl Into<String>, query: impl Into<String>) -> Words<C> {
        Words { column, language: language.into(), query: query.into() }
    }

    /// The column's text as PostgreSQL searches it, and what it is searched for.
    fn exprs(self, place: &str) -> Result<(Expr, Expr), VectorError> {
        let Words { column, language, query } = self;
        let named = |it: char| it.is_alphanumeric() || matches!(it, '_' | '.');
        if language.is_empty() || !language.chars().all(named) {
            let reason = format!(
                "{language:?} is not a text search configuration; use one such as `english`"
            );
            return Err(VectorError::Search { place: place.to_owned(), reason });
        }
        // As a literal: an index's expression has one.
        let language = Expr::cust(quote_literal(&language));
        let of = Expr::col(column.as_column_ref());
        let text = match column.def().get_column_type() {
            ColumnType::Custom(name) if name.inner().eq_ignore_ascii_case("tsvector") => of,
            _ => Func::cust("to_tsvector").args([language.clone(), of]).into(),
        };
        let query = Func::cust("websearch_to_tsquery").args([language, Expr::val(query)]);
        Ok((text, query.into()))
    }
}

/// What of `find` is nearest in meaning, and what has the words, fused by reciprocal rank: a row's score is
/// the sum of 1 / (60 + its rank) over the two lists, so what is high in both comes first.
///
/// ```no_run
/// # mod passage {
/// #     use sea_orm::entity::prelude::*;
/// #     #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
/// #     #[sea_orm(table_name = "passage")]
/// #     pub struct Model {
/// #         #[sea_orm(primary_key)]
/// #         pub id: i64,
/// #         pub text: String,
/// #         #[sea_orm(column_type = "Vector(Some(384))")]
/// #         pub embedding: PgVector,
/// #     }
/// #     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
/// #     pub enum Relation {}
/// #     impl ActiveModelBehavior for ActiveModel {}
/// # }
/// # async fn doc(pg: wharf::Pg, question: Vec<f32>) -> Result<(), wharf::Error> {
/// use sea_orm::EntityTrait;
/// use wharf::ext::vector::{self, Words};
///
/// let words = Words::new(passage::Column::Text, "english", "mainsheet");
/// let found = vector::hybrid(passage::Entity::find(), passage::Column::Embedding, question, words)
///     .limit(5)
///     .all(&pg)
///     .await?;
/// # Ok(()) }
/// ```
/// One statement in a read-only session: 2 round trips. Each list is of up to 50 rows, of those that `find`
/// finds; that of the nearest is as long as the index makes it (see [`nearest`](super::nearest), which reads
/// the table then). The models are whole, whatever `find` selects.
pub fn hybrid<E: EntityTrait>(
    find: Select<E>,
    column: E::Column,
    to: impl Into<AnyVector>,
    words: Words<E::Column>,
) -> Hybrid<E> {
    Hybrid {
        find,
        column,
        to: to.into(),
        words,
        distance: Distance::default(),
        limit: 10,
        candidates: 50,
        k: 60,
    }
}

/// A [`hybrid`] search.
#[derive(Clone, Debug)]
#[must_use = "a search runs by its `all`"]
pub struct Hybrid<E: EntityTrait> {
    find: Select<E>,
    column: E::Column,
    to: AnyVector,
    words: Words<E::Column>,
    distance: Distance,
    limit: u64,
    candidates: u64,
    k: u32,
}

/// One that was found by meaning, by its words, or both.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Fused<M> {
    /// The row.
    pub model: M,
    /// More is better; 2 / 61 is the most, for the first of both.
    pub score: f64,
    /// Its rank by distance, from 1, if it is among those.
    pub near: Option<i64>,
    /// Its rank by its words (`ts_rank_cd`), from 1, if it has them.
    pub text: Option<i64>,
}

impl<E: EntityTrait> Hybrid<E> {
    /// By another distance than the cosine's.
    pub fn by(mut self, distance: Distance) -> Self {
        self.distance = distance;
        self
    }

    /// How many; 10 by default.
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// How long each list is; 50 by default.
    pub fn candidates(mut self, candidates: u64) -> Self {
        self.candidates = candidates;
        self
    }

    /// How little the first ranks are to count more than later ones; 60 by default.
    pub fn k(mut self, k: u32) -> Self {
        self.k = k;
        self
    }

    /// What is found, best first; of the same score, in the order of the primary key.
    ///
    /// # Errors
    /// As [`Nearest::all`](super::Nearest::all).
    pub async fn all(self, pg: &Pg) -> Result<Vec<Fused<E::Model>>, Error> {
        let (search, scan) = self.prepare()?;
        fused(scan.run(pg, &search).await?)
    }

    /// The same in a session, which keeps its settings until it ends. 2 round trips.
    ///
    /// # Errors
    /// As [`all`](Hybrid::all).
    pub async fn all_in(self, session: &Session) -> Result<Vec<Fused<E::Model>>, Error> {
        let (search, scan) = self.prepare()?;
        fused(scan.run_in(session, &search).await?)
    }

    fn prepare(self) -> Result<(Search, Scan), VectorError> {
        let Hybrid { find, column, to, words, distance, limit, candidates, k } = self;
        let declared = Declared::of(&column)?;
        declared.measures(distance, &to)?;
        declared.counts("limit", limit)?;
        declared.counts("candidates", candidates)?;
        let filtered = !is_whole(&find, &declared)?;
        let (text, query) = words.exprs(&declared.place)?;

        let keys = || E::PrimaryKey::iter().map(|key| key.into_column());
        let keys_of = |find: Select<E>| find.select_only().columns(keys()).into_query();
        let mut near = keys_of(find.clone());
        let of = Expr::col(column.as_column_ref());
        near.expr_as(distance.between(of, to.into_expr()), DISTANCE);
        has_one(&mut near, &column, &declared);
        near.order_by(Alias::new(DISTANCE), Order::Asc).limit(candidates);
        let mut with_words = keys_of(find);
        let rank = Func::cust("ts_rank_cd").args([text.clone(), query.clone()]);
        with_words.expr_as(rank, RANK);
        with_words.and_where(text.binary(BinOper::Custom("@@"), query));
        with_words.order_by(Alias::new(RANK), Order::Desc).limit(candidates);

        // What a relaxed scan gives is in nearly the right order, and PostgreSQL holds it for right.
        let by_distance = format!("row_number() OVER (ORDER BY {DISTANCE} + 0)");
        let by_words = format!("row_number() OVER (ORDER BY {RANK} DESC)");
        let nothing = || "NULL::bigint".to_owned();
        let mut ranks = ranked::<E>(near, &by_distance, &nothing());
        // A row without a distance, as one with a zero vector, has no rank by it. NaN is above all numbers.
        ranks.and_where(Expr::cust(format!("{DISTANCE} < 'NaN'")));
        ranks.union(UnionType::All, ranked::<E>(with_words, &nothing(), &by_words));
        let score = format!("sum(1.0::float8 / ({k} + coalesce({NEAR}, {TEXT})))");
        let mut fused = Query::select();
        fused
            .columns(keys())
            .expr_as(Expr::cust(score), SCORE)
            .expr_as(Expr::cust(format!("max({NEAR})")), NEAR)
            .expr_as(Expr::cust(format!("max({TEXT})")), TEXT)
            .from_subquery(ranks, "wharf_ranks")
            .group_by_columns(keys());
        let same = keys().fold(Condition::all(), |all, key| {
            let other = Expr::col((Alias::new(FUSED), key).into_column_ref());
            all.add(Expr::col(key.as_column_ref()).eq(other))
        });
        let mut whole = E::find().into_query();
        whole.join_subquery(JoinType::InnerJoin, fused, FUSED, same);
        for it in [SCORE, NEAR, TEXT] {
            whole.column((Alias::new(FUSED), Alias::new(it)));
        }
        whole.order_by((Alias::new(FUSED), Alias::new(SCORE)), Order::Desc);
        for key in keys() {
            whole.order_by(key.as_column_ref(), Order::Asc);
        }
        let scan = Scan { ef_search: None, probes: None, filtered, to_the_end: false };
        Ok((Search::as_ordered(whole, limit), scan.at_least(candidates)))
    }
}

/// The keys of `list`, and their ranks in the two lists.
fn ranked<E: EntityTrait>(list: SelectStatement, near: &str, text: &str) -> SelectStatement {
    let mut ranked = Query::select();
    ranked
        .columns(E::PrimaryKey::iter().map(|key| key.into_column()))
        .expr_as(Expr::cust(near.to_owned()), NEAR)
        .expr_as(Expr::cust(text.to_owned()), TEXT)
        .from_subquery(list, "wharf_list");
    ranked
}

fn fused<M: FromQueryResult>(rows: Vec<QueryResult>) -> Result<Vec<Fused<M>>, Error> {
    let fuse = |row: &QueryResult| {
        Ok(Fused {
            model: M::from_query_result(row, "")?,
            score: row.try_get("", SCORE)?,
            near: row.try_get("", NEAR)?,
            text: row.try_get("", TEXT)?,
        })
    };
    rows.iter().map(fuse).collect()
}
