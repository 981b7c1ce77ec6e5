//! Refusing bad input: which field, which value, what would be right.
//!
//! Every parser of this crate collects what is wrong as [`FieldError`]s, so that a person sees all of it at once, and the
//! HTTP edge can hand the same list out as problem+json.

use std::collections::HashSet;

use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// One thing that is wrong with an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FieldError {
    /// Where: a dotted path such as `overrides.eurosat.lr`, or `methods[1]`.
    pub field: String,
    /// What was given, as text.
    pub value: String,
    /// What would be right, as the rest of a sentence: "expected …".
    pub expected: String,
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`: `{}` is not valid: expected {}", self.field, self.value, self.expected)
    }
}

/// An input that was refused, with everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{}", self.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct InvalidInput {
    /// What is wrong; never empty.
    pub errors: Vec<FieldError>,
}

impl InvalidInput {
    /// A refusal for one field.
    pub fn new(field: impl Into<String>, value: impl std::fmt::Display, expected: impl Into<String>) -> Self {
        let mut value = value.to_string();
        // A refusal isn't to be as long as what is refused.
        if let Some((end, _)) = value.char_indices().nth(LONGEST_VALUE) {
            value.truncate(end);
            value.push('…');
        }
        Self { errors: vec![FieldError { field: field.into(), value, expected: expected.into() }] }
    }

    /// The same refusal, its fields lying below `parent`.
    #[must_use]
    pub fn under(mut self, parent: &str) -> Self {
        for error in &mut self.errors {
            error.field = match error.field.as_str() {
                "" => parent.to_owned(),
                field if field.starts_with('[') => format!("{parent}{field}"),
                field => format!("{parent}.{field}"),
            };
        }
        self
    }
}

/// So many characters of a wrong value are repeated.
const LONGEST_VALUE: usize = 500;

/// So many errors of an input are named; the others are counted.
const MOST_NAMED: usize = 20;

/// Collects refusals; `finish` is `Ok` only when there were none.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    named: Vec<FieldError>,
    /// How many there were besides.
    more: usize,
}

impl Refusals {
    pub(crate) fn add(&mut self, error: InvalidInput) {
        for error in error.errors {
            if self.named.len() < MOST_NAMED {
                self.named.push(error);
            } else {
                self.more += 1;
            }
        }
    }

    /// Keeps the value of `result`, or notes its refusal.
    pub(crate) fn keep<T>(&mut self, result: Result<T, InvalidInput>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    pub(crate) fn finish<T>(self, value: T) -> Result<T, InvalidInput> {
        let Self { named: mut errors, more } = self;
        match errors.last_mut() {
            None => return Ok(value),
            Some(last) if more > 0 => last.expected.push_str(&format!("; and {more} more errors")),
            Some(_) => {}
        }
        Err(InvalidInput { errors })
    }
}

/// Reads `text` as TOML into `T`; unknown keys and wrong types name their field. Keys that are valid only for a table
/// inside are checked by that table's own type.
pub fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, InvalidInput> {
    let value: toml::Table = toml::from_str(text)
        .map_err(|error| InvalidInput::new("file", error.message(), format!("TOML{}", line_of(text, error.span()))))?;
    let value = serde_json::to_value(value).map_err(|error| InvalidInput::new("file", error, "TOML"))?;
    from_value(value)
}

/// Reads a JSON value into `T`; see [`from_toml`].
pub fn from_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, InvalidInput> {
    serde_path_to_error::deserialize(&value).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        explain_serde(&path, &value, &error.into_inner().to_string())
    })
}

/// Reads JSON text into `T`; see [`from_toml`].
pub fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, InvalidInput> {
    let value = serde_json::from_str(text).map_err(|error| InvalidInput::new("file", error, "a JSON document"))?;
    from_value(value)
}

/// Refuses JSON in which an object has a key twice, of which readers take the first or the last as they like. What is no JSON is left to
/// them.
pub fn check_keys(text: &[u8]) -> Result<(), InvalidInput> {
    let (mut track, mut twice) = (serde_path_to_error::Track::new(), None);
    let mut json = serde_json::Deserializer::from_slice(text);
    let _ = Keys(&mut twice).deserialize(serde_path_to_error::Deserializer::new(&mut json, &mut track));
    let Some(key) = twice else { return Ok(()) };
    let path = track.path().to_string();
    // The path ends with the key before, where it doesn't end with the object.
    let field = if path == "." || path.is_empty() { "body".to_owned() } else { path };
    Err(InvalidInput::new(field, key, "each key once"))
}

/// Looks for a key that an object has twice.
struct Keys<'a>(&'a mut Option<String>);

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Keys(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = object.next_key::<String>()? {
            if seen.contains(&key) {
                *self.0 = Some(key);
                return Err(A::Error::custom("a key is there twice"));
            }
            seen.insert(key);
            object.next_value_seed(Keys(&mut *self.0))?;
        }
        Ok(())
    }
}

fn line_of(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    span.map_or_else(String::new, |span| {
        let before = text.get(..span.start).unwrap_or(text);
        format!(" (line {})", before.matches('\n').count() + 1)
    })
}

/// Turns serde's message into the field's name, the value that stands there, and what would be right.
fn explain_serde(path: &str, root: &serde_json::Value, message: &str) -> InvalidInput {
    let parent = |last: &str| match path.strip_suffix(last) {
        Some(rest) => rest.trim_end_matches('.').to_owned(),
        None => path.to_owned(),
    };
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field") {
        let key = quoted.first().copied().unwrap_or_default();
        let allowed = quoted.get(1..).unwrap_or_default();
        return InvalidInput::new(parent(key), key, format!("a known key: {}", one_of(key, allowed.iter().copied())));
    }
    if message.starts_with("missing field") {
        let key = quoted.first().copied().unwrap_or_default();
        return InvalidInput::new(
            if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") },
            "nothing",
            "a value",
        );
    }
    let pointer = format!("/{}", path.replace('[', ".").replace(']', "").replace('.', "/"));
    let value = root.pointer(&pointer).map_or_else(
        || "?".to_owned(),
        |value| match value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        },
    );
    let expected = message.rsplit_once("expected ").map_or(message, |(_, expected)| expected);
    InvalidInput::new(path, value, in_words(expected))
}

/// serde's name of a type, as a person would say it.
fn in_words(expected: &str) -> &str {
    match expected {
        "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i32" | "i64" => "a whole number",
        "f64" => "a number",
        "a string" => "a text in quotes",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

/// "`x`, `y` or `z`", with "(did you mean `y`?)" when `given` is close to one of them.
pub fn one_of<'a>(given: &str, allowed: impl IntoIterator<Item = &'a str>) -> String {
    let allowed: Vec<&str> = allowed.into_iter().collect();
    let mut text = match allowed.as_slice() {
        [] => "none".to_owned(),
        [only] => format!("`{only}`"),
        [rest @ .., last] => {
            let rest: Vec<String> = rest.iter().map(|name| format!("`{name}`")).collect();
            format!("{} or `{last}`", rest.join(", "))
        }
    };
    if let Some(near) = nearest(given, allowed) {
        text.push_str(&format!(" (did you mean `{near}`?)"));
    }
    text
}

/// The allowed name that is closest to what was given, if it's close enough to be a slip of the hand.
pub fn nearest<'a>(given: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // No slip of the hand makes a long text of a name, and comparing takes the product of the lengths.
    if given.len() > 200 {
        return None;
    }
    let given = given.to_lowercase();
    allowed
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&given, &name.to_lowercase()), name))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Inner {
        learning_rate: f64,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Outer {
        seeds: Vec<u64>,
        inner: Option<Inner>,
    }

    fn refusal(text: &str) -> FieldError {
        from_toml::<Outer>(text).unwrap_err().errors.remove(0)
    }

    #[test]
    fn unknown_keys_name_the_nearest_known_one() {
        let error = refusal("seeds = [1]\n[inner]\nlearning_rat = 1.0");
        assert_eq!((error.field.as_str(), error.value.as_str()), ("inner", "learning_rat"));
        assert!(error.expected.contains("did you mean `learning_rate`?"), "{error}");
    }

    #[test]
    fn wrong_types_name_the_element() {
        let error = refusal("seeds = [1, \"two\"]");
        assert_eq!(
            (error.field.as_str(), error.value.as_str(), error.expected.as_str()),
            ("seeds[1]", "two", "a whole number of at least 0")
        );
    }

    #[test]
    fn missing_keys_and_broken_files_are_named() {
        assert_eq!(refusal("[inner]\nlearning_rate = 1.0").field, "seeds");
        assert!(refusal("seeds = [1]\nseeds = = 2").expected.contains("line 2"));
    }

    #[test]
    fn a_refusal_is_short_whatever_is_refused() {
        let long = "ä".repeat(100_000);
        let error = InvalidInput::new("name", &long, one_of(&long, ["a", "b"]));
        assert_eq!(error.errors[0].value, format!("{}…", "ä".repeat(500)));
        assert_eq!(error.errors[0].expected, "`a` or `b`");
    }

    #[test]
    fn a_key_that_is_there_twice_is_found_wherever_it_is() {
        let found = |text: &str| check_keys(text.as_bytes()).err().map(|error| error.errors[0].value.clone());
        for text in [
            r#"{"a": 1, "a": 1}"#,
            r#"{"b": [{"a": null, "c": 2, "a": "x"}]}"#,
            r#"[{"b": {"a": {"a": 1}, "a": 2}}]"#,
            r#"{"a": 1, "\u0061": 2}"#,
        ] {
            assert_eq!(found(text).as_deref(), Some("a"), "{text}");
        }
        for text in [r#"{"a": {"a": [1, 2.5, -3, true, "a", null]}, "b": {"a": 1}}"#, "7", "no JSON", ""] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn one_of_lists_and_suggests() {
        assert_eq!(
            one_of("alinednorm", ["alignednorm", "mmrl"]),
            "`alignednorm` or `mmrl` (did you mean `alignednorm`?)"
        );
        assert_eq!(one_of("zzz", ["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
