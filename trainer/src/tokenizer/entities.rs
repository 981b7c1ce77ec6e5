//! HTML character references, in the two ways that CLIP's clean-up meets them.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::encodings::windows_1252;

/// Python's `html.unescape`: every reference that HTML5 knows, also without its semicolon.
pub(super) fn unescape(text: &str) -> String {
    static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\x0C <&#;]{1,32};?)").expect("a fixed pattern")
    });
    REFERENCE.replace_all(text, |captures: &Captures<'_>| resolve(&captures[1])).into_owned()
}

/// ftfy's `unescape_html`: only references that end in a semicolon, and in addition lower-case names that someone set in
/// capitals (`&EACUTE;`), whose character is then a capital too.
pub(super) fn unescape_unambiguous(text: &str) -> String {
    static REFERENCE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("&(#?[0-9A-Za-z]{1,24};)").expect("a fixed pattern"));
    REFERENCE
        .replace_all(text, |captures: &Captures<'_>| {
            let (whole, name) = (&captures[0], &captures[1]);
            if let Some(character) = named(name) {
                return character.to_owned();
            }
            let unescaped = unescape(whole);
            if name.starts_with('#') {
                // A reference that was resolved only in part keeps its semicolon, and is left alone.
                return if unescaped.contains(';') { whole.to_owned() } else { unescaped };
            }
            let capital = !name.contains(|character: char| character.is_ascii_lowercase()) && unescaped == whole;
            match named(&name.to_lowercase()) {
                Some(character) if capital => character.to_uppercase(),
                _ => whole.to_owned(),
            }
        })
        .into_owned()
}

/// What a reference stands for, given without its `&`.
fn resolve(reference: &str) -> String {
    if let Some(number) = reference.strip_prefix('#') {
        return numbered(number.trim_end_matches(';'));
    }
    if let Some(text) = named(reference) {
        return text.to_owned();
    }
    // The longest beginning that is a name of its own, as in `&notit;`.
    let ends: Vec<usize> = reference.char_indices().map(|(index, _)| index).skip(2).collect();
    let split = ends.into_iter().rev().find_map(|end| Some((named(&reference[..end])?, &reference[end..])));
    match split {
        Some((text, rest)) => format!("{text}{rest}"),
        None => format!("&{reference}"),
    }
}

/// The text of a name of HTML5, given with its semicolon where it has one.
fn named(name: &str) -> Option<&'static str> {
    let text = htmlize::ENTITIES.get(format!("&{name}").as_bytes())?;
    std::str::from_utf8(text).ok()
}

/// A numeric reference: `233` or `xE9`.
fn numbered(number: &str) -> String {
    let parsed = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    };
    // Too large a number doesn't parse, and is out of range.
    let code = parsed.unwrap_or(u32::MAX);
    match code {
        0 => '\u{FFFD}'.to_string(),
        0x0D => '\r'.to_string(),
        0x80..=0x9F => windows_1252(code as u8).to_string(),
        0x01..=0x08 | 0x0B | 0x0E..=0x1F | 0x7F | 0xFDD0..=0xFDEF => String::new(),
        _ if code <= 0x10_FFFF && code & 0xFFFE == 0xFFFE => String::new(),
        _ => char::from_u32(code).unwrap_or('\u{FFFD}').to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_those_of_python() {
        for (text, expected) in [
            ("&amp;&lt&notit;&notin;&ampere", "&<¬it;∉&ere"),
            ("&unknown; & &; &#; &#x; &a", "&unknown; & &; &#; &#x; &a"),
            ("&#233;&#xe9;&#xE9 &#128;&#x81;", "éé\u{E9} €\u{81}"),
            ("[&#0;][&#1;][&#xFFFE;][&#xD800;][&#99999999999;][&#13;]", "[\u{FFFD}][][][\u{FFFD}][\u{FFFD}][\r]"),
        ] {
            assert_eq!(unescape(text), expected, "{text}");
        }
    }

    #[test]
    fn unambiguous_references_are_those_of_ftfy() {
        for (text, expected) in [
            ("&ntilde; &Ntilde; &NTILDE; &nTILDE;", "ñ Ñ Ñ &nTILDE;"),
            ("BUNDESSTRA&SZLIG;E &amp &#59; &#233;", "BUNDESSTRASSE &amp &#59; é"),
        ] {
            assert_eq!(unescape_unambiguous(text), expected, "{text}");
        }
    }
}
