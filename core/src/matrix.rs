//! From an experiment to its jobs (method.md, section 7).

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::dataset::Catalogue;
use crate::experiment::Experiment;
use crate::hyper::Overrides;
use crate::input::InvalidInput;
use crate::method::Method;
use crate::names::{Precision, Protocol, Stage};
use crate::preset;
use crate::spec::{JobSpec, SpecHash, hex};

/// The most jobs that one experiment may have.
pub const MOST_JOBS: usize = 1_000_000;

/// A job of an experiment, before it has an identifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedJob {
    /// What to compute.
    pub spec: JobSpec,
    /// The specification's hash.
    pub hash: SpecHash,
    /// The sweep's values, for the row in the table: `alpha=0.5`; empty without a sweep.
    pub variant: String,
}

/// Expands an experiment into its jobs: a training job stands before the jobs that test its checkpoint, and no job twice.
pub fn expand(experiment: &Experiment, catalogue: &Catalogue) -> Result<Vec<PlannedJob>, InvalidInput> {
    let mut jobs = Jobs::default();
    let variants = experiment.variants()?;
    for dataset in &experiment.datasets {
        let template = &catalogue.get(dataset)?.template;
        let overrides = experiment.overrides_for(dataset);
        for &method in &experiment.methods {
            for (variant, swept) in &variants {
                let overrides = overrides.merged(swept);
                for (shots, seed) in draws(method, experiment) {
                    let spec = cell(experiment, method, dataset, template, &overrides, shots, seed)?;
                    jobs.add_cell(spec, variant)?;
                }
            }
        }
    }
    Ok(jobs.planned)
}

/// The shots and seeds of a method's jobs. A method that learns nothing draws nothing: it has one job, not one per seed.
fn draws(method: Method, experiment: &Experiment) -> Vec<(u32, u64)> {
    if !method.learns() {
        return vec![(0, 0)];
    }
    let seeds = &experiment.seeds;
    experiment.shots.iter().flat_map(|&shots| seeds.iter().map(move |&seed| (shots, seed))).collect()
}

/// The training job of one cell of the matrix.
fn cell(
    experiment: &Experiment,
    method: Method,
    dataset: &str,
    template: &str,
    overrides: &Overrides,
    shots: u32,
    seed: u64,
) -> Result<JobSpec, InvalidInput> {
    let preset = preset::resolve(method, experiment.protocol, dataset, &experiment.backbone)?;
    let mut spec = JobSpec {
        method,
        protocol: experiment.protocol,
        stage: Stage::Train,
        dataset: dataset.to_owned(),
        template: template.to_owned(),
        shots,
        seed,
        backbone: experiment.backbone.clone(),
        config: preset.config,
        hyper: preset.hyper.clone().with(method, overrides),
        precision: experiment.precision,
        trained_by: None,
    };
    if !same_numbers(&spec, &preset.hyper) {
        // Two folders of one data set, seed and configuration must not be the same folder.
        let values = serde_json::json!([without_evaluation(&spec.hyper), spec.precision]).to_string();
        let tag = hex(&Sha256::digest(values)[..4]);
        spec.config = format!("{}-{tag}", spec.config);
    }
    Ok(spec)
}

fn same_numbers(spec: &JobSpec, preset: &crate::hyper::Hyperparameters) -> bool {
    spec.precision == Precision::Fp32 && without_evaluation(&spec.hyper) == without_evaluation(preset)
}

fn without_evaluation(hyper: &crate::hyper::Hyperparameters) -> crate::hyper::Hyperparameters {
    crate::hyper::Hyperparameters { eval: crate::hyper::Evaluation::default(), ..hyper.clone() }
}

#[derive(Default)]
struct Jobs {
    planned: Vec<PlannedJob>,
    seen: HashSet<(SpecHash, String)>,
}

