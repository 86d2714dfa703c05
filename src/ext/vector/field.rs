//! What SeaORM asks of a field's type.

use pgvector::{Bit, HalfVector, SparseVector};
use sea_orm::{
    ActiveValue, ColIdx, ColumnType, DbErr, IntoActiveValue, QueryResult, RuntimeErr, TryGetError,
    TryGetable, Value,
    prelude::PgVector,
    sea_query::{self, ArrayType, IntoIden as _, Nullable, ValueTypeErr},
};
use sqlx::{Row as _, TypeInfo as _, ValueRef as _, postgres::PgRow};

use super::{Bits, HalfVec, SparseVec, Vector};

/// `$read` is what the driver makes of a row's column, `$sent` what SeaORM has a value for.
macro_rules! field {
    ($type:ident, $sql:literal, $read:ty, $sent:ty, $column_type:expr) => {
        impl<const N: usize> From<$type<N>> for Value {
            fn from(vector: $type<N>) -> Value {
                let sent: $sent = vector.into();
                sent.into()
            }
        }

        impl<const N: usize> TryGetable for $type<N> {
            fn try_get_by<I: ColIdx>(row: &QueryResult, index: I) -> Result<Self, TryGetError> {
                let Some(row) = row.try_as_pg_row() else {
                    let reason = concat!(stringify!($type), " is PostgreSQL's alone");
                    return Err(DbErr::Type(reason.to_owned()).into());
                };
                let at = || index.as_sqlx_postgres_index();
                // The driver would compare the names.
                let read = match is_elsewhere(row, at(), $sql) {
                    true => row.try_get_unchecked(at()),
                    false => row.try_get(at()),
                };
                let read: Option<$read> =
                    read.map_err(|error| DbErr::Query(RuntimeErr::SqlxError(error.into())))?;
                match read {
                    Some(read) => Ok($type::take(read).map_err(DbErr::from)?),
                    None => Err(TryGetError::Null(format!("{index:?}"))),
                }
            }
        }

        impl<const N: usize> sea_query::ValueType for $type<N> {
            fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
                let sent = <$sent as sea_query::ValueType>::try_from(value)?;
                sent.try_into().map_err(|_| ValueTypeErr)
            }

            fn type_name() -> String {
                format!("{}<{N}>", stringify!($type))
            }

            fn array_type() -> ArrayType {
                // SeaORM has no arrays of vectors; PostgreSQL takes the text of one.
                ArrayType::String
            }

            fn column_type() -> ColumnType {
                let of: fn(Option<u32>) -> ColumnType = $column_type;
                of(N.try_into().ok())
            }
        }

        impl<const N: usize> Nullable for $type<N> {
            fn null() -> Value {
                <$sent as Nullable>::null()
            }
        }

        impl<const N: usize> IntoActiveValue<$type<N>> for $type<N> {
            fn into_active_value(self) -> ActiveValue<$type<N>> {
                ActiveValue::Set(self)
            }
        }
    };
}

field!(Vector, "vector", PgVector, PgVector, ColumnType::Vector);
// PostgreSQL makes halves of it again: the same ones.
field!(HalfVec, "halfvec", HalfVector, PgVector, |length| custom("halfvec", length));
field!(SparseVec, "sparsevec", SparseVector, String, |length| custom("sparsevec", length));
field!(Bits, "bit", Bit, String, ColumnType::Bit);

impl<const N: usize> From<HalfVec<N>> for PgVector {
    fn from(vector: HalfVec<N>) -> PgVector {
        vector.to_vec().into()
    }
}

impl<const N: usize> TryFrom<PgVector> for HalfVec<N> {
    type Error = super::VectorError;

    fn try_from(vector: PgVector) -> Result<HalfVec<N>, super::VectorError> {
        HalfVec::new(vector.as_slice())
    }
}

/// Whether a column's type has this name, in a schema that the search path lacks.
fn is_elsewhere<I: sqlx::ColumnIndex<PgRow>>(row: &PgRow, at: I, name: &str) -> bool {
    row.try_get_raw(at).is_ok_and(|value| {
        value.type_info().name().rsplit_once('.').is_some_and(|(_, found)| found == name)
    })
}

fn custom(name: &str, length: Option<u32>) -> ColumnType {
    let length = length.map(|length| format!("({length})")).unwrap_or_default();
    ColumnType::Custom(format!("{name}{length}").into_iden())
}
