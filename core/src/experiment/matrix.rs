//! From an experiment to its jobs (method.md, section 7).

use std::collections::HashSet;
use std::sync::Arc;

use crate::experiment::dataset::Catalogue;
use crate::experiment::{Experiment, Known};
use crate::input::InvalidInput;
use crate::job::spec::{CompactSpec, JobSpec, Recipe, RecipeHasher, SpecHash, config_tag};
use crate::method::value::Values;
use crate::method::{Declaration, Methods, Preset};
use crate::names::Precision;
use crate::protocol::{Protocol, Stage};

/// The most jobs that one experiment may have.
pub const MOST_JOBS: usize = 1_000_000;

/// A job of an experiment, before it has an identifier.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedJob {
    /// What to compute.
    pub spec: CompactSpec,
    /// The specification's hash.
    pub hash: SpecHash,
    /// The sweep's values, for the row in the table: `alpha=0.5`; empty without a sweep.
    pub variant: Arc<str>,
}

/// Expands an experiment into its jobs: a training job stands before the jobs that test its checkpoint, and no job twice.
pub fn expand(experiment: &Experiment, known: &Known) -> Result<Vec<PlannedJob>, InvalidInput> {
    check_count(experiment, &known.methods)?;
    let mut jobs = Jobs::default();
    let variants = experiment.variants();
    let trained_on: Vec<&String> = match &experiment.source {
        Some(source) => vec![source],
        None => experiment.datasets.iter().collect(),
    };
    for dataset in trained_on {
        for method in &experiment.methods {
            let method = known.methods.known("methods", method.key())?;
            for (variant, swept) in &variants {
                let row = Row { experiment, datasets: &known.datasets, method, swept };
                row.expand(dataset, &Arc::from(variant.as_str()), &mut jobs)?;
            }
        }
    }
    Ok(jobs.planned)
}

/// Refuses a matrix with too many jobs by multiplying the lengths of its lists: nothing is expanded before it's counted.
fn check_count(experiment: &Experiment, known: &Methods) -> Result<(), InvalidInput> {
    let Experiment { methods, datasets, source, seeds, shots, sweep, .. } = experiment;
    let variants = sweep.values().try_fold(1_u64, |product, values| product.checked_mul(values.len() as u64));
    let trainings = if source.is_some() { 1 } else { datasets.len() as u64 };
    let tests = match experiment.protocol {
        Protocol::BaseToNew => 1,
        Protocol::CrossDataset => datasets.len() as u64,
        Protocol::FewShot => 0,
    };
    let draws = methods.iter().try_fold(0_u64, |sum, method| {
        let learns = known.get(*method).is_some_and(|known| known.learns);
        let draws = if learns { (seeds.len() as u64).checked_mul(shots.len() as u64)? } else { 1 };
        sum.checked_add(draws)
    });
    let count = variants
        .zip(draws)
        .and_then(|(variants, draws)| variants.checked_mul(draws)?.checked_mul(trainings)?.checked_mul(1 + tests));
    match count {
        Some(count) if count <= MOST_JOBS as u64 => Ok(()),
        count => {
            let count =
                count.map_or_else(|| "more jobs than can be counted".to_owned(), |count| format!("{count} jobs"));
            Err(InvalidInput::new("experiment", count, format!("at most {MOST_JOBS} jobs")))
        }
    }
}

/// The shots and seeds of a method's jobs. A method that learns nothing draws nothing: it has one job, not one per seed.
fn draws(method: &Declaration, experiment: &Experiment) -> Vec<(u32, u64)> {
    if !method.learns {
        return vec![(0, 0)];
    }
    let seeds = &experiment.seeds;
    experiment.shots.iter().flat_map(|&shots| seeds.iter().map(move |&seed| (shots, seed))).collect()
}

/// A row of the matrix: everything but data set, shots and seed.
struct Row<'a> {
    experiment: &'a Experiment,
    datasets: &'a Catalogue,
    method: &'a Declaration,
    swept: &'a Values,
}

