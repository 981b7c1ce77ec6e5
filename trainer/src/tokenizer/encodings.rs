//! The single-byte encodings that UTF-8 gets mistaken for, in the order in which ftfy tries them.

use std::sync::LazyLock;

/// A single-byte encoding whose lower half is ASCII.
pub(super) struct Charmap {
    /// What the bytes from 0x80 stand for. Bytes that an encoding leaves open stand for the control character of the
    /// same number, as in web browsers.
    pub(super) high: Vec<char>,
    /// Windows encodings: they have such open bytes, and byte 0x1A ("substitute") stands for U+FFFD.
    pub(super) windows: bool,
    /// Whether restoring non-breaking spaces makes sense; in Mac OS Roman it would hit dashes.
    pub(super) has_a0: bool,
}

impl Charmap {
    /// The text's bytes in this encoding, if it can be written in it.
    pub(super) fn encode(&self, text: &str) -> Option<Vec<u8>> {
        text.chars()
            .map(|character| match character {
                '\x1A' if self.windows => None,
                '\u{FFFD}' if self.windows => Some(0x1A),
                '\0'..='\x7F' => Some(character as u8),
                _ => self.high.iter().position(|&high| high == character).map(|index| index as u8 + 0x80),
            })
            .collect()
    }
}

const WINDOWS_1252: &str = "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿\
    ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ";
const WINDOWS_1251: &str = "ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—\u{98}™љ›њќћџ\u{a0}ЎўЈ¤Ґ¦§Ё©Є«¬\u{ad}®Ї°±Ііґµ¶·ё№є»јЅѕї\
    АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя";
const WINDOWS_1250: &str = "€\u{81}‚\u{83}„…†‡\u{88}‰Š‹ŚŤŽŹ\u{90}‘’“”•–—\u{98}™š›śťžź\u{a0}ˇ˘Ł¤Ą¦§¨©Ş«¬\u{ad}®Ż°±˛ł´µ¶·¸ąş»Ľ˝ľż\
    ŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙";
const WINDOWS_1253: &str = "€\u{81}‚ƒ„…†‡\u{88}‰\u{8a}‹\u{8c}\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}\u{9d}\u{9e}\u{9f}\
    \u{a0}΅Ά£¤¥¦§¨©ª«¬\u{ad}®―°±²³΄µ¶·ΈΉΊ»Ό½ΎΏΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡÒΣΤΥΦΧΨΩΪΫάέήίΰαβγδεζηθικλμνξοπρςστυφχψωϊϋόύώÿ";
const WINDOWS_1254: &str = "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}\u{9e}Ÿ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿\
    ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ";
const WINDOWS_1257: &str = "€\u{81}‚\u{83}„…†‡\u{88}‰\u{8a}‹\u{8c}¨ˇ¸\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}¯˛\u{9f}\u{a0}¡¢£¤¥¦§Ø©Ŗ«¬\u{ad}®Æ°±²³´µ¶·ø¹ŗ»¼½¾æ\
    ĄĮĀĆÄÅĘĒČÉŹĖĢĶĪĻŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽßąįāćäåęēčéźėģķīļšńņóōõö÷ųłśūüżž˙";
const ISO_8859_2_FROM_A0: &str = "\u{a0}Ą˘Ł¤ĽŚ§¨ŠŞŤŹ\u{ad}ŽŻ°ą˛ł´ľśˇ¸šşťź˝žż\
    ŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙";
const MAC_ROMAN: &str = "ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø\
    ¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›ﬁﬂ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\u{f8ff}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ";
const CODE_PAGE_437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
    └┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// Latin-1 first, then by how often their mix-ups are met.
pub(super) static CHARMAPS: LazyLock<Vec<Charmap>> = LazyLock::new(|| {
    let charmap = |high: Vec<char>, windows, has_a0| Charmap { high, windows, has_a0 };
    let mut charmaps = vec![charmap(('\u{80}'..='\u{FF}').collect(), false, true)];
    for table in [WINDOWS_1252, WINDOWS_1251, WINDOWS_1250, WINDOWS_1253, WINDOWS_1254, WINDOWS_1257] {
        charmaps.push(charmap(table.chars().collect(), true, true));
    }
    charmaps.push(charmap(('\u{80}'..='\u{9F}').chain(ISO_8859_2_FROM_A0.chars()).collect(), false, true));
    charmaps.push(charmap(MAC_ROMAN.chars().collect(), false, false));
    charmaps.push(charmap(CODE_PAGE_437.chars().collect(), false, true));
    charmaps
});

/// What a byte from 0x80 on stands for in Windows-1252.
pub(super) fn windows_1252(byte: u8) -> char {
    CHARMAPS[1].high[usize::from(byte - 0x80)]
}

/// Control characters from U+0080 to U+009F are taken for Windows-1252 bytes, as web browsers do.
pub(super) fn fix_c1_controls(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\u{80}'..='\u{9F}' => windows_1252(character as u8),
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_has_128_characters_of_its_own() {
        for charmap in CHARMAPS.iter() {
            let distinct: std::collections::HashSet<char> = charmap.high.iter().copied().collect();
            assert_eq!((charmap.high.len(), distinct.len()), (128, 128));
        }
    }
}
