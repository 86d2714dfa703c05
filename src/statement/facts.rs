//! What the words of a text tell of it: whether it only reads, and what it leaves on its connection.

use super::Lasting;
use crate::sql::{Token, Tokens, is, starts};

/// What a statement leaves on its connection that the next borrower would meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leaves {
    #[default]
    Nothing,
    /// Settings, a role, a subscription, a lock, a cursor, a temporary table: one message undoes it.
    Settings,
    /// An open transaction, a prepared statement, a library; or it threw away what the driver has
    /// prepared.
    More,
}

/// What is known of a text from one scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// It is a SELECT that calls only functions that are known to change nothing. What runs a text that is
    /// hidden in a value (`query_to_xml`), and what somebody has defined, is not among them.
    pub(crate) only_reads: bool,
    /// What a function does is not seen, so `DO` and `CALL` are taken to change settings.
    pub(crate) leaves: Leaves,
    /// The part of it that certainly stays after the transaction.
    pub(crate) lasting: Option<Lasting>,
}

impl Facts {
    /// A list of what leaves something would never be complete, so this is one of what leaves nothing: plain
    /// statements, and the functions in [`KNOWN`]. What a trigger does is not seen.
    pub(crate) fn of(sql: &str) -> Facts {
        let any = |of: &[&str], word: &str| of.iter().any(|one| is(word, one));
        let mut leaves = Leaves::Nothing;
        let mut tokens = Tokens::new(sql);
        let (mut first, mut selects, mut defines) = (true, None, false);
        let mut calls = Calls::default();
        while let Some(token) = tokens.next() {
            // `[` opens as well, and calls nothing.
            let parenthesis = sql.as_bytes().get(tokens.span().0) == Some(&b'(');
            calls.take(token, parenthesis && !defines);
            let Some(word) = token.word() else {
                defines &= token != Token::End;
                if token != Token::End {
                    selects.get_or_insert(false);
                }
                // A statement may begin with parentheses.
                first = token == Token::End || (first && parenthesis);
                continue;
            };
            if !first {
                // Its columns are no calls, but those of a query in it are.
                defines &= !is(word, "SELECT");
                calls.makes_table |= defines && any(&["TEMP", "TEMPORARY", "pg_temp"], word);
                continue;
            }
            first = false;
            defines = any(&DEFINING, word);
            // All of several statements would have to be SELECTs.
            selects = Some(selects.unwrap_or(true) && is(word, "SELECT"));
            let of_transaction = || {
                let what = tokens.clone().next().and_then(Token::word);
                is(word, "SET")
                    && what.is_some_and(|it| any(&["LOCAL", "TRANSACTION", "CONSTRAINTS"], it))
            };
            if any(&MORE, word) {
                leaves = Leaves::More;
            } else if !defines && !any(&PLAIN, word) && !of_transaction() {
                leaves = leaves.max(Leaves::Settings);
            }
        }
        if calls.unknown || calls.escapes || calls.makes_table || calls.sets {
            leaves = leaves.max(Leaves::Settings);
        }
        let only_reads = selects == Some(true) && leaves == Leaves::Nothing && !calls.locks;
        // The second scan is for the few that leave something at all.
        let lasting = (leaves != Leaves::Nothing).then(|| Lasting::of(sql)).flatten();
        Facts { only_reads, leaves, lasting }
    }
}

/// Statements that leave nothing by themselves.
const PLAIN: [&str; 21] = [
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "MERGE",
    "WITH",
    "VALUES",
    "TABLE",
    "SHOW",
    "NOTIFY",
    "LOCK",
    "TRUNCATE",
    "SAVEPOINT",
    "RELEASE",
    "ROLLBACK",
    "COMMIT",
    "END",
    "FETCH",
    "MOVE",
    "VACUUM",
    "ANALYZE",
];
/// Statements that leave nothing but a temporary table.
const DEFINING: [&str; 8] =
    ["CREATE", "ALTER", "DROP", "COPY", "COMMENT", "GRANT", "REVOKE", "REINDEX"];
const MORE: [&str; 6] = ["BEGIN", "START", "PREPARE", "DEALLOCATE", "DISCARD", "LOAD"];

