//! Methods, by their declarations.
//!
//! A method is a declaration and an implementation. The declaration, `configs/methods/KEY.toml`, says all that the coordinator must
//! know: names, values, presets, published results. The implementation is the trainer's. A stored job may name a method that this
//! version doesn't know: it's loaded and shown, and nobody can run it.

mod declaration;
mod published;
pub mod value;

use std::sync::{Arc, LazyLock};

use arrayvec::ArrayString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

pub use declaration::{Declaration, Preset, backbone_slug};
pub use published::{Numbers, Published};
use serde_json::Value;
use value::{ValueDeclaration, Values};

use crate::input::{InvalidInput, Refusals, one_of};

/// The most characters of a method's key.
const LONGEST_KEY: usize = 32;

/// A method, by its key: `alignednorm`. Whether this version knows it is for [`Methods`] to say.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Method(ArrayString<LONGEST_KEY>);

impl Method {
    /// The name in experiments, jobs and the database.
    pub fn key(&self) -> &str {
        self.0.as_str()
    }
}

impl std::str::FromStr for Method {
    type Err = InvalidInput;

    /// Takes whatever could be a method's key.
    fn from_str(text: &str) -> Result<Self, InvalidInput> {
        let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let key = ArrayString::from(text).ok().filter(|key| !key.is_empty() && key.bytes().all(fine));
        let expected = || format!("1 to {LONGEST_KEY} lower-case letters, digits or `_`");
        key.map(Self).ok_or_else(|| InvalidInput::new("method", text, expected()))
    }
}

impl std::fmt::Debug for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Method").field(&self.key()).finish()
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.key())
    }
}

impl utoipa::PartialSchema for Method {
    fn schema() -> RefOr<Schema> {
        let pattern = format!("^[a-z0-9_]{{1,{LONGEST_KEY}}}$");
        let known =
            Methods::built_in().list().iter().map(|known| known.key().to_string()).collect::<Vec<_>>().join(", ");
        let description = format!("A method's key: {known}, or one of the coordinator's own.");
        ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).description(Some(description)).into()
    }
}

impl utoipa::ToSchema for Method {}

impl Serialize for Method {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.key())
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: InvalidInput| {
            serde::de::Error::custom(format!(
                "expected {}",
                error.errors.first().map_or("a key", |error| &error.expected)
            ))
        })
    }
}

/// The methods that a machine knows, in the order in which tables list them.
#[derive(Clone, Debug)]
pub struct Methods(Vec<Declaration>);

/// The declarations that this version brings along, in the order of tables.
static BUILT_IN: LazyLock<Arc<Methods>> = LazyLock::new(|| {
    let texts = [
        include_str!("../../../configs/methods/alignednorm.toml"),
        include_str!("../../../configs/methods/mmrlpp.toml"),
        include_str!("../../../configs/methods/mmrl.toml"),
        include_str!("../../../configs/methods/coop.toml"),
        include_str!("../../../configs/methods/zero_shot.toml"),
    ];
    let read = |text| Declaration::parse(text).unwrap_or_else(|error| panic!("a built-in declaration: {error}"));
    Arc::new(Methods(texts.into_iter().map(read).collect()))
});

