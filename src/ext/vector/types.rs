//! pgvector's types as fields of entities, each with its length.

use std::{fmt, str::FromStr};

use pgvector::{Bit, HalfVector, SparseVector};
use sea_orm::prelude::PgVector;
use serde::{Deserialize, Serialize};

use super::{
    Kind, VectorError,
    value::{finite, place},
};

/// A `vector` of `N` numbers, 4 bytes each: a field of an entity, or what one is compared with.
///
/// ```
/// use wharf::ext::vector::Vector;
/// let embedding = Vector::<3>::new([0.6, 0.0, 0.8])?;
/// assert!(Vector::<3>::new([0.6, 0.8]).is_err());
/// # Ok::<_, wharf::ext::vector::VectorError>(())
/// ```
/// As the type of a field it says what the column is, so no `column_type` is needed. An index takes up to
/// 2,000 dimensions; a column 16,000.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f32>", into = "Vec<f32>")]
pub struct Vector<const N: usize>(PgVector);

/// A `halfvec` of `N` numbers, 2 bytes each, of which some three digits are kept.
///
/// An index takes up to 4,000 dimensions; a column 16,000.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f32>", into = "Vec<f32>")]
pub struct HalfVec<const N: usize>(HalfVector);

/// A `sparsevec` of `N` dimensions, of which up to 16,000 are not 0; an index takes up to 1,000 of those.
///
/// The driver has no way to say what it binds, so a field of it says how it is saved:
/// ```
/// # mod word {
/// use sea_orm::entity::prelude::*;
/// use wharf::ext::vector::SparseVec;
///
/// #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
/// #[sea_orm(table_name = "word")]
/// pub struct Model {
///     #[sea_orm(primary_key)]
///     pub id: i64,
///     #[sea_orm(save_as = "sparsevec")]
///     pub weights: SparseVec<30522>,
/// }
/// #     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
/// #     pub enum Relation {}
/// #     impl ActiveModelBehavior for ActiveModel {}
/// # }
/// ```
/// As text, here and in PostgreSQL, dimensions count from 1: `{1:0.5,7:2}/30522`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SparseVec<const N: usize>(SparseVector);

/// A `bit(N)`, for hamming and jaccard distances. A field of it says `#[sea_orm(save_as = "varbit")]`:
/// what PostgreSQL casts to `bit` without a length is one bit.
///
/// As text, here and in PostgreSQL: `0110`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bits<const N: usize>(Bit);

/// pgvector takes no more that are not 0.
const SPARSE_MAX: usize = 16_000;

impl<const N: usize> Vector<N> {
    /// Of these numbers.
    ///
    /// # Errors
    /// [`VectorError`] where they are not `N`, or one is not finite.
    pub fn new(numbers: impl Into<Vec<f32>>) -> Result<Vector<N>, VectorError> {
        Vector::take(numbers.into().into())
    }

    /// Its numbers.
    pub fn as_slice(&self) -> &[f32] {
        self.0.as_slice()
    }

    pub(super) fn take(inner: PgVector) -> Result<Vector<N>, VectorError> {
        has::<N>(Kind::Vector, inner.as_slice().len())?;
        finite(&place(Kind::Vector, N), inner.as_slice())?;
        Ok(Vector(inner))
    }
}

impl<const N: usize> HalfVec<N> {
    /// Of these numbers, each rounded to the next half.
    ///
    /// # Errors
    /// [`VectorError`] where they are not `N`, or one is not finite or beyond ±65,504.
    pub fn new(numbers: &[f32]) -> Result<HalfVec<N>, VectorError> {
        let half = HalfVec::take(HalfVector::from_f32_slice(numbers))?;
        match half.0.as_slice().iter().position(|half| !half.is_finite()) {
            None => Ok(half),
            Some(at) => {
                let number = numbers.get(at).copied().unwrap_or(f32::NAN);
                Err(VectorError::Number { place: place(Kind::HalfVec, N), at, number })
            }
        }
    }

