//! What the words of a text tell of it: whether it only reads, and what it leaves on its connection.

use super::{Token, Tokens, is, starts};
use crate::author::Writer;

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
}

/// What a text leaves behind, by who wrote it.
///
/// What a query builder made is one statement of a kind that leaves nothing, but for the functions in it. So
/// it is scanned only where it has the name of one that does: finding that costs a tenth of a scan.
pub(crate) fn leaves(sql: &str, writer: Writer) -> Leaves {
    match writer {
        Writer::Wharf => Leaves::Nothing,
        Writer::Builder if !may_leave(sql.as_bytes()) => Leaves::Nothing,
        Writer::Builder | Writer::Caller => Facts::of(sql).leaves,
    }
}

fn may_leave(sql: &[u8]) -> bool {
    let begins = |at: usize, name: &str| {
        sql.get(at..at + name.len()).is_some_and(|it| it.eq_ignore_ascii_case(name.as_bytes()))
    };
    sql.iter().enumerate().any(|(at, byte)| match byte | 0x20 {
        b'p' => begins(at, "pg_"),
        b's' => begins(at, "set_config"),
        // U&"…", which is not read here.
        b'&' => begins(at, "&\""),
        _ => false,
    })
}

impl Facts {
    pub(crate) fn of(sql: &str) -> Facts {
        const SETTINGS: [&str; 6] = ["SET", "RESET", "LISTEN", "DECLARE", "DO", "CALL"];
        const MORE: [&str; 6] = ["BEGIN", "START", "PREPARE", "DEALLOCATE", "DISCARD", "LOAD"];
        let any = |of: &[&str], word: &str| of.iter().any(|one| is(word, one));
        let mut leaves = Leaves::Nothing;
        let mut tokens = Tokens::new(sql);
        let (mut first, mut creates, mut into) = (true, false, false);
        let (mut selects, mut calls_unknown) = (None, false);
        let mut calls = Calls::default();
        while let Some(token) = tokens.next() {
            // `[` opens as well, and calls nothing.
            let parenthesis = sql.as_bytes().get(tokens.span().0) == Some(&b'(');
            calls_unknown |= calls.take(token, parenthesis);
            let Some(word) = token.word() else {
                if token != Token::End {
                    selects.get_or_insert(false);
                }
                first = matches!(token, Token::End);
                into = false;
                continue;
            };
            // All of several statements would have to be SELECTs.
            if first {
                selects = Some(selects.unwrap_or(true) && is(word, "SELECT"));
                first = false;
                creates = is(word, "CREATE");
                // SET LOCAL and its kin end with the transaction that they stand in.
                let ends =
                    is(word, "SET")
                        && tokens.clone().next().and_then(Token::word).is_some_and(|what| {
                            any(&["LOCAL", "TRANSACTION", "CONSTRAINTS"], what)
                        });
                if any(&MORE, word) {
                    leaves = Leaves::More;
                } else if any(&SETTINGS, word) && !ends {
                    leaves = leaves.max(Leaves::Settings);
                }
            } else if is(word, "set_config")
                || is(word, "pg_temp")
                || ["pg_advisory_", "pg_try_"].iter().any(|prefix| starts(word, prefix))
                || ((creates || into) && any(&["TEMP", "TEMPORARY"], word))
            {
                leaves = leaves.max(Leaves::Settings);
            }
            into = is(word, "INTO");
        }
        if calls.escapes {
            leaves = leaves.max(Leaves::Settings);
        }
        let only_reads =
            selects == Some(true) && !calls_unknown && !calls.locks && leaves == Leaves::Nothing;
        Facts { only_reads, leaves }
    }
}

/// Looks for calls of functions that are not known to change nothing.
#[derive(Default)]
struct Calls<'a> {
    /// The last three tokens, the last one first.
    last: [Option<Token<'a>>; 3],
    /// FOR UPDATE and its kin, or a table that is made.
    locks: bool,
    /// A function is named by U&"…", and may be any.
    escapes: bool,
}

