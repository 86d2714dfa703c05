//! Indexes of vectors.

use sea_orm::{ColumnTrait, ColumnType, EntityName as _};

use super::{Distance, Kind, VectorError, build::IndexBuild};
use crate::{pg::Pg, sql::quote_ident};

/// PostgreSQL cuts longer names short.
const NAME_MAX: usize = 63;

/// An index by which a distance is served: HNSW, or IVFFlat where asked for.
///
/// From a migration, by its statement:
/// ```no_run
/// # use sea_orm::{ColumnType, ConnectionTrait, DbErr};
/// # async fn doc<C: ConnectionTrait>(manager: &C) -> Result<(), DbErr> {
/// use wharf::ext::vector::{Distance, VectorIndex};
/// let index = VectorIndex::new("passage", "embedding", ColumnType::Vector(Some(384)), Distance::Cosine);
/// manager.execute_unprepared(&index.sql()?).await?;
/// # Ok(()) }
/// ```
/// Or on a [`Pg`], while others write, with progress:
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
/// # async fn doc(pg: wharf::Pg) -> Result<(), wharf::Error> {
/// use wharf::ext::vector::{Distance, VectorIndex};
/// VectorIndex::on(passage::Column::Embedding, Distance::Cosine)
///     .concurrently()
///     .build(&pg)
///     .memory("1GB")
///     .workers(3)
///     .progress(|progress| println!("{progress}"))
///     .await?;
/// # Ok(()) }
/// ```
/// HNSW can be made while the table is empty. IVFFlat learns from the rows that are there, so it is made
/// after they are.
#[derive(Clone, Debug)]
#[must_use = "an index is made by its `sql` or its `build`"]
pub struct VectorIndex {
    schema: Option<String>,
    table: String,
    column: String,
    column_type: Result<(Kind, Option<usize>), String>,
    distance: Distance,
    method: Method,
    of: Of,
    name: Option<String>,
    concurrently: bool,
    if_not_exists: bool,
}

#[derive(Clone, Copy, Debug)]
enum Method {
    Hnsw { m: u32, ef_construction: u32 },
    Ivfflat { lists: u32 },
}

/// What of the column is in it.
#[derive(Clone, Copy, Debug)]
enum Of {
    Itself,
    Halves,
    Bits,
}

impl VectorIndex {
    /// Of a column as it is called in the database, for migrations, which outlive entities. `column_type`
    /// is `ColumnType::Vector(Some(384))`, `ColumnType::custom("halfvec(384)")` and so on.
    pub fn new(
        table: impl Into<String>,
        column: impl Into<String>,
        column_type: ColumnType,
        distance: Distance,
    ) -> VectorIndex {
        let column_type = Kind::of(&column_type).ok_or_else(|| format!("{column_type:?}"));
        VectorIndex {
            schema: None,
            table: table.into(),
            column: column.into(),
            column_type,
            distance,
            method: Method::Hnsw { m: 16, ef_construction: 64 },
            of: Of::Itself,
            name: None,
            concurrently: false,
            if_not_exists: false,
        }
    }

    /// Of an entity's column.
    pub fn on<C: ColumnTrait>(column: C, distance: Distance) -> VectorIndex {
        let entity = C::EntityName::default();
        let column_type = column.def().get_column_type().clone();
        let index = VectorIndex::new(entity.table_name(), column.as_str(), column_type, distance);
        match entity.schema_name() {
            Some(schema) => index.schema(schema),
            None => index,
        }
    }

    /// The table's schema. Without it, whichever the search path says.
    pub fn schema(mut self, schema: impl Into<String>) -> VectorIndex {
        self.schema = Some(schema.into());
        self
    }

    /// Its name. Default: `passage_embedding_hnsw`, from the table, the column and the method.
    pub fn name(mut self, name: impl Into<String>) -> VectorIndex {
        self.name = Some(name.into());
        self
    }

    /// HNSW with other parameters than 16 neighbours (`m`, 2 to 100) and 64 candidates while it is built
    /// (`ef_construction`, at least twice `m`, up to 1,000). More makes it find more, and larger and slower.
    pub fn hnsw(mut self, m: u32, ef_construction: u32) -> VectorIndex {
        self.method = Method::Hnsw { m, ef_construction };
        self
    }