impl Row<'_> {
    /// Adds a row's jobs on one data set: each training job, and after it the tests of its checkpoint.
    fn expand(&self, dataset: &str, variant: &Arc<str>, jobs: &mut Jobs) -> Result<(), InvalidInput> {
        let train = self.recipe(dataset)?;
        let tests = self.tests(&train)?;
        let hashed = |recipe: Recipe| (RecipeHasher::new(&recipe), Arc::new(recipe));
        let (train, tests) = (hashed(train), tests.into_iter().map(hashed).collect::<Vec<_>>());
        for (shots, seed) in draws(self.method, self.experiment) {
            let mut add = |(hasher, recipe): &(RecipeHasher, Arc<Recipe>), stage, trained_by| {
                let hash = hasher.hash(stage, shots, seed, trained_by);
                let spec = CompactSpec { recipe: Arc::clone(recipe), stage, shots, seed, trained_by };
                jobs.add(PlannedJob { spec, hash, variant: Arc::clone(variant) });
                hash
            };
            let trained = add(&train, Stage::Train, None);
            for test in &tests {
                add(test, Stage::Test, self.method.learns.then_some(trained));
            }
        }
        Ok(())
    }

    /// What trains on a data set, and tests on what it was trained on.
    fn recipe(&self, dataset: &str) -> Result<Recipe, InvalidInput> {
        let Self { experiment, method, .. } = *self;
        let overrides = experiment.overrides_for(dataset).with(self.swept);
        let resolve = |values: &Values| method.resolve(experiment.protocol, dataset, &experiment.backbone, values);
        let (preset, Preset { hyper, options, config }) = (resolve(&Values::default())?, resolve(&overrides)?);
        let mut recipe = Recipe {
            method: method.key(),
            protocol: experiment.protocol,
            dataset: dataset.to_owned(),
            template: self.datasets.get(dataset)?.template.clone(),
            backbone: experiment.backbone.clone(),
            config,
            hyper,
            options,
            precision: experiment.precision,
        };
        if (&recipe.hyper, recipe.precision) != (&preset.hyper, Precision::Fp32) {
            // Two folders of one data set, seed and configuration must not be the same folder.
            let values = serde_json::json!([recipe.hyper, recipe.precision]).to_string();
            recipe.config = format!("{}-{}", recipe.config, config_tag(&values));
        }
        Ok(recipe)
    }

    /// What the protocol tests a training job's checkpoint on.
    fn tests(&self, train: &Recipe) -> Result<Vec<Recipe>, InvalidInput> {
        match train.protocol {
            Protocol::BaseToNew => Ok(vec![train.clone()]),
            Protocol::FewShot => Ok(Vec::new()),
            Protocol::CrossDataset => {
                let on = |target: &String| {
                    let own = self.recipe(target)?;
                    let mut test = Recipe { dataset: own.dataset, template: own.template, ..train.clone() };
                    for (name, _) in self.method.values.iter().filter(|(_, declared)| declared.target) {
                        match own.hyper.get(name) {
                            Some(value) => test.hyper.0.insert(name.clone(), value.clone()),
                            None => test.hyper.0.remove(name),
                        };
                    }
                    Ok(test)
                };
                self.experiment.datasets.iter().map(on).collect()
            }
        }
    }
}

/// Whether a job that some experiment trains on its data set has the values of its preset, and the precision they are for.
pub(crate) fn has_preset_values(method: &Declaration, spec: &JobSpec) -> bool {
    let preset = method.resolve(spec.protocol, &spec.dataset, &spec.backbone, &Values::default());
    preset.is_ok_and(|preset| (&spec.hyper, spec.precision) == (&preset.hyper, Precision::Fp32))
}

#[derive(Default)]
struct Jobs {
    planned: Vec<PlannedJob>,
    seen: HashSet<(SpecHash, Arc<str>)>,
}

impl Jobs {
    /// Adds a job, if it isn't there already.
    fn add(&mut self, job: PlannedJob) {
        if self.seen.insert((job.hash, Arc::clone(&job.variant))) {
            self.planned.push(job);
        }
    }
}

/// A job with its specification written out, as the tables read it.
#[cfg(test)]
pub(crate) struct WrittenOut {
    pub(crate) spec: JobSpec,
    pub(crate) variant: Arc<str>,
}

