//! Values: what a method's declaration says of each, and how one is read.
//!
//! A value is brought to its declared type when it's read, so that `1`, `1.0` and `1e0` are one value, and a job's identity is the
//! identity of what is computed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, json};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{RefOr, schema::ObjectBuilder};

use super::Methods;
use crate::input::InvalidInput;

/// Integers beyond this are no longer exact as a 64-bit float, which other programs may read them as.
const LARGEST: i64 = 1 << 53;

/// Values by name, each of its declared type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Values(pub BTreeMap<String, Value>);

impl Values {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A value.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A whole number; `None` if it is absent, negative, or no whole number.
    pub fn count(&self, name: &str) -> Option<u32> {
        self.get(name)?.as_u64()?.try_into().ok()
    }

    /// A number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.as_f64()
    }

    /// These values, with those of `narrower` in their place.
    #[must_use]
    pub fn with(&self, narrower: &Self) -> Self {
        let both = self.0.iter().chain(&narrower.0);
        Self(both.map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}

impl utoipa::PartialSchema for Values {
    /// The values of the built-in methods. A user's own method may have others.
    fn schema() -> RefOr<Schema> {
        let mut schema = ObjectBuilder::new().description(Some("Values by name, as the methods declare them."));
        for (name, declaration) in Methods::built_in().values() {
            schema = schema.property(name, declaration.schema());
        }
        schema.build().into()
    }
}

impl utoipa::ToSchema for Values {}

/// The type of a value, or of each entry of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// One of `choices`.
    Choice,
    /// Values by name, those of `fields`.
    Table,
}

impl ValueType {
    const fn json_type(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Choice => "string",
            Self::Table => "object",
        }
    }
}

/// Of which jobs a value decides how much memory they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// Of none.
    #[default]
    No,
    /// Of those that train.
    Training,
    /// Of all.
    Always,
}

/// What a method's declaration says of a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueDeclaration {
    /// The type.
    #[serde(rename = "type")]
    pub kind: ValueType,
    /// Whether it is a list of such values, with at least one entry.
    #[serde(default)]
    pub list: bool,
    /// Whether each entry of the list is one more than the entry before it.
    #[serde(default)]
    pub consecutive: bool,
    /// The texts that a choice may be.
    #[serde(default)]
    pub choices: Vec<String>,
    /// The fields of a table.
    #[serde(default)]
    pub fields: BTreeMap<String, Self>,
    /// The least number.
    #[serde(default)]
    pub min: Option<f64>,
    /// The greatest number.
    #[serde(default)]
    pub max: Option<f64>,
    /// What a number must be less than.
    #[serde(default)]
    pub below: Option<f64>,
    /// What it means, in a sentence.
    pub help: String,
    /// Whether it changes what is computed, and so which job it is.
    #[serde(default = "yes")]
    pub identity: bool,
    /// Whether it decides how much memory a job takes.
    #[serde(default)]
    pub memory: Memory,
    /// Whether it may be absent.
    #[serde(default)]
    pub optional: bool,
    /// Whether a test on another data set takes that data set's own.
    #[serde(default)]
    pub target: bool,
    /// What it is where neither a preset nor an experiment says it.
    #[serde(default)]
    pub default: Option<Value>,
}

const fn yes() -> bool {
    true
}

impl ValueDeclaration {
    /// Brings a value to its declared type, or says what would be right. `field` is where it stands.
    pub fn read(&self, field: &str, value: &Value) -> Result<Value, InvalidInput> {
        if !self.list {
            return self.read_one(field, value);
        }
        let refused = || InvalidInput::new(field, value, self.expected());
        let entries = value.as_array().filter(|entries| !entries.is_empty()).ok_or_else(refused)?;
        let read = entries.iter().map(|entry| self.read_one(field, entry)).collect::<Result<Vec<_>, _>>();
        let read = read.map_err(|_| refused())?;
        let follow = |pair: &[Value]| pair[0].as_i64().map(|number| number + 1) == pair[1].as_i64();
        if self.consecutive && !read.windows(2).all(follow) {
            return Err(refused());
        }
        Ok(Value::Array(read))
    }

    fn read_one(&self, field: &str, value: &Value) -> Result<Value, InvalidInput> {
        let read = match self.kind {
            ValueType::Integer => whole(value).filter(|number| self.has(*number as f64)).map(Value::from),
            // Adding 0 makes of −0 what it equals.
            ValueType::Number => {
                value.as_f64().map(|number| number + 0.0).filter(|number| self.has(*number)).and_then(number)
            }
            ValueType::Boolean => value.as_bool().map(Value::from),
            ValueType::Choice => {
                value.as_str().filter(|text| self.choices.iter().any(|choice| choice == text)).map(Value::from)
            }
            ValueType::Table => return self.read_table(field, value),
        };
        read.ok_or_else(|| InvalidInput::new(field, value, self.expected()))
    }

