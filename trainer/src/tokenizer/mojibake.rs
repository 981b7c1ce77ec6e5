//! UTF-8 that was read in another encoding (`sÃ³` for `só`), put right as ftfy 6 does.
//!
//! A text is touched only where it looks wrong: [`is_bad`] knows pairs of characters that hardly any language writes next
//! to each other and mistaken UTF-8 produces all the time. Then the encodings are tried in turn: the first one that can
//! write the whole text, and whose bytes are UTF-8, is taken to be the mistaken one.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::{Regex, bytes};

use super::encodings::{CHARMAPS, Charmap, fix_c1_controls};

/// Repairs the encoding of a text, step by step until nothing changes: mistakes can be stacked.
pub(super) fn fix_encoding(text: &str) -> String {
    let mut text = text.to_owned();
    while let Some(fixed) = fix_one_step(&text) {
        if fixed == text {
            break;
        }
        text = fixed;
    }
    text
}

fn fix_one_step(text: &str) -> Option<String> {
    if !is_bad(text) {
        return None;
    }
    for charmap in CHARMAPS.iter() {
        if let Some(fixed) = charmap.encode(text).and_then(|bytes| decode(charmap, bytes)) {
            return Some(fixed);
        }
    }
    let fixed = fix_inside(text);
    if fixed != text {
        return Some(fixed);
    }
    // Latin-1 whose control characters were meant as Windows-1252.
    Some(fix_c1_controls(text))
}

/// Reads the bytes as UTF-8, after putting back what commonly gets lost on the way.
fn decode(charmap: &Charmap, mut bytes: Vec<u8>) -> Option<String> {
    if charmap.has_a0 && ALTERED.is_match(&bytes) {
        bytes = restore_a0(&bytes);
    }
    if charmap.windows {
        bytes = LOSSY.replace_all(&bytes, "\u{FFFD}".as_bytes()).into_owned();
    }
    String::from_utf8(from_variants(&bytes)).ok()
}

/// UTF-8 sequences in which a byte A0 (a space, to some programs) became a space.
static ALTERED: LazyLock<bytes::Regex> = LazyLock::new(|| {
    let rest = r"[\x80-\x84\x86-\x9F\xA1-\xBF]";
    let any = r"[\x80-\xBF]";
    let pattern = [
        r"[\xC2\xC3\xC5\xCE\xD0\xD9] ".to_owned(),
        format!(r"[\xE2\xE3] {rest}"),
        format!(r"[\xE0-\xE3]{rest} "),
        format!(r"\xF0 {any}{any}"),
        format!(r"\xF0{any} {any}"),
        format!(r"\xF0{any}{any} "),
    ];
    byte_regex(&pattern)
});

/// UTF-8 sequences in which a byte was replaced by "substitute" or, once, by a question mark.
static LOSSY: LazyLock<bytes::Regex> = LazyLock::new(|| {
    let (lost, mark) = (r"[\x1A\x80-\xBF]", r"[\x1A?]");
    let pattern = [
        r"[\xC2-\xDF]\x1A".to_owned(),
        r"[\xC2\xC3]\?".to_owned(),
        format!(r"\xED[\xA0-\xAF]{mark}\xED[\xB0-\xBF][\x1A?\x80-\xBF]"),
        format!(r"\xED[\xA0-\xAF][\x1A?\x80-\xBF]\xED[\xB0-\xBF]{mark}"),
        format!(r"[\xE0-\xEF]{mark}{lost}"),
        format!(r"[\xE0-\xEF]{lost}{mark}"),
        format!(r"[\xF0-\xF4]{mark}{lost}{lost}"),
        format!(r"[\xF0-\xF4]{lost}{mark}{lost}"),
        format!(r"[\xF0-\xF4]{lost}{lost}{mark}"),
        r"\x1A".to_owned(),
    ];
    byte_regex(&pattern)
});

fn byte_regex(alternatives: &[String]) -> bytes::Regex {
    bytes::Regex::new(&format!("(?-u){}", alternatives.join("|"))).expect("a fixed pattern")
}

/// Puts back the A0. `Ã` alone, before a space, is the word "à" and keeps its space, unless one of the Portuguese words
/// follows that it merges with.
fn restore_a0(bytes: &[u8]) -> Vec<u8> {
    let mut restored = Vec::with_capacity(bytes.len() + 8);
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        restored.push(first);
        rest = tail;
        if first == 0xC3 && tail.starts_with(b" ") {
            let follows = &tail[1..];
            let merges = [&b" "[..], b"quele", b"quela", b"quilo", b"s "].iter().any(|word| follows.starts_with(word));
            if !merges {
                restored.extend_from_slice(b"\xA0 ");
                rest = follows;
            }
        }
    }
    let replace = |captures: &bytes::Captures<'_>| -> Vec<u8> {
        captures[0].iter().map(|&byte| if byte == b' ' { 0xA0 } else { byte }).collect()
    };
    ALTERED.replace_all(&restored, replace).into_owned()
}