/// An experiment's jobs for the tests of what reads them.
#[cfg(test)]
pub(crate) fn written_out(experiment: &Experiment, known: &Known) -> Vec<WrittenOut> {
    let jobs = expand(experiment, known).unwrap().into_iter();
    jobs.map(|job| WrittenOut { spec: job.spec.to_spec(), variant: job.variant }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::layout;

    fn planned(text: &str) -> Vec<PlannedJob> {
        planned_under("base_to_new", text)
    }

    fn planned_under(protocol: &str, text: &str) -> Vec<PlannedJob> {
        let known = Known::built_in();
        let text = format!("name = \"x\"\nprotocol = \"{protocol}\"\nbackbone = \"ViT-B/16\"\n{text}");
        expand(&Experiment::from_toml(&text, &known).unwrap(), &known).unwrap()
    }

    #[test]
    fn the_published_matrix_of_a_method_has_66_jobs() {
        let jobs = planned("methods = [\"alignednorm\"]\ndatasets = \"all\"");
        assert_eq!(jobs.len(), 66);
        let folders: HashSet<_> =
            jobs.iter().map(|job| layout::folder(&job.spec.to_spec(), Methods::built_in())).collect();
        assert_eq!(folders.len(), 66);
        assert!(folders.contains("base2new/train_base/imagenet/shots_16/ALIGNEDNORM/vit_b16_imagenet/seed2"));
        assert!(folders.contains("base2new/test_new/eurosat/shots_16/ALIGNEDNORM/vit_b16/seed3"));
    }

    #[test]
    fn a_matrix_is_counted_before_it_is_expanded() {
        let known = Known::built_in();
        let many = |count: u64| format!("{:?}", (1..=count).collect::<Vec<_>>());
        let refusal = |text: &str| {
            let text = format!(
                "name = \"x\"\nprotocol = \"base_to_new\"\nbackbone = \"ViT-B/16\"\nmethods = [\"coop\"]\ndatasets = [\"dtd\"]\n{text}"
            );
            let experiment = Experiment::from_toml(&text, &known).unwrap();
            expand(&experiment, &known).unwrap_err().errors.remove(0).value
        };
        let sweep = |keys: &[&str]| {
            let swept: Vec<String> = keys.iter().map(|key| format!("{key} = {}", many(300))).collect();
            format!("seeds = [1]\n[sweep]\n{}", swept.join("\n"))
        };
        assert_eq!(refusal(&sweep(&["lr", "epochs", "train_batch"])), "54000000 jobs");
        let seeds = format!("seeds = {}\nshots = {}", many(1000), many(1000));
        assert_eq!(refusal(&seeds), "2000000 jobs");
    }

    #[test]
    fn a_job_s_identity_is_its_specification_s() {
        let text = "methods = [\"alignednorm\", \"coop\", \"zero_shot\"]\ndatasets = [\"dtd\", \"ucf101\"]\n\
             precision = \"amp_bf16\"\n[overrides]\neval = { every_epochs = 2 }\n[sweep]\nlr = [0.01, 0.001]";
        for job in ["base_to_new", "few_shot", "cross_dataset"].into_iter().flat_map(|name| planned_under(name, text)) {
            let spec = job.spec.to_spec();
            assert_eq!(job.hash, spec.hash());
            assert_eq!(CompactSpec::from(spec), job.spec);
        }
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
        let folders: HashSet<_> =
            jobs.iter().map(|job| layout::folder(&job.spec.to_spec(), Methods::built_in())).collect();
        assert_eq!(folders.len(), jobs.len());
        assert!(folders.contains("base2new/train_base/imagenet/shots_16/ALIGNEDNORM/vit_b16_cross_datasets/seed1"));
        assert!(folders.contains("base2new/test_new/food101/shots_16/ALIGNEDNORM/vit_b16_cross_datasets/seed3"));
        let [source, first, ..] = jobs.as_slice() else { panic!("{jobs:?}") };
        let number = |job: &PlannedJob, name: &str| job.spec.recipe.hyper.number(name);
        assert_eq!(
            (source.spec.recipe.dataset.as_str(), number(source, "reg_weight"), number(source, "alpha")),
            ("imagenet", Some(0.1), Some(0.9))
        );
        assert_eq!((first.spec.recipe.dataset.as_str(), first.spec.trained_by), ("caltech101", Some(source.hash)));
        assert_eq!((number(first, "beta"), number(source, "beta")), (Some(0.6), Some(0.9)));
    }

    #[test]
    fn few_shot_has_a_job_for_each_data_set_shots_and_seed() {
        let jobs =
            planned_under("few_shot", "methods = [\"alignednorm\"]\ndatasets = \"all\"\nshots = [1, 2, 4, 8, 16]");
        assert_eq!(jobs.len(), 165);
        let folders: HashSet<_> =
            jobs.iter().map(|job| layout::folder(&job.spec.to_spec(), Methods::built_in())).collect();
        assert_eq!(folders.len(), 165);
        assert!(folders.contains("few_shot/oxford_flowers/shots_8/ALIGNEDNORM/vit_b16_few_shot/seed2"));
        assert!(folders.contains("few_shot/imagenet/shots_1/ALIGNEDNORM/vit_b16_imagenet/seed1"));
    }

    #[test]
    fn zero_shot_has_no_seeds() {
        let jobs = planned("methods = [\"zero_shot\"]\ndatasets = [\"dtd\"]\nseeds = [1, 2, 3]");
        let folders: Vec<_> = jobs.iter().map(|job| layout::folder(&job.spec.to_spec(), Methods::built_in())).collect();
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
        assert!(other[0].spec.recipe.config.starts_with("vit_b16-"), "{}", other[0].spec.recipe.config);
        assert_eq!((swept[0].hash, swept[2].hash), (other[0].hash, preset[0].hash), "a job is its numbers");
        assert_eq!(swept[2].spec.recipe.config, "vit_b16");
        let mixed = planned("methods = [\"alignednorm\"]\ndatasets = [\"dtd\"]\nseeds = [1]\nprecision = \"amp_bf16\"");
        assert!(mixed.iter().all(|job| job.spec.recipe.precision == Precision::AmpBf16));
        assert!(mixed[0].spec.recipe.config.starts_with("vit_b16-"), "{}", mixed[0].spec.recipe.config);
        assert_ne!(mixed[0].hash, preset[0].hash);
    }

    #[test]
    fn evaluating_more_often_is_the_same_job() {
        let preset = planned("methods = [\"alignednorm\"]\ndatasets = [\"dtd\"]\nseeds = [1]");
        let more = planned(
            "methods = [\"alignednorm\"]\ndatasets = [\"dtd\"]\nseeds = [1]\n[overrides]\neval = { every_epochs = 2 }",
        );
        assert_eq!((preset[0].hash, &preset[0].spec.recipe.config), (more[0].hash, &more[0].spec.recipe.config));
    }
}
