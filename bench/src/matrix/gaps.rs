//! How long a slot does nothing for an experiment between two of its jobs.

use promptfield_core::job::outcome::Manifest;

/// A completed job, and the slot that it ran on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done<'a> {
    pub(super) slot: u64,
    pub(super) manifest: &'a Manifest,
}

/// From the end of each job to the first step of the next one on the same slot, in seconds, if it uses the same backbone and data
/// set: afterwards the first is put in its place and reported, and the other got and prepared.
pub(super) fn gaps(mut jobs: Vec<Done>) -> Vec<f64> {
    jobs.sort_by_key(|job| (job.slot, job.manifest.started_at));
    let pairs = jobs.windows(2).filter_map(|pair| {
        let [a, b] = pair else { return None };
        let place = |job: &Done| (job.slot, job.manifest.spec.backbone.clone(), job.manifest.spec.dataset.clone());
        if place(a) != place(b) {
            return None;
        }
        let (a, b) = (a.manifest, b.manifest);
        let begun_apart = b.started_at.since(a.started_at) as f64 / 1e3;
        Some(begun_apart + b.seconds.prepare - (a.seconds.prepare + a.seconds.train + a.seconds.test))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use promptfield_core::experiment::{Experiment, Known, matrix};
    use promptfield_core::job::backbone::Architecture;
    use promptfield_core::job::outcome::{Seconds, TestResult};
    use promptfield_core::time::Timestamp;
    use std::collections::BTreeMap;

    use super::*;

    fn manifest(dataset: &str, started_at: i64, [prepare, train, test]: [f64; 3]) -> Manifest {
        let known = Known::built_in();
        let text = format!(
            "name = \"x\"\nprotocol = \"few_shot\"\nmethods = [\"mmrl\"]\ndatasets = [\"{dataset}\"]\nseeds = [1]\n\
             backbone = \"ViT-B/16\""
        );
        let jobs = matrix::expand(&Experiment::from_toml(&text, &known).unwrap(), &known).unwrap();
        Manifest {
            format: Manifest::FORMAT,
            spec: jobs[0].spec.to_spec(),
            spec_hash: jobs[0].hash,
            weights_sha256: String::new(),
            architecture: Architecture::OPENAI,
            assumed: Vec::new(),
            split_sha256: String::new(),
            test_sha256: None,
            checkpoint_sha256: None,
            left_out: Vec::new(),
            code_version: String::new(),
            device: "cpu".to_owned(),
            threads: 1,
            result: Some(TestResult {
                total: 1,
                correct: 1,
                accuracy: 100.0,
                error: 0.0,
                macro_f1: 100.0,
                calibration_error: None,
            }),
            started_at: Timestamp(started_at),
            seconds: Seconds { prepare, train, test },
            files: BTreeMap::new(),
        }
    }

    #[test]
    fn a_gap_lies_between_jobs_of_one_slot_and_place() {
        let manifests = [
            manifest("dtd", 20_000, [1.0, 5.0, 2.0]),
            manifest("dtd", 10_000, [0.5, 8.0, 1.0]),
            manifest("dtd", 30_000, [0.5, 1.0, 1.0]),
            manifest("eurosat", 29_000, [1.0, 1.0, 1.0]),
            manifest("eurosat", 32_250, [0.25, 1.0, 1.0]),
        ];
        let done = manifests.iter().zip([1, 1, 2, 1, 1]).map(|(manifest, slot)| Done { slot, manifest });
        assert_eq!(gaps(done.collect()), [1.5, 0.5]);
        assert_eq!(gaps(Vec::new()), Vec::<f64>::new());
    }
}