/// Turns two variants into UTF-8 proper: Java's null (C0 80) and CESU-8, which writes a character beyond U+FFFF as two
/// surrogates of three bytes each.
fn from_variants(bytes: &[u8]) -> Vec<u8> {
    let mut proper = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        match rest {
            [0xC0, 0x80, tail @ ..] => {
                proper.push(0);
                rest = tail;
            }
            [0xED, a @ 0xA0..=0xAF, b @ 0x80..=0xBF, 0xED, c @ 0xB0..=0xBF, d @ 0x80..=0xBF, tail @ ..] => {
                let bits = |byte: &u8, mask: u8, shift: u32| u32::from(byte & mask) << shift;
                let code = 0x1_0000 + bits(a, 0x0F, 16) + bits(b, 0x3F, 10) + bits(c, 0x0F, 6) + bits(d, 0x3F, 0);
                let character = char::from_u32(code).expect("20 bits above U+FFFF are always a character");
                proper.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = tail;
            }
            _ => {
                proper.push(first);
                rest = tail;
            }
        }
    }
    proper
}

/// Repairs stretches that look like UTF-8 inside a text that is otherwise right.
fn fix_inside(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let class = |index: usize| characters.get(index).and_then(|character| CLASSES.get(character)).copied().unwrap_or(0);
    let continues = |index: usize, count: usize| (index..index + count).all(|index| class(index) & CONTINUES != 0);
    let sequence = |index: usize| {
        let lead =
            |lead: u8, count: usize| (class(index) & lead != 0 && continues(index + 1, count)).then_some(count + 1);
        lead(LEADS_2, 1).or_else(|| lead(LEADS_3, 2)).or_else(|| lead(LEADS_4, 3))
    };
    let mut fixed = String::with_capacity(text.len());
    let mut index = 0;
    while index < characters.len() {
        let start = index;
        let inside_garble = start > 0 && class(start - 1) & CONTINUES_STRICTLY != 0;
        while let Some(length) = sequence(index).filter(|_| !inside_garble) {
            index += length;
        }
        if index == start {
            fixed.push(characters[start]);
            index += 1;
            continue;
        }
        let stretch: String = characters[start..index].iter().collect();
        // A stretch that is the whole text has been tried already.
        if stretch.len() < text.len() && is_bad(&stretch) {
            fixed.push_str(&fix_encoding(&stretch));
        } else {
            fixed.push_str(&stretch);
        }
    }
    fixed
}

const LEADS_2: u8 = 1;
const LEADS_3: u8 = 2;
const LEADS_4: u8 = 4;
const CONTINUES: u8 = 8;
const CONTINUES_STRICTLY: u8 = 16;

/// Which bytes of UTF-8 a character may stand for in Latin-1 or a Windows encoding.
static CLASSES: LazyLock<HashMap<char, u8>> = LazyLock::new(|| {
    let mut classes = HashMap::from([(' ', CONTINUES)]);
    for charmap in &CHARMAPS[..7] {
        for (byte, &character) in (0x80_u8..=0xFF).zip(&charmap.high) {
            // Dashes, quotes, the bullet and the ellipsis are common beside real text.
            let common = matches!(character, '–' | '—' | '―' | '‘' | '’' | '‚' | '“' | '”' | '„' | '•' | '…');
            *classes.entry(character).or_default() |= match byte {
                0x80..=0xBF if common => CONTINUES,
                0x80..=0xBF => CONTINUES | CONTINUES_STRICTLY,
                0xC2..=0xDF => LEADS_2,
                0xE0..=0xEF => LEADS_3,
                // Of the sequences of four, these begin nearly all that are used: emoji, and tags in flags.
                0xF0 | 0xF3 => LEADS_4,
                _ => 0,
            };
        }
    }
    classes
});

/// Whether a text has a combination of characters that is almost always mistaken UTF-8.
fn is_bad(text: &str) -> bool {
    !text.is_ascii() && BAD_COMBINATIONS.is_match(text)
}