    fn read_table(&self, field: &str, value: &Value) -> Result<Value, InvalidInput> {
        let given = value.as_object().ok_or_else(|| InvalidInput::new(field, value, self.expected()))?;
        let mut read = serde_json::Map::new();
        for (name, value) in given {
            let known = self.fields.get(name).ok_or_else(|| {
                let allowed = crate::input::one_of(name, self.fields.keys().map(String::as_str));
                InvalidInput::new(field, name, format!("a known key: {allowed}"))
            })?;
            read.insert(name.clone(), known.read(&format!("{field}.{name}"), value)?);
        }
        for (name, declaration) in &self.fields {
            match &declaration.default {
                Some(default) if !read.contains_key(name) => {
                    read.insert(name.clone(), default.clone());
                }
                None if !read.contains_key(name) && !declaration.optional => {
                    return Err(InvalidInput::new(format!("{field}.{name}"), "nothing", declaration.expected()));
                }
                _ => {}
            }
        }
        Ok(Value::Object(read))
    }

    /// Whether a number lies within the bounds.
    fn has(&self, number: f64) -> bool {
        self.min.is_none_or(|min| number >= min)
            && self.max.is_none_or(|max| number <= max)
            && self.below.is_none_or(|below| number < below)
    }

    /// What would be right, as the rest of a sentence: "a number from 0 to 1".
    pub fn expected(&self) -> String {
        let within = match (self.min, self.max, self.below) {
            (Some(min), Some(max), _) => format!(" from {min} to {max}"),
            (Some(min), None, Some(below)) => format!(" from {min} to below {below}"),
            (Some(min), None, None) => format!(" of at least {min}"),
            (None, Some(max), _) => format!(" of at most {max}"),
            (None, None, Some(below)) => format!(" below {below}"),
            (None, None, None) => String::new(),
        };
        let (one, several) = match self.kind {
            ValueType::Integer => (format!("a whole number{within}"), format!("whole numbers{within}")),
            ValueType::Number => (format!("a number{within}"), format!("numbers{within}")),
            ValueType::Boolean => ("`true` or `false`".to_owned(), "`true` or `false` each".to_owned()),
            ValueType::Choice => {
                let choices = self.choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ");
                (format!("one of {choices}"), format!("each one of {choices}"))
            }
            ValueType::Table => {
                let keys = self.fields.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
                (format!("a table with {keys}"), format!("tables with {keys}"))
            }
        };
        match (self.list, self.consecutive) {
            (false, _) => one,
            (true, false) => format!("a list of {several}"),
            (true, true) => format!("a list of consecutive {several}"),
        }
    }

    /// Checks the declaration itself; `field` is where it stands.
    pub(super) fn check(&self, field: &str) -> Result<(), InvalidInput> {
        let numeric = matches!(self.kind, ValueType::Integer | ValueType::Number);
        if self.help.trim().is_empty() {
            return Err(InvalidInput::new(format!("{field}.help"), &self.help, "a sentence"));
        }
        if (self.kind == ValueType::Choice) == self.choices.is_empty() {
            return Err(InvalidInput::new(
                format!("{field}.choices"),
                json!(self.choices),
                "texts, of a `choice` only",
            ));
        }
        if (self.kind == ValueType::Table) == self.fields.is_empty() {
            let names = self.fields.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(InvalidInput::new(format!("{field}.fields"), names, "fields, of a `table` only"));
        }
        if !numeric && (self.min, self.max, self.below) != (None, None, None) {
            return Err(InvalidInput::new(format!("{field}.min"), json!(self.min), "bounds of numbers only"));
        }
        if self.consecutive && !(self.list && self.kind == ValueType::Integer) {
            return Err(InvalidInput::new(format!("{field}.consecutive"), true, "a list of whole numbers"));
        }
        for (name, declaration) in &self.fields {
            declaration.check(&format!("{field}.fields.{name}"))?;
        }
        self.default.as_ref().map_or(Ok(()), |default| self.read(&format!("{field}.default"), default).map(drop))
    }

    /// What the API's document says of it.
    pub(super) fn schema(&self) -> Schema {
        let json = json!({ "description": self.help });
        let mut json = json.as_object().cloned().unwrap_or_default();
        json.extend(self.constraints(self.list));
        serde_json::from_value(Value::Object(json)).unwrap_or_default()
    }