/// Looks for calls of functions that are not known to change nothing.
#[derive(Default)]
struct Calls<'a> {
    /// The last four tokens, the last one first.
    last: [Option<Token<'a>>; 4],
    /// A function is called that is not known to change nothing.
    unknown: bool,
    /// FOR UPDATE and its kin.
    locks: bool,
    /// A temporary table may be made, by CREATE or by SELECT … INTO.
    makes_table: bool,
    /// A view is named that sets what is written to it.
    sets: bool,
    /// A name is written as U&"…", and may be any.
    escapes: bool,
}

impl<'a> Calls<'a> {
    fn take(&mut self, token: Token<'a>, parenthesis: bool) {
        let [last, before, owner, beyond] = self.last;
        self.last = [Some(token), last, before, owner];
        let is_word = |token: Option<Token<'a>>, words: &[&str]| {
            token.and_then(Token::word).is_some_and(|it| words.iter().any(|word| is(it, word)))
        };
        if let Some(word) = token.word() {
            self.locks |=
                is_word(last, &["FOR"]) && is_word(Some(token), &["UPDATE", "NO", "SHARE", "KEY"]);
            self.makes_table |= is(word, "INTO") && !is_word(last, &["INSERT", "MERGE"]);
            self.sets |= is(word, "pg_settings");
            self.escapes |= last == Some(Token::Other(b'&')) && is_word(before, &["U"]);
        }
        let (true, Some(name)) = (parenthesis, last.filter(|last| last.word().is_some())) else {
            return;
        };
        self.unknown |= match before {
            // The columns of INSERT INTO shop.item (…), which is no call.
            Some(Token::Other(b'.')) if is_word(beyond, &["INTO"]) => false,
            // Of a schema: anybody's function, whatever its name.
            Some(Token::Other(b'.')) => !(is_word(owner, &["pg_catalog"]) && is_known(name)),
            // Names for columns: INTO item (…), AS "t" ("a"), WITH t (a).
            Some(before) if is_word(Some(before), &["INTO", "AS", "WITH", "RECURSIVE"]) => false,
            _ => {
                !is_known(name)
                    && !PHRASES
                        .iter()
                        .any(|(one, two)| is_word(before, &[one]) && is_word(last, &[two]))
            }
        };
    }
}

fn is_known(name: Token<'_>) -> bool {
    let any = |of: &[&str], name: &str| of.iter().any(|known| is(name, known));
    match name {
        Token::Word(name) => starts(name, "st_") || any(KNOWN, name) || any(KEYWORDS, name),
        Token::Quoted(name) => starts(name, "st_") || any(KNOWN, name),
        _ => false,
    }
}

/// Words of which the second is a keyword only behind the first.
const PHRASES: [(&str, &str); 5] = [
    ("on", "conflict"),
    ("then", "insert"),
    ("grouping", "sets"),
    ("by", "rollup"),
    ("by", "cube"),
];

/// Keywords that may stand before a parenthesis. PostgreSQL reserves most of them, so that a function of such a name
/// has to be quoted.
#[rustfmt::skip]
const KEYWORDS: &[&str] = &[
    "in", "and", "or", "not", "from", "where", "on", "as", "exists", "any", "all", "some", "values", "select",
    "join", "lateral", "over", "filter", "group", "by", "having", "limit", "offset", "case", "when", "then",
    "else", "between", "like", "ilike", "is", "union", "intersect", "except", "distinct", "order", "array", "row",
    "using", "within", "with", "set", "returning", "only", "cast", "extract", "interval", "materialized",
];

