//! What kind of statement a text is: its fingerprint, its operation, its main table.
//!
//! One pass over the text, without an allocation: it is taken at every statement. Lists and chains (OR, WHEN, UNION)
//! fold as they are read. Each bracket has a running hash, and one of the item since the last comma, OR and so on; an
//! item that comes to the same as the one before it takes the bracket's hash back to where that one ended.

use std::{cmp::Ordering, fmt};

use super::subject::Subject;
use crate::sql::{Token, Tokens, is};

/// What stands for a kind of statement: the same for texts that differ in literals, in the length of lists
/// (`IN ($1, NULL)`, `VALUES (…), (DEFAULT, …)`) and of chains of the same (`a = $1 OR a = $2`, `WHEN … THEN …`,
/// `SELECT … UNION ALL SELECT …`), in case, white space and comments. The same in every process that runs this version
/// of wharf.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub(super) u64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a text says at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outline<'a> {
    pub(super) fingerprint: Fingerprint,
    /// Its command, in upper case; that of the main statement after `WITH`.
    pub(super) operation: &'static str,
    /// As written, quotes and schema included.
    pub(super) table: Option<&'a str>,
}

pub(super) fn outline(sql: &str) -> Outline<'_> {
    let mut scan = Scan::new(sql, None);
    scan.run();
    Outline {
        fingerprint: Fingerprint(scan.frames[0].hash),
        operation: scan.subject.operation,
        table: scan.subject.table(sql),
    }
}

/// The text with `?` for literals, `...` for what repeats itself in a list, and without comments; cut
/// off after some 2,000 bytes.
pub(crate) fn normalized(sql: &str) -> String {
    const MOST: usize = 2_000;
    let mut scan = Scan::new(sql, Some(String::with_capacity(sql.len().min(MOST))));
    scan.most = MOST;
    scan.run();
    scan.text.unwrap_or_default()
}

/// Brackets inside brackets that are told apart; deeper ones are read as they stand.
const DEEPEST: usize = 16;

/// What parts the items of a chain; what binds closest comes first.
const OR: usize = 0;
const COMMA: usize = 1;
const WHEN: usize = 2;
const UNION: usize = 3;
const CHAINS: usize = 4;

/// The items that a word or a comma parts.
#[derive(Clone, Copy)]
struct Chain {
    /// Of what came since it last parted something.
    item: u64,
    /// Of what was between the last two times.
    last: u64,
    /// What the items of the chains around it, and the whole, were before the last time.
    before: [u64; CHAINS + 1],
    /// How long the text was before the last time.
    mark: usize,
}

/// A bracket, or a CASE to its END.
#[derive(Clone, Copy)]
struct Frame {
    /// Of all that is in it so far.
    hash: u64,
    chains: [Chain; CHAINS],
    is_case: bool,
}

const START: u64 = 0x9e37_79b9_7f4a_7c15;
const PARTS: u64 = 1;
const LITERAL: u64 = 2;
const BRACKET: u64 = 3;
/// No item comes to this but by a chance of one in 2⁶⁴.
const NONE: u64 = 0;

const CHAIN: Chain = Chain { item: START, last: NONE, before: [START; CHAINS + 1], mark: 0 };
const EMPTY: Frame = Frame { hash: START, chains: [CHAIN; CHAINS], is_case: false };

impl Frame {
    /// Something was read that parts nothing.
    fn add(&mut self, value: u64) {
        self.hash = mix(self.hash, value);
        for chain in &mut self.chains {
            chain.item = mix(chain.item, value);
        }
    }

    /// Something was read that parts the items of a chain, and is a part of those of the chains around it.
    fn part(&mut self, at: usize, value: u64, mark: usize) {
        let mut before = [self.hash; CHAINS + 1];
        for (before, chain) in before.iter_mut().zip(&self.chains) {
            *before = chain.item;
        }
        let value = mix(PARTS, value);
        self.hash = mix(self.hash, value);
        for (place, chain) in self.chains.iter_mut().enumerate() {
            match place.cmp(&at) {
                Ordering::Less => chain.begin(),
                Ordering::Equal => {
                    *chain = Chain { item: START, last: chain.item, before, mark };
                }
                Ordering::Greater => chain.item = mix(chain.item, value),
            }
        }
    }