impl Methods {
    /// Those that this version brings along.
    pub fn built_in() -> &'static Arc<Self> {
        &BUILT_IN
    }

    /// Adds a user's own method, behind all others. The built-in keys can't be taken, so that a number under such a key means what
    /// it means everywhere.
    pub fn add(&mut self, declaration: Declaration) -> Result<(), InvalidInput> {
        if self.get(declaration.key()).is_some() {
            return Err(InvalidInput::new("key", declaration.key(), "a key that no other method has"));
        }
        let same_folder = self.0.iter().find(|known| known.folder == declaration.folder);
        if let Some(known) = same_folder {
            let expected = format!("a folder of its own: `{}` has this one", known.key());
            return Err(InvalidInput::new("folder", &declaration.folder, expected));
        }
        self.0.push(declaration);
        Ok(())
    }

    /// All declarations, in the order of tables.
    pub fn list(&self) -> &[Declaration] {
        &self.0
    }

    /// A method's declaration; `None` for a method that isn't known here.
    pub fn get(&self, method: Method) -> Option<&Declaration> {
        self.0.iter().find(|known| known.key() == method)
    }

    /// The same, with a refusal that names the known ones. `field` is where the key stands.
    pub fn known(&self, field: &str, key: &str) -> Result<&Declaration, InvalidInput> {
        let keys: Vec<Method> = self.0.iter().map(Declaration::key).collect();
        let known = self.0.iter().find(|known| known.key().key() == key);
        known.ok_or_else(|| InvalidInput::new(field, key, one_of(key, keys.iter().map(Method::key))))
    }

    /// A method's place in tables; those that aren't known come last.
    pub fn place(&self, method: Method) -> usize {
        self.0.iter().position(|known| known.key() == method).unwrap_or(self.0.len())
    }

    /// A method's name in tables; the key of one that isn't known.
    pub fn label(&self, method: Method) -> String {
        self.get(method).map_or_else(|| method.to_string(), |known| known.label.clone())
    }

    /// Every value of any method, each name once, by the first declaration that has it.
    pub fn values(&self) -> impl Iterator<Item = (&str, &ValueDeclaration)> {
        let all = || self.0.iter().enumerate().flat_map(|(i, known)| known.values.iter().map(move |value| (i, value)));
        all().filter_map(move |(i, (name, value))| {
            let first = self.0.iter().position(|known| known.values.contains_key(name)) == Some(i);
            first.then_some((name.as_str(), value))
        })
    }

    /// Brings a value to its type, if all of `methods` that have it take it. `field` is where it stands.
    pub fn read_value(
        &self,
        field: &str,
        methods: &[Method],
        name: &str,
        value: &Value,
    ) -> Result<Value, InvalidInput> {
        let Some(declaration) = self.value(name, methods) else {
            return Err(InvalidInput::new(field, name, self.known_value(name, |_| true)));
        };
        for other in methods.iter().filter_map(|method| self.get(*method)?.values.get(name)) {
            other.read(field, value)?;
        }
        declaration.read(field, value)
    }

    /// The same of a table of values; `field` is the table's.
    pub fn read(
        &self,
        field: &str,
        methods: &[Method],
        values: impl IntoIterator<Item = (String, Value)>,
    ) -> Result<Values, InvalidInput> {
        let (mut read, mut refusals) = (Values::default(), Refusals::default());
        for (name, value) in values {
            let field = match self.value(&name, methods) {
                Some(_) => format!("{field}.{name}"),
                None => field.to_owned(),
            };
            if let Some(value) = refusals.keep(self.read_value(&field, methods, &name, &value)) {
                read.0.insert(name, value);
            }
        }
        refusals.finish(read)
    }

    /// What is expected of a value's name that isn't known, with the nearest of those that are `wanted`.
    pub fn known_value(&self, name: &str, wanted: impl Fn(&ValueDeclaration) -> bool) -> String {
        let known: Vec<&str> = self.values().filter(|(_, value)| wanted(value)).map(|(name, _)| name).collect();
        format!("a known key: {}", one_of(name, known))
    }

    /// The declaration of a value by the first of `methods` that has it, or else by any.
    pub fn value(&self, name: &str, methods: &[Method]) -> Option<&ValueDeclaration> {
        let wanted = methods.iter().filter_map(|method| self.get(*method));
        wanted.chain(&self.0).find_map(|known| known.values.get(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_methods_stand_in_the_order_of_tables() {
        let methods = Methods::built_in();
        let labels: Vec<_> = methods.list().iter().map(|known| known.label.as_str()).collect();
        assert_eq!(labels, ["AlignedNorm", "MMRL++", "MMRL", "CoOp", "CLIP (zero-shot)"]);
        let unknown: Method = "prompt_src".parse().unwrap();
        assert_eq!((methods.place(unknown), methods.label(unknown)), (5, "prompt_src".to_owned()));
        assert!(methods.known("methods[0]", "cop").unwrap_err().to_string().contains("did you mean `coop`?"));
    }

    #[test]
    fn a_key_is_short_and_plain() {
        for text in ["", "CoOp", "a b", "a/b", &"a".repeat(33)] {
            assert!(text.parse::<Method>().is_err(), "{text}");
        }
        assert_eq!(serde_json::from_str::<Method>("\"gone_since\"").unwrap().key(), "gone_since");
    }

    #[test]
    fn a_user_s_own_method_takes_no_other_s_place() {
        let mut methods = Methods::built_in().as_ref().clone();
        let own = |key: &str, folder: &str| {
            let text = format!("key = \"{key}\"\nlabel = \"Own\"\nfolder = \"{folder}\"\nlearns = false\n[presets]");
            Declaration::parse(&text).unwrap()
        };
        methods.add(own("own", "Own")).unwrap();
        assert_eq!(methods.add(own("coop", "x")).unwrap_err().errors[0].field, "key");
        assert_eq!(methods.add(own("other", "CoOp")).unwrap_err().errors[0].field, "folder");
    }
}
