//! Drops all that is in a schema.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};

/// Returns the statements that drop all that is in the schema, but for what belongs to an extension. IF EXISTS, because
/// CASCADE drops some of it earlier.
const EVERYTHING: &str = "
WITH here AS (SELECT oid, nspname FROM pg_namespace WHERE nspname = current_schema())
SELECT format('DROP %s IF EXISTS %s CASCADE',
         CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
              WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, c.oid::regclass)
  FROM pg_class c, here
 WHERE c.relnamespace = here.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('e', 'i', 'a'))
UNION ALL
SELECT format('DROP TYPE IF EXISTS %s CASCADE', t.oid::regtype) FROM pg_type t, here
 WHERE t.typnamespace = here.oid
   AND (t.typtype IN ('e', 'd', 'r') OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')
UNION ALL
SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', p.oid::regprocedure) FROM pg_proc p, here
 WHERE p.pronamespace = here.oid
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype IN ('e', 'i'))
UNION ALL
SELECT format('DROP OPERATOR IF EXISTS %s CASCADE', o.oid::regoperator) FROM pg_operator o, here
 WHERE o.oprnamespace = here.oid
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = o.oid AND d.deptype = 'e')
UNION ALL
SELECT format('DROP COLLATION IF EXISTS %I.%I CASCADE', here.nspname, c.collname) FROM pg_collation c, here
 WHERE c.collnamespace = here.oid
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT format('DROP TEXT SEARCH CONFIGURATION IF EXISTS %s CASCADE', c.oid::regconfig) FROM pg_ts_config c, here
 WHERE c.cfgnamespace = here.oid
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT format('DROP TEXT SEARCH DICTIONARY IF EXISTS %s CASCADE', c.oid::regdictionary) FROM pg_ts_dict c, here
 WHERE c.dictnamespace = here.oid
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')";

/// Drops what SeaORM's `fresh` drops before it migrates, and views, sequences, functions and all other types; all or
/// nothing.
pub(super) async fn drop_everything(db: &DatabaseConnection) -> Result<(), DbErr> {
    let rows = db.query_all_raw(Statement::from_string(DbBackend::Postgres, EVERYTHING)).await?;
    let drops: Result<Vec<String>, DbErr> =
        rows.iter().map(|row| row.try_get_by_index(0)).collect();
    let drops = drops?;
    if !drops.is_empty() {
        // One text of several statements is one transaction.
        db.execute_unprepared(&drops.join("; ")).await?;
    }
    Ok(())
}
