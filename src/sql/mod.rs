//! SQL as text: quoting (the only copy), and what its words say about it.

mod statements;
mod tokens;

pub(crate) use statements::statements;
pub(crate) use tokens::{Token, Tokens};

/// The names of a list as settings have it: `app, "$user", "A ""b, c"`.
pub(crate) fn names_of(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut name, mut quoted, mut was_quoted) = (String::new(), false, false);
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => name.extend(chars.next()),
            '"' => (quoted, was_quoted) = (!quoted, true),
            ',' if !quoted => {
                names.push((std::mem::take(&mut name), std::mem::take(&mut was_quoted)))
            }
            c if quoted => name.push(c),
            c if c.is_whitespace() => {}
            c => name.extend(c.to_lowercase()),
        }
    }
    names.push((name, was_quoted));
    names.retain(|(name, was_quoted)| *was_quoted || !name.is_empty());
    names.into_iter().map(|(name, _)| name).collect()
}

/// A search path with `public` at its end, where extensions usually have their types and functions.
pub(crate) fn with_public(path: &str) -> String {
    match names_of(path).iter().any(|name| name == "public") {
        true => path.to_owned(),
        false => format!("{path}, public"),
    }
}

/// `name` as an SQL identifier, whatever it holds.
///
/// A NUL cannot be part of any identifier; PostgreSQL refuses the statement that holds one.
pub(crate) fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `text` as an SQL string, whatever it holds and however the server reads backslashes.
pub(crate) fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

/// What the statements of a raw text would do to the transaction that they run in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Control {
    /// The first one that would end, begin or prepare a transaction behind a session's back.
    pub(crate) keyword: Option<&'static str>,
    /// Those about savepoints, which stay inside the transaction, in their order.
    pub(crate) savepoints: Vec<SavepointCommand>,
}

/// A statement about savepoints, with the name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SavepointCommand {
    Create(String),
    Release(String),
    RollBackTo(String),
}

impl Control {
    pub(crate) fn of(sql: &str) -> Control {
        let mut control = Control::default();
        for (start, end) in statements(sql) {
            let mut tokens = Tokens::new(sql.get(start..end).unwrap_or_default());
            let Some(first) = tokens.next().and_then(Token::word) else {
                continue;
            };
            control.keyword = control.keyword.or_else(|| control_word(first, tokens.clone()));
            let command = match first {
                first if is(first, "SAVEPOINT") => SavepointCommand::Create,
                first if is(first, "RELEASE") => SavepointCommand::Release,
                first if is(first, "ROLLBACK") => SavepointCommand::RollBackTo,
                _ => continue,
            };
            control.savepoints.extend(last_name(tokens).map(command));
        }
        control
    }
}

/// The name at the end of a statement.
fn last_name(tokens: Tokens<'_>) -> Option<String> {
    let (mut before, mut last) = (None, None);
    for token in tokens {
        (before, last) = (last, Some(token));
    }
    Some(match last? {
        // By escapes, which are not read here.
        Token::Quoted(name) if before == Some(Token::Other(b'&')) => format!("U&\"{name}\""),
        Token::Quoted(name) => name.replace("\"\"", "\""),
        other => other.word()?.to_ascii_lowercase(),
    })
}

fn control_word(word: &str, mut rest: Tokens<'_>) -> Option<&'static str> {
    const CONTROL: [&str; 6] = ["BEGIN", "START", "COMMIT", "END", "ABORT", "ROLLBACK"];
    let mut second = || rest.next().and_then(Token::word);
    if is(word, "PREPARE") {
        return second()
            .is_some_and(|word| is(word, "TRANSACTION"))
            .then_some("PREPARE TRANSACTION");
    }
    let control = CONTROL.into_iter().find(|control| is(word, control))?;
    if control == "ROLLBACK" {
        let mut next = second();
        if next.is_some_and(|word| is(word, "WORK") || is(word, "TRANSACTION")) {
            next = second();
        }
        if next.is_some_and(|word| is(word, "TO")) {
            return None;
        }
    }
    Some(control)
}

pub(crate) fn is(word: &str, keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword)
}

pub(crate) fn starts(word: &str, prefix: &str) -> bool {
    word.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_list_are_told_apart() {
        assert_eq!(names_of("App, public"), ["app", "public"]);
        assert_eq!(names_of("\"A \"\"b, c\", \"$user\""), ["A \"b, c", "$user"]);
        assert_eq!(names_of(" ,"), Vec::<String>::new());
    }

    #[test]
    fn quotes_identifiers_whatever_they_hold() {
        assert_eq!(quote_ident("plain"), r#""plain""#);
        assert_eq!(quote_ident(r#"a"; DROP TABLE x; --"#), r#""a""; DROP TABLE x; --""#);
    }

    #[test]
    fn quotes_text_whatever_it_holds() {
        assert_eq!(quote_literal("plain"), "'plain'");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\' OR 1"), "E'a\\\\'' OR 1'");
    }

    #[test]
    fn finds_transaction_control_wherever_it_hides() {
        for sql in [
            "COMMIT",
            "  \t\u{b}\n commit work",
            ";;COMMIT",
            "/* a /* nested */ comment */ -- and a line\n END",
            "INSERT INTO t VALUES ('it''s; fine'); COMMIT; INSERT INTO t VALUES (2)",
            "SELECT E'\\';'; ROLLBACK",
            "SELECT $$; $$; ABORT",
            "SELECT $a$ $$; $a$; START TRANSACTION",
            "SELECT \"a;b\"; BEGIN",
            "ROLLBACK AND CHAIN",
            "PREPARE TRANSACTION 'x'",
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END; COMMIT",
            "CREATE TEMP TABLE t (atomic bool); COMMIT",
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 AS case; END; COMMIT",
            "CREATE FUNCTION f(begin atomic) RETURNS int LANGUAGE sql AS 'SELECT 1'; END",
        ] {
            assert!(Control::of(sql).keyword.is_some(), "{sql}");
        }
    }

    #[test]
    fn leaves_alone_what_stays_inside_the_transaction() {
        for sql in [
            "SAVEPOINT a",
            "ROLLBACK TO SAVEPOINT a",
            "rollback transaction to a",
            "RELEASE a",
            "INSERT INTO t VALUES ('; COMMIT')",
            "DO $$ BEGIN PERFORM 1; END $$",
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END",
            "PREPARE p AS SELECT 1",
            "SELECT 1 /* ; COMMIT */ -- ; COMMIT",
            "",
            ";",
            "SELECT 'unclosed",
            "$",
            "/* unclosed",
        ] {
            assert_eq!(Control::of(sql).keyword, None, "{sql}");
        }
    }

    #[test]
    fn savepoints_are_found_with_their_names() {
        use SavepointCommand::{Create, Release, RollBackTo};
        let text = "SAVEPOINT A; SELECT 1; ROLLBACK WORK TO SAVEPOINT \"B \"\"c\"; rollback to a; RELEASE a";
        let (a, b) = ("a".to_owned(), "B \"c".to_owned());
        let expected = [Create(a.clone()), RollBackTo(b), RollBackTo(a.clone()), Release(a)];
        assert_eq!(Control::of(text).savepoints, expected);
        assert_eq!(Control::of("SELECT 1"), Control::default());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_scan_panic(sql in "[-;'\"$/*a-zE \\\\\n\u{b}é]{0,60}") {
            let _ = Control::of(&sql);
        }
    }
}
