//! Settings of PostgreSQL as lines of a configuration file.

use std::collections::BTreeMap;

/// Returns the line that sets `key`.
pub(super) fn line(key: &str, value: &str) -> String {
    format!("{key} = {}", quoted(value))
}

/// Quotes a value, or the path of an `include`, for a configuration file.
pub(super) fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// Returns the settings in text that [`line`] has written.
pub(super) fn pairs(conf: &str) -> BTreeMap<String, String> {
    let pairs = conf.lines().filter_map(|line| line.split_once(" = "));
    let plain = |value: &str| {
        let inside = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
        inside.unwrap_or(value).replace("''", "'").replace("\\\\", "\\")
    };
    pairs.map(|(key, value)| (key.to_owned(), plain(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        for value in ["", "5MB", "it's", "'quoted'", "''", "a = b", "C:\\data\\", "\\'"] {
            let read = pairs(&line("key", value));
            assert_eq!(read.get("key").map(String::as_str), Some(value));
        }
        assert_eq!(pairs("# Not a setting.\nport = 5432\n"), pairs("port = '5432'"));
    }
}
