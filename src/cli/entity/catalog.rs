//! A schema as PostgreSQL's catalogs describe it.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, QueryResult, Statement};

use crate::Pg;

/// Tables of the schema, without partitions, extensions' tables, and the migrations' own.
const TABLES: &str = "
SELECT c.oid::int8, c.relname::text
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND c.relname NOT IN ('seaql_migrations', 'wharf_unfinished_migration')
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
 ORDER BY c.relname COLLATE \"C\"";

/// Columns. A domain is resolved to its base type. `format_type` with a modifier of -1 returns a type to which a cast does
/// not truncate, qualified if its schema is not on the search path.
const COLUMNS: &str = "
WITH RECURSIVE resolved AS (
  SELECT a.attrelid, a.attnum, a.attname, a.attnotnull AS not_null, a.atttypid AS type, a.atttypmod AS modifier
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition
     AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT r.attrelid, r.attnum, r.attname, r.not_null OR t.typnotnull, t.typbasetype, t.typtypmod
    FROM resolved r JOIN pg_type t ON t.oid = r.type WHERE t.typtype = 'd')
SELECT r.attrelid::int8, r.attnum, r.attname::text, r.not_null, a.attgenerated <> '',
       a.attidentity <> '' OR coalesce(pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%', false),
       u.oid::int8, u.typname::text, un.nspname = 'pg_catalog', u.typtype::text, x.extname::text,
       e.oid IS NOT NULL, a.attndims::int4, r.modifier, format_type(t.oid, r.modifier), format_type(t.oid, -1),
       pg_type_is_visible(u.oid), coalesce(l.collisdeterministic, true)
  FROM resolved r
  JOIN pg_attribute a ON a.attrelid = r.attrelid AND a.attnum = r.attnum
  JOIN pg_type t ON t.oid = r.type AND t.typtype <> 'd'
  LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
  JOIN pg_type u ON u.oid = coalesce(e.oid, t.oid)
  JOIN pg_namespace un ON un.oid = u.typnamespace
  LEFT JOIN pg_depend p ON p.classid = 'pg_type'::regclass AND p.objid = u.oid AND p.deptype = 'e'
  LEFT JOIN pg_extension x ON p.refclassid = 'pg_extension'::regclass AND x.oid = p.refobjid
  LEFT JOIN pg_attrdef d ON d.adrelid = r.attrelid AND d.adnum = r.attnum
  LEFT JOIN pg_collation l ON l.oid = a.attcollation
 ORDER BY r.attrelid, r.attnum";

/// Unique indexes over plain columns and all rows, without their INCLUDEd columns.
const UNIQUE: &str = "
SELECT i.indrelid::int8, c.relname::text, i.indisprimary,
       ARRAY(SELECT key FROM unnest(i.indkey) WITH ORDINALITY AS k (key, n) WHERE n <= i.indnkeyatts ORDER BY n)
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = current_schema() AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
 ORDER BY c.relname COLLATE \"C\"";

/// Foreign keys. Those of partitions have a parent. `conperiod` (PostgreSQL 18) compares ranges.
const FOREIGN: &str = "
SELECT f.conrelid::int8, f.conname::text, f.conkey, f.confrelid::int8, f.confkey, fn.nspname::text, fc.relname::text,
       f.confupdtype::text, f.confdeltype::text, coalesce((to_jsonb(f) ->> 'conperiod')::bool, false)
  FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class fc ON fc.oid = f.confrelid JOIN pg_namespace fn ON fn.oid = fc.relnamespace
 WHERE n.nspname = current_schema() AND f.contype = 'f' AND f.conparentid = 0
 ORDER BY f.conname COLLATE \"C\"";

const ENUMS: &str = "
SELECT t.oid::int8, t.typname::text, ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)
  FROM pg_type t WHERE t.typtype = 'e' ORDER BY t.typname COLLATE \"C\", t.oid";

#[derive(Debug)]
pub(super) struct Schema {
    /// In alphabetical order.
    pub(super) tables: Vec<Table>,
    pub(super) enums: Vec<Enum>,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) oid: i64,
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// The numbers of its columns.
    pub(super) primary: Vec<i16>,
    pub(super) unique: Vec<Unique>,
    pub(super) foreign: Vec<ForeignKey>,
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) number: i16,
    pub(super) name: String,
    pub(super) not_null: bool,
    /// `GENERATED ALWAYS AS (…)`, so nobody may write it.
    pub(super) is_computed: bool,
    /// From a sequence.
    pub(super) is_serial: bool,
    pub(super) kind: Type,
}

/// The type of a column, or of an array's elements.
#[derive(Clone, Debug)]
pub(super) struct Type {
    pub(super) oid: i64,
    pub(super) name: String,
    pub(super) is_builtin: bool,
    /// `b` base, `e` enum, `d` domain, `c` composite, `r` range, `m` multirange.
    pub(super) class: String,
    pub(super) extension: Option<String>,
    pub(super) is_array: bool,
    pub(super) dimensions: i32,
    pub(super) modifier: i32,
    /// As the table has it: `geometry(Point,4326)`.
    pub(super) declared: String,
    /// To cast a text to: `extensions.geometry`, `citext[]`.
    pub(super) cast: String,
    /// Whether its name alone finds it on the search path.
    pub(super) is_visible: bool,
    /// Whether values are equal only if their bytes are.
    pub(super) is_deterministic: bool,
}