    /// Its numbers, each of which is a half.
    pub fn to_vec(&self) -> Vec<f32> {
        self.0.as_slice().iter().map(|half| half.to_f32()).collect()
    }

    pub(super) fn take(inner: HalfVector) -> Result<HalfVec<N>, VectorError> {
        has::<N>(Kind::HalfVec, inner.as_slice().len())?;
        Ok(HalfVec(inner))
    }
}

impl<const N: usize> SparseVec<N> {
    /// From the dimensions (from 0) that are not 0, in any order; a 0 among them is left out.
    ///
    /// # Errors
    /// [`VectorError`] for a dimension of `N` or more, one that is there twice, a number that is not
    /// finite, and for over 16,000 of them.
    pub fn new(
        numbers: impl IntoIterator<Item = (usize, f32)>,
    ) -> Result<SparseVec<N>, VectorError> {
        let refuse = |reason: String| malformed::<N>(Kind::SparseVec, "its numbers", reason);
        let mut numbers: Vec<(usize, f32)> = numbers.into_iter().collect();
        numbers.sort_by_key(|(at, _)| *at);
        for pair in numbers.windows(2) {
            if let [(one, _), (other, _)] = pair
                && one == other
            {
                return Err(refuse(format!("dimension {one} is there twice")));
            }
        }
        if let Some((at, number)) = numbers.iter().copied().find(|(_, number)| !number.is_finite())
        {
            return Err(VectorError::Number { place: place(Kind::SparseVec, N), at, number });
        }
        numbers.retain(|(_, number)| *number != 0.0);
        if numbers.len() > SPARSE_MAX {
            return Err(refuse(format!("{} are not 0, and it holds {SPARSE_MAX}", numbers.len())));
        }
        let dimension = |at: usize| i32::try_from(at).ok().filter(|_| at < N);
        let mut kept = Vec::with_capacity(numbers.len());
        for (at, number) in &numbers {
            match dimension(*at) {
                Some(at) => kept.push((at, *number)),
                None => {
                    return Err(refuse(format!("dimension {at}, counted from 0, is not there")));
                }
            }
        }
        let length = i32::try_from(N).map_err(|_| refuse("it is too long".to_owned()))?;
        let kept = kept.iter().map(|(at, number)| (at, number));
        Ok(SparseVec(SparseVector::from_map(kept, length)))
    }

    /// The dimensions (from 0) that are not 0, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, f32)> {
        let at = self.0.indices().iter().map(|at| usize::try_from(*at).unwrap_or_default());
        at.zip(self.0.values().iter().copied())
    }

    pub(super) fn take(inner: SparseVector) -> Result<SparseVec<N>, VectorError> {
        has::<N>(Kind::SparseVec, usize::try_from(inner.dimensions()).unwrap_or_default())?;
        Ok(SparseVec(inner))
    }
}

impl<const N: usize> Bits<N> {
    /// Of these bits.
    ///
    /// # Errors
    /// [`VectorError`] where they are not `N`.
    pub fn new(bits: &[bool]) -> Result<Bits<N>, VectorError> {
        Bits::take(Bit::new(bits))
    }

    /// Its bits.
    pub fn to_vec(&self) -> Vec<bool> {
        let bytes = self.0.as_bytes().iter();
        bytes.flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1 == 1)).take(N).collect()
    }

    pub(super) fn take(inner: Bit) -> Result<Bits<N>, VectorError> {
        has::<N>(Kind::Bit, inner.len())?;
        Ok(Bits(inner))
    }
}

fn has<const N: usize>(kind: Kind, given: usize) -> Result<(), VectorError> {
    match given == N {
        true => Ok(()),
        false => Err(VectorError::Dimensions { place: place(kind, N), expected: N, given }),
    }
}

