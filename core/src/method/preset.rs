//! Presets: the published numbers of each method and protocol, one file each under `configs/trainer/`
//! (embedded where the method is registered, in [`crate::method`]).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::input::{InvalidInput, from_toml};
use crate::method::Method;
use crate::method::hyper::{Hyperparameters, Overrides};
use crate::protocol::Protocol;

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

/// Looks the preset up. Data sets without numbers of their own get the protocol's defaults.
pub fn resolve(method: Method, protocol: Protocol, dataset: &str, backbone: &str) -> Result<Preset, InvalidInput> {
    let file: File = from_toml(method.preset(protocol))?;
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
        let catalogue = crate::experiment::dataset::Catalogue::built_in();
        for method in Method::all() {
            for &protocol in Protocol::ALL {
                let file: File = from_toml(method.preset(protocol)).unwrap();
                let values = file.datasets.values().chain([&file.defaults]).flat_map(|entry| entry.values.keys());
                for key in values {
                    assert!(method.has(key), "{method} for {protocol} sets `{key}`, which means nothing for it");
                }
                for dataset in file.datasets.keys() {
                    catalogue.get(dataset).unwrap();
                    resolve(method, protocol, dataset, "ViT-B/16").unwrap();
                }
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
        let eurosat = preset("mmrl", "eurosat").hyper;
        assert_eq!((eurosat.rep_dim, eurosat.reg_weight, eurosat.beta, eurosat.test_batch), (2048, 0.01, 0.0, 250));
        let coop = preset("coop", "dtd");
        assert_eq!(
            (coop.config.as_str(), coop.hyper.n_ctx, coop.hyper.momentum),
            ("vit_b16_ep50", Some(16), Some(0.9))
        );
        assert_eq!((coop.hyper.lr, coop.hyper.epochs, coop.hyper.warmup_lr), (0.002, 50, 1e-5));
        assert_eq!(preset("zero_shot", "food101").hyper, Hyperparameters { test_batch: 128, ..Default::default() });
    }

    #[test]
    fn backbones_become_the_scripts_names() {
        assert_eq!(backbone_slug("ViT-B/16"), "vit_b16");
        assert_eq!(backbone_slug("clip-mini"), "clip_mini");
    }
}