impl Jobs {
    /// Adds what the protocol makes of a cell: the training job, and where there is one the test on new classes.
    fn add_cell(&mut self, train: JobSpec, variant: &str) -> Result<(), InvalidInput> {
        let trained_by = train.method.learns().then(|| train.hash());
        let test = match train.protocol {
            Protocol::BaseToNew => Some(JobSpec { stage: Stage::Test, trained_by, ..train.clone() }),
            Protocol::CrossDataset | Protocol::FewShot => None,
        };
        for spec in std::iter::once(train).chain(test) {
            let hash = spec.hash();
            if self.seen.insert((hash, variant.to_owned())) {
                self.planned.push(PlannedJob { spec, hash, variant: variant.to_owned() });
            }
        }
        if self.planned.len() > MOST_JOBS {
            return Err(InvalidInput::new("experiment", "its matrix", format!("at most {MOST_JOBS} jobs")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Known;
    use crate::layout;

    fn planned(text: &str) -> Vec<PlannedJob> {
        let known = Known { datasets: Catalogue::built_in(), backbones: Vec::new() };
        let text = format!("name = \"x\"\nprotocol = \"base_to_new\"\nbackbone = \"ViT-B/16\"\n{text}");
        expand(&Experiment::from_toml(&text, &known).unwrap(), &known.datasets).unwrap()
    }

    #[test]
    fn the_published_matrix_of_a_method_has_66_jobs() {
        let jobs = planned("methods = [\"alignednorm\"]\ndatasets = \"all\"");
        assert_eq!(jobs.len(), 66);
        let folders: HashSet<_> = jobs.iter().map(|job| layout::folder(&job.spec)).collect();
        assert_eq!(folders.len(), 66);
        assert!(folders.contains("base2new/train_base/imagenet/shots_16/ALIGNEDNORM/vit_b16_imagenet/seed2"));
        assert!(folders.contains("base2new/test_new/eurosat/shots_16/ALIGNEDNORM/vit_b16/seed3"));
    }

    #[test]
    fn a_test_follows_the_training_it_needs() {
        let jobs = planned("methods = [\"mmrlpp\"]\ndatasets = [\"dtd\"]\nseeds = [1]");
        let [train, test] = jobs.as_slice() else { panic!("{jobs:?}") };
        assert_eq!((train.spec.stage, train.spec.trained_by), (Stage::Train, None));
        assert_eq!((test.spec.stage, test.spec.trained_by), (Stage::Test, Some(train.hash)));
    }

    #[test]
    fn zero_shot_has_no_seeds() {
        let jobs = planned("methods = [\"zero_shot\"]\ndatasets = [\"dtd\"]\nseeds = [1, 2, 3]");
        let folders: Vec<_> = jobs.iter().map(|job| layout::folder(&job.spec)).collect();
        assert_eq!(
            folders,
            [
                "base2new/train_base/dtd/shots_0/ZeroshotCLIP/vit_b16/seed0",
                "base2new/test_new/dtd/shots_0/ZeroshotCLIP/vit_b16/seed0"
            ]
        );
    }

    #[test]
    fn other_values_are_other_jobs_in_other_folders() {
        let preset = planned("methods = [\"alignednorm\"]\ndatasets = [\"dtd\"]\nseeds = [1]");
        let other = planned("methods = [\"alignednorm\"]\ndatasets = [\"dtd\"]\nseeds = [1]\n[overrides]\nlr = 0.01");
        let swept =
            planned("methods = [\"alignednorm\"]\ndatasets = [\"dtd\"]\nseeds = [1]\n[sweep]\nlr = [0.01, 0.001]");
        assert_ne!(preset[0].hash, other[0].hash);
        assert!(other[0].spec.config.starts_with("vit_b16-"), "{}", other[0].spec.config);
        assert_eq!((swept[0].hash, swept[2].hash), (other[0].hash, preset[0].hash), "a job is its numbers");
        assert_eq!(swept[2].spec.config, "vit_b16");
    }

    #[test]
    fn evaluating_more_often_is_the_same_job() {
        let preset = planned("methods = [\"alignednorm\"]\ndatasets = [\"dtd\"]\nseeds = [1]");
        let more = planned(
            "methods = [\"alignednorm\"]\ndatasets = [\"dtd\"]\nseeds = [1]\n[overrides]\neval = { every_epochs = 2 }",
        );
        assert_eq!((preset[0].hash, &preset[0].spec.config), (more[0].hash, &more[0].spec.config));
    }
}
