//! Finds what a text certainly leaves on the server's connection after its transaction. A pooler lends that connection to
//! somebody else next.

use crate::sql::{Token, Tokens, is};

/// A kind of thing that stays on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasting {
    Setting,
    Subscription,
    Statement,
    Table,
    Cursor,
    Lock,
    Library,
}

impl Lasting {
    /// Returns the first that is found. A change that a function makes by itself is not seen.
    pub(super) fn of(sql: &str) -> Option<Lasting> {
        let mut tokens = Tokens::new(sql);
        let mut is_first = true;
        let mut last = None;
        while let Some(token) = tokens.next() {
            let parenthesis = sql.as_bytes().get(tokens.span().0) == Some(&b'(');
            let found = match token.word() {
                Some(word) if is_first => begun_with(word, &tokens),
                Some(word) if is(word, "INTO") => {
                    is_temporary(tokens.clone()).then_some(Lasting::Table)
                }
                Some(_) => None,
                None if parenthesis => last.and_then(|name| called(name, tokens.clone())),
                None => None,
            };
            if found.is_some() {
                return found;
            }
            is_first = token == Token::End || (is_first && token.word().is_none() && parenthesis);
            last = token.word();
        }
        None
    }

    /// Its name, and the way to have it behind a pooler.
    pub(crate) fn words(self) -> (&'static str, &'static str) {
        match self {
            Lasting::Setting => (
                "a setting",
                "use SET LOCAL in a session, `set_local`, `with_local`, or `settings` of the entry",
            ),
            Lasting::Subscription => {
                ("a subscription (LISTEN)", "use `Pg::listen`, and `direct` in the entry")
            }
            Lasting::Statement => (
                "a prepared statement",
                "leave PREPARE to wharf, which prepares what it runs, or use an entry without the pooler",
            ),
            Lasting::Table => ("a temporary table", "create it in a session, with ON COMMIT DROP"),
            Lasting::Cursor => ("a cursor WITH HOLD", "use `Session::cursor`, or a stream"),
            Lasting::Lock => (
                "an advisory lock of the connection",
                "use pg_advisory_xact_lock in a session, which ends with the transaction",
            ),
            Lasting::Library => ("a library (LOAD)", "use session_preload_libraries of the server"),
        }
    }
}

/// What a statement leaves by its first word. `rest` is what follows.
fn begun_with(first: &str, rest: &Tokens<'_>) -> Option<Lasting> {
    let next =
        |of: &[&str]| rest.clone().next().and_then(Token::word).is_some_and(|word| any(of, word));
    let statement = || rest.clone().take_while(|token| *token != Token::End);
    match () {
        () if is(first, "SET") => {
            (!next(&["LOCAL", "TRANSACTION", "CONSTRAINTS"])).then_some(Lasting::Setting)
        }
        () if is(first, "RESET") => Some(Lasting::Setting),
        () if is(first, "UPDATE") => next(&["pg_settings"]).then_some(Lasting::Setting),
        () if any(&["LISTEN", "UNLISTEN"], first) => Some(Lasting::Subscription),
        // PREPARE TRANSACTION ends one.
        () if is(first, "PREPARE") => (!next(&["TRANSACTION"])).then_some(Lasting::Statement),
        () if any(&["DEALLOCATE", "DISCARD"], first) => Some(Lasting::Statement),
        () if is(first, "LOAD") => Some(Lasting::Library),
        () if is(first, "DECLARE") => {
            let mut words = statement().filter_map(Token::word);
            let mut before = words.next();
            let holds = words.any(|word| {
                let holds = is(word, "HOLD") && before.is_some_and(|before| is(before, "WITH"));
                before = Some(word);
                holds
            });
            holds.then_some(Lasting::Cursor)
        }
        () if is(first, "CREATE") => {
            let drops = || {
                let mut words =
                    statement().filter_map(Token::word).skip_while(|it| !is(it, "COMMIT"));
                words.next().is_some() && words.next().is_some_and(|word| is(word, "DROP"))
            };
            (is_temporary(rest.clone()) && !drops()).then_some(Lasting::Table)
        }
        () => None,
    }
}

