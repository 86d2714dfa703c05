//! Errors in a vector, a distance, an index or a search that are found before anything is sent.

use sea_orm::DbErr;

use super::Error;

/// An error that is found before anything is sent.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VectorError {
    /// A vector of another length than the column's or the type's.
    #[error(
        "{place} has {expected} dimensions, but the given vector has {given}; make both with the same model"
    )]
    Dimensions {
        /// The column (``column `passage.embedding` ``) or the type.
        place: String,
        /// How many it has.
        expected: usize,
        /// How many were given.
        given: usize,
    },
    /// A number that pgvector does not keep.
    #[error("{place}: number {at} of the vector is {number}, {}", beyond(*.number))]
    Number {
        /// The column or the type.
        place: String,
        /// Where in the vector, from 0.
        at: usize,
        /// The number.
        number: f32,
    },
    /// A text or a value that is no such vector.
    #[error("{place} cannot be made from {text:?}: {reason}")]
    Malformed {
        /// The type.
        place: String,
        /// What was given; the first 40 characters.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The column is none of pgvector's.
    #[error(
        "{place} is declared as {declared}, not as a vector; set its `column_type` to Vector, halfvec, sparsevec or Bit"
    )]
    NotAVector {
        /// The column.
        place: String,
        /// What the entity says that it is.
        declared: String,
    },
    /// A vector that this column cannot be compared with.
    #[error("{place} is a {column}; it has no distance to a {given}")]
    Mismatch {
        /// The column.
        place: String,
        /// What it is.
        column: &'static str,
        /// What was given.
        given: &'static str,
    },
    /// A distance that there is none of between such vectors.
    #[error("{place} is a {column}; pgvector has no {distance} distance for it, only {possible}")]
    Distance {
        /// The column.
        place: String,
        /// What it is.
        column: &'static str,
        /// The distance asked for.
        distance: String,
        /// Those that there are.
        possible: String,
    },
    /// An index that pgvector cannot make.
    #[error("index `{index}`: {reason}")]
    Index {
        /// Its name.
        index: String,
        /// Why not, and what can be done.
        reason: String,
    },
    /// A search that cannot be what was meant.
    #[error("search by {place}: {reason}")]
    Search {
        /// The column.
        place: String,
        /// Why not, and what can be done.
        reason: String,
    },
}

impl From<VectorError> for DbErr {
    /// As wharf's other errors pass through SeaORM: [`Error::from`] gives it back.
    fn from(error: VectorError) -> DbErr {
        Error::from(error).into()
    }
}

fn beyond(number: f32) -> &'static str {
    match number.is_finite() {
        true => "beyond the largest number of a halfvec (65,504)",
        false => "but pgvector stores finite numbers only",
    }
}
