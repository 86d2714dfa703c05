//! JSON that is written piece by piece, because serde_json's `Value` keeps neither all digits nor the order of keys
//! without features that would change how the whole build reads JSON.

use serde::de::IgnoredAny;
use serde_json::Value;

/// Returns a text as a JSON string.
pub(crate) fn string(text: &str) -> String {
    Value::from(text).to_string()
}

/// Whether a text is valid JSON.
pub(crate) fn is_valid(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Whether a text is a JSON number: `-1.50e+3`, but neither `01` nor `.5`.
pub(crate) fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && text.ends_with(|c: char| c.is_ascii_digit())
        && is_valid(text)
}

/// Joins keys and values, which are JSON already, to an object.
pub(crate) fn object<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs = pairs.into_iter().map(|(key, value)| format!("{}:{value}", string(key)));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}

/// Joins values, which are JSON already, to an array.
pub(crate) fn array(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::is_number;

    #[test]
    fn a_number_is_what_json_takes_for_one() {
        for text in ["0", "-1.50e+3", "12345678901234567890.10", "1e400", "-0"] {
            assert!(is_number(text), "{text}");
        }
        for text in ["", "-", "01", ".5", "+5", "1_000", "0x1F", "1.", "1e", "NaN", "1 ", "1,2"] {
            assert!(!is_number(text), "{text}");
        }
    }
}
