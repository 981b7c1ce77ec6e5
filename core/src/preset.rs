//! Presets: the published numbers of each method and protocol, one file each under `configs/trainer/`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::hyper::{Hyperparameters, Overrides};
use crate::input::{InvalidInput, from_toml};
use crate::method::Method;
use crate::names::Protocol;

/// The preset files; adding one is a line here.
const FILES: &[(&str, Protocol, &str)] = &[
    ("alignednorm", Protocol::BaseToNew, include_str!("../../configs/trainer/alignednorm.base_to_new.toml")),
    ("alignednorm", Protocol::CrossDataset, include_str!("../../configs/trainer/alignednorm.cross_dataset.toml")),
    ("alignednorm", Protocol::FewShot, include_str!("../../configs/trainer/alignednorm.few_shot.toml")),
    ("mmrlpp", Protocol::BaseToNew, include_str!("../../configs/trainer/mmrlpp.base_to_new.toml")),
    ("mmrlpp", Protocol::CrossDataset, include_str!("../../configs/trainer/mmrlpp.cross_dataset.toml")),
    ("mmrlpp", Protocol::FewShot, include_str!("../../configs/trainer/mmrlpp.few_shot.toml")),
    ("zero_shot", Protocol::BaseToNew, include_str!("../../configs/trainer/zero_shot.base_to_new.toml")),
    ("zero_shot", Protocol::CrossDataset, include_str!("../../configs/trainer/zero_shot.cross_dataset.toml")),
    ("zero_shot", Protocol::FewShot, include_str!("../../configs/trainer/zero_shot.few_shot.toml")),
];

/// One preset file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    defaults: Entry,
    #[serde(default)]
    datasets: BTreeMap<String, Entry>,
}

/// Values, and what the configuration's name has after the backbone's.
#[derive(Debug, Default, Deserialize)]
struct Entry {
    #[serde(default)]
    config_suffix: Option<String>,
    #[serde(flatten)]
    values: serde_json::Map<String, serde_json::Value>,
}

/// A method's published numbers for one protocol, data set and backbone.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// The configuration's name in output folders: `vit_b16_imagenet`.
    pub config: String,
    /// The values.
    pub hyper: Hyperparameters,
}

/// The protocols that `method` has published numbers for.
pub fn protocols(method: Method) -> impl Iterator<Item = Protocol> + Clone {
    FILES.iter().filter(move |(key, ..)| *key == method.key()).map(|(_, protocol, _)| *protocol)
}

/// The preset file of `method` for `protocol`, as it was written.
pub fn file(method: Method, protocol: Protocol) -> Result<&'static str, InvalidInput> {
    let found = FILES.iter().find(|(key, of, _)| *key == method.key() && *of == protocol);
    found.map(|(.., text)| *text).ok_or_else(|| {
        let known: Vec<&str> = protocols(method).map(Protocol::as_str).collect();
        InvalidInput::new("protocol", protocol, format!("one that `{method}` has a preset for: {}", known.join(", ")))
    })
}

/// Looks the preset up. Data sets without numbers of their own get the protocol's defaults.
pub fn resolve(method: Method, protocol: Protocol, dataset: &str, backbone: &str) -> Result<Preset, InvalidInput> {
    let file: File = from_toml(file(method, protocol)?)?;
    let defaults: Overrides = crate::input::from_value(file.defaults.values.into())?;
    let mut hyper = Hyperparameters::default().with(method, &defaults);
    let mut suffix = file.defaults.config_suffix.unwrap_or_default();
    if let Some(entry) = file.datasets.into_iter().find(|(key, _)| key == dataset).map(|(_, entry)| entry) {
        let values: Overrides = crate::input::from_value(entry.values.into())?;
        hyper = hyper.with(method, &values);
        suffix = entry.config_suffix.unwrap_or(suffix);
    }
    Ok(Preset { config: format!("{}{suffix}", backbone_slug(backbone)), hyper })
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
    use super::*;

    fn preset(method: &str, dataset: &str) -> Preset {
        resolve(method.parse().unwrap(), Protocol::BaseToNew, dataset, "ViT-B/16").unwrap()
    }

    #[test]
    fn every_file_parses_and_names_only_known_data_sets() {
        let catalogue = crate::dataset::Catalogue::built_in();
        for (method, protocol, text) in FILES {
            let file: File = from_toml(text).unwrap();
            for dataset in file.datasets.keys() {
                catalogue.get(dataset).unwrap();
                resolve(method.parse().unwrap(), *protocol, dataset, "ViT-B/16").unwrap();
            }
        }
    }

    #[test]
    fn the_published_numbers_are_found() {
        let cars = preset("alignednorm", "stanford_cars");
        assert_eq!(cars.config, "vit_b16");
        let h = &cars.hyper;
        assert_eq!((h.beta, h.reg_weight, h.final_norm, h.seq_norm, h.epochs), (0.6, 6.0, 0.15, 0.15, 13));
        let imagenet = preset("alignednorm", "imagenet");
        assert_eq!(imagenet.config, "vit_b16_imagenet");
        assert_eq!((imagenet.hyper.epochs, imagenet.hyper.train_batch, imagenet.hyper.test_batch), (5, 32, 256));
        let plain = preset("alignednorm", "icons").hyper;
        assert_eq!((plain.lr, plain.epochs, plain.warmup_epochs, plain.train_batch), (0.001, 10, 1, 4));
        let food = preset("mmrlpp", "food101").hyper;
        assert_eq!((food.beta, food.reg_weight, food.final_norm, food.seq_norm), (0.1, 1.0, 0.0, 0.0));
        assert_eq!(preset("zero_shot", "food101").hyper, Hyperparameters { test_batch: 128, ..Default::default() });
    }

    #[test]
    fn backbones_become_the_scripts_names() {
        assert_eq!(backbone_slug("ViT-B/16"), "vit_b16");
        assert_eq!(backbone_slug("clip-mini"), "clip_mini");
    }
}