    /// IVFFlat, with the rows in so many lists (1 to 32,768): for up to a million rows a thousandth of
    /// them, beyond that their square root. Quicker to build than HNSW, and finds less at the same speed.
    pub fn ivfflat(mut self, lists: u32) -> VectorIndex {
        self.method = Method::Ivfflat { lists };
        self
    }

    /// Of the vectors as halves: half its size, and for up to 4,000 dimensions. Served by
    /// [`Rerank::Halves`](super::Rerank).
    pub fn halves(mut self) -> VectorIndex {
        self.of = Of::Halves;
        self
    }

    /// Of one bit for each dimension, whether it is above 0, by hamming distance: a thirtieth of its size.
    /// Served by [`Rerank::Bits`](super::Rerank).
    pub fn bits(mut self) -> VectorIndex {
        self.of = Of::Bits;
        self
    }

    /// Made while others write to the table; takes about twice as long. Cannot run in a transaction, so
    /// its migration says `use_transaction() -> Some(false)`.
    pub fn concurrently(mut self) -> VectorIndex {
        self.concurrently = true;
        self
    }

    /// Nothing is done where there is a relation of its name, whatever that is.
    pub fn if_not_exists(mut self) -> VectorIndex {
        self.if_not_exists = true;
        self
    }

    /// Makes it on `pg`.
    pub fn build(self, pg: &Pg) -> IndexBuild {
        IndexBuild::new(self, pg.clone())
    }

    /// `CREATE INDEX …`, one statement.
    ///
    /// # Errors
    /// [`VectorError::Index`] for what pgvector cannot index: a distance that the column or the method has
    /// not, too many dimensions, parameters out of range, a name of over 63 bytes.
    pub fn sql(&self) -> Result<String, VectorError> {
        let (index, refuse) = (self.name_or_default(), |reason| self.refused(reason));
        if index.is_empty() || index.len() > NAME_MAX {
            return Err(refuse("a name has 1 to 63 bytes; give it one by `name`".to_owned()));
        }
        let (method, parameters) = match self.method {
            Method::Hnsw { m, ef_construction } => {
                let right = (2..=100).contains(&m) && (4..=1000).contains(&ef_construction);
                if !right || ef_construction < 2 * m {
                    let reason = "m is 2 to 100, ef_construction twice that to 1,000";
                    return Err(refuse(format!("{reason}; {m} and {ef_construction} were given")));
                }
                ("hnsw", format!("m = {m}, ef_construction = {ef_construction}"))
            }
            Method::Ivfflat { lists } => {
                if !(1..=32_768).contains(&lists) {
                    return Err(refuse(format!("it has 1 to 32,768 lists; {lists} were given")));
                }
                ("ivfflat", format!("lists = {lists}"))
            }
        };
        let key = self.key()?;
        let table = self.table();
        let concurrently = if self.concurrently { " CONCURRENTLY" } else { "" };
        let if_not_exists = if self.if_not_exists { " IF NOT EXISTS" } else { "" };
        let index = quote_ident(&index);
        Ok(format!(
            "CREATE INDEX{concurrently}{if_not_exists} {index} ON {table} USING {method} ({key}) \
             WITH ({parameters})"
        ))
    }

    /// What is indexed, and by which operator class.
    fn key(&self) -> Result<String, VectorError> {
        let refuse = |reason: String| Err(self.refused(reason));
        let column = quote_ident(&self.column);
        let (kind, dimensions) = match &self.column_type {
            Ok(declared) => *declared,
            Err(other) => return refuse(format!("{column} is {other}, which is no vector")),
        };
        let (kind, distance, key) = match self.of {
            Of::Itself => (kind, self.distance, column.clone()),
            Of::Halves | Of::Bits if kind != Kind::Vector => {
                return refuse(format!("{column} is a {kind}; halves and bits are of a vector"));
            }
            Of::Halves => {
                let Some(length) = dimensions else { return refuse(without_length(&column)) };
                (Kind::HalfVec, self.distance, format!("({column}::halfvec({length}))"))
            }
            Of::Bits => {
                let Some(length) = dimensions else { return refuse(without_length(&column)) };
                let bits = format!("(binary_quantize({column})::bit({length}))");
                (Kind::Bit, Distance::Hamming, bits)
            }
        };
        let Some(class) = distance.operator_class(kind) else {
            let there = Distance::names(kind);
            return refuse(format!("a {kind} has no {distance} distance; there are {there}"));
        };
        if let Method::Ivfflat { .. } = self.method
            && (kind == Kind::SparseVec || matches!(distance, Distance::L1 | Distance::Jaccard))
        {
            return refuse(format!("IVFFlat has no {distance} distance of a {kind}; HNSW has"));
        }
        let most = match kind {
            Kind::Vector => Some((2_000, "; `halves` takes 4,000, `bits` 64,000")),
            Kind::HalfVec => Some((4_000, "; `bits` takes 64,000")),
            Kind::Bit => Some((64_000, "")),
            // It is how many are not 0 that counts.
            Kind::SparseVec => None,
        };
        match (dimensions, most) {
            (None, _) => refuse(without_length(&column)),
            (Some(dimensions), Some((most, else_))) if dimensions > most => refuse(format!(
                "{dimensions} dimensions, and a {kind} is indexed up to {most}{else_}"
            )),
            _ => Ok(format!("{key} {class}")),
        }
    }