    /// Forgets the last item of a chain, which is as the one before it.
    fn fold(&mut self, at: usize) {
        let before = self.chains[at].before;
        self.hash = before[CHAINS];
        for (chain, before) in self.chains.iter_mut().zip(before).skip(at + 1) {
            chain.item = before;
        }
    }
}

impl Chain {
    /// What comes is no item beside what was.
    fn begin(&mut self) {
        (self.item, self.last) = (START, NONE);
    }
}

/// Whether an item of a chain is at its end where this is the next token.
fn ends(at: usize, next: Option<Token<'_>>) -> bool {
    const CLAUSES: [&str; 31] = [
        "OR",
        "WHERE",
        "GROUP",
        "HAVING",
        "WINDOW",
        "ORDER",
        "LIMIT",
        "OFFSET",
        "FETCH",
        "FOR",
        "UNION",
        "INTERSECT",
        "EXCEPT",
        "ON",
        "USING",
        "RETURNING",
        "FROM",
        "INTO",
        "AS",
        "SET",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "JOIN",
        "INNER",
        "LEFT",
        "RIGHT",
        "FULL",
        "CROSS",
        "NATURAL",
    ];
    const BEHIND_SELECTS: [&str; 8] =
        ["UNION", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR", "ON", "RETURNING"];
    let among = |words: &[&str]| match next {
        Some(Token::Word(next)) => words.iter().any(|word| is(next, word)),
        _ => false,
    };
    match (at, next) {
        (_, None | Some(Token::End)) => true,
        (WHEN, _) => among(&["WHEN", "ELSE", "END"]),
        (_, Some(Token::Close)) => true,
        (UNION, _) => among(&BEHIND_SELECTS),
        (_, Some(Token::Comma)) => true,
        _ => among(&CLAUSES),
    }
}

fn mix(hash: u64, value: u64) -> u64 {
    (hash.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95)
}

/// Upper and lower case give the same, and so does a quoted name that needed no quotes.
fn word_hash(word: &str) -> u64 {
    let mut chunks = word.as_bytes().chunks_exact(8);
    // Of the characters of a word only `_` changes with this bit and is no letter; it becomes one
    // that no word has.
    const LOWER: u64 = 0x2020_2020_2020_2020;
    let mut hash = mix(START, word.len() as u64);
    for chunk in &mut chunks {
        let chunk = chunk.try_into().map_or(0, u64::from_le_bytes);
        hash = mix(hash, chunk | LOWER);
    }
    let rest = chunks.remainder().iter().fold(0, |rest, byte| rest << 8 | u64::from(*byte));
    mix(hash, rest | LOWER)
}

fn quoted_hash(word: &str) -> u64 {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let hash = word_hash(word);
    match word.bytes().all(plain) {
        true => hash,
        false => word.bytes().fold(hash, |hash, byte| mix(hash, u64::from(byte))),
    }
}

struct Scan<'a> {
    sql: &'a str,
    tokens: Tokens<'a>,
    frames: [Frame; DEEPEST],
    depth: usize,
    too_deep: usize,
    subject: Subject<'a>,
    /// The last word was UNION.
    unites: bool,
    /// Written only where somebody wants to read it.
    text: Option<String>,
    /// How long the text was before the last token.
    mark: usize,
    most: usize,
}

