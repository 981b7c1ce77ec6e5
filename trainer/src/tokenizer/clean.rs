//! The clean-up before tokens are formed: ftfy's `fix_text` with its defaults, HTML unescaped twice, white space folded,
//! lower case.

use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization as _;

use super::{encodings, entities, mojibake};

/// The text whose words become tokens.
pub(super) fn clean(text: &str) -> String {
    let fixed = fix_text(text);
    let unescaped = entities::unescape(&entities::unescape(&fixed));
    let words: Vec<&str> = unescaped.split(is_python_space).filter(|word| !word.is_empty()).collect();
    words.join(" ").to_lowercase()
}

/// Python's `str.isspace`: Unicode's white space and the four ASCII separators.
fn is_python_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\x1C'..='\x1F')
}

/// ftfy's `fix_text`, line by line. From the first line with a `<` on, the text is taken to be HTML itself, whose entities
/// are left alone.
fn fix_text(text: &str) -> String {
    let mut unescape = true;
    text.split_inclusive('\n')
        .map(|line| {
            unescape &= !line.contains('<');
            fix_line(line, unescape)
        })
        .collect()
}

/// Repeats all the fixes until none changes anything: one can uncover work for another.
fn fix_line(line: &str, unescape: bool) -> String {
    let mut text = line.to_owned();
    loop {
        let before = text.clone();
        if unescape {
            text = entities::unescape_unambiguous(&text);
        }
        text = mojibake::fix_encoding(&text);
        text = encodings::fix_c1_controls(&text);
        text = text.chars().map(fix_character).collect::<Fixed>().0;
        text = fix_line_breaks(&text);
        text = remove_terminal_escapes(text);
        text.retain(|character| !is_unwanted_control(character));
        text = text.nfc().collect();
        if text == before {
            return text;
        }
    }
}

/// What a single character is replaced by.
enum Replacement {
    Character(char),
    Text(&'static str),
    Compatible(char),
}

/// Collects replacements.
struct Fixed(String);

impl FromIterator<Replacement> for Fixed {
    fn from_iter<I: IntoIterator<Item = Replacement>>(replacements: I) -> Self {
        let mut text = String::new();
        for replacement in replacements {
            match replacement {
                Replacement::Character(character) => text.push(character),
                Replacement::Text(replaced) => text.push_str(replaced),
                Replacement::Compatible(character) => text.extend(std::iter::once(character).nfkc()),
            }
        }
        Self(text)
    }
}

/// Latin ligatures are taken apart, full- and half-width forms get their standard width, curly quotes are straightened.
fn fix_character(character: char) -> Replacement {
    Replacement::Text(match character {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        // The apostrophe that the letter's decomposition starts with is straightened in the same round.
        'ŉ' => "'n",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        '\u{3000}' => " ",
        '\u{2BC}' | '\u{2018}'..='\u{201B}' => "'",
        '\u{201C}'..='\u{201F}' => "\"",
        '\u{FF01}'..='\u{FFEF}' => return Replacement::Compatible(character),
        _ => return Replacement::Character(character),
    })
}

fn fix_line_breaks(text: &str) -> String {
    text.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n")
}

/// ANSI sequences that set a colour or move the cursor.
fn remove_terminal_escapes(text: String) -> String {
    static ESCAPE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\x1B\[[\p{Nd};]*[a-zA-Z]").expect("a fixed pattern"));
    if text.contains('\x1B') { ESCAPE.replace_all(&text, "").into_owned() } else { text }
}

/// Control characters without a use in text: ASCII's, less those that are white space; deprecated Arabic shaping;
/// interlinear annotations; the byte order mark.
fn is_unwanted_control(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x08' | '\x0B' | '\x0E'..='\x1F' | '\x7F' | '\u{206A}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFC}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fix() {
        for (text, expected) in [
            ("‘a’ “photo” ʼn ŉ", "'a' \"photo\" 'n 'n"),
            ("ﬂuﬃeﬆ ĳs", "fluffiest ijs"),
            ("ＬＯＵＤ　ＮＯＩＳＥＳ Ｕﾀｰﾝ", "loud noises uターン"),
            ("a\r\nb\rc\u{2028}d\u{85}e\t f", "a b c d…e f"),
            ("\x1B[36;44mblue\x1B[0m \u{FEFF}sky\x07", "blue sky"),
            ("cafe\u{301} A\u{30A}", "café å"),
            ("&lt;b&gt; &EACUTE; &amp;amp;amp; this&not that", "<b> é & this¬ that"),
            ("<b> &eacute; &notin;", "<b> é ∉"),
            ("ΣΊΣΥΦΟΣ İ", "σίσυφος i\u{307}"),
        ] {
            assert_eq!(clean(text), expected, "{text:?}");
        }
    }
}
