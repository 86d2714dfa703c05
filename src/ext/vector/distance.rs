//! How far two vectors are apart.

use std::fmt;

use sea_orm::{
    ColumnTrait, ExprTrait as _,
    sea_query::{BinOper, Expr},
};

use super::{AnyVector, Kind, VectorError, value::Declared};

/// How the distance of two vectors is measured. Less is nearer, with each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Distance {
    /// Euclidean: the length of the way from one to the other.
    L2,
    /// The inner product, negated, so that the most alike come first. For vectors of length 1 it orders as
    /// [`Cosine`](Distance::Cosine) does, and costs less.
    InnerProduct,
    /// 1 less the cosine of the angle between them: 0 for the same direction, 2 for the opposite. What most
    /// models of meaning are made for.
    #[default]
    Cosine,
    /// Taxicab: the sum of the differences in each dimension.
    L1,
    /// The number of bits that differ.
    Hamming,
    /// 1 less the share of bits set in both among those set in either.
    Jaccard,
}

impl Distance {
    const ALL: [Distance; 6] = [
        Distance::L2,
        Distance::InnerProduct,
        Distance::Cosine,
        Distance::L1,
        Distance::Hamming,
        Distance::Jaccard,
    ];

    /// pgvector's operator.
    pub fn operator(self) -> &'static str {
        match self {
            Distance::L2 => "<->",
            Distance::InnerProduct => "<#>",
            Distance::Cosine => "<=>",
            Distance::L1 => "<+>",
            Distance::Hamming => "<~>",
            Distance::Jaccard => "<%>",
        }
    }

    /// The operator class by which an HNSW index of such vectors serves this distance; none if there is no
    /// such distance between them.
    pub fn operator_class(self, kind: Kind) -> Option<&'static str> {
        Some(match (kind, self) {
            (Kind::Vector, Distance::L2) => "vector_l2_ops",
            (Kind::Vector, Distance::InnerProduct) => "vector_ip_ops",
            (Kind::Vector, Distance::Cosine) => "vector_cosine_ops",
            (Kind::Vector, Distance::L1) => "vector_l1_ops",
            (Kind::HalfVec, Distance::L2) => "halfvec_l2_ops",
            (Kind::HalfVec, Distance::InnerProduct) => "halfvec_ip_ops",
            (Kind::HalfVec, Distance::Cosine) => "halfvec_cosine_ops",
            (Kind::HalfVec, Distance::L1) => "halfvec_l1_ops",
            (Kind::SparseVec, Distance::L2) => "sparsevec_l2_ops",
            (Kind::SparseVec, Distance::InnerProduct) => "sparsevec_ip_ops",
            (Kind::SparseVec, Distance::Cosine) => "sparsevec_cosine_ops",
            (Kind::SparseVec, Distance::L1) => "sparsevec_l1_ops",
            (Kind::Bit, Distance::Hamming) => "bit_hamming_ops",
            (Kind::Bit, Distance::Jaccard) => "bit_jaccard_ops",
            _ => return None,
        })
    }

    /// The distance of one expression from another: of two columns, say. Whether they have one, and as
    /// many dimensions, only the server sees; [`VectorColumn`] looks before.
    pub fn between(self, one: impl Into<Expr>, other: impl Into<Expr>) -> Expr {
        one.into().binary(BinOper::Custom(self.operator()), other.into())
    }

    /// Those that there are between such vectors.
    pub(super) fn names(kind: Kind) -> String {
        let there = Distance::ALL.into_iter().filter(|it| it.operator_class(kind).is_some());
        there.map(|it| it.to_string()).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn on(self, column: &Declared) -> Result<(), VectorError> {
        match self.operator_class(column.kind) {
            Some(_) => Ok(()),
            None => {
                let (place, kind) = (column.place.clone(), column.kind);
                let (distance, possible) = (self.to_string(), Distance::names(kind));
                Err(VectorError::Distance { place, column: kind.name(), distance, possible })
            }
        }
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Distance::L2 => "L2",
            Distance::InnerProduct => "inner product",
            Distance::Cosine => "cosine",
            Distance::L1 => "L1",
            Distance::Hamming => "hamming",
            Distance::Jaccard => "jaccard",
        })
    }
}