impl<'a> Scan<'a> {
    fn new(sql: &'a str, text: Option<String>) -> Scan<'a> {
        Scan {
            sql,
            tokens: Tokens::new(sql),
            frames: [EMPTY; DEEPEST],
            depth: 0,
            too_deep: 0,
            subject: Subject::new(),
            unites: false,
            text,
            mark: 0,
            most: usize::MAX,
        }
    }

    fn run(&mut self) {
        let mut last = None;
        let mut last_end = 0;
        while let Some(token) = self.tokens.next() {
            let span = self.tokens.span();
            if self.is_sign(token, last) {
                // A sign before a number is part of the number.
                continue;
            }
            let named = self.subject.see(token, span, self.depth);
            let token = if self.is_item(token, last) { Token::Literal } else { token };
            if self.text.is_some() {
                self.write(token, named, span, last_end);
                if self.text.as_ref().is_some_and(|text| text.len() >= self.most) {
                    return self.cut_off();
                }
            }
            self.take(token, named);
            last = Some(token);
            last_end = span.1;
        }
        self.subject.end();
        while self.depth > 0 {
            self.close();
        }
    }

    fn is_sign(&self, token: Token<'_>, last: Option<Token<'_>>) -> bool {
        let operand =
            |last| !matches!(last, Token::Open | Token::Comma | Token::Other(_) | Token::End);
        matches!(token, Token::Other(b'-' | b'+'))
            && last.is_some_and(|last| !operand(last))
            && self.tokens.clone().next() == Some(Token::Literal)
    }

    /// Whether a word stands where other rows or lists have a value.
    fn is_item(&self, token: Token<'_>, last: Option<Token<'_>>) -> bool {
        let Token::Word(word) = token else { return false };
        let is_value = || ["NULL", "DEFAULT"].iter().any(|it| is(word, it));
        matches!(last, Some(Token::Open | Token::Comma))
            && is_value()
            && matches!(self.next(), Some(Token::Close | Token::Comma))
    }

    fn next(&self) -> Option<Token<'a>> {
        self.tokens.clone().next()
    }

    /// `named`: the token is a name that somebody made up on the way.
    fn take(&mut self, token: Token<'_>, named: bool) {
        let unites = std::mem::take(&mut self.unites);
        match token {
            _ if named => self.add(LITERAL),
            // They belong to the UNION.
            Token::Word(word) if unites && (is(word, "ALL") || is(word, "DISTINCT")) => {
                let frame = &mut self.frames[self.depth];
                frame.hash = mix(frame.hash, word_hash(word));
            }
            Token::Word(word) => self.word(word),
            Token::Quoted(word) => self.add(quoted_hash(word)),
            Token::Literal | Token::Parameter => self.add(LITERAL),
            Token::Open => self.open(false),
            Token::Close if self.too_deep > 0 => {
                self.too_deep -= 1;
                self.add(BRACKET);
            }
            Token::Close => {
                // A CASE without its END.
                while self.frames[self.depth].is_case {
                    self.close();
                }
                match self.depth {
                    0 => self.add(BRACKET),
                    _ => self.close(),
                }
            }
            Token::Comma => self.part(COMMA, u64::from(b',')),
            Token::End => {
                self.add(u64::from(b';'));
                self.frames[self.depth].chains.iter_mut().for_each(Chain::begin);
            }
            Token::Other(byte) => self.add(u64::from(byte)),
        }
    }

    fn word(&mut self, word: &str) {
        let one_of = |words: &[&str]| words.iter().any(|it| is(word, it));
        let hash = word_hash(word);
        match word.len() {
            2 if is(word, "OR") => return self.part(OR, hash),
            4 if is(word, "WHEN") => return self.part(WHEN, hash),
            5 if is(word, "UNION") => {
                self.unites = true;
                return self.part(UNION, hash);
            }
            4 if is(word, "CASE") => {
                self.add(hash);
                return self.open(true);
            }
            3 if is(word, "END") && self.frames[self.depth].is_case => return self.close(),
            // The first of a UNION may have something before it.
            6 if is(word, "SELECT") => self.frames[self.depth].chains[UNION].item = START,
            _ => {}
        }
        self.add(hash);
        let chains = &mut self.frames[self.depth].chains;
        if one_of(&["WHERE", "ON", "HAVING", "THEN", "ELSE"]) {
            chains[OR].begin();
        } else if is(word, "VALUES") {
            // Rows are items of their own.
            chains[COMMA].begin();
        } else if one_of(&["INTERSECT", "EXCEPT"]) {
            chains[UNION].begin();
        }
    }

    fn open(&mut self, is_case: bool) {
        if self.depth + 1 < DEEPEST {
            self.depth += 1;
            self.frames[self.depth] = Frame { is_case, ..EMPTY };
        } else if !is_case {
            self.too_deep += 1;
            self.add(BRACKET);
        }
    }

