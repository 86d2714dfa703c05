//! Statements that act outside of their transaction, so that a read-only one does not keep them from it.

use crate::sql::{Token, Tokens, is};

/// Functions that write files, run statements elsewhere, end others' connections or change the server's state.
const FUNCTIONS: [&str; 27] = [
    "dblink",
    "dblink_exec",
    "dblink_send_query",
    "lo_export",
    "lo_import",
    "pg_cancel_backend",
    "pg_create_logical_replication_slot",
    "pg_create_physical_replication_slot",
    "pg_create_restore_point",
    "pg_drop_replication_slot",
    "pg_execute_server_program",
    "pg_file_rename",
    "pg_file_sync",
    "pg_file_unlink",
    "pg_file_write",
    "pg_log_backend_memory_contexts",
    "pg_logical_slot_get_changes",
    "pg_promote",
    "pg_reload_conf",
    "pg_replication_slot_advance",
    "pg_rotate_logfile",
    "pg_stat_reset",
    "pg_stat_statements_reset",
    "pg_switch_wal",
    "pg_terminate_backend",
    "pg_wal_replay_pause",
    "pg_wal_replay_resume",
];

/// Returns what in a statement acts outside of its transaction, as far as its words tell. `DO`, `CALL` and functions that
/// somebody has defined hide what they do.
pub(super) fn outside_of_transaction(sql: &str) -> Option<String> {
    let mut tokens = Tokens::new(sql);
    let mut is_copy = None;
    let mut depth = 0_usize;
    while let Some(token) = tokens.next() {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        let Some(word) = token.word() else { continue };
        if is_copy.is_none() && is(word, "LOAD") {
            return Some("LOAD".to_owned());
        }
        let is_copy = *is_copy.get_or_insert(is(word, "COPY"));
        let next = tokens.clone().next();
        if is_copy && depth == 0 && (is(word, "TO") || is(word, "FROM")) {
            match next {
                Some(Token::Word(program)) if is(program, "PROGRAM") => {
                    return Some(format!("COPY {} PROGRAM", word.to_uppercase()));
                }
                Some(Token::Literal) => {
                    return Some(format!("COPY {} a file", word.to_uppercase()));
                }
                _ => {}
            }
        }
        if next == Some(Token::Open) && FUNCTIONS.iter().any(|it| is(word, it)) {
            return Some(format!("{}()", word.to_lowercase()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_outside_of_its_transaction_is_told_by_its_words() {
        for (sql, expected) in [
            ("COPY (SELECT 1) TO PROGRAM 'touch /tmp/x'", Some("COPY TO PROGRAM")),
            ("/* x */ copy t from program 'cat'", Some("COPY FROM PROGRAM")),
            ("COPY t TO '/tmp/x'", Some("COPY TO a file")),
            ("COPY t (a) FROM E'/tmp/x'", Some("COPY FROM a file")),
            ("COPY (SELECT a FROM t WHERE b = 'to') TO STDOUT", None),
            (
                "SELECT pg_catalog.pg_terminate_backend (pid) FROM pg_stat_activity",
                Some("pg_terminate_backend()"),
            ),
            ("SELECT \"lo_export\"(1, '/tmp/x')", Some("lo_export()")),
            ("SELECT 'COPY t TO PROGRAM', pg_terminate_backend FROM t", None),
            ("LOAD 'auto_explain'", Some("LOAD")),
            ("SELECT load FROM program", None),
        ] {
            assert_eq!(outside_of_transaction(sql).as_deref(), expected, "{sql}");
        }
    }
}
