-- An imitation of Citus 12.1: its functions and catalogs by name and signature, in pg_catalog as there. They record their
-- calls in citus_stub.calls, and refuse what a test needs refused. Nothing is distributed.
SET allow_system_table_mods = on;
CREATE SCHEMA citus;
CREATE SCHEMA citus_stub;
CREATE TABLE citus_stub.calls (at serial, call text NOT NULL);
CREATE TYPE citus.distribution_type AS ENUM ('hash', 'range', 'append');

CREATE TABLE pg_catalog.pg_dist_node (
    nodeid serial PRIMARY KEY, groupid int NOT NULL, nodename text NOT NULL, nodeport int NOT NULL,
    noderack text DEFAULT 'default' NOT NULL, hasmetadata bool DEFAULT true NOT NULL, isactive bool DEFAULT true NOT NULL,
    noderole text DEFAULT 'primary' NOT NULL, nodecluster name DEFAULT 'default' NOT NULL,
    metadatasynced bool DEFAULT true NOT NULL, shouldhaveshards bool DEFAULT true NOT NULL
);
INSERT INTO pg_dist_node (groupid, nodename, nodeport) VALUES (0, 'coordinator', 5432), (1, 'worker1', 5432), (2, 'worker2', 5432);
CREATE TABLE pg_catalog.pg_dist_partition (
    logicalrelid regclass NOT NULL UNIQUE, partmethod "char" NOT NULL, partkey text, colocationid int DEFAULT 0 NOT NULL,
    repmodel "char" DEFAULT 's' NOT NULL, autoconverted bool DEFAULT false NOT NULL
);
CREATE FUNCTION pg_catalog.column_to_column_name(table_name regclass, column_var_text text) RETURNS text LANGUAGE sql STABLE STRICT
AS $$ SELECT column_var_text $$;
CREATE VIEW public.citus_tables AS
SELECT logicalrelid AS table_name,
       CASE WHEN partkey IS NOT NULL THEN 'distributed' WHEN repmodel = 't' THEN 'reference' ELSE 'local' END AS citus_table_type,
       coalesce(column_to_column_name(logicalrelid, partkey), '<none>') AS distribution_column, colocationid AS colocation_id
  FROM pg_dist_partition;

CREATE FUNCTION pg_catalog.citus_version() RETURNS text LANGUAGE sql IMMUTABLE STRICT
AS $$ SELECT 'Citus 12.1.4 on x86_64-pc-linux-gnu, compiled by gcc (Debian 12.2.0-14) 12.2.0, 64-bit' $$;

-- A relation with its schema, whatever the search path is.
CREATE FUNCTION citus_stub.name(relation regclass) RETURNS text LANGUAGE sql STABLE
AS $$ SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation $$;

CREATE FUNCTION pg_catalog.create_distributed_table(
    table_name regclass, distribution_column text, distribution_type citus.distribution_type DEFAULT 'hash',
    colocate_with text DEFAULT 'default', shard_count int DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- As Citus does: the column's name as it is, without quotes and case folding; a table by its quoted name.
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = table_name AND attname = distribution_column AND attnum > 0) THEN
        RAISE undefined_column USING MESSAGE = format('column "%s" of relation "%s" does not exist', distribution_column, table_name);
    END IF;
    IF colocate_with NOT IN ('default', 'none') THEN
        IF shard_count IS NOT NULL THEN
            RAISE EXCEPTION 'Cannot use colocate_with with a table and shard_count at the same time';
        END IF;
        IF NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = colocate_with::regclass AND partkey IS NOT NULL) THEN
            RAISE EXCEPTION 'relation % is not distributed', colocate_with
                USING DETAIL = 'Colocation needs a distributed table.', HINT = 'Distribute it first.';
        END IF;
        colocate_with := citus_stub.name(colocate_with::regclass);
    END IF;
    INSERT INTO pg_dist_partition (logicalrelid, partmethod, partkey) VALUES (table_name, 'h', distribution_column);
    INSERT INTO citus_stub.calls (call) VALUES (
        concat_ws(' ', 'distribute', citus_stub.name(table_name), 'by', distribution_column, distribution_type, 'with', colocate_with,
                  'into ' || shard_count));
END $$;

CREATE FUNCTION pg_catalog.create_reference_table(table_name regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO pg_dist_partition (logicalrelid, partmethod, repmodel) VALUES (table_name, 'n', 't');
    INSERT INTO citus_stub.calls (call) VALUES ('reference ' || citus_stub.name(table_name));
END $$;

CREATE FUNCTION pg_catalog.undistribute_table(table_name regclass, cascade_via_foreign_keys boolean DEFAULT false)
RETURNS void LANGUAGE plpgsql STRICT AS $$
BEGIN
    DELETE FROM pg_dist_partition WHERE logicalrelid = table_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'cannot undistribute table because the table is not distributed';
    END IF;
    INSERT INTO citus_stub.calls (call) VALUES (
        'undistribute ' || citus_stub.name(table_name) || CASE WHEN cascade_via_foreign_keys THEN ' cascade' ELSE '' END);
END $$;

CREATE FUNCTION pg_catalog.citus_schema_distribute(schemaname regnamespace) RETURNS void LANGUAGE sql STRICT
AS $$ INSERT INTO citus_stub.calls (call) SELECT 'distribute schema ' || nspname FROM pg_namespace WHERE oid = schemaname $$;

CREATE FUNCTION pg_catalog.citus_schema_undistribute(schemaname regnamespace) RETURNS void LANGUAGE sql STRICT
AS $$ INSERT INTO citus_stub.calls (call) SELECT 'undistribute schema ' || nspname FROM pg_namespace WHERE oid = schemaname $$;
