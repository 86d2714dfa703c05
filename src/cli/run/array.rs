//! PostgreSQL's text of an array, as JSON.

use crate::json;

/// `{1,NULL,"a b"}`, with each element read by `element`; `None` if it is no array.
pub(super) fn json(text: &str, element: &dyn Fn(&str) -> String) -> Option<String> {
    // `[0:1]={…}`: bounds other than the usual ones.
    let text = match text.starts_with('[') {
        true => text.split_once('=')?.1,
        false => text,
    };
    let mut rest = text;
    let value = list(&mut rest, element)?;
    rest.is_empty().then_some(value)
}

fn list(rest: &mut &str, element: &dyn Fn(&str) -> String) -> Option<String> {
    *rest = rest.strip_prefix('{')?;
    let mut items = Vec::new();
    if let Some(after) = rest.strip_prefix('}') {
        *rest = after;
        return Some(json::array(items));
    }
    loop {
        items.push(match rest.chars().next()? {
            '{' => list(rest, element)?,
            '"' => element(&quoted(rest)?),
            _ => {
                let end = rest.find([',', '}'])?;
                let (text, after) = rest.split_at(end);
                *rest = after;
                match text {
                    "NULL" => "null".to_owned(),
                    text => element(text),
                }
            }
        });
        match rest.chars().next()? {
            ',' => *rest = rest.get(1..)?,
            '}' => {
                *rest = rest.get(1..)?;
                return Some(json::array(items));
            }
            _ => return None,
        }
    }
}

fn quoted(rest: &mut &str) -> Option<String> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => text.push(chars.next()?.1),
            '"' => {
                *rest = rest.get(at + 1..)?;
                return Some(text);
            }
            c => text.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn arrays_keep_their_nesting_their_nulls_and_their_quotes() {
        let text = |text: &str| super::json(text, &|it| json!(it).to_string());
        assert_eq!(text("{}"), Some(json!([]).to_string()));
        assert_eq!(text("{a,NULL,\"NULL\"}"), Some(json!(["a", null, "NULL"]).to_string()));
        assert_eq!(text(r#"{"a \"b\" \\","{,}"}"#), Some(json!(["a \"b\" \\", "{,}"]).to_string()));
        assert_eq!(text("{{a},{b}}"), Some(json!([["a"], ["b"]]).to_string()));
        assert_eq!(text("[0:1]={a,b}"), Some(json!(["a", "b"]).to_string()));
        for broken in ["", "a", "{a", "{a}b", "{\"a}"] {
            assert_eq!(text(broken), None, "{broken}");
        }
    }
}
