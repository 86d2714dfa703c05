//! The comments by which a migration allows what is unsafe.

use crate::sql::Tokens;

const ALLOW: &str = "wharf:allow";

/// Whether a statement's comments allow it to break a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    No,
    WithoutReason,
    Yes,
}

/// Looks for `wharf:allow RULE: REASON` in the comments before and within a statement.
pub(super) fn allowed(statement: &str, rule: &str) -> Allowed {
    let mut allowed = Allowed::No;
    for line in comments(statement).iter().flat_map(|comment| comment.lines()) {
        let Some((_, said)) = line.split_once(ALLOW) else { continue };
        let (named, reason) = said.split_once(':').unwrap_or((said, ""));
        if text(named) != rule {
            continue;
        }
        match text(reason).is_empty() {
            true => allowed = Allowed::WithoutReason,
            false => return Allowed::Yes,
        }
    }
    allowed
}

/// Without the end of the comment.
fn text(comment: &str) -> &str {
    comment.trim().trim_end_matches("*/").trim()
}

/// Returns what stands between the tokens.
fn comments(statement: &str) -> Vec<&str> {
    let mut tokens = Tokens::new(statement);
    let (mut comments, mut end) = (Vec::new(), 0);
    while tokens.next().is_some() {
        let (start, next) = tokens.span();
        comments.extend(statement.get(end..start));
        end = next;
    }
    comments.extend(statement.get(end..));
    comments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_allows_one_rule_if_it_gives_a_reason() {
        let (rule, sql) = ("type-change", "ALTER TABLE t ALTER a TYPE bigint");
        for (statement, expected) in [
            (format!("-- wharf:allow type-change: it has 20 rows\n{sql}"), Allowed::Yes),
            (format!("/* wharf:allow type-change: it is new */ {sql}"), Allowed::Yes),
            (format!("{sql} -- wharf:allow type-change: as agreed"), Allowed::Yes),
            (
                format!("-- wharf:allow drop: unused\n-- wharf:allow type-change: new\n{sql}"),
                Allowed::Yes,
            ),
            (format!("-- wharf:allow type-change\n{sql}"), Allowed::WithoutReason),
            (format!("/* wharf:allow type-change: */ {sql}"), Allowed::WithoutReason),
            (format!("-- wharf:allow drop: unused\n{sql}"), Allowed::No),
            ("SELECT '-- wharf:allow type-change: no'".to_owned(), Allowed::No),
            (sql.to_owned(), Allowed::No),
        ] {
            assert_eq!(allowed(&statement, rule), expected, "{statement}");
        }
    }
}
