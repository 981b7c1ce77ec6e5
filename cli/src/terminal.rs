//! What a terminal can show. Much of what is printed comes from elsewhere: names, reasons, lines of logs. What a terminal would act on rather than show is
//! written as JSON writes it, `\u001b`, so that nobody's text clears the screen, forges a line or turns another one round. A file or
//! a pipe gets text as it is, but for colours.

use std::borrow::Cow;
use std::fmt::Write as _;

use promptfield_core::names::is_control;

/// A text of several lines as a terminal can show it.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_control(c) && !matches!(c, '\n' | '\t'))
}

/// The same in one line, such as a cell of a table.
pub(crate) fn in_line(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_control(c) && c != '\t')
}

fn escaped(text: &str, acts: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&acts) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if acts(c) {
            // Writing to a text can't fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_spelled_out() {
        assert_eq!(shown("a\n\tb ✓ ü"), "a\n\tb ✓ ü");
        assert_eq!(shown("\u{1b}]0;x\u{7}\r\u{9b}2J"), "\\u001b]0;x\\u0007\\u000d\\u009b2J");
        assert_eq!(in_line("a\nb\u{202e}"), "a\\u000ab\\u202e");
        // JSON stays what it is.
        let text = serde_json::json!(["\u{9b}\u{202e}\u{1b}"]).to_string();
        let read: serde_json::Value = serde_json::from_str(&shown(&text)).unwrap();
        assert_eq!(read, serde_json::json!(["\u{9b}\u{202e}\u{1b}"]));
    }
}
