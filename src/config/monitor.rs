//! The section `monitor:`, at the top for every database and in an entry for that one.

use std::time::Duration;

use serde::Deserialize;

use super::{
    ConfigError, fields,
    read::{self, Count, Flag, NPlusOneName, Seconds, Span},
    tree::{self, Value},
};

/// What is done about statements that run in a loop: the same again and again in one session or one
/// [`scope`](crate::scope).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NPlusOne {
    /// Nothing.
    Off,
    /// When the session or the scope ends, the log says once how often the statement ran.
    #[default]
    Warn,
    /// The statement that reaches the threshold, and each after it, fails with
    /// [`Error::NPlusOne`](crate::Error::NPlusOne), unsent: for tests.
    Error,
}

/// What is noticed of a database's statements: the section `monitor:` of the file, in which the
/// databases share their values, and of an entry, whose values come before those.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MonitorConfig {
    /// Whether statements are looked at at all: metrics, log, top statements. Default true.
    pub enabled: bool,
    /// A statement that takes longer is logged at WARN and counted. Default 500 ms; `None` (0 in the
    /// file) never.
    pub slow_statement_threshold: Option<Duration>,
    /// The log of slow statements, and their plans, show the values that were bound. They may be
    /// secret, so the default is false.
    pub log_bind_values: bool,
    /// A slow SELECT is explained in the background, a few a minute at most. Default false.
    pub explain: bool,
    /// How many kinds of statements figures are kept of, at least 1 and at most 100 000. Default 500,
    /// each some 4 kB.
    pub top_statements: u32,
    /// What is done about the same statement again and again. Default `warn`.
    pub n_plus_one: NPlusOne,
    /// How often in one session or scope that is, at least 2. Default 10.
    pub n_plus_one_threshold: u32,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            slow_statement_threshold: Some(Duration::from_millis(500)),
            log_bind_values: false,
            explain: false,
            top_statements: 500,
            n_plus_one: NPlusOne::Warn,
            n_plus_one_threshold: 10,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Section {
    enabled: Option<Flag>,
    slow_statement_threshold: Option<Seconds>,
    log_bind_values: Option<Flag>,
    explain: Option<Flag>,
    top_statements: Option<Count>,
    n_plus_one: Option<NPlusOneName>,
    n_plus_one_threshold: Option<Count>,
}

/// Checks the section at the top, with the defaults for what it does not say.
pub(super) fn check(tree: &Value) -> Result<MonitorConfig, ConfigError> {
    let path = ["monitor".to_owned()];
    read::known_keys(tree, &path, fields::MONITOR)?;
    complete(tree, &path, MonitorConfig::default())
}

/// Checks the section of the entry at `entry`, with `above` for what it does not say.
pub(super) fn check_entry(
    tree: &Value,
    entry: &[String],
    above: MonitorConfig,
) -> Result<MonitorConfig, ConfigError> {
    complete(tree, &[entry, &["monitor".to_owned()]].concat(), above)
}

fn complete(
    tree: &Value,
    path: &[String],
    above: MonitorConfig,
) -> Result<MonitorConfig, ConfigError> {
    if path.iter().try_fold(tree, |value, key| tree::child(value, key)).is_none() {
        return Ok(above);
    }
    let section: Section = read::section(tree, path)?;
    let invalid = |key: &str, reason: &str| {
        let path = [path, &[key.to_owned()]].concat();
        let at = tree::origin_at(tree, &path);
        Err(ConfigError::Invalid { at, path: path.join("."), reason: reason.to_owned() })
    };
    let flag = |given: Option<Flag>, above| given.map_or(above, |flag| flag.0);
    let count = |given: Option<Count>, above| given.map_or(above, |count| count.0);
    let slow_statement_threshold = match section.slow_statement_threshold.map(|given| given.0) {
        None => above.slow_statement_threshold,
        Some(Span::Of(Duration::ZERO)) => None,
        Some(Span::Of(threshold)) => Some(threshold),
        Some(Span::Never) => {
            return invalid("slow_statement_threshold", "is negative; 0 switches it off");
        }
    };
    let checked = MonitorConfig {
        enabled: flag(section.enabled, above.enabled),
        slow_statement_threshold,
        log_bind_values: flag(section.log_bind_values, above.log_bind_values),
        explain: flag(section.explain, above.explain),
        top_statements: count(section.top_statements, above.top_statements),
        n_plus_one: section.n_plus_one.map_or(above.n_plus_one, |given| given.0),
        n_plus_one_threshold: count(section.n_plus_one_threshold, above.n_plus_one_threshold),
    };
    if !(1..=100_000).contains(&checked.top_statements) {
        let reason = "is not between 1 and 100000; `enabled: false` switches everything off";
        return invalid("top_statements", reason);
    }
    if checked.n_plus_one_threshold < 2 {
        let reason = "is less than 2, which is when something is repeated; `n_plus_one: off` \
            switches it off";
        return invalid("n_plus_one_threshold", reason);
    }
    Ok(checked)
}
