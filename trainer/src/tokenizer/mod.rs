//! CLIP's tokenizer: lower-cased byte-pair encoding, preceded by the clean-up of the published code.
//!
//! Rule of this room: the same ids as CLIP's own `SimpleTokenizer` for any text. That includes what it leaves to the
//! Python packages ftfy (6.3.1: [`clean`], [`mojibake`]) and html ([`entities`]). Known differences: a character
//! that Unicode gained so lately that Python, its packages or this crate's don't know it may be sorted, lower-cased or
//! normalised by one and not by the other;
//! a segment of more than a million characters is not broken up; lone surrogates can't occur in a Rust string.

mod clean;
mod encodings;
mod entities;
mod mojibake;

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::LazyLock;

use regex::Regex;

/// The number of tokens in a row.
pub const CONTEXT_LENGTH: usize = 77;
/// The id that starts every text.
pub const START_TOKEN: u32 = 49406;
/// The id that ends every text. It is the highest of a row, and the text feature is read where it stands.
pub const END_TOKEN: u32 = 49407;

/// A text as CLIP's text tower takes it: [`START_TOKEN`], the text, [`END_TOKEN`], zeros.
pub type Tokens = [u32; CONTEXT_LENGTH];

/// The file is CLIP's; a line per merge after a line of comment.
const VOCABULARY: &[u8] = include_bytes!("../../assets/bpe_simple_vocab_16e6.txt.gz");
/// CLIP uses the first merges only: 49,408 ids less 512 for single bytes and 2 special ones.
const MERGES: usize = 48_894;
/// Ids below 256 are bytes inside a word, those from here to 511 bytes that end one.
const WORD_END: u32 = 256;
const FIRST_MERGE: u32 = 512;

const START_TEXT: &str = "<|startoftext|>";
const END_TEXT: &str = "<|endoftext|>";

/// Why a text can't be tokenised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The text doesn't fit into a row.
    #[error("the text takes {count} tokens with its start and end, expected at most {CONTEXT_LENGTH}: `{text}`")]
    TooLong {
        /// How many tokens it takes.
        count: usize,
        /// The text as it was given.
        text: String,
    },
}

/// The byte-pair encoder.
#[derive(Debug)]
pub struct Tokenizer {
    /// What a pair of ids is merged into. Lower ids were merged first when the vocabulary was learnt, and are here.
    merges: HashMap<(u32, u32), u32>,
    /// The id of each byte inside a word.
    bytes: [u32; 256],
    words: Regex,
}

impl Tokenizer {
    /// The tokenizer of this process, loaded when it is first asked for.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Tokenizer> = LazyLock::new(Tokenizer::new);
        &SHARED
    }

    fn new() -> Self {
        let mut text = String::new();
        flate2::read::GzDecoder::new(VOCABULARY).read_to_string(&mut text).expect("the bundled vocabulary is intact");
        let mut bytes = [0; 256];
        let mut ids: HashMap<String, u32> = HashMap::with_capacity(FIRST_MERGE as usize + MERGES);
        for (id, (byte, letter)) in (0..).zip(byte_letters()) {
            bytes[usize::from(byte)] = id;
            ids.insert(letter.to_string(), id);
            ids.insert(format!("{letter}</w>"), id + WORD_END);
        }
        let mut merges = HashMap::with_capacity(MERGES);
        for (id, line) in (FIRST_MERGE..).zip(text.lines().skip(1).take(MERGES)) {
            let (left, right) = line.split_once(' ').expect("each line of the bundled vocabulary is a pair");
            merges.insert((ids[left], ids[right]), id);
            ids.insert(format!("{left}{right}"), id);
        }
        // The special texts first, English contractions, then runs of letters, single digits, runs of anything else; but
        // U+0345, a mark whose capital is a letter, is neither for Python's case-blind classes, and gets lost.
        let words =
            r"(?i:<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}\u{345}]+";
        Self { merges, bytes, words: Regex::new(words).expect("a fixed pattern") }
    }

    /// The row of `text`.
    pub fn encode(&self, text: &str) -> Result<Tokens, TokenError> {
        let cleaned = clean::clean(text);
        let mut ids = vec![START_TOKEN];
        for word in self.words.find_iter(&cleaned) {
            match word.as_str() {
                START_TEXT => ids.push(START_TOKEN),
                END_TEXT => ids.push(END_TOKEN),
                word => self.merge_into(word, &mut ids),
            }
        }
        ids.push(END_TOKEN);
        let mut tokens = [0; CONTEXT_LENGTH];
        match tokens.get_mut(..ids.len()) {
            Some(row) => row.copy_from_slice(&ids),
            None => return Err(TokenError::TooLong { count: ids.len(), text: text.to_owned() }),
        }
        Ok(tokens)
    }

    /// Splits a word into bytes and merges neighbours, the earliest learnt pair first and everywhere at once, until no
    /// pair is known.
    fn merge_into(&self, word: &str, ids: &mut Vec<u32>) {
        let mut symbols: Vec<u32> = word.bytes().map(|byte| self.bytes[usize::from(byte)]).collect();
        if let Some(last) = symbols.last_mut() {
            *last += WORD_END;
        }
        let merged = |left: u32, right: u32| self.merges.get(&(left, right)).copied();
        while let Some(best) = symbols.windows(2).filter_map(|pair| merged(pair[0], pair[1])).min() {
            let mut kept = 0;
            let mut next = 0;
            while next < symbols.len() {
                let pair = symbols.get(next + 1).and_then(|&right| merged(symbols[next], right));
                let (symbol, taken) = if pair == Some(best) { (best, 2) } else { (symbols[next], 1) };
                symbols[kept] = symbol;
                kept += 1;
                next += taken;
            }
            symbols.truncate(kept);
        }
        ids.extend(symbols);
    }
}