#[derive(Debug)]
pub(super) struct Unique {
    pub(super) name: String,
    pub(super) columns: Vec<i16>,
}

#[derive(Debug)]
pub(super) struct ForeignKey {
    pub(super) name: String,
    pub(super) columns: Vec<i16>,
    pub(super) target: i64,
    /// `schema.table`, for messages.
    pub(super) target_name: String,
    pub(super) target_columns: Vec<i16>,
    /// PostgreSQL's letters for them.
    pub(super) on_update: String,
    pub(super) on_delete: String,
    pub(super) is_temporal: bool,
}

#[derive(Debug)]
pub(super) struct Enum {
    pub(super) oid: i64,
    pub(super) name: String,
    pub(super) labels: Vec<String>,
}

impl Schema {
    /// Reads the current schema. Costs five statements.
    pub(super) async fn read(pg: &Pg) -> Result<Schema, DbErr> {
        let mut columns = by_table(rows(pg, COLUMNS).await?, column)?;
        let mut foreign = by_table(rows(pg, FOREIGN).await?, foreign_key)?;
        let mut unique: BTreeMap<i64, Vec<(bool, Unique)>> =
            by_table(rows(pg, UNIQUE).await?, |row| {
                Ok((
                    row.try_get_by(2)?,
                    Unique { name: row.try_get_by(1)?, columns: row.try_get_by(3)? },
                ))
            })?;
        let mut tables = Vec::new();
        for row in rows(pg, TABLES).await? {
            let oid = row.try_get_by(0)?;
            let (primary, unique): (Vec<_>, Vec<_>) = unique
                .remove(&oid)
                .unwrap_or_default()
                .into_iter()
                .partition(|(primary, _)| *primary);
            tables.push(Table {
                oid,
                name: row.try_get_by(1)?,
                columns: columns.remove(&oid).unwrap_or_default(),
                primary: primary.into_iter().next().map(|(_, key)| key.columns).unwrap_or_default(),
                unique: unique.into_iter().map(|(_, key)| key).collect(),
                foreign: foreign.remove(&oid).unwrap_or_default(),
            });
        }
        let enums = rows(pg, ENUMS).await?;
        let enums = enums.iter().map(|row| {
            Ok(Enum {
                oid: row.try_get_by(0)?,
                name: row.try_get_by(1)?,
                labels: row.try_get_by(2)?,
            })
        });
        Ok(Schema { tables, enums: enums.collect::<Result<_, DbErr>>()? })
    }
}

async fn rows(pg: &Pg, sql: &str) -> Result<Vec<QueryResult>, DbErr> {
    pg.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await
}

/// By the oid of the table, which comes first.
fn by_table<T>(
    rows: Vec<QueryResult>,
    read: impl Fn(&QueryResult) -> Result<T, DbErr>,
) -> Result<BTreeMap<i64, Vec<T>>, DbErr> {
    let mut tables: BTreeMap<i64, Vec<T>> = BTreeMap::new();
    for row in &rows {
        tables.entry(row.try_get_by(0)?).or_default().push(read(row)?);
    }
    Ok(tables)
}

fn column(row: &QueryResult) -> Result<Column, DbErr> {
    Ok(Column {
        number: row.try_get_by(1)?,
        name: row.try_get_by(2)?,
        not_null: row.try_get_by(3)?,
        is_computed: row.try_get_by(4)?,
        is_serial: row.try_get_by(5)?,
        kind: Type {
            oid: row.try_get_by(6)?,
            name: row.try_get_by(7)?,
            is_builtin: row.try_get_by(8)?,
            class: row.try_get_by(9)?,
            extension: row.try_get_by(10)?,
            is_array: row.try_get_by(11)?,
            dimensions: row.try_get_by(12)?,
            modifier: row.try_get_by(13)?,
            declared: row.try_get_by(14)?,
            cast: row.try_get_by(15)?,
            is_visible: row.try_get_by(16)?,
            is_deterministic: row.try_get_by(17)?,
        },
    })
}

fn foreign_key(row: &QueryResult) -> Result<ForeignKey, DbErr> {
    let (schema, table): (String, String) = (row.try_get_by(5)?, row.try_get_by(6)?);
    Ok(ForeignKey {
        name: row.try_get_by(1)?,
        columns: row.try_get_by(2)?,
        target: row.try_get_by(3)?,
        target_name: format!("{schema}.{table}"),
        target_columns: row.try_get_by(4)?,
        on_update: row.try_get_by(7)?,
        on_delete: row.try_get_by(8)?,
        is_temporal: row.try_get_by(9)?,
    })
}
