//! Published results: what the papers' tables say of each method, one file each under `configs/published/` (embedded where the
//! method is registered, in [`crate::method`]), and how a row of our own stands beside them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::experiment::matrix;
use crate::input::{InvalidInput, from_json};
use crate::job::spec::JobSpec;
use crate::method::Method;
use crate::names::named;
use crate::protocol::Protocol;

named! {
    /// What a table can be compared with.
    pub enum Reference("compare") {
        /// The numbers of the papers.
        Published = "published",
    }
}

/// A method's published results.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The method's key.
    pub method: String,
    /// Where the numbers stand.
    pub source: String,
    /// What was measured.
    pub protocol: Protocol,
    /// The backbone.
    pub backbone: String,
    /// Training images per class.
    pub shots: u32,
    /// The seeds that the numbers are the means of.
    pub seeds: Vec<u64>,
    /// By the data set's key.
    pub datasets: BTreeMap<String, Numbers>,
    /// The means over all of the data sets.
    pub average: Numbers,
}

/// A published row, in per cent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numbers {
    /// Accuracy on the base classes.
    pub base: f64,
    /// Accuracy on the new classes.
    pub new: f64,
    /// The harmonic mean of the two.
    pub hm: f64,
}

impl Published {
    /// The published results of `method`, if there are any.
    pub fn of(method: Method) -> Result<Option<Self>, InvalidInput> {
        method.published().map(from_json).transpose()
    }

    /// Whether a job computes what the numbers are of: the same protocol, backbone and shots, the preset's values and none of a
    /// sweep.
    pub fn is_of(&self, spec: &JobSpec, variant: &str) -> bool {
        (self.protocol, self.backbone.as_str(), self.shots) == (spec.protocol, spec.backbone.as_str(), spec.shots)
            && variant.is_empty()
            && matrix::has_preset_values(spec)
    }

    /// The published average, if it's over just these data sets.
    pub fn average_over(&self, datasets: &BTreeSet<&str>) -> Option<Numbers> {
        self.datasets.keys().map(String::as_str).eq(datasets.iter().copied()).then_some(self.average)
    }
}

/// The refusal of a comparison under a protocol that has no published numbers.
pub fn none_of(protocol: Protocol) -> InvalidInput {
    let there_is = Protocol::BaseToNew;
    let expected =
        format!("an experiment of the protocol `{there_is}`, which is what there is; this one's is `{protocol}`");
    InvalidInput::new("compare", Reference::Published, expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::dataset;
    use crate::results::stats::harmonic_mean;

    fn files() -> Vec<Published> {
        let file = |method: Method| {
            let file = Published::of(method).unwrap()?;
            assert_eq!(file.method, method.key());
            Some(file)
        };
        let files: Vec<_> = Method::all().filter_map(file).collect();
        assert_eq!(files.len(), 3);
        files
    }

    #[test]
    fn every_file_has_its_source_and_the_eleven_data_sets() {
        for file in files() {
            assert!(file.source.contains("ICML 2026"), "{}", file.source);
            assert_eq!((file.protocol, file.backbone.as_str(), file.shots), (Protocol::BaseToNew, "ViT-B/16", 16));
            assert_eq!(file.seeds, [1, 2, 3]);
            let mut all = dataset::all_of(Protocol::BaseToNew);
            all.sort();
            assert!(file.datasets.keys().eq(&all), "{:?}", file.datasets.keys());
            let all: BTreeSet<&str> = all.iter().map(String::as_str).collect();
            assert_eq!(file.average_over(&all), Some(file.average));
            assert_eq!(file.average_over(&["dtd"].into()), None);
        }
    }

    #[test]
    fn the_numbers_agree_with_each_other() {
        for Published { method, datasets, average, .. } in files() {
            for (dataset, Numbers { base, new, hm }) in datasets.iter().chain([(&"average".to_owned(), &average)]) {
                // A harmonic mean was taken before its parts were rounded.
                assert!((harmonic_mean(*base, *new) - hm).abs() < 0.02, "{method}, {dataset}");
            }
            for pick in [|row: &Numbers| row.base, |row: &Numbers| row.new] {
                let mean = datasets.values().map(pick).sum::<f64>() / datasets.len() as f64;
                assert!((mean - pick(&average)).abs() < 0.01, "{method}: {mean}");
            }
        }
    }

    #[test]
    fn a_method_is_found_by_its_key() {
        let of = |key: &str| Published::of(key.parse().unwrap()).unwrap();
        assert_eq!(of("mmrlpp").unwrap().datasets["eurosat"], Numbers { base: 95.73, new: 84.17, hm: 89.58 });
        assert_eq!(of("alignednorm").unwrap().average, Numbers { base: 85.46, new: 77.79, hm: 81.45 });
        assert_eq!(of("zero_shot"), None);
    }
}
