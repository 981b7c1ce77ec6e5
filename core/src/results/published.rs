//! How a row of our own stands beside the published results of its method's declaration.

use crate::experiment::matrix;
use crate::input::InvalidInput;
use crate::job::spec::JobSpec;
use crate::method::{Declaration, Published};
use crate::names::named;
use crate::protocol::Protocol;

named! {
    /// What a table can be compared with.
    pub enum Reference("compare") {
        /// The numbers of the papers.
        Published = "published",
    }
}

/// Whether a job computes what published numbers are of: the same protocol, backbone and shots, the preset's values and none of a
/// sweep.
pub(super) fn is_of(published: &Published, method: &Declaration, spec: &JobSpec, variant: &str) -> bool {
    let Published { protocol, backbone, shots, .. } = published;
    (*protocol, backbone.as_str(), *shots) == (spec.protocol, spec.backbone.as_str(), spec.shots)
        && variant.is_empty()
        && matrix::has_preset_values(method, spec)
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
    use std::collections::BTreeSet;

    use super::*;
    use crate::experiment::dataset;
    use crate::method::{Method, Methods, Numbers};
    use crate::results::stats::harmonic_mean;

    fn files() -> Vec<(Method, Published)> {
        let of =
            |known: &Declaration| known.published.iter().map(|file| (known.key(), file.clone())).collect::<Vec<_>>();
        let files: Vec<_> = Methods::built_in().list().iter().flat_map(of).collect();
        assert_eq!(files.len(), 3);
        files
    }

    #[test]
    fn every_file_has_its_source_and_the_eleven_data_sets() {
        for (_, file) in files() {
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
        for (method, Published { datasets, average, .. }) in files() {
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
    fn the_tables_say_what_the_papers_say() {
        let of = |key: &str| {
            let found = files().into_iter().find(|(method, _)| method.key() == key);
            found.map(|(_, file)| file)
        };
        assert_eq!(of("mmrlpp").unwrap().datasets["eurosat"], Numbers { base: 95.73, new: 84.17, hm: 89.58 });
        assert_eq!(of("alignednorm").unwrap().average, Numbers { base: 85.46, new: 77.79, hm: 81.45 });
        assert_eq!(of("zero_shot"), None);
    }
}