fn malformed<const N: usize>(kind: Kind, text: &str, reason: String) -> VectorError {
    VectorError::Malformed { place: place(kind, N), text: text.chars().take(40).collect(), reason }
}

impl<const N: usize> TryFrom<PgVector> for Vector<N> {
    type Error = VectorError;

    fn try_from(vector: PgVector) -> Result<Vector<N>, VectorError> {
        Vector::take(vector)
    }
}

impl<const N: usize> From<Vector<N>> for PgVector {
    fn from(vector: Vector<N>) -> PgVector {
        vector.0
    }
}

impl<const N: usize> TryFrom<Vec<f32>> for Vector<N> {
    type Error = VectorError;

    fn try_from(numbers: Vec<f32>) -> Result<Vector<N>, VectorError> {
        Vector::new(numbers)
    }
}

impl<const N: usize> From<Vector<N>> for Vec<f32> {
    fn from(vector: Vector<N>) -> Vec<f32> {
        vector.0.into()
    }
}

impl<const N: usize> TryFrom<Vec<f32>> for HalfVec<N> {
    type Error = VectorError;

    fn try_from(numbers: Vec<f32>) -> Result<HalfVec<N>, VectorError> {
        HalfVec::new(&numbers)
    }
}

impl<const N: usize> From<HalfVec<N>> for Vec<f32> {
    fn from(vector: HalfVec<N>) -> Vec<f32> {
        vector.to_vec()
    }
}

/// To and from its text.
macro_rules! text {
    ($($type:ident),*) => {$(
        impl<const N: usize> TryFrom<String> for $type<N> {
            type Error = VectorError;

            fn try_from(text: String) -> Result<$type<N>, VectorError> {
                text.parse()
            }
        }

        impl<const N: usize> From<$type<N>> for String {
            fn from(vector: $type<N>) -> String {
                vector.to_string()
            }
        }
    )*};
}
text!(SparseVec, Bits);

impl<const N: usize> FromStr for Bits<N> {
    type Err = VectorError;

    fn from_str(text: &str) -> Result<Bits<N>, VectorError> {
        let bits: Option<Vec<bool>> = text
            .bytes()
            .map(|bit| match bit {
                b'0' => Some(false),
                b'1' => Some(true),
                _ => None,
            })
            .collect();
        let reason = || "it holds what is neither 0 nor 1".to_owned();
        Bits::new(&bits.ok_or_else(|| malformed::<N>(Kind::Bit, text, reason()))?)
    }
}

impl<const N: usize> FromStr for SparseVec<N> {
    type Err = VectorError;

    fn from_str(text: &str) -> Result<SparseVec<N>, VectorError> {
        let read = || {
            let (numbers, length) = text.strip_prefix('{')?.split_once("}/")?;
            let numbers = numbers.split(',').filter(|it| !it.trim().is_empty()).map(|it| {
                let (at, number) = it.split_once(':')?;
                let at: usize = at.trim().parse().ok()?;
                Some((at.checked_sub(1)?, number.trim().parse::<f32>().ok()?))
            });
            Some((numbers.collect::<Option<Vec<_>>>()?, length.trim().parse::<usize>().ok()?))
        };
        let reason = || "it is to be written as {1:0.5,7:2}/30522".to_owned();
        let read = read().ok_or_else(|| malformed::<N>(Kind::SparseVec, text, reason()));
        let (numbers, length) = read?;
        has::<N>(Kind::SparseVec, length)?;
        SparseVec::new(numbers)
    }
}

impl<const N: usize> fmt::Display for SparseVec<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (nth, (at, number)) in self.iter().enumerate() {
            let comma = if nth == 0 { "" } else { "," };
            write!(f, "{comma}{}:{number}", at + 1)?;
        }
        write!(f, "}}/{N}")
    }
}

impl<const N: usize> fmt::Display for Bits<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_vec().into_iter().try_for_each(|bit| f.write_str(if bit { "1" } else { "0" }))
    }
}