    fn constraints(&self, list: bool) -> serde_json::Map<String, Value> {
        if list {
            let items = Value::Object(self.constraints(false));
            return [
                ("type".to_owned(), json!("array")),
                ("minItems".to_owned(), json!(1)),
                ("items".to_owned(), items),
            ]
            .into_iter()
            .collect();
        }
        let bound = |number: Option<f64>| number.map(|number| json!(number));
        let fields = |(name, field): (&String, &Self)| (name.clone(), json!(field.schema()));
        let more = match self.kind {
            ValueType::Choice => Some(("enum", json!(self.choices))),
            ValueType::Table => Some(("properties", Value::Object(self.fields.iter().map(fields).collect()))),
            ValueType::Integer | ValueType::Number | ValueType::Boolean => None,
        };
        let bounds =
            [("minimum", bound(self.min)), ("maximum", bound(self.max)), ("exclusiveMaximum", bound(self.below))];
        let bounds = bounds.into_iter().filter_map(|(name, bound)| Some((name, bound?)));
        let all = [("type", json!(self.kind.json_type()))].into_iter().chain(more).chain(bounds);
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Its type in the words of JSON Schema: `integer`, `array`.
    pub const fn json_type(&self) -> &'static str {
        if self.list { "array" } else { self.kind.json_type() }
    }
}

/// A whole number, however it's written.
fn whole(value: &Value) -> Option<i64> {
    let number = value.as_i64().or_else(|| {
        let number = value.as_f64()?;
        (number.fract() == 0.0 && number.abs() <= LARGEST as f64).then_some(number as i64)
    })?;
    (-LARGEST..=LARGEST).contains(&number).then_some(number)
}

fn number(number: f64) -> Option<Value> {
    Number::from_f64(number).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn declared(text: &str) -> ValueDeclaration {
        crate::input::from_toml(text).unwrap()
    }

    proptest! {
        #[test]
        fn a_number_is_one_value_however_it_is_written(number in prop::num::f64::NORMAL | prop::num::f64::ZERO, whole in -1000_i32..1000) {
            let any = declared("type = \"number\"\nhelp = \"x\"");
            let read = |text: &str| any.read("x", &serde_json::from_str(text).unwrap()).unwrap();
            let forms = [format!("{number:?}"), format!("{number:e}")];
            let [first, second] = forms.map(|text| read(&text).to_string());
            prop_assert_eq!(&first, &second);
            prop_assert_eq!(read(&format!("{whole}")), read(&format!("{whole}.0")));
            prop_assert_eq!(read(&format!("{whole}e0")), read(&format!("{whole}.0")));
            let integer = declared("type = \"integer\"\nhelp = \"x\"");
            let forms = [format!("{whole}"), format!("{whole}.0"), format!("{whole}e0")];
            for text in forms {
                let read = integer.read("x", &serde_json::from_str(&text).unwrap()).unwrap();
                prop_assert_eq!(read.to_string(), whole.to_string());
            }
        }
    }

    #[test]
    fn zero_has_no_sign() {
        for (kind, zero) in [("number", "0.0"), ("integer", "0")] {
            let declared = declared(&format!("type = \"{kind}\"\nhelp = \"x\""));
            for text in ["0", "0.0", "-0.0", "-0", "0e0"] {
                let read = declared.read("x", &serde_json::from_str(text).unwrap()).unwrap();
                assert_eq!(read.to_string(), zero, "{text} as {kind}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        for (text, value, expected) in [
            ("type = \"integer\"\nmin = 1\nmax = 5", json!(0), "a whole number from 1 to 5"),
            ("type = \"integer\"", json!(1.5), "a whole number"),
            ("type = \"integer\"", json!(u64::MAX), "a whole number"),
            ("type = \"number\"\nmin = 0\nbelow = 1", json!(1), "a number from 0 to below 1"),
            ("type = \"number\"\nmin = 0", json!("much"), "a number of at least 0"),
            ("type = \"number\"", json!(null), "a number"),
            ("type = \"boolean\"", json!("yes"), "`true` or `false`"),
            ("type = \"choice\"\nchoices = [\"adam\", \"sgd\"]", json!("lion"), "one of `adam`, `sgd`"),
            ("type = \"number\"\nlist = true", json!([]), "a list of numbers"),
            ("type = \"number\"\nlist = true", json!(3), "a list of numbers"),
            (
                "type = \"integer\"\nlist = true\nconsecutive = true\nmin = 1",
                json!([2, 4]),
                "a list of consecutive whole numbers of at least 1",
            ),
        ] {
            let error = declared(&format!("{text}\nhelp = \"x\"")).read("overrides.x", &value).unwrap_err();
            assert_eq!((error.errors[0].field.as_str(), error.errors[0].expected.as_str()), ("overrides.x", expected));
        }
    }

    #[test]
    fn a_table_has_its_fields_and_no_others() {
        let text = "type = \"table\"\nhelp = \"x\"\nfields = { every = { type = \"integer\", min = 0, help = \"y\" } }";
        let table = declared(text);
        assert_eq!(table.read("eval", &json!({ "every": 2.0 })).unwrap(), json!({ "every": 2 }));
        let refused = |value: Value| table.read("eval", &value).unwrap_err().errors.remove(0);
        assert_eq!(refused(json!({ "every": -1 })).field, "eval.every");
        assert_eq!(refused(json!({})).field, "eval.every");
        assert!(refused(json!({ "evry": 1 })).expected.contains("did you mean `every`?"));
        assert_eq!(refused(json!(3)).expected, "a table with `every`");
    }
}
