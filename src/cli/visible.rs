//! Text from a database, a server or a file as a terminal may have it.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns a text in which nothing is left that a terminal obeys or that hides what is written: control characters but for
/// line breaks and tabs, and the marks by which Unicode changes the direction of text or ends a line. They are shown as
/// escapes.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut visible = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        // Writing to a String cannot fail.
        let _ = match c {
            c if !is_hidden(c) => write!(visible, "{c}"),
            c if u32::from(c) < 0x100 => write!(visible, "\\x{:02X}", u32::from(c)),
            c => write!(visible, "\\u{{{:X}}}", u32::from(c)),
        };
    }
    Cow::Owned(visible)
}

/// Returns the same in one line: a name.
pub(super) fn visible_line(text: &str) -> Cow<'_, str> {
    match visible(text) {
        text if !text.contains(['\n', '\t']) => text,
        text => Cow::Owned(text.replace('\n', "\\x0A").replace('\t', "\\x09")),
    }
}

fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        // Arabic letter mark, marks and embeddings, isolates; line and paragraph separators; the byte order mark; tags.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            true
        }
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown() {
        for (text, shown) in [
            ("plain é 👩‍🚀\n\tx", "plain é 👩‍🚀\n\tx"),
            ("\u{1b}]0;title\u{7}", "\\x1B]0;title\\x07"),
            ("a\rb\u{8}\u{7f}\0", "a\\x0Db\\x08\\x7F\\x00"),
            ("\u{9b}31m\u{85}", "\\x9B31m\\x85"),
            (
                "\u{202e}gpj.exe\u{2066}\u{200f}\u{61c}",
                "\\u{202E}gpj.exe\\u{2066}\\u{200F}\\u{61C}",
            ),
            ("a\u{2028}b\u{feff}", "a\\u{2028}b\\u{FEFF}"),
        ] {
            assert_eq!(visible(text), shown);
        }
        assert_eq!(visible_line("a\nb\u{1b}"), "a\\x0Ab\\x1B");
    }
}
