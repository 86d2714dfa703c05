//! What the generator does not learn of the tables: which are whose, and what a column's type really is.

use std::collections::{HashMap, HashSet};

use sqlx::{PgPool, Row as _};

/// The tables of a schema that are somebody's own: no partition, nothing of an extension, nothing that
/// keeps account of migrations.
const TABLES: &str = "
SELECT c.relname::text FROM pg_class c
 WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
   AND NOT c.relispartition
   AND c.relname NOT IN ('seaql_migrations', 'wharf_unfinished_migration')
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')";

/// The columns of those whose type, or that of whose elements, comes from an extension, or is one that
/// SeaORM does not read as it is; and vectors, for their length. Domains are what they are made of.
const COLUMNS: &str = "
WITH typed AS (
  SELECT c.relname::text AS table, a.attname::text AS column, a.atttypmod AS modifier,
         CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END AS type
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
   WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
     AND a.attnum > 0 AND NOT a.attisdropped)
SELECT typed.table, typed.column, format_type(t.oid, modifier), coalesce(e.typname, t.typname)::text,
       e.oid IS NOT NULL, modifier
  FROM typed JOIN pg_type t ON t.oid = typed.type
  LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
 WHERE coalesce(e.typtype, t.typtype) <> 'e'
   AND coalesce(e.typname, t.typname) NOT IN
       ('int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'bool', 'text', 'varchar', 'bpchar',
        'bytea', 'date', 'time', 'timestamp', 'timestamptz', 'uuid', 'json', 'jsonb', 'inet', 'cidr')";

pub(super) struct Catalog {
    pub(super) tables: HashSet<String>,
    /// By table and column.
    pub(super) columns: HashMap<(String, String), Typed>,
}

/// A type that the generator has to be helped with.
pub(super) enum Typed {
    /// pgvector's, with its length, if it has one.
    Vector(Option<u32>),
    /// Read and written as text, which every type has.
    Text {
        /// As the table has it: `geometry(Point,4326)`.
        declared: String,
        /// What a text is cast to on its way in.
        cast: String,
        /// It is a list of those.
        array: bool,
    },
}

impl Catalog {
    pub(super) async fn read(pool: &PgPool) -> Result<Catalog, sqlx::Error> {
        let tables = sqlx::query_scalar(TABLES).fetch_all(pool).await?.into_iter().collect();
        let mut columns = HashMap::new();
        for row in sqlx::query(COLUMNS).fetch_all(pool).await? {
            let (declared, element, array): (String, String, bool) =
                (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
            let modifier: i32 = row.try_get(5)?;
            let typed = match (element.as_str(), array) {
                ("vector", false) => {
                    Typed::Vector(u32::try_from(modifier).ok().filter(|it| *it > 0))
                }
                _ => Typed::Text { declared, cast: cast(&element, array), array },
            };
            columns.insert((row.try_get(0)?, row.try_get(1)?), typed);
        }
        Ok(Catalog { tables, columns })
    }
}

/// What a text becomes before it is assigned to the column, which then has its say on the length.
fn cast(element: &str, array: bool) -> String {
    // A cast to bit is one to its first bit.
    let element = if element == "bit" { "varbit" } else { element };
    if array { format!("{element}[]") } else { element.to_owned() }
}