impl<'a> Calls<'a> {
    /// Whether a call of an unknown function begins with this token.
    fn take(&mut self, token: Token<'a>, parenthesis: bool) -> bool {
        let [last, before, owner] = self.last;
        self.last = [Some(token), last, before];
        if let Token::Word(word) = token {
            let is_for = matches!(last, Some(Token::Word(last)) if is(last, "FOR"));
            self.locks |= is_for && ["UPDATE", "NO", "SHARE", "KEY"].iter().any(|it| is(word, it));
            self.locks |= is(word, "INTO");
        }
        if !parenthesis {
            return false;
        }
        let Some(name) = last.and_then(Token::word) else {
            return false;
        };
        match before {
            // Of a schema: anybody's function, whatever its name.
            Some(Token::Other(b'.')) => {
                let of_server = owner.and_then(Token::word).is_some_and(|it| is(it, "pg_catalog"));
                !(of_server && is_known(name))
            }
            // An alias with names for its columns: AS "t" ("a").
            Some(Token::Word(before)) if is(before, "AS") => false,
            // By escapes, which are not read here.
            Some(Token::Other(b'&')) => {
                self.escapes = true;
                true
            }
            _ => !is_known(name),
        }
    }
}

fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|known| is(name, known))
}

/// What may stand before a parenthesis in a SELECT that only reads: keywords, types with a length, and
/// functions of PostgreSQL and its common extensions that change nothing and run no text.
#[rustfmt::skip]
const KNOWN: &[&str] = &[
    // Keywords.
    "in", "and", "or", "not", "from", "where", "on", "as", "exists", "any", "all", "some", "values", "select",
    "join", "lateral", "over", "filter", "group", "by", "having", "limit", "offset", "case", "when", "then",
    "else", "between", "like", "ilike", "is", "union", "intersect", "except", "distinct", "order", "array", "row",
    "using", "within", "with", "rollup", "cube", "sets", "cast", "extract", "interval", "nulls", "materialized",
    // Types.
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
    // pgvector and PostGIS.
    "l2_distance", "cosine_distance", "inner_product", "l1_distance", "vector_dims", "vector_norm",
    "l2_normalize", "subvector", "binary_quantize", "st_distance", "st_dwithin", "st_contains", "st_within",
    "st_intersects", "st_makepoint", "st_setsrid", "st_transform", "st_area", "st_length", "st_astext",
    "st_asgeojson", "st_asewkb", "st_asbinary", "st_geomfromtext", "st_geomfromewkb", "st_geogfromtext", "st_x",
    "st_y", "st_srid", "st_buffer", "st_centroid", "st_envelope", "st_makeenvelope", "st_point", "st_covers",
    "st_force2d",
    // Sizes and names, as monitors ask for them.
    "current_setting", "current_schema", "version", "pg_database_size", "pg_table_size", "pg_total_relation_size",
    "pg_is_in_recovery", "pg_backend_pid",
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
            "SELECT 1 AS a INTO TEMPORARY t",
            "SELECT 1; LISTEN x",
            "SELECT pg_advisory_lock(1)",
            "DO $$ BEGIN END $$",
            "CALL p()",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
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
            "CREATE TABLE temperature (id int)",
            "SELECT \"temp\" FROM weather",
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
    fn what_a_builder_made_is_scanned_where_a_function_may_leave_something() {
        for (sql, expected) in [
            ("SELECT \"t\".\"id\" FROM \"t\" WHERE \"t\".\"page\" = $1", Leaves::Nothing),
            ("SELECT SET_CONFIG($1, $2, $3)", Leaves::Settings),
            ("SELECT pg_advisory_lock($1)", Leaves::Settings),
            ("SELECT pg_size_pretty($1)", Leaves::Nothing),
            ("SELECT set_config", Leaves::Settings),
            ("SELECT 'p", Leaves::Nothing),
        ] {
            assert_eq!(leaves(sql, Writer::Builder), expected, "{sql}");
            assert_eq!(leaves(sql, Writer::Wharf), Leaves::Nothing);
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
}
