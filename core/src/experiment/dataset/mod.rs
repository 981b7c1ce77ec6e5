//! Data sets: the fifteen of the literature, and a user's own.
//!
//! A definition holds names and relative folders only; where the data root lies is each machine's own setting.

mod sources;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
pub use sources::{PublishedSize, Source, published_size, sources_of};

use crate::input::{InvalidInput, from_toml, one_of};
use crate::names::path_segment;
use crate::protocol::Protocol;

/// Where a data set lies below the data root, and how its classes are put into words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetDefinition {
    /// The key in experiments and output folders: `caltech101`.
    #[serde(rename = "name")]
    pub key: String,
    /// The name in tables: `Caltech101`. A user's data set has only its key.
    #[serde(default)]
    pub label: Option<String>,
    /// The folder below the data root.
    pub folder: String,
    /// The folder of the images, below `folder`; empty for `folder` itself.
    #[serde(default)]
    pub images: String,
    /// The split file below `folder` (`CoOp`'s JSON); without one, the image folder has one folder per class.
    #[serde(default)]
    pub split: Option<String>,
    /// The prompt, with `{}` where the class name goes.
    pub template: String,
}

/// `(key, label, folder, images, split, template)`, method.md section 6. An empty split means that the reader knows the
/// data set's own files.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

const PHOTO: &str = "a photo of a {}.";

#[rustfmt::skip]
const KNOWN: &[Row] = &[
    ("imagenet", "ImageNet", "imagenet", "images", "", PHOTO),
    ("caltech101", "Caltech101", "caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json", PHOTO),
    ("oxford_pets", "OxfordPets", "oxford_pets", "images", "split_zhou_OxfordPets.json", "a photo of a {}, a type of pet."),
    ("stanford_cars", "StanfordCars", "stanford_cars", "", "split_zhou_StanfordCars.json", PHOTO),
    ("oxford_flowers", "OxfordFlowers", "oxford_flowers", "jpg", "split_zhou_OxfordFlowers.json", "a photo of a {}, a type of flower."),
    ("food101", "Food101", "food-101", "images", "split_zhou_Food101.json", "a photo of {}, a type of food."),
    ("fgvc_aircraft", "FGVCAircraft", "fgvc_aircraft", "images", "", "a photo of a {}, a type of aircraft."),
    ("sun397", "SUN397", "sun397", "SUN397", "split_zhou_SUN397.json", PHOTO),
    ("dtd", "DescribableTextures", "dtd", "images", "split_zhou_DescribableTextures.json", "{} texture."),
    ("eurosat", "EuroSAT", "eurosat", "2750", "split_zhou_EuroSAT.json", "a centered satellite photo of {}."),
    ("ucf101", "UCF101", "ucf101", "UCF-101-midframes", "split_zhou_UCF101.json", "a photo of a person doing {}."),
    ("imagenetv2", "ImageNetV2", "imagenetv2", "imagenetv2-matched-frequency-format-val", "", PHOTO),
    ("imagenet_sketch", "ImageNetSketch", "imagenet-sketch", "images", "", PHOTO),
    ("imagenet_a", "ImageNetA", "imagenet-adversarial", "imagenet-a", "", PHOTO),
    ("imagenet_r", "ImageNetR", "imagenet-rendition", "imagenet-r", "", PHOTO),
];

/// The eleven data sets of base-to-new and few-shot, in the order of the papers' tables.
const ALL_ELEVEN: [&str; 11] = [
    "imagenet",
    "caltech101",
    "oxford_pets",
    "stanford_cars",
    "oxford_flowers",
    "food101",
    "fgvc_aircraft",
    "sun397",
    "dtd",
    "eurosat",
    "ucf101",
];

/// The data set that cross-dataset transfer starts from, unless an experiment names another.
pub const DEFAULT_SOURCE: &str = "imagenet";

/// The variants of ImageNet that cross-dataset transfer is tested on besides the ten other data sets.
pub const IMAGENET_VARIANTS: [&str; 4] = ["imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"];

/// What `datasets = "all"` means under a protocol.
pub fn all_of(protocol: Protocol) -> Vec<String> {
    let keys: Vec<&str> = match protocol {
        Protocol::BaseToNew | Protocol::FewShot => ALL_ELEVEN.to_vec(),
        Protocol::CrossDataset => {
            ALL_ELEVEN.into_iter().filter(|key| *key != DEFAULT_SOURCE).chain(IMAGENET_VARIANTS).collect()
        }
    };
    keys.into_iter().map(str::to_owned).collect()
}

