//! A method's declaration: `configs/methods/KEY.toml`, or a file of the user's own in `paths.methods`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::value::{ValueDeclaration, Values};
use super::{Method, Published};
use crate::input::{InvalidInput, Refusals, from_toml};
use crate::names::path_segment;
use crate::protocol::Protocol;

/// The longest label of a method in a table.
const LONGEST_LABEL: usize = 60;

/// What is known of a method without its implementation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    key: Method,
    /// The name in tables: `AlignedNorm`.
    pub label: String,
    /// The name in output folders: `ALIGNEDNORM`.
    pub folder: String,
    /// The folder of a checkpoint inside a training's output folder.
    #[serde(default = "checkpoint_folder")]
    pub checkpoint_folder: String,
    /// Whether the method learns anything: if not, its jobs have no seeds, no shots and no checkpoint.
    #[serde(default = "yes")]
    pub learns: bool,
    /// Whether its trainings see the same images in the same batches as those of other methods that say so.
    #[serde(default)]
    pub shares_images: bool,
    /// The values that mean something for it, by name.
    #[serde(default)]
    pub values: BTreeMap<String, ValueDeclaration>,
    presets: BTreeMap<Protocol, Entry>,
    /// The results of papers.
    #[serde(default)]
    pub published: Vec<Published>,
    /// Computed when it's read: every look for a job compares it.
    #[serde(skip)]
    sha256: [u8; 32],
}

fn checkpoint_folder() -> String {
    "checkpoint".to_owned()
}

const fn yes() -> bool {
    true
}

/// Values, what the configuration's name has after the backbone's, and both again for single data sets.
#[derive(Clone, Debug, Default, Deserialize)]
struct Entry {
    #[serde(default)]
    config_suffix: Option<String>,
    #[serde(default)]
    datasets: BTreeMap<String, Self>,
    #[serde(flatten)]
    values: BTreeMap<String, Value>,
}

/// A method's values for one protocol, data set and backbone.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// The configuration's name in output folders: `vit_b16_imagenet`.
    pub config: String,
    /// The values that change what is computed.
    pub hyper: Values,
    /// The values that don't.
    pub options: Values,
}

impl Declaration {
    /// Reads and checks a declaration.
    pub fn parse(text: &str) -> Result<Self, InvalidInput> {
        let mut declaration: Self = from_toml(text)?;
        let mut refusals = Refusals::default();
        refusals.keep(path_segment("folder", &declaration.folder));
        refusals.keep(path_segment("checkpoint_folder", &declaration.checkpoint_folder));
        let label = &declaration.label;
        if label.trim().is_empty() || label.chars().count() > LONGEST_LABEL || label.contains(crate::names::is_control)
        {
            let expected = format!("1 to {LONGEST_LABEL} characters, none of them a control character");
            refusals.add(InvalidInput::new("label", label, expected));
        }
        for (name, value) in &declaration.values {
            refusals.keep(
                name.parse::<Method>().map(drop).map_err(|_| {
                    InvalidInput::new("values", name, "names of 1 to 32 lower-case letters, digits or `_`")
                }),
            );
            if matches!(name.as_str(), "config_suffix" | "datasets") {
                refusals.add(InvalidInput::new("values", name, "another name: presets have this one"));
            }
            refusals.keep(value.check(&format!("values.{name}")));
        }
        for (i, published) in declaration.published.iter().enumerate() {
            refusals.keep(published.check(&format!("published[{i}]")));
        }
        // Presets are read as what is overridden is, so that one form of a number stands in both.
        let mut presets = std::mem::take(&mut declaration.presets);
        for (protocol, entry) in &mut presets {
            let mut read = |entry: &mut Entry, field: &str| {
                let values = std::mem::take(&mut entry.values);
                entry.values = refusals.keep(declaration.read(field, values)).unwrap_or_default().0;
            };
            read(entry, &format!("presets.{protocol}"));
            for (dataset, entry) in &mut entry.datasets {
                read(entry, &format!("presets.{protocol}.datasets.{dataset}"));
            }
            let says = |name: &String| entry.values.contains_key(name);
            for (name, value) in &declaration.values {
                if !value.optional && value.default.is_none() && !says(name) {
                    refusals.add(InvalidInput::new(format!("presets.{protocol}.{name}"), "nothing", value.expected()));
                }
            }
        }
        declaration.presets = presets;
        declaration.sha256 = declaration.digest();
        refusals.finish(declaration)
    }

    /// The key.
    pub const fn key(&self) -> Method {
        self.key
    }