/// The bytes in the order of their ids, each with the letter that stands for it in the vocabulary: printable Latin-1
/// characters for themselves, then the others, numbered from U+0100.
fn byte_letters() -> impl Iterator<Item = (u8, char)> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let others = (0..=255).filter(move |byte| !printable(byte));
    (0..=255).filter(printable).map(|byte| (byte, char::from(byte))).chain(others.zip('\u{100}'..))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Vec<u32> {
        let tokens = Tokenizer::shared().encode(text).unwrap();
        let end = tokens.iter().rposition(|&id| id == END_TOKEN).unwrap();
        tokens[..=end].to_vec()
    }

    /// Ids that CLIP's documentation and its users quote.
    #[test]
    fn well_known_rows() {
        assert_eq!(ids("a photo of a cat"), [49406, 320, 1125, 539, 320, 2368, 49407]);
        assert_eq!(ids("Hello, World!"), [49406, 3306, 267, 1002, 256, 49407]);
        assert_eq!(ids(""), [49406, 49407]);
        assert_eq!(ids("<|startoftext|> <|endoftext|>"), [49406, 49406, 49407, 49407]);
    }

    #[test]
    fn rows_are_padded_and_too_long_a_text_is_named() {
        let tokens = Tokenizer::shared().encode("a photo of a cat").unwrap();
        assert!(tokens[7..].iter().all(|&id| id == 0));
        let text = "cat ".repeat(75);
        assert_eq!(Tokenizer::shared().encode(&text).unwrap()[76], END_TOKEN);
        let error = Tokenizer::shared().encode(&"cat ".repeat(76)).unwrap_err().to_string();
        assert!(error.contains("78 tokens") && error.contains("at most 77") && error.contains("cat cat"), "{error}");
    }

    #[test]
    fn every_byte_has_a_letter_of_its_own() {
        let letters: std::collections::BTreeMap<u8, char> = byte_letters().collect();
        let distinct: std::collections::BTreeSet<char> = letters.values().copied().collect();
        assert_eq!((letters.len(), distinct.len()), (256, 256));
        assert_eq!((letters[&b'a'], letters[&b' ']), ('a', 'Ġ'));
    }

    #[derive(serde::Deserialize)]
    struct Golden {
        rows: Vec<(String, Vec<u32>)>,
    }

    /// Against `tests/reference/tokens/make.py`.
    #[test]
    fn ids_are_those_of_clips_own_tokenizer() {
        let golden: Golden = serde_json::from_str(include_str!("../../tests/reference/tokens/golden.json")).unwrap();
        assert!(golden.rows.len() > 400);
        for (text, expected) in golden.rows {
            let row = ids(&text);
            assert_eq!(row[1..row.len() - 1], expected, "{text:?}");
        }
    }
}
