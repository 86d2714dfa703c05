//! How the server would go about a statement.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use super::{Fingerprint, table::Entry};
use crate::{
    sql::{Token, Tokens},
    view::View,
};

/// In this time so many plans are asked for, of one kind of statement one.
const WINDOW: Duration = Duration::from_secs(60);
const MOST: usize = 3;

/// How the server would go about a statement that was slow: EXPLAIN, with the values of that statement,
/// without running it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// What EXPLAIN said. Values in conditions are `?` unless `log_bind_values` is on.
    pub text: String,
    /// How long that statement took.
    pub elapsed: Duration,
    /// When it was asked for.
    pub explained_at: SystemTime,
}

/// A statement that is to be explained.
pub(crate) struct ToExplain {
    pub(crate) statement: sea_orm::Statement,
    /// The view in which it ran, if it ran in one.
    pub(crate) view: Option<Arc<View>>,
    entry: Arc<Entry>,
    elapsed: Duration,
}

impl ToExplain {
    /// Keeps its plan, and logs it.
    pub(crate) fn explained(self, database: &str, lines: &[String], with_values: bool) {
        let whole = lines.join("\n");
        let text = if with_values { whole } else { without_values(&whole) };
        let fingerprint = self.entry.digest().fingerprint();
        tracing::info!(%database, %fingerprint, "the plan of a slow statement:\n{text}");
        let plan = Plan { text, elapsed: self.elapsed, explained_at: SystemTime::now() };
        *self.entry.plan() = Some(Arc::new(plan));
    }
}

/// A plan without the values in its conditions. Texts are taken out of the whole, because one with a line
/// break goes on in the next line; numbers out of the lines of conditions, because costs and counts are no
/// values: what holds values is in brackets behind a colon.
fn without_values(plan: &str) -> String {
    let without_texts = without(plan, |literal| !literal.starts_with(|c: char| c.is_ascii_digit()));
    let lines = without_texts.split('\n').map(|line| match line.split_once(": ") {
        Some((label, condition)) if !label.contains("(cost=") && condition.contains('(') => {
            format!("{label}: {}", without(condition, |_| true))
        }
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The text with `?` for the literals that are `hidden`.
pub(super) fn without(text: &str, hidden: impl Fn(&str) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut tokens = Tokens::new(text);
    let mut last = 0;
    while let Some(token) = tokens.next() {
        let (start, end) = tokens.span();
        shown.push_str(text.get(last..start).unwrap_or_default());
        match (token, text.get(start..end).unwrap_or_default()) {
            (Token::Literal, literal) if hidden(literal) => shown.push('?'),
            (_, token) => shown.push_str(token),
        }
        last = end;
    }
    shown.push_str(text.get(last..).unwrap_or_default());
    shown
}

/// A statement that has ended, for whoever wants to explain it.
#[derive(Clone, Copy)]
pub(super) struct Explainable<'a> {
    /// Writes it with its values.
    pub(super) write: &'a dyn Fn() -> Option<sea_orm::Statement>,
    pub(super) view: Option<&'a Arc<View>>,
}

/// Has slow statements explained, a few a minute at most.
pub(crate) struct Explainer {
    explain: Box<dyn Fn(ToExplain) + Send + Sync>,
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    began: Option<Instant>,
    asked: Vec<Fingerprint>,
}

impl Explainer {
    /// `explain` returns at once, and sees to it later.
    pub(crate) fn new(explain: impl Fn(ToExplain) + Send + Sync + 'static) -> Explainer {
        Explainer { explain: Box::new(explain), window: Mutex::default() }
    }

    pub(super) fn explain(
        &self,
        entry: &Arc<Entry>,
        elapsed: Duration,
        explainable: Explainable<'_>,
    ) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.is_none_or(|began| began.elapsed() >= WINDOW) {
            *window = Window { began: Some(Instant::now()), asked: Vec::new() };
        }
        let fingerprint = entry.digest().fingerprint();
        if window.asked.len() < MOST
            && !window.asked.contains(&fingerprint)
            && let Some(statement) = (explainable.write)()
        {
            window.asked.push(fingerprint);
            drop(window);
            let view = explainable.view.cloned();
            (self.explain)(ToExplain { statement, view, entry: Arc::clone(entry), elapsed });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_out_of_conditions_only() {
        for (line, shown) in [
            ("Index Scan using a_pkey on a  (cost=0.29..8.30 rows=1 width=4)", None),
            ("  Workers Planned: 2", None),
            ("  Index Cond: (id = 7)", Some("  Index Cond: (id = ?)")),
            (
                "  Filter: ((email = 'it''s'::text) AND (n > '-5'::integer))",
                Some("  Filter: ((email = ?::text) AND (n > ?::integer))"),
            ),
            ("  Order By: (v <-> '[1,2]'::vector)", Some("  Order By: (v <-> ?::vector)")),
        ] {
            assert_eq!(without_values(line), shown.unwrap_or(line));
        }
    }

    #[test]
    fn a_text_with_line_breaks_is_taken_out_whole() {
        let plan = "Seq Scan on a  (cost=0.00..35.50 rows=2550 width=4)\n  Filter: (b = 'one\n  secret: (2)\nit''s'::text)\n  \
                    Rows Removed by Filter: 3";
        let shown = "Seq Scan on a  (cost=0.00..35.50 rows=2550 width=4)\n  Filter: (b = ?::text)\n  \
                     Rows Removed by Filter: 3";
        assert_eq!(without_values(plan), shown);
    }

    proptest::proptest! {
        #[test]
        fn no_value_of_any_form_is_in_a_plan(value in ".{0,20}\n?.{0,20}") {
            // As the server writes it.
            let quoted = crate::sql::quote_literal(&format!("<{value}>"));
            let plan = format!("Seq Scan on a  (cost=0.00..1.00 rows=1 width=4)\n  Filter: (b = {quoted}::text)");
            proptest::prop_assert!(without_values(&plan).ends_with("(b = ?::text)"), "{}", without_values(&plan));
        }
    }
}