    /// Brings values to their declared types; refuses those that the method doesn't have. `field` is the table they stand in.
    pub fn read(&self, field: &str, values: BTreeMap<String, Value>) -> Result<Values, InvalidInput> {
        let (mut read, mut refusals) = (Values::default(), Refusals::default());
        for (name, value) in values {
            let Some(declared) = self.values.get(&name) else {
                let allowed = crate::input::one_of(&name, self.values.keys().map(String::as_str));
                refusals.add(InvalidInput::new(field, name, format!("a value of `{}`: {allowed}", self.key)));
                continue;
            };
            if let Some(value) = refusals.keep(declared.read(&format!("{field}.{name}"), &value)) {
                read.0.insert(name, value);
            }
        }
        refusals.finish(read)
    }

    /// The values for a protocol, a data set and a backbone, with `overrides` in their place as far as the method has them: an
    /// experiment over several methods may override what only one of them has. Data sets without values of their own get the
    /// protocol's.
    pub fn resolve(
        &self,
        protocol: Protocol,
        dataset: &str,
        backbone: &str,
        overrides: &Values,
    ) -> Result<Preset, InvalidInput> {
        let entry = self.entry(protocol)?;
        let own = entry.datasets.get(dataset);
        let own_suffix = own.and_then(|own| own.config_suffix.as_ref());
        let suffix = own_suffix.or(entry.config_suffix.as_ref()).map_or("", String::as_str);
        let (mut hyper, mut options) = (Values::default(), Values::default());
        for (name, declared) in &self.values {
            let over = overrides.get(name).map(|value| declared.read(name, value)).transpose()?;
            let value = over.or_else(|| own.and_then(|own| own.values.get(name)).cloned());
            let value = value.or_else(|| entry.values.get(name).cloned()).or_else(|| declared.default.clone());
            if let Some(value) = value {
                let values = if declared.identity { &mut hyper } else { &mut options };
                values.0.insert(name.clone(), value);
            }
        }
        Ok(Preset { config: format!("{}{suffix}", backbone_slug(backbone)), hyper, options })
    }

    /// Reads the resolved values of a job, of which none may be missing: those that change what is computed, and the others. `field`
    /// is the table they stand in.
    pub fn resolved(&self, field: &str, values: &Values) -> Result<(Values, Values), InvalidInput> {
        let read = self.read(field, values.0.clone())?;
        let missing = self.values.iter().find(|(name, value)| !value.optional && read.get(name).is_none());
        if let Some((name, value)) = missing {
            return Err(InvalidInput::new(format!("{field}.{name}"), "nothing", value.expected()));
        }
        let is_hyper = |name: &String| self.values.get(name).is_some_and(|value| value.identity);
        let (hyper, options) = read.0.into_iter().partition(|(name, _)| is_hyper(name));
        Ok((Values(hyper), Values(options)))
    }

    /// SHA-256 of what jobs rest on: the key, the folders, what it learns and sees, and its values but for their meaning in words.
    /// Neither labels, nor presets, nor published results.
    pub const fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    fn digest(&self) -> [u8; 32] {
        let values = self.values.iter().map(|(name, value)| {
            let unworded = ValueDeclaration { help: String::new(), ..value.clone() };
            (name, unworded)
        });
        let values: BTreeMap<_, _> = values.collect();
        let all =
            serde_json::json!([self.key, self.folder, self.checkpoint_folder, self.learns, self.shares_images, values]);
        Sha256::digest(all.to_string()).into()
    }

    /// The preset of a protocol: its `defaults`, and those of single `datasets`.
    pub fn preset(&self, protocol: Protocol) -> Result<Value, InvalidInput> {
        let table = |entry: &Entry| {
            let suffix =
                entry.config_suffix.as_ref().map(|suffix| ("config_suffix".to_owned(), Value::from(suffix.as_str())));
            let values = entry.values.iter().map(|(name, value)| (name.clone(), value.clone()));
            Value::Object(suffix.into_iter().chain(values).collect())
        };
        let entry = self.entry(protocol)?;
        let datasets: serde_json::Map<_, _> =
            entry.datasets.iter().map(|(key, own)| (key.clone(), table(own))).collect();
        Ok(serde_json::json!({ "defaults": table(entry), "datasets": datasets }))
    }

    fn entry(&self, protocol: Protocol) -> Result<&Entry, InvalidInput> {
        self.presets.get(&protocol).ok_or_else(|| {
            let known: Vec<&str> = self.presets.keys().map(|protocol| protocol.as_str()).collect();
            let expected = format!("a protocol that `{}` has a preset for: {}", self.key, known.join(", "));
            InvalidInput::new("protocol", protocol, expected)
        })
    }

    /// The data sets that the presets of a protocol have values of their own for.
    pub fn preset_datasets(&self, protocol: Protocol) -> impl Iterator<Item = &str> {
        self.presets.get(&protocol).into_iter().flat_map(|entry| entry.datasets.keys().map(String::as_str))
    }
}