/// The combinations, from the categories that ftfy 6.3.1 sorts the characters of mistaken UTF-8 into.
static BAD_COMBINATIONS: LazyLock<Regex> = LazyLock::new(|| {
    const COMMON: &str = r"\xA0\xAD´·–-―’…";
    const C1: &str = r"\x80-\x9F";
    const BAD: &str = r"¤¦¨ª¬¯¸ºƒˆˇ˘˛˜†‡‰⌐◊\x{FFFD}";
    const LAW: &str = "§¶";
    const MONEY: &str = "¢£¥₧€";
    const OPENING: &str = r"¡©«¿΄΅‘‚“„•‹\x{F8FF}";
    const CLOSING: &str = "®»˝”›™";
    const NUMERIC: &str = "±-³µ¹¼-¾×÷⁄№∂∆∏∑√∞∩∫≈≠≡≤≥";
    const FACES: &str = "°Ò-ÖÙ-Üò-öø-üŌŐŪŲ";
    const UPPER: &str = "À-ÑØÜÝĀĂĄĆČĎĐĒĖĘĚĞĢĪİĶĹĻĽŁŃŅŇŒŘŚŞŠŢŤŮŰŸŹŻŽҐ";
    const LOWER: &str = "ß-ñüāăąćčďđēėęěğģīįķĺļľłœŕśşšťźżžґﬁﬂ";
    const UPPER_GREEK_CYRILLIC: &str = "ÞΆΈ-ΊΌΎΏΑ-ΫЁ-Я";
    const LOWER_GREEK_CYRILLIC: &str = "ά-ωа-џ";
    const BOX: &str = "│┌┐┘├┤┬┼═-╬▀▄█▌▐-▓";
    let alternatives = [
        format!("[{C1}]"),
        format!("[{BAD}{LOWER}{UPPER}{BOX}{OPENING}{CLOSING}{MONEY}{NUMERIC}{LAW}][{BAD}]"),
        format!("[{BAD}][{LOWER}{UPPER}{BOX}{OPENING}{CLOSING}{MONEY}{NUMERIC}{LAW}]"),
        format!("[a-zA-Z][{LOWER_GREEK_CYRILLIC}{UPPER_GREEK_CYRILLIC}][{BAD}]"),
        format!("[{LOWER}{LOWER_GREEK_CYRILLIC}{BOX}{CLOSING}{MONEY}{NUMERIC}][{UPPER}]"),
        format!("[{BOX}{CLOSING}{MONEY}{NUMERIC}][{LOWER}]"),
        format!("[{LOWER}{BOX}{CLOSING}][{MONEY}]"),
        format!(r"[\s\x1C-\x1F][{UPPER}][{MONEY}]"),
        format!("[{UPPER}{BOX}][{NUMERIC}{LAW}]"),
        format!("[{LOWER}{UPPER}{BOX}{MONEY}{CLOSING}][{OPENING}][{NUMERIC}]"),
        format!("[{LOWER}{UPPER}{MONEY}{NUMERIC}{BOX}{LAW}][{CLOSING}][{OPENING}]"),
        format!("[{MONEY}{NUMERIC}{BOX}][{OPENING}]"),
        format!("[a-z][{UPPER}][{OPENING}{MONEY}]"),
        format!("[{BOX}][{FACES}{CLOSING}]"),
        format!("[{LOWER}{UPPER}{MONEY}{NUMERIC}{OPENING}{CLOSING}{LAW}][{BOX}]"),
        format!(r"[{LOWER}{UPPER}][{OPENING}{CLOSING}][\p{{L}}\p{{N}}_]"),
        "[Œœ][^A-Za-z]".to_owned(),
        format!("[{UPPER}]°"),
        // Windows-1252: common pairs, "²" and "³" after "×", Arabic, Indic scripts, "à" and "á".
        format!(r"[ÂÃÎÐ][€œŠš¢£Ÿž\xA0\xAD®©°·»{OPENING}{CLOSING}–—´]"),
        "×[²³]".to_owned(),
        format!("(?:[ØÙ][{COMMON}{MONEY}{BAD}{NUMERIC}{OPENING}ŸŠ®°µ»]){{2}}"),
        "à[²µ¹¼½¾]".to_owned(),
        r"Ã[\xA0¡]".to_owned(),
        r"[a-z][\s\x1C-\x1F]?[ÃÂ] ".to_owned(),
        "^[ÃÂ] ".to_owned(),
        format!("[a-z.,?!{CLOSING}]Â[ {OPENING}{CLOSING}]"),
        // Mac OS Roman.
        "√[±∂†≠®™´≤≥¥µø]".to_owned(),
        "≈[°¢]".to_owned(),
        "‚Ä[ìîïòôúùû†°¢π]".to_owned(),
        "‚[âó][àä°ê]".to_owned(),
        // Windows-1251, also on top of Windows-1252.
        "вЂ".to_owned(),
        format!("[ВГРС][{C1}{BAD}{OPENING}{CLOSING}{MONEY}°µ][ВГРС]"),
        "ГўВЂВ.[A-Za-z ]".to_owned(),
        // Windows-1253 and -1257.
        r"β€[™\xA0Ά\xAD®°]".to_owned(),
        format!("[ΒΓΞΟ][{C1}{BAD}{OPENING}{CLOSING}{MONEY}°][ΒΓΞΟ]"),
        "ā€".to_owned(),
    ];
    Regex::new(&alternatives.join("|")).expect("a fixed pattern")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistaken_encodings_are_put_right_and_right_text_is_left() {
        for (text, expected) in [
            ("sÃ³", "só"),
            ("voilÃ\u{a0} le travail", "voilà le travail"),
            ("voilÃ le travail", "voilà le travail"),
            ("âœ” No problems", "✔ No problems"),
            ("ðŸ˜€ and ÐŸÑ€Ð¸Ð²ÐµÑ‚", "😀 and Привет"),
            ("â€œlike thisâ€\u{FFFD}", "“like this\u{FFFD}"),
            ("l’humanitÃ© et l’art", "l’humanité et l’art"),
            ("ÃƒÂ©", "é"),
            ("í\u{a0}½í¸\u{8d}", "😍"),
            ("café Zürich Ångström naïve Łódź", "café Zürich Ångström naïve Łódź"),
            ("Привет, мир! Γειά σου", "Привет, мир! Γειά σου"),
        ] {
            assert_eq!(fix_encoding(text), expected, "{text:?}");
        }
    }
}