    fn close(&mut self) {
        let inside = self.frames[self.depth];
        self.depth -= 1;
        // A SELECT in brackets is one of a UNION as it is without.
        let chain = &mut self.frames[self.depth].chains[UNION];
        let is_whole = chain.item == START && !inside.is_case && inside.chains[UNION].last == NONE;
        let select = is_whole.then_some(inside.chains[UNION].item);
        self.frames[self.depth].add(mix(BRACKET, inside.hash));
        if let Some(select) = select {
            self.frames[self.depth].chains[UNION].item = select;
        }
        self.fold();
    }

    fn part(&mut self, at: usize, value: u64) {
        let mark = self.mark;
        self.frames[self.depth].part(at, value, mark);
    }

    fn add(&mut self, value: u64) {
        self.frames[self.depth].add(value);
        self.fold();
    }

    /// Forgets the items that are at their end and as the ones before them.
    fn fold(&mut self) {
        const SHOWN: [&str; CHAINS] = [" OR ...", ", ...", " WHEN ...", " UNION ..."];
        for (at, shown) in SHOWN.into_iter().enumerate() {
            let Chain { item, last, mark, .. } = self.frames[self.depth].chains[at];
            if item != last || !ends(at, self.next()) {
                continue;
            }
            self.frames[self.depth].fold(at);
            if let Some(text) = &mut self.text {
                text.truncate(mark);
                if !text.ends_with(shown) {
                    text.push_str(shown);
                }
            }
        }
    }

    fn write(&mut self, token: Token<'_>, named: bool, span: (usize, usize), last_end: usize) {
        let Some(text) = &mut self.text else { return };
        self.mark = text.len();
        if span.0 > last_end && !text.is_empty() {
            text.push(' ');
        }
        match token {
            Token::Literal => text.push('?'),
            _ if named => text.push('?'),
            // A line break in a name would begin a line of the log.
            Token::Quoted(_) => {
                for c in self.sql.get(span.0..span.1).unwrap_or_default().chars() {
                    match c.is_control() {
                        true => text.extend(c.escape_default()),
                        false => text.push(c),
                    }
                }
            }
            _ => text.push_str(self.sql.get(span.0..span.1).unwrap_or_default()),
        }
    }