/// Distances from a column of an entity, to select, filter and order by.
///
/// ```no_run
/// # mod passage {
/// #     use sea_orm::entity::prelude::*;
/// #     #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
/// #     #[sea_orm(table_name = "passage")]
/// #     pub struct Model {
/// #         #[sea_orm(primary_key)]
/// #         pub id: i64,
/// #         #[sea_orm(column_type = "Vector(Some(384))")]
/// #         pub embedding: PgVector,
/// #     }
/// #     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
/// #     pub enum Relation {}
/// #     impl ActiveModelBehavior for ActiveModel {}
/// # }
/// # async fn doc(pg: wharf::Pg, question: Vec<f32>) -> Result<(), wharf::Error> {
/// use sea_orm::{EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect};
/// use wharf::ext::vector::VectorColumn;
///
/// let distance = passage::Column::Embedding.cosine_distance(question)?;
/// let near = passage::Entity::find()
///     .filter(distance.clone().lt(0.3))
///     .order_by_asc(distance)
///     .limit(10)
///     .all(&pg)
///     .await?;
/// # Ok(()) }
/// ```
/// An index serves `ORDER BY` a distance with a `LIMIT`, in ascending order; it does not serve a filter by
/// one. [`nearest`](super::nearest) does that, and finds as many as there are.
///
/// # Errors
/// [`VectorError`] where the entity says that the column has another number of dimensions, is no vector, or
/// has no such distance; where a number of the vector is not finite; and where it has no direction (it is all
/// zeros, say) and the distance is the cosine's. Nothing is sent.
pub trait VectorColumn: ColumnTrait {
    /// The distance, as `distance` measures it.
    ///
    /// # Errors
    /// As the trait says.
    fn distance(&self, distance: Distance, to: impl Into<AnyVector>) -> Result<Expr, VectorError> {
        let (column, to) = (Declared::of(self)?, to.into());
        column.measures(distance, &to)?;
        Ok(distance.between(Expr::col(self.as_column_ref()), to.into_expr()))
    }

    /// The length of the way from one to the other: `<->`.
    ///
    /// # Errors
    /// As the trait says.
    fn l2_distance(&self, to: impl Into<AnyVector>) -> Result<Expr, VectorError> {
        self.distance(Distance::L2, to)
    }

    /// The inner product, negated: `<#>`.
    ///
    /// # Errors
    /// As the trait says.
    fn negative_inner_product(&self, to: impl Into<AnyVector>) -> Result<Expr, VectorError> {
        self.distance(Distance::InnerProduct, to)
    }

    /// 1 less the cosine of the angle between them: `<=>`.
    ///
    /// # Errors
    /// As the trait says.
    fn cosine_distance(&self, to: impl Into<AnyVector>) -> Result<Expr, VectorError> {
        self.distance(Distance::Cosine, to)
    }

    /// The sum of the differences: `<+>`.
    ///
    /// # Errors
    /// As the trait says.
    fn l1_distance(&self, to: impl Into<AnyVector>) -> Result<Expr, VectorError> {
        self.distance(Distance::L1, to)
    }

    /// The number of bits that differ: `<~>`.
    ///
    /// # Errors
    /// As the trait says.
    fn hamming_distance(&self, to: impl Into<AnyVector>) -> Result<Expr, VectorError> {
        self.distance(Distance::Hamming, to)
    }

    /// 1 less the share of common bits: `<%>`.
    ///
    /// # Errors
    /// As the trait says.
    fn jaccard_distance(&self, to: impl Into<AnyVector>) -> Result<Expr, VectorError> {
        self.distance(Distance::Jaccard, to)
    }
}

impl<C: ColumnTrait> VectorColumn for C {}
