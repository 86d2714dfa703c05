//! How a running server differs from what the file asks for now.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::holds_secret;

/// One setting of a running server that the file gives another value now. It takes effect with the
/// next start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Its name: a key of `pgserver:`, or a setting of PostgreSQL's.
    pub setting: String,
    /// What the server was started with; `None` if with nothing, `***` if it is secret.
    pub running: Option<String>,
    /// What the file asks for; likewise.
    pub wanted: Option<String>,
}

impl Difference {
    pub(crate) fn between(
        running: &BTreeMap<String, String>,
        wanted: &BTreeMap<String, String>,
    ) -> Vec<Difference> {
        let names: std::collections::BTreeSet<&String> =
            running.keys().chain(wanted.keys()).collect();
        let differ = names.into_iter().filter(|name| running.get(*name) != wanted.get(*name));
        let shown = |of: &BTreeMap<String, String>, name: &String| {
            let value = of.get(name)?;
            Some(if holds_secret(name) { "***".to_owned() } else { value.clone() })
        };
        differ
            .map(|name| Difference {
                setting: name.clone(),
                running: shown(running, name),
                wanted: shown(wanted, name),
            })
            .collect()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        write!(f, "{} ({} -> {})", self.setting, value(&self.running), value(&self.wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_what_changed_came_and_went_and_keeps_secrets() {
        let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let running = of(&[("a", "1"), ("gone", "x"), ("same", "s"), ("primary_conninfo", "p1")]);
        let wanted = of(&[("a", "2"), ("new", "y"), ("same", "s"), ("primary_conninfo", "p2")]);
        let shown: Vec<String> =
            Difference::between(&running, &wanted).iter().map(Difference::to_string).collect();
        let expected =
            ["a (1 -> 2)", "gone (x -> -)", "new (- -> y)", "primary_conninfo (*** -> ***)"];
        assert_eq!(shown, expected);
    }
}
