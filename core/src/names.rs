//! Names: the closed sets of them, and what a name may hold.

use crate::input::{InvalidInput, one_of};

/// Declares an enum whose variants have one fixed text each, on the wire, in the database and on the command line.
macro_rules! named {
    ($(#[$meta:meta])* $vis:vis enum $name:ident($what:literal) { $($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, utoipa::ToSchema)]
        $vis enum $name { $($(#[$doc])* #[schema(rename = $text)] $variant),+ }

        impl $name {
            /// Every value, in the order in which lists name them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The fixed text of this value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::input::InvalidInput;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text).ok_or_else(|| {
                    $crate::input::InvalidInput::new($what, text, $crate::input::one_of(text, Self::ALL.iter().map(|value| value.as_str())))
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|_| {
                    let allowed = $crate::input::one_of(&text, Self::ALL.iter().map(|value| value.as_str()));
                    serde::de::Error::custom(format!("expected {allowed}"))
                })
            }
        }
    };
}
pub(crate) use named;

named! {
    /// The arithmetic a job trains and evaluates in.
    pub enum Precision("precision") {
        /// 32-bit throughout.
        Fp32 = "fp32",
        /// 32-bit, with operands of products rounded to ten bits after the point by GPUs that have TF32.
        Tf32 = "tf32",
        /// Automatic mixed precision with bfloat16.
        AmpBf16 = "amp_bf16",
        /// Automatic mixed precision with float16 and loss scaling.
        AmpFp16 = "amp_fp16",
    }
}

impl Default for Precision {
    /// What is computed where nothing is said.
    fn default() -> Self {
        Self::Fp32
    }
}

/// Checks a name that becomes one segment of an output path: letters, digits, `-`, `_`, `.`, not starting with a dot.
pub fn path_segment(field: &str, name: &str) -> Result<(), InvalidInput> {
    let fine = !name.is_empty()
        && name.len() <= 100
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if fine {
        Ok(())
    } else {
        Err(InvalidInput::new(field, name, "1 to 100 letters, digits, `-`, `_` or `.`, not starting with a dot"))
    }
}

/// What [`shown_name`] takes.
pub const NAME: &str = "1 to 200 characters, none of them a control character";

/// The most characters of a [`NAME`].
pub const LONGEST_NAME: usize = 200;

/// Whether a terminal acts on a character rather than showing it, or shows what stands beside it elsewhere: control characters, line
/// separators, and what turns the direction of writing.
pub const fn is_control(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// Checks a name that is shown as it is, to people and on terminals.
pub fn shown_name(field: impl Into<String>, name: &str) -> Result<(), InvalidInput> {
    // Counted no further than it takes to know.
    let length = name.chars().take(LONGEST_NAME + 1).count();
    if name.trim().is_empty() || length > LONGEST_NAME || name.contains(is_control) {
        return Err(InvalidInput::new(field, name, NAME));
    }
    Ok(())
}

/// Checks a name against a list that is open at run time (data sets, backbones).
pub fn known_name<'a>(
    field: &str,
    name: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> Result<(), InvalidInput> {
    if known.clone().into_iter().any(|candidate| candidate == name) {
        Ok(())
    } else {
        Err(InvalidInput::new(field, name, one_of(name, known)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_characters_and_hold_nothing_that_a_terminal_acts_on() {
        for name in ["a", "Ω", &"試".repeat(200), "ours 👩\u{200d}🔬", "a\u{301}"] {
            assert!(shown_name("name", name).is_ok(), "{name}");
        }
        let hidden =
            ["\u{1b}[2J", "a\nb", "a\tb", "\0", "\u{7f}", "\u{9b}31m", "\u{202e}gnp.exe", "\u{2066}", "\u{2028}"];
        for name in hidden.into_iter().chain(["", " ", &"試".repeat(201)]) {
            assert_eq!(shown_name("name", name).unwrap_err().errors[0].expected, NAME, "{name:?}");
        }
    }
}