    fn cut_off(&mut self) {
        let Some(text) = &mut self.text else { return };
        while text.len() > self.most || !text.is_char_boundary(text.len()) {
            text.pop();
        }
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(texts: &[&str]) {
        let first = outline(texts[0]).fingerprint;
        for text in texts {
            assert_eq!(outline(text).fingerprint, first, "{text}\nis not\n{}", texts[0]);
        }
    }

    fn distinct(texts: &[&str]) {
        let mut seen = std::collections::HashMap::new();
        for text in texts {
            if let Some(other) = seen.insert(outline(text).fingerprint, text) {
                panic!("the same: {text}\nand: {other}");
            }
        }
    }

    #[test]
    fn literals_case_space_and_comments_make_no_difference() {
        same(&[
            "SELECT a FROM t WHERE b = $1",
            "select  A from\n\tT where B=$2 ",
            "SELECT a FROM t WHERE b = 'x'",
            "SELECT a FROM t WHERE b = -17.5e3",
            "SELECT /* who */ \"a\" FROM \"t\" WHERE b = $$x$$ -- done",
        ]);
        same(&["SELECT a - 1", "SELECT a - 2"]);
    }

    #[test]
    fn lists_of_any_length_are_one() {
        same(&[
            "SELECT a FROM t WHERE b IN ($1)",
            "SELECT a FROM t WHERE b IN ($1, $2)",
            "SELECT a FROM t WHERE b IN (1, -2, 3, 4)",
        ]);
        same(&[
            "INSERT INTO t (a, b) VALUES ($1, $2) RETURNING id",
            "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4) RETURNING id",
            "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4), ($5, $6) RETURNING id",
        ]);
        same(&[
            "INSERT INTO t VALUES ($1, CAST($2 AS \"mood\"))",
            "INSERT INTO t VALUES ($1, CAST($2 AS \"mood\")), ($3, CAST($4 AS \"mood\"))",
        ]);
        same(&[
            "SELECT x WHERE (a, b) IN (($1, $2))",
            "SELECT x WHERE (a, b) IN (($1, $2), ($3, $4))",
        ]);
        same(&["SELECT ARRAY[1::int]", "SELECT ARRAY[1::int, 2::int, 3::int]"]);
    }

    #[test]
    fn chains_of_any_length_are_one() {
        same(&[
            "SELECT x FROM t WHERE a = $1 ORDER BY x",
            "SELECT x FROM t WHERE a = $1 OR a = $2 ORDER BY x",
            "SELECT x FROM t WHERE a = 1 OR a = 2 OR a = 3 ORDER BY x",
        ]);
        same(&[
            "SELECT x FROM t WHERE b AND (a = $1 AND c = $2 OR a = $3 AND c = $4)",
            "SELECT x FROM t WHERE b AND (a = $1 AND c = $2 OR a = $3 AND c = $4 OR a = $5 AND c = $6)",
        ]);
        same(&[
            "SELECT x FROM t JOIN u ON (t.a = $1) OR (t.a = $2) WHERE x IN ($1) OR x IN ($1, $2)",
            "SELECT x FROM t JOIN u ON (t.a = $1) OR (t.a = $2) OR (t.a = $3) WHERE x IN ($1)",
        ]);
        same(&[
            "UPDATE t SET a = CASE WHEN id = $1 THEN $2 ELSE a END, b = $3 WHERE id IN ($4)",
            "UPDATE t SET a = CASE WHEN id = $1 THEN $2 WHEN id = $3 THEN $4 ELSE a END, b = $5 WHERE id IN ($6, $7)",
        ]);
        same(&[
            "SELECT CASE id WHEN $1 THEN $2 END FROM t",
            "SELECT CASE id WHEN $1 THEN $2 WHEN $3 THEN $4 WHEN 5 THEN 'x' END FROM t",
        ]);
        same(&[
            "SELECT a, $1 FROM t WHERE b = $2",
            "SELECT a, $1 FROM t WHERE b = $2 UNION ALL SELECT a, $3 FROM t WHERE b = $4",
            "SELECT a, $1 FROM t WHERE b = $2 UNION ALL SELECT a, $3 FROM t WHERE b = $4 UNION ALL \
             SELECT a, $5 FROM t WHERE b = $6",
            "SELECT a, $1 FROM t WHERE b = $2 UNION ALL (SELECT a, $3 FROM t WHERE b = $4)",
        ]);
        same(&[
            "INSERT INTO t SELECT $1, $2 RETURNING id",
            "INSERT INTO t SELECT $1, $2 UNION ALL SELECT $3, $4 RETURNING id",
        ]);
        distinct(&[
            "SELECT x FROM t WHERE a = $1",
            "SELECT x FROM t WHERE a = $1 OR b = $2",
            "SELECT x FROM t WHERE a = $1 OR a > $2",
            "SELECT x FROM t WHERE a = $1 OR a = $2 AND b",
            "SELECT x FROM t WHERE a = $1 AND a = $2",
            "SELECT x FROM t WHERE a = $1 UNION SELECT x FROM t WHERE a = $2 AND b",
            "SELECT x FROM t WHERE a = $1 UNION SELECT x FROM u WHERE a = $2",
            "SELECT x FROM t WHERE a = $1 EXCEPT SELECT x FROM t WHERE a = $2",
        ]);
        distinct(&[
            "SELECT CASE WHEN a THEN $1 WHEN b THEN $2 END",
            "SELECT CASE WHEN a THEN $1 END",
            "SELECT CASE WHEN a THEN $1 ELSE $2 END",
        ]);
        distinct(&["SELECT a, a + b", "SELECT a + b", "SELECT a, a"]);
    }

    #[test]
    fn a_value_that_is_a_word_is_a_value_in_a_list() {
        same(&[
            "SELECT a FROM t WHERE b IN ($1, $2)",
            "SELECT a FROM t WHERE b IN ($1, NULL, 3)",
            "SELECT a FROM t WHERE b IN (null)",
        ]);
        same(&[
            "INSERT INTO t (a, b) VALUES ($1, $2)",
            "INSERT INTO t (a, b) VALUES (DEFAULT, $1), ($2, NULL), ($3, DEFAULT)",
        ]);
        distinct(&["SELECT a FROM t WHERE b IS NULL", "SELECT a FROM t WHERE b IS NOT NULL"]);
        assert_eq!(normalized("SELECT a WHERE b IS NULL"), "SELECT a WHERE b IS NULL");
    }

    #[test]
    fn the_text_shows_the_first_of_a_chain() {
        for (sql, shown) in [
            (
                "SELECT 1 WHERE a = 1 OR a = 2 OR a = 3 LIMIT 2",
                "SELECT ? WHERE a = ? OR ... LIMIT ?",
            ),
            (
                "SELECT CASE WHEN a = 1 THEN 2 WHEN a = 3 THEN 4 ELSE 5 END",
                "SELECT CASE WHEN a = ? THEN ? WHEN ... ELSE ? END",
            ),
            (
                "SELECT a FROM t UNION ALL SELECT a FROM t UNION ALL SELECT a FROM t ORDER BY 1",
                "SELECT a FROM t UNION ... ORDER BY ?",
            ),
            ("SELECT a WHERE b IN (NULL, 1)", "SELECT a WHERE b IN (?, ...)"),
        ] {
            assert_eq!(normalized(sql), shown);
        }
    }

    #[test]
    fn what_differs_is_told_apart() {
        distinct(&[
            "SELECT a FROM t WHERE b = $1",
            "SELECT a FROM t WHERE b > $1",
            "SELECT a FROM t WHERE b = $1 LIMIT 1",
            "SELECT a FROM u WHERE b = $1",
            "SELECT c FROM t WHERE b = $1",
            "SELECT a, c FROM t WHERE b = $1",
            "SELECT (a) FROM t WHERE b = $1",
            "DELETE FROM t WHERE b = $1",
            "SELECT a FROM \"T\" WHERE b = $1",
            "SELECT a FROM t WHERE b = $1; SELECT 1",
            "SELECT f(a, b)",
            "SELECT f(b, a)",
            "SELECT f((a), b)",
            "SELECT f(a), b",
        ]);
        distinct(&["SELECT a_b", "SELECT ab", "SELECT a$b", "SELECT abcdefgh", "SELECT abcdefg_"]);
    }

    #[test]
    fn the_values_of_settings_are_values_quoted_or_not() {
        for (sql, shown) in [
            ("SET app.tenant = acme", "SET app.tenant = ?"),
            ("SET LOCAL app.tenant TO acme, \"Other\"", "SET LOCAL app.tenant TO ?, ?"),
            ("SET TIME ZONE secret", "SET TIME ZONE ?"),
            ("SET ROLE secret", "SET ROLE ?"),
            ("SET SESSION AUTHORIZATION secret", "SET SESSION AUTHORIZATION ?"),
            (
                "BEGIN; SET LOCAL app.tenant = acme; SELECT 1",
                "BEGIN; SET LOCAL app.tenant = ?; SELECT ?",
            ),
            ("ALTER ROLE app SET app.key = secret", "ALTER ROLE app SET app.key = ?"),
            ("ALTER SYSTEM SET app.key TO secret, \"More\"", "ALTER SYSTEM SET app.key TO ?, ?"),
            (
                "SELECT 1; ALTER DATABASE shop SET app.key TO secret",
                "SELECT ?; ALTER DATABASE shop SET app.key TO ?",
            ),
            ("ALTER TABLE t ALTER a SET NOT NULL", "ALTER TABLE t ALTER a SET NOT NULL"),
            ("UPDATE t SET a = b", "UPDATE t SET a = b"),
        ] {
            assert_eq!(normalized(sql), shown);
        }
        same(&["SET app.tenant = acme", "SET app.tenant = 'other'"]);
    }

    #[test]
    fn a_name_forges_no_line_of_the_log() {
        let sql = "SELECT 1 AS \"a\n2026-11-26 ERROR forged\u{1b}[31m\"";
        assert_eq!(normalized(sql), "SELECT ? AS \"a\\n2026-11-26 ERROR forged\\u{1b}[31m\"");
    }

    #[test]
    fn savepoints_are_one_whatever_their_names() {
        same(&["SAVEPOINT wharf_1", "SAVEPOINT wharf_2", "savepoint x"]);
        same(&["ROLLBACK TO SAVEPOINT wharf_1", "ROLLBACK TO SAVEPOINT wharf_2"]);
        distinct(&["ROLLBACK", "ROLLBACK TO SAVEPOINT a", "RELEASE SAVEPOINT a", "SAVEPOINT a"]);
        assert_eq!(normalized("RELEASE SAVEPOINT wharf_7"), "RELEASE SAVEPOINT ?");
    }

    #[test]
    fn cursors_are_one_whatever_their_names() {
        same(&[
            "DECLARE wharf_1 NO SCROLL CURSOR WITHOUT HOLD FOR SELECT a FROM t",
            "DECLARE wharf_2 NO SCROLL CURSOR WITHOUT HOLD FOR SELECT a FROM t",
        ]);
        same(&["FETCH FORWARD 100 FROM wharf_1", "FETCH FORWARD 5 FROM wharf_2"]);
        same(&["CLOSE wharf_1", "CLOSE \"wharf_2\""]);
        distinct(&["DECLARE a CURSOR FOR SELECT b FROM t", "DECLARE a CURSOR FOR SELECT c FROM t"]);
        distinct(&["FETCH FORWARD 1 FROM a", "FETCH BACKWARD 1 FROM a", "CLOSE a", "CLOSE ALL"]);
    }

    #[test]
    fn the_text_shows_the_first_of_a_list() {
        assert_eq!(
            normalized("SELECT \"a\",  b FROM t -- x\n WHERE b IN ($1, $2, $3) AND c = 'x'"),
            "SELECT \"a\", b FROM t WHERE b IN ($1, ...) AND c = ?"
        );
        assert_eq!(
            normalized("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c') RETURNING id"),
            "INSERT INTO t VALUES (?, ...), ... RETURNING id"
        );
        let columns: Vec<_> = (0..3_000).map(|n| format!("aé{n}")).collect();
        let long = format!("SELECT {}", columns.join(", "));
        let text = normalized(&long);
        assert!(text.len() <= 2_010 && text.ends_with('…'), "{}", text.len());
    }

    /// A value as a literal, in each form that PostgreSQL has for it.
    fn forms(value: &str) -> [String; 6] {
        let doubled = value.replace('\'', "''");
        let escaped = value.replace('\\', "\\\\").replace('\'', "\\'");
        let points: String = value.chars().map(|c| format!("\\+{:06x}", u32::from(c))).collect();
        [
            crate::sql::quote_literal(value),
            format!("'{doubled}'"),
            format!("E'{escaped}'"),
            format!("U&'{points}'"),
            format!("$of_{0}${value}$of_{0}$", value.len()),
            format!("N'{doubled}'"),
        ]
    }

    proptest::proptest! {
        #[test]
        fn no_value_of_any_form_is_in_the_text(value in "[^\u{0}]{0,30}", wrapped in "['\"$\\\\;/*\n-]{0,3}") {
            let value = format!("{wrapped}{value}{wrapped}");
            for literal in forms(&value) {
                let sql = format!("SELECT a FROM t WHERE b = {literal} AND c = f(1)");
                // The prefix of a literal (U&, N) stays, because it is no value.
                let shown = normalized(&sql).replace("U&?", "?").replace("N?", "?");
                proptest::prop_assert_eq!(shown, "SELECT a FROM t WHERE b = ? AND c = f(?)", "{}", sql);
                let plan = crate::monitor::plan::without(&format!("{literal}::text"), |_| true);
                proptest::prop_assert_eq!(plan.replace("U&?", "?").replace("N?", "?"), "?::text", "{}", literal);
            }
        }

        #[test]
        fn no_text_makes_the_scan_panic(sql in "[-;'\"$/*a-zE0-9. \\\\\n\u{b}é(),]{0,80}") {
            let _ = (outline(&sql), normalized(&sql));
        }

        #[test]
        fn a_list_of_any_length_gives_the_same(n in 1usize..200) {
            let list = vec!["$1"; n].join(", ");
            let rows = vec![format!("({list}, 'x')"); n].join(",");
            let sql = format!("INSERT INTO t VALUES {rows} ON CONFLICT DO NOTHING");
            let one = outline("INSERT INTO t VALUES ($1) ON CONFLICT DO NOTHING");
            assert_eq!(outline(&sql), one);
        }
    }
}