impl DatasetDefinition {
    /// Reads a user's own definition from its TOML file.
    pub fn parse(text: &str) -> Result<Self, InvalidInput> {
        let definition: Self = from_toml(text)?;
        definition.check()?;
        Ok(definition)
    }

    /// The name for tables and manifests.
    pub fn label(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.key)
    }

    fn check(&self) -> Result<(), InvalidInput> {
        path_segment("name", &self.key)?;
        for (field, path) in
            [("folder", Some(&self.folder)), ("images", Some(&self.images)), ("split", self.split.as_ref())]
        {
            let Some(path) = path else { continue };
            if path.starts_with(['/', '\\']) || path.split(['/', '\\']).any(|part| part == "..") {
                return Err(InvalidInput::new(field, path, "a relative path that stays below the data root"));
            }
        }
        if self.folder.is_empty() {
            return Err(InvalidInput::new("folder", "", "the data set's folder below the data root"));
        }
        check_template("template", &self.template)
    }
}

/// A prompt template must hold `{}` exactly once.
pub fn check_template(field: &str, template: &str) -> Result<(), InvalidInput> {
    if template.matches("{}").count() == 1 {
        Ok(())
    } else {
        Err(InvalidInput::new(field, template, "a text with `{}` exactly once, where the class name goes"))
    }
}

/// The data sets that a machine knows by name.
#[derive(Clone, Debug)]
pub struct Catalogue(BTreeMap<String, DatasetDefinition>);

impl Catalogue {
    /// The fifteen data sets of the literature.
    pub fn built_in() -> Self {
        Self(
            KNOWN
                .iter()
                .map(|&(key, label, folder, images, split, template)| {
                    let definition = DatasetDefinition {
                        key: key.to_owned(),
                        label: Some(label.to_owned()),
                        folder: folder.to_owned(),
                        images: images.to_owned(),
                        split: (!split.is_empty()).then(|| split.to_owned()),
                        template: template.to_owned(),
                    };
                    (key.to_owned(), definition)
                })
                .collect(),
        )
    }

    /// Adds a user's own data set. The names of the literature can't be taken, so that a number under such a name means
    /// what it means everywhere.
    pub fn add(&mut self, definition: DatasetDefinition) -> Result<(), InvalidInput> {
        definition.check()?;
        if self.0.contains_key(&definition.key) {
            return Err(InvalidInput::new("name", &definition.key, "a name that no other data set has"));
        }
        self.0.insert(definition.key.clone(), definition);
        Ok(())
    }

    /// The definition of `key`, or a refusal that lists what is known.
    pub fn get(&self, key: &str) -> Result<&DatasetDefinition, InvalidInput> {
        self.0.get(key).ok_or_else(|| InvalidInput::new("dataset", key, one_of(key, self.keys())))
    }

    /// All definitions, sorted by key.
    pub fn definitions(&self) -> impl Iterator<Item = &DatasetDefinition> {
        self.0.values()
    }

    /// All keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_has_the_literature_and_takes_no_second_of_a_name() {
        let mut catalogue = Catalogue::built_in();
        assert_eq!(catalogue.keys().count(), 15);
        assert!(ALL_ELEVEN.iter().all(|key| catalogue.get(key).is_ok()));
        let text = "name = \"icons\"\nfolder = \"icons\"\nimages = \"images\"\ntemplate = \"an icon of a {}.\"";
        let icons = DatasetDefinition::parse(text).unwrap();
        catalogue.add(icons.clone()).unwrap();
        assert_eq!(catalogue.add(icons).unwrap_err().errors[0].field, "name");
        let error = catalogue.get("iconss").unwrap_err();
        assert!(error.to_string().contains("did you mean `icons`?"), "{error}");
    }

    #[test]
    fn definitions_stay_below_the_data_root() {
        for (field, text) in [
            ("folder", "name = \"x\"\nfolder = \"/etc\"\ntemplate = \"{}\""),
            ("images", "name = \"x\"\nfolder = \"x\"\nimages = \"../y\"\ntemplate = \"{}\""),
            ("template", "name = \"x\"\nfolder = \"x\"\ntemplate = \"a photo\""),
            ("name", "name = \"x/y\"\nfolder = \"x\"\ntemplate = \"{}\""),
        ] {
            assert_eq!(DatasetDefinition::parse(text).unwrap_err().errors[0].field, field, "{text}");
        }
    }
}