    pub(super) fn name_or_default(&self) -> String {
        let method = match self.method {
            Method::Hnsw { .. } => "hnsw",
            Method::Ivfflat { .. } => "ivfflat",
        };
        let of = match self.of {
            Of::Itself => "",
            Of::Halves => "_halves",
            Of::Bits => "_bits",
        };
        let default = || format!("{}_{}{of}_{method}", self.table, self.column);
        self.name.clone().unwrap_or_else(default)
    }

    /// The table as `to_regclass` takes it.
    pub(super) fn table(&self) -> String {
        let table = quote_ident(&self.table);
        match &self.schema {
            Some(schema) => format!("{}.{table}", quote_ident(schema)),
            None => table,
        }
    }

    pub(super) fn is_concurrent(&self) -> bool {
        self.concurrently
    }

    fn refused(&self, reason: String) -> VectorError {
        VectorError::Index { index: self.name_or_default(), reason }
    }
}

fn without_length(column: &str) -> String {
    format!("{column} has no number of dimensions, without which nothing is indexed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(size: u32) -> VectorIndex {
        VectorIndex::new("a\"b", "c", ColumnType::Vector(Some(size)), Distance::Cosine)
    }

    #[test]
    fn a_statement_quotes_what_is_named() {
        let sql = vector(3).schema("s").concurrently().if_not_exists().sql().unwrap();
        assert_eq!(
            sql,
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS \"a\"\"b_c_hnsw\" ON \"s\".\"a\"\"b\" USING hnsw \
             (\"c\" vector_cosine_ops) WITH (m = 16, ef_construction = 64)"
        );
        let sql = vector(3).bits().name("n").ivfflat(7).sql().unwrap();
        assert!(
            sql.contains("((binary_quantize(\"c\")::bit(3)) bit_hamming_ops) WITH (lists = 7)")
        );
        let sql = vector(3).halves().sql().unwrap();
        assert!(sql.contains("((\"c\"::halfvec(3)) halfvec_cosine_ops)"));
    }

    #[test]
    fn what_pgvector_cannot_index_is_refused() {
        let half = ColumnType::custom("HALFVEC(3)");
        for (index, says) in [
            (vector(2_001), "`halves` takes 4,000"),
            (vector(4_001).halves(), "`bits` takes 64,000"),
            (vector(3).hnsw(16, 31), "16 and 31"),
            (vector(3).hnsw(1, 64), "1 and 64"),
            (vector(3).ivfflat(0), "0 were given"),
            (vector(3).name("x".repeat(64)), "63 bytes"),
            (
                VectorIndex::new("t", "c", ColumnType::Vector(None), Distance::L2),
                "no number of dimensions",
            ),
            (VectorIndex::new("t", "c", ColumnType::Text, Distance::L2), "no vector"),
            (VectorIndex::new("t", "c", half.clone(), Distance::Hamming), "no hamming distance"),
            (VectorIndex::new("t", "c", half.clone(), Distance::L1).ivfflat(9), "HNSW has"),
            (VectorIndex::new("t", "c", half, Distance::L1).bits(), "of a vector"),
        ] {
            let said = index.sql().unwrap_err().to_string();
            assert!(said.contains(says), "{said}");
        }
        assert!(vector(2_000).sql().is_ok());
    }
}