/// Types with a length, and functions of PostgreSQL and its common extensions that change nothing and run no text.
#[rustfmt::skip]
const KNOWN: &[&str] = &[
    "varchar", "char", "character", "varying", "numeric", "decimal", "bit", "varbit", "timestamp", "timestamptz",
    "time", "timetz", "float", "vector", "halfvec", "sparsevec", "geometry", "geography",
    // Aggregates and windows.
    "count", "sum", "avg", "min", "max", "bool_and", "bool_or", "every", "array_agg", "string_agg", "json_agg",
    "jsonb_agg", "json_object_agg", "jsonb_object_agg", "stddev", "stddev_pop", "stddev_samp", "variance",
    "var_pop", "var_samp", "corr", "mode", "percentile_cont", "percentile_disc", "row_number", "rank",
    "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead", "first_value", "last_value", "nth_value",
    "grouping", "any_value", "bit_and", "bit_or",
    // Conditions and numbers.
    "coalesce", "nullif", "greatest", "least", "abs", "round", "ceil", "ceiling", "floor", "trunc", "mod", "div",
    "power", "sqrt", "exp", "ln", "log", "sign", "random", "width_bucket",
    // Texts.
    "lower", "upper", "initcap", "length", "char_length", "octet_length", "trim", "btrim", "ltrim", "rtrim",
    "lpad", "rpad", "substring", "substr", "left", "right", "position", "strpos", "replace", "translate",
    "reverse", "repeat", "concat", "concat_ws", "format", "split_part", "string_to_array", "array_to_string",
    "regexp_replace", "regexp_match", "regexp_matches", "starts_with", "md5", "encode", "decode", "quote_ident",
    "quote_literal", "unaccent", "similarity", "word_similarity",
    // Dates.
    "now", "clock_timestamp", "statement_timestamp", "transaction_timestamp", "date_trunc", "date_part", "date_bin",
    "age", "make_date", "make_timestamp", "make_timestamptz", "make_interval", "to_char", "to_date",
    "to_timestamp", "to_number", "justify_days", "justify_hours", "justify_interval", "isfinite", "time_bucket",
    // Arrays, ranges, JSON, sets.
    "unnest", "array_length", "array_position", "array_append", "array_cat", "array_remove", "cardinality",
    "generate_series", "generate_subscripts", "isempty", "lower_inc", "upper_inc", "range_merge",
    "to_json", "to_jsonb", "row_to_json", "json_build_object", "jsonb_build_object", "json_build_array",
    "jsonb_build_array", "json_array_length", "jsonb_array_length", "json_array_elements",
    "jsonb_array_elements", "jsonb_array_elements_text", "jsonb_each", "jsonb_each_text", "jsonb_object_keys",
    "jsonb_extract_path", "jsonb_extract_path_text", "jsonb_path_exists", "jsonb_path_query", "jsonb_set",
    "jsonb_typeof", "jsonb_strip_nulls", "gen_random_uuid", "uuid_generate_v4",
    // Full text.
    "to_tsvector", "to_tsquery", "plainto_tsquery", "phraseto_tsquery", "websearch_to_tsquery", "ts_rank",
    "ts_rank_cd", "ts_headline", "setweight",
    // pgvector; PostGIS' own begin with st_.
    "l2_distance", "cosine_distance", "inner_product", "l1_distance", "vector_dims", "vector_norm",
    "l2_normalize", "subvector", "binary_quantize",
    // Sizes and names, as monitors ask for them.
    "current_setting", "current_schema", "version", "pg_database_size", "pg_table_size", "pg_total_relation_size",
    "pg_relation_size", "pg_indexes_size", "pg_size_pretty", "pg_is_in_recovery", "pg_backend_pid", "pg_sleep",
    "pg_blocking_pids", "pg_get_expr", "pg_get_indexdef", "pg_get_constraintdef", "pg_get_viewdef",
    "pg_get_functiondef", "pg_get_userbyid", "format_type", "obj_description", "col_description", "to_regclass",
    "has_table_privilege", "has_schema_privilege", "has_database_privilege", "txid_current",
    "pg_current_xact_id", "pg_current_wal_lsn", "pg_last_wal_replay_lsn", "pg_last_wal_receive_lsn",
    "pg_wal_lsn_diff", "inet_server_port", "pg_postmaster_start_time",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves_behind(sql: &str) -> Leaves {
        Facts::of(sql).leaves
    }

    fn only_reads(sql: &str) -> bool {
        Facts::of(sql).only_reads
    }

    #[test]
    fn sees_what_a_statement_leaves_on_its_connection() {
        for sql in [
            "SET search_path = a",
            "SET ROLE a",
            "select set_config('a.b', 'c', false)",
            "SELECT \"set_config\"('a.b', 'c', false)",
            "CREATE TEMP TABLE t (id int)",
            "CREATE TABLE pg_temp.t (id int)",
            "CREATE TABLE t AS SELECT writes()",
            "COPY (SELECT writes()) TO '/dev/null'",
            "SELECT 1 AS a INTO TEMPORARY t",
            "SELECT 1; LISTEN x",
            "SELECT pg_advisory_lock(1)",
            "DO $$ BEGIN END $$",
            "CALL p()",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "UPDATE pg_settings SET setting = '1s' WHERE name = 'statement_timeout'",
            "UPDATE U&\"pg\\005fsettings\" SET setting = '1s'",
            "SELECT 1 AS a INTO LOCAL TEMP t",
            "WITH x AS (SELECT 1) SELECT * INTO pg_temp.t FROM x",
            "SELECT nextval('s')",
            "SELECT app.writes()",
            "INSERT INTO t SELECT writes()",
            "INSERT INTO t (a) VALUES (writes($1))",
            "(SELECT set_config('a', 'b', false))",
            "SELECT sets('a'), \"in\"('b')",
            "IMPORT FOREIGN SCHEMA x FROM SERVER s INTO y",
        ] {
            assert_eq!(leaves_behind(sql), Leaves::Settings, "{sql}");
        }
        for sql in
            ["BEGIN", "SET a = 1; PREPARE p AS SELECT 1; SET b = 2", "DEALLOCATE ALL", "LOAD 'x'"]
        {
            assert_eq!(leaves_behind(sql), Leaves::More, "{sql}");
        }
        for sql in [
            "SELECT 1",
            "SET LOCAL statement_timeout = '1s'",
            "SET TRANSACTION READ ONLY",
            "UPDATE t SET a = 1",
            "SELECT \"temp\" FROM weather",
            "INSERT INTO \"shop\".\"item\" (\"a\") VALUES ($1) ON CONFLICT (\"a\") DO UPDATE SET \"a\" = 1 RETURNING (a)",
            "INSERT INTO item (a) SELECT a FROM b",
            "WITH RECURSIVE x (a) AS (SELECT 1), y AS MATERIALIZED (DELETE FROM z) SELECT * FROM x",
            "MERGE INTO t USING u ON (t.id = u.id) WHEN NOT MATCHED THEN INSERT (id) VALUES (u.id)",
            "DELETE FROM t WHERE id IN (1, 2)",
            "(SELECT 1)",
            "TRUNCATE t",
            "CREATE TABLE public.numbers (n int, m numeric(3, 1))",
            "CREATE TABLE temperature (id int)",
            "CREATE TABLE t AS SELECT count(*) FROM u",
            "COPY t TO '/dev/null'",
            "INSERT INTO weather (temp) VALUES (1)",
            "SELECT 'set_config'",
        ] {
            assert_eq!(leaves_behind(sql), Leaves::Nothing, "{sql}");
        }
    }

    #[test]
    fn only_a_select_only_reads() {
        assert!(only_reads("SELECT \"a\" FROM \"t\" WHERE \"b\" = $1"));
        for sql in [
            "INSERT INTO t VALUES (1)",
            "WITH x AS (INSERT INTO t VALUES (1) RETURNING id) SELECT * FROM x",
            "SELECT set_config('default_transaction_read_only', 'off', false)",
            "",
        ] {
            assert!(!only_reads(sql), "{sql}");
        }
    }

    #[test]
    fn only_functions_that_are_known_only_read() {
        for sql in [
            "SELECT COUNT(*), lower(\"a\"), CAST(\"b\" AS varchar(10)) FROM \"t\" WHERE \"c\" IN ($1, $2)",
            "SELECT \"x\".\"a\" FROM (SELECT 1) AS \"x\" (\"a\") WHERE EXISTS(SELECT 1) AND (\"a\" = 1 OR NOT (\"a\" = 2))",
            "SELECT pg_catalog.count(*) FROM t",
            "SELECT row_number() OVER (PARTITION BY (a) ORDER BY b) FROM t",
            "SELECT \"a\"[1], ARRAY[1] FROM t WHERE b = ANY($1::text[])",
        ] {
            assert!(only_reads(sql), "{sql}");
        }
        for sql in [
            "SELECT query_to_xml($1, true, true, '')",
            "SELECT writes()",
            "SELECT \"writes\" ()",
            "SELECT app.lower('a')",
            "SELECT U&\"set\\005fconfig\"('a', 'b', false)",
            "SELECT a FROM t FOR UPDATE",
            "SELECT a INTO b FROM t",
            "SELECT 1; DELETE FROM t",
            "(SELECT 1)",
        ] {
            assert!(!only_reads(sql), "{sql}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_scan_panic(sql in "[-;'\"$/*a-zE \\\\\n\u{b}é]{0,60}") {
            let _ = Facts::of(&sql);
        }
    }
}
