//! Vectors of any kind, and which kind a column is of.

use std::fmt;

use sea_orm::{
    ActiveModelTrait, ActiveValue, ColumnTrait, ColumnType, EntityTrait, ExprTrait as _, Iterable,
    Value, prelude::PgVector, sea_query::Expr,
};

use super::{Bits, Distance, HalfVec, SparseVec, Vector, VectorError};

/// From here on a number is rounded to a half that is infinite.
const HALF_OVERFLOWS: f32 = 65_520.0;

/// pgvector's types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// `vector`: 4 bytes a number.
    Vector,
    /// `halfvec`: 2 bytes a number.
    HalfVec,
    /// `sparsevec`: 8 bytes for each number that is not 0.
    SparseVec,
    /// `bit`: a bit a number.
    Bit,
}

impl Kind {
    /// The type's name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Vector => "vector",
            Kind::HalfVec => "halfvec",
            Kind::SparseVec => "sparsevec",
            Kind::Bit => "bit",
        }
    }

    /// What a column of this type is, and of how many dimensions where that is declared.
    pub(super) fn of(column_type: &ColumnType) -> Option<(Kind, Option<usize>)> {
        let length = |length: &Option<u32>| length.and_then(|length| usize::try_from(length).ok());
        match column_type {
            ColumnType::Vector(size) => Some((Kind::Vector, length(size))),
            ColumnType::Bit(size) => Some((Kind::Bit, length(size))),
            ColumnType::Custom(name) => {
                let name = name.inner().to_ascii_lowercase();
                let (name, size) = match name.split_once('(') {
                    Some((name, size)) => (name, Some(size.trim_end().trim_end_matches(')'))),
                    None => (&*name, None),
                };
                // A type may be named with its schema.
                let name = name.rsplit('.').next()?.trim();
                let all = [Kind::Vector, Kind::HalfVec, Kind::SparseVec, Kind::Bit];
                let kind = all.into_iter().find(|kind| kind.name() == name)?;
                Some((kind, size.and_then(|size| size.trim().parse().ok())))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A vector of any of pgvector's types: what a column is compared with.
///
/// Made by `into()` from [`Vector`], [`HalfVec`], [`SparseVec`], [`Bits`], SeaORM's `PgVector`, or a list
/// of `f32`; a reference costs a copy.
#[derive(Clone, Debug, PartialEq)]
pub struct AnyVector {
    kind: Kind,
    dimensions: usize,
    value: Value,
}

impl AnyVector {
    pub(super) fn new(kind: Kind, dimensions: usize, value: Value) -> AnyVector {
        AnyVector { kind, dimensions, value }
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Of how many dimensions.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The sum of the squares of its numbers, as pgvector adds them up: in 32 bits. None for bits, which have none.
    fn sum_of_squares(&self) -> Option<f32> {
        match (self.kind, &self.value) {
            (Kind::Vector | Kind::HalfVec, Value::Vector(Some(numbers))) => {
                Some(numbers.as_slice().iter().map(|number| number * number).sum())
            }
            (Kind::SparseVec, Value::String(Some(text))) => {
                // As `SparseVec` writes it: `{1:0.5,7:2}/30522`.
                let numbers = text.split(['{', ',', '}']).filter_map(|pair| pair.split_once(':'));
                let numbers = numbers.filter_map(|(_, number)| number.parse::<f32>().ok());
                Some(numbers.map(|number| number * number).sum())
            }
            _ => None,
        }
    }

    /// This vector as an SQL expression.
    pub(super) fn into_expr(self) -> Expr {
        let AnyVector { kind, dimensions, value } = self;
        match kind {
            // PostgreSQL makes halves of these where it compares them with such: exactly, if they were.
            Kind::Vector | Kind::HalfVec => Expr::val(value),
            Kind::SparseVec => Expr::val(value).cast_as("sparsevec"),
            // Without its length, `bit` is one bit.
            Kind::Bit => Expr::val(value).cast_as(format!("bit({dimensions})")),
        }
    }
}

impl From<PgVector> for AnyVector {
    fn from(vector: PgVector) -> AnyVector {
        AnyVector::new(Kind::Vector, vector.as_slice().len(), vector.into())
    }
}

impl From<Vec<f32>> for AnyVector {
    fn from(numbers: Vec<f32>) -> AnyVector {
        PgVector::from(numbers).into()
    }
}

impl From<&[f32]> for AnyVector {
    fn from(numbers: &[f32]) -> AnyVector {
        numbers.to_vec().into()
    }
}

macro_rules! any_vector {
    ($($type:ident $kind:ident),*) => {$(
        impl<const N: usize> From<$type<N>> for AnyVector {
            fn from(vector: $type<N>) -> AnyVector {
                AnyVector::new(Kind::$kind, N, vector.into())
            }
        }

        impl<const N: usize> From<&$type<N>> for AnyVector {
            fn from(vector: &$type<N>) -> AnyVector {
                vector.clone().into()
            }
        }
    )*};
}
any_vector!(Vector Vector, HalfVec HalfVec, SparseVec SparseVec, Bits Bit);

impl From<&PgVector> for AnyVector {
    fn from(vector: &PgVector) -> AnyVector {
        vector.clone().into()
    }
}

impl From<&Vec<f32>> for AnyVector {
    fn from(numbers: &Vec<f32>) -> AnyVector {
        numbers.clone().into()
    }
}

/// A vector's column, as the entity declares it.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    /// How an error names it.
    pub place: String,
    pub kind: Kind,
    pub dimensions: Option<usize>,
    pub nullable: bool,
}

impl Declared {
    pub fn of(column: &impl ColumnTrait) -> Result<Declared, VectorError> {
        let place = format!("column `{}.{}`", column.entity_name().inner(), column.as_str());
        let def = column.def();
        match Kind::of(def.get_column_type()) {
            Some((kind, dimensions)) => {
                Ok(Declared { place, kind, dimensions, nullable: def.is_null() })
            }
            None => {
                let declared = format!("{:?}", def.get_column_type());
                Err(VectorError::NotAVector { place, declared })
            }
        }
    }

    /// Whether it can be compared with `vector`.
    pub fn takes(&self, vector: &AnyVector) -> Result<(), VectorError> {
        let place = || self.place.clone();
        let same = match (self.kind, vector.kind) {
            // What PostgreSQL casts by itself.
            (Kind::SparseVec | Kind::HalfVec | Kind::Vector, Kind::Vector | Kind::HalfVec) => true,
            (column, given) => column == given,
        };
        if !same {
            let (column, given) = (self.kind.name(), vector.kind.name());
            return Err(VectorError::Mismatch { place: place(), column, given });
        }
        self.has(vector.dimensions)?;
        match &vector.value {
            Value::Vector(Some(numbers)) => self.holds(numbers.as_slice()),
            _ => Ok(()),
        }
    }

    /// Whether a search can go by this distance from `vector`.
    pub fn measures(&self, distance: Distance, vector: &AnyVector) -> Result<(), VectorError> {
        distance.on(self)?;
        self.takes(vector)?;
        match vector.sum_of_squares() {
            Some(squares)
                if distance == Distance::Cosine && (squares == 0.0 || !squares.is_finite()) =>
            {
                let reason = format!(
                    "the squares of the vector's numbers add up to {squares:?}, so no cosine distance from \
                     it is defined; give a vector that has a direction, or use another distance"
                );
                Err(VectorError::Search { place: self.place.clone(), reason })
            }
            _ => Ok(()),
        }
    }

    /// Whether a vector of these numbers can be one of the column's.
    fn holds(&self, numbers: &[f32]) -> Result<(), VectorError> {
        finite(&self.place, numbers)?;
        let beyond = |number: &f32| self.kind == Kind::HalfVec && number.abs() >= HALF_OVERFLOWS;
        match numbers.iter().copied().enumerate().find(|(_, number)| beyond(number)) {
            None => Ok(()),
            Some((at, number)) => {
                Err(VectorError::Number { place: self.place.clone(), at, number })
            }
        }
    }

    fn has(&self, given: usize) -> Result<(), VectorError> {
        match self.dimensions {
            Some(expected) if expected != given => {
                Err(VectorError::Dimensions { place: self.place.clone(), expected, given })
            }
            _ => Ok(()),
        }
    }
}

/// Looks at the vectors that are about to be written: whether each has as many dimensions as its column, and
/// numbers that pgvector stores.
///
/// For entities with SeaORM's own `PgVector`, such as the generated ones: those of [`Vector`] and its kin
/// cannot have another length. No round trip.
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
/// # async fn doc(pg: wharf::Pg, rows: Vec<passage::ActiveModel>) -> Result<(), wharf::Error> {
/// use sea_orm::EntityTrait;
/// rows.iter().try_for_each(wharf::ext::vector::check)?;
/// passage::Entity::insert_many(rows).exec(&pg).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`VectorError::Dimensions`] or [`VectorError::Number`] for the first that has not.
pub fn check<A: ActiveModelTrait>(model: &A) -> Result<(), VectorError> {
    for column in <A::Entity as EntityTrait>::Column::iter() {
        if let ActiveValue::Set(Value::Vector(Some(vector))) = model.get(column) {
            let declared = Declared::of(&column)?;
            declared.has(vector.as_slice().len())?;
            declared.holds(vector.as_slice())?;
        }
    }
    Ok(())
}

/// The type's name and length, as an error names it.
pub(super) fn place(kind: Kind, dimensions: usize) -> String {
    format!("a {kind}({dimensions})")
}

/// Refuses what is not finite.
pub(super) fn finite(place: &str, numbers: &[f32]) -> Result<(), VectorError> {
    match numbers.iter().position(|number| !number.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let number = numbers.get(at).copied().unwrap_or(f32::NAN);
            Err(VectorError::Number { place: place.to_owned(), at, number })
        }
    }
}
