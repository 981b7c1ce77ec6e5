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
    let trained_on: Vec<&String> = match &experiment.source {
        Some(source) => vec![source],
        None => experiment.datasets.iter().collect(),
    };
    for dataset in trained_on {
        for &method in &experiment.methods {
            for (variant, swept) in &variants {
                for (shots, seed) in draws(method, experiment) {
                    let cell = Cell { experiment, catalogue, method, swept, shots, seed };
                    let train = cell.job(dataset)?;
                    jobs.add(train.clone(), variant)?;
                    for test in cell.tests(&train)? {
                        jobs.add(test, variant)?;
                    }
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

/// One cell of the matrix: everything but the data set.
struct Cell<'a> {
    experiment: &'a Experiment,
    catalogue: &'a Catalogue,
    method: Method,
    swept: &'a Overrides,
    shots: u32,
    seed: u64,
}

impl Cell<'_> {
    /// The job that trains on a data set, and tests on what it was trained on.
    fn job(&self, dataset: &str) -> Result<JobSpec, InvalidInput> {
        let Self { experiment, method, .. } = *self;
        let preset = preset::resolve(method, experiment.protocol, dataset, &experiment.backbone)?;
        let overrides = experiment.overrides_for(dataset).merged(self.swept);
        let mut spec = JobSpec {
            method,
            protocol: experiment.protocol,
            stage: Stage::Train,
            dataset: dataset.to_owned(),
            template: self.catalogue.get(dataset)?.template.clone(),
            shots: self.shots,
            seed: self.seed,
            backbone: experiment.backbone.clone(),
            config: preset.config,
            hyper: preset.hyper.clone().with(method, &overrides),
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

    /// What the protocol tests a training job's checkpoint on.
    fn tests(&self, train: &JobSpec) -> Result<Vec<JobSpec>, InvalidInput> {
        let trained_by = self.method.learns().then(|| train.hash());
        let test = JobSpec { stage: Stage::Test, trained_by, ..train.clone() };
        match train.protocol {
            Protocol::BaseToNew => Ok(vec![test]),
            Protocol::FewShot => Ok(Vec::new()),
            Protocol::CrossDataset => {
                let on = |target: &String| {
                    let own = self.job(target)?;
                    let mut test = JobSpec { dataset: own.dataset, template: own.template, ..test.clone() };
                    // At test time the target's own β counts (method.md, section 5).
                    test.hyper.beta = own.hyper.beta;
                    Ok(test)
                };
                self.experiment.datasets.iter().map(on).collect()
            }
        }
    }
}

/// Whether a job that some experiment trains on its data set has the values of its preset, and the precision they are for.
pub(crate) fn has_preset_values(spec: &JobSpec) -> bool {
    let preset = preset::resolve(spec.method, spec.protocol, &spec.dataset, &spec.backbone);
    preset.is_ok_and(|preset| same_numbers(spec, &preset.hyper))
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
    /// Adds a job, if it isn't there already.
    fn add(&mut self, spec: JobSpec, variant: &str) -> Result<(), InvalidInput> {
        let hash = spec.hash();
        if self.seen.insert((hash, variant.to_owned())) {
            self.planned.push(PlannedJob { spec, hash, variant: variant.to_owned() });
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
        planned_under("base_to_new", text)
    }

    fn planned_under(protocol: &str, text: &str) -> Vec<PlannedJob> {
        let known = Known { datasets: Catalogue::built_in(), backbones: Vec::new() };
        let text = format!("name = \"x\"\nprotocol = \"{protocol}\"\nbackbone = \"ViT-B/16\"\n{text}");
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
    fn cross_dataset_trains_on_the_source_and_tests_with_each_target_s_beta() {
        let jobs = planned_under("cross_dataset", "methods = [\"alignednorm\"]\ndatasets = \"all\"");
        assert_eq!(jobs.len(), 3 + 14 * 3);
        let folders: HashSet<_> = jobs.iter().map(|job| layout::folder(&job.spec)).collect();
        assert_eq!(folders.len(), jobs.len());
        assert!(folders.contains("base2new/train_base/imagenet/shots_16/ALIGNEDNORM/vit_b16_cross_datasets/seed1"));
        assert!(folders.contains("base2new/test_new/food101/shots_16/ALIGNEDNORM/vit_b16_cross_datasets/seed3"));
        let [source, first, ..] = jobs.as_slice() else { panic!("{jobs:?}") };
        assert_eq!(
            (source.spec.dataset.as_str(), source.spec.hyper.reg_weight, source.spec.hyper.alpha),
            ("imagenet", 0.1, 0.9)
        );
        assert_eq!((first.spec.dataset.as_str(), first.spec.trained_by), ("caltech101", Some(source.hash)));
        assert_eq!((first.spec.hyper.beta, source.spec.hyper.beta), (0.6, 0.9));
    }

    #[test]
    fn few_shot_has_a_job_for_each_data_set_shots_and_seed() {
        let jobs =
            planned_under("few_shot", "methods = [\"alignednorm\"]\ndatasets = \"all\"\nshots = [1, 2, 4, 8, 16]");
        assert_eq!(jobs.len(), 165);
        let folders: HashSet<_> = jobs.iter().map(|job| layout::folder(&job.spec)).collect();
        assert_eq!(folders.len(), 165);
        assert!(folders.contains("few_shot/oxford_flowers/shots_8/ALIGNEDNORM/vit_b16_few_shot/seed2"));
        assert!(folders.contains("few_shot/imagenet/shots_1/ALIGNEDNORM/vit_b16_imagenet/seed1"));
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
        let mixed = planned("methods = [\"alignednorm\"]\ndatasets = [\"dtd\"]\nseeds = [1]\nprecision = \"amp_bf16\"");
        assert!(mixed.iter().all(|job| job.spec.precision == Precision::AmpBf16));
        assert!(mixed[0].spec.config.starts_with("vit_b16-"), "{}", mixed[0].spec.config);
        assert_ne!(mixed[0].hash, preset[0].hash);
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