/// `ViT-B/16` → `vit_b16`: lower case, `-` becomes `_`, everything else that isn't a letter or digit is dropped.
pub fn backbone_slug(backbone: &str) -> String {
    backbone
        .chars()
        .filter_map(|c| match c {
            '-' | '_' => Some('_'),
            c if c.is_ascii_alphanumeric() => Some(c.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::method::Methods;

    fn preset(method: &str, dataset: &str) -> Preset {
        let declaration = Methods::built_in().known("method", method).unwrap();
        declaration.resolve(Protocol::BaseToNew, dataset, "ViT-B/16", &Values::default()).unwrap()
    }

    #[test]
    fn every_declaration_has_presets_and_names_only_known_data_sets() {
        let catalogue = crate::experiment::dataset::Catalogue::built_in();
        for declaration in Methods::built_in().list() {
            for &protocol in Protocol::ALL {
                declaration.resolve(protocol, "dtd", "ViT-B/16", &Values::default()).unwrap();
                for dataset in declaration.preset_datasets(protocol) {
                    catalogue.get(dataset).unwrap();
                }
            }
        }
    }

    #[test]
    fn the_published_numbers_are_found() {
        let cars = preset("alignednorm", "stanford_cars");
        assert_eq!(cars.config, "vit_b16");
        for (name, value) in [
            ("beta", json!(0.6)),
            ("reg_weight", json!(6.0)),
            ("final_norm", json!(0.15)),
            ("seq_norm", json!(0.15)),
            ("epochs", json!(13)),
        ] {
            assert_eq!(cars.hyper.get(name), Some(&value), "{name}");
        }
        let imagenet = preset("alignednorm", "imagenet");
        assert_eq!(imagenet.config, "vit_b16_imagenet");
        assert_eq!(imagenet.hyper.count("train_batch"), Some(32));
        let plain = preset("alignednorm", "icons").hyper;
        assert_eq!(
            (plain.number("lr"), plain.count("epochs"), plain.count("warmup_epochs")),
            (Some(0.001), Some(10), Some(1))
        );
        let eurosat = preset("mmrl", "eurosat").hyper;
        assert_eq!(
            (eurosat.count("rep_dim"), eurosat.number("reg_weight"), eurosat.get("beta")),
            (Some(2048), Some(0.01), None)
        );
        let coop = preset("coop", "dtd");
        assert_eq!((coop.config.as_str(), coop.hyper.count("n_ctx")), ("vit_b16_ep50", Some(16)));
        assert_eq!(coop.options.get("eval"), Some(&json!({ "every_epochs": 0 })));
        let zero_shot = preset("zero_shot", "food101");
        assert_eq!((zero_shot.hyper.0.len(), zero_shot.hyper.count("test_batch")), (1, Some(128)));
        assert!(zero_shot.options.is_empty());
    }

    #[test]
    fn overrides_apply_only_where_the_method_has_the_value() {
        let overrides =
            Values([("seq_norm", json!(0.5)), ("lr", json!(1))].map(|(name, value)| (name.to_owned(), value)).into());
        let resolved = |method: &str| {
            let declaration = Methods::built_in().known("method", method).unwrap();
            declaration.resolve(Protocol::BaseToNew, "dtd", "ViT-B/16", &overrides).unwrap().hyper
        };
        assert_eq!(resolved("alignednorm").get("seq_norm"), Some(&json!(0.5)));
        assert_eq!((resolved("mmrl").get("seq_norm"), resolved("mmrl").get("lr")), (None, Some(&json!(1.0))));
        assert!(resolved("zero_shot").get("lr").is_none());
    }

    #[test]
    fn what_is_wrong_in_a_declaration_is_named() {
        const TEXT: &str = "key = \"own\"\nlabel = \"Own\"\nfolder = \"Own\"\n\
             [values]\nwidth = { type = \"integer\", min = 1, help = \"Width.\" }\n[presets.few_shot]\nwidth = 4\n";
        Declaration::parse(TEXT).unwrap();
        for (from, to, field) in [
            ("\"own\"", "\"Own!\"", "key"),
            ("\"Own\"\nfolder", "\"\"\nfolder", "label"),
            ("folder = \"Own\"", "folder = \"a/b\"", "folder"),
            ("width = 4", "width = 0", "presets.few_shot.width"),
            ("width = 4", "", "presets.few_shot.width"),
            ("width = 4", "width = 4\nheight = 5", "presets.few_shot"),
            ("min = 1", "least = 1", "values.width"),
            ("\"Width.\"", "\"\"", "values.width.help"),
            ("integer", "whole", "values.width.type"),
            ("few_shot", "fewshot", "presets.fewshot"),
        ] {
            let error = Declaration::parse(&TEXT.replacen(from, to, 1)).unwrap_err();
            assert_eq!(error.errors[0].field, field, "{from} → {to}: {error}");
        }
    }

    #[test]
    fn backbones_become_the_scripts_names() {
        assert_eq!(backbone_slug("ViT-B/16"), "vit_b16");
        assert_eq!(backbone_slug("clip-mini"), "clip_mini");
    }
}