/// Whether what is created next is temporary.
fn is_temporary(next: Tokens<'_>) -> bool {
    let mut words = next.map_while(|token| match token {
        Token::Word(word) | Token::Quoted(word) => Some(word),
        _ => None,
    });
    let kinds = [
        "OR", "REPLACE", "LOCAL", "GLOBAL", "UNLOGGED", "TABLE", "SEQUENCE", "IF", "NOT", "EXISTS",
    ];
    words
        .find(|word| !any(&kinds, word))
        .is_some_and(|word| any(&["TEMP", "TEMPORARY", "pg_temp"], word))
}

/// What a call of this function leaves. `arguments` begin behind its parenthesis.
fn called(name: &str, arguments: Tokens<'_>) -> Option<Lasting> {
    const LOCKS: [&str; 7] = [
        "pg_advisory_lock",
        "pg_advisory_lock_shared",
        "pg_try_advisory_lock",
        "pg_try_advisory_lock_shared",
        "pg_advisory_unlock",
        "pg_advisory_unlock_shared",
        "pg_advisory_unlock_all",
    ];
    if any(&LOCKS, name) {
        return Some(Lasting::Lock);
    }
    if !is(name, "set_config") {
        return None;
    }
    // Its last argument says whether it ends with the transaction.
    let (mut depth, mut last) = (1, None);
    for token in arguments {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        last = token.word();
    }
    (!last.is_some_and(|word| is(word, "true"))).then_some(Lasting::Setting)
}

fn any(of: &[&str], word: &str) -> bool {
    of.iter().any(|one| is(word, one))
}

#[cfg(test)]
mod tests {
    use super::{Lasting::*, *};

    #[test]
    fn what_stays_beyond_the_transaction_is_found() {
        for (sql, what) in [
            ("SET search_path = a", Setting),
            ("/* c */ set session statement_timeout = 5", Setting),
            ("RESET ALL", Setting),
            ("SELECT 1; SET ROLE a", Setting),
            ("SELECT set_config('a.b', $1, false)", Setting),
            ("SELECT pg_catalog.set_config('a.b', f(1, true), (false))", Setting),
            ("SELECT \"set_config\"('a', 'b', $1)", Setting),
            ("UPDATE pg_settings SET setting = '1s'", Setting),
            ("LISTEN x", Subscription),
            ("UNLISTEN *", Subscription),
            ("PREPARE p AS SELECT 1", Statement),
            ("DEALLOCATE ALL", Statement),
            ("DISCARD ALL", Statement),
            ("LOAD 'x'", Library),
            ("CREATE TEMP TABLE t (id int)", Table),
            ("CREATE OR REPLACE TEMPORARY VIEW v AS SELECT 1", Table),
            ("CREATE TABLE pg_temp.t (id int)", Table),
            ("SELECT 1 AS a INTO LOCAL TEMP t", Table),
            ("SELECT 1 AS a INTO TEMP TABLE t", Table),
            ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Cursor),
            ("SELECT pg_advisory_lock(1)", Lock),
            ("SELECT * FROM pg_try_advisory_lock_shared(1, 2)", Lock),
        ] {
            assert_eq!(Lasting::of(sql), Some(what), "{sql}");
        }
    }

    #[test]
    fn what_ends_with_the_transaction_is_not() {
        for sql in [
            "SET LOCAL statement_timeout = 5",
            "SET TRANSACTION READ ONLY",
            "SET CONSTRAINTS ALL DEFERRED",
            "SELECT set_config('a.b', 'c', true)",
            "SELECT set_config('a.b', f(1), TRUE), set_config('c.d', 'e', true)",
            "UPDATE t SET a = 1",
            "BEGIN; UPDATE t SET a = 1; COMMIT",
            "PREPARE TRANSACTION 'x'",
            "CREATE TEMP TABLE t (id int) ON COMMIT DROP",
            "CREATE TABLE weather (temp int)",
            "INSERT INTO temperature (temp) VALUES (1)",
            "DECLARE c CURSOR FOR SELECT 1",
            "DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1",
            "SELECT pg_advisory_xact_lock(1)",
            "SELECT pg_try_advisory_xact_lock(1)",
            "NOTIFY x",
            "SELECT app.writes()",
            "SELECT 'LISTEN x'",
        ] {
            assert_eq!(Lasting::of(sql), None, "{sql}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_scan_panic(sql in "[-;'\"$/*a-zE()\\\\\n\u{b}é]{0,60}") {
            let _ = Lasting::of(&sql);
        }
    }
}
