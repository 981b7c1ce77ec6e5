//! The bundled data's experiments, as scripts run them: a file for each job, which the trainer is told.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use promptfield_core::experiment::dataset::DatasetDefinition;
use promptfield_core::experiment::matrix::{self, PlannedJob};
use promptfield_core::experiment::{Experiment, Known};
use promptfield_core::job::backbone::ArchitectureSettings;
use promptfield_core::job::layout;
use promptfield_core::job::outcome::Manifest;
use promptfield_core::method::Methods;
use promptfield_core::protocol::Stage;
use promptfield_core::wire::trainer_job::{Places, TrainerJob};
use serde_json::json;

/// The bundled data, and the weights of the bundled backbone.
const DATA: &str = "demo";
const DATASETS: &str = "demo/datasets";
const BACKBONE: &str = "clip-mini";
const WEIGHTS: &str = "demo/clip-mini.safetensors";
/// An experiment's jobs, in the order in which scripts run them: data set by data set, method by method and seed by seed, each test
/// after its training.
pub(crate) fn jobs(experiment: &Path) -> Result<Vec<PlannedJob>> {
    let mut known = Known { backbones: vec![BACKBONE.to_owned()], ..Known::built_in() };
    for entry in fs_err::read_dir(DATASETS)? {
        known.datasets.add(DatasetDefinition::parse(&fs_err::read_to_string(entry?.path())?)?)?;
    }
    let experiment = Experiment::from_toml(&fs_err::read_to_string(experiment)?, &known)?;
    Ok(matrix::expand(&experiment, &known)?)
}

/// The settings of the repository, but for the state and the outputs, which lie beside this file.
pub(crate) fn settings_text() -> Result<String> {
    // A JSON string is one of TOML too.
    let [data, datasets, weights] =
        [DATA, DATASETS, WEIGHTS].map(|path| fs_err::canonicalize(path).map(|path| json!(path)));
    Ok(format!("[paths]\ndata = {}\ndatasets = {}\n[backbones]\n{BACKBONE} = {}\n", data?, datasets?, weights?))
}

/// Where a job's output lies.
fn output_folder(folder: &Path, job: &PlannedJob) -> PathBuf {
    folder.join("output").join(layout::folder(&job.spec.to_spec(), Methods::built_in()))
}

/// What a script tells the trainer.
pub(crate) fn trainer_job(job: &PlannedJob, jobs: &[PlannedJob], folder: &Path) -> Result<TrainerJob> {
    let spec = job.spec.to_spec();
    let trained = jobs.iter().find(|training| Some(training.hash) == spec.trained_by);
    ensure!(trained.is_some() || spec.stage == Stage::Train || !spec.learns(), "a test has no training");
    let places = Places {
        weights: fs_err::canonicalize(WEIGHTS)?,
        data_root: fs_err::canonicalize(DATA)?,
        output: output_folder(folder, job),
        checkpoint: trained.map(|training| output_folder(folder, training)),
        datasets: Some(fs_err::canonicalize(DATASETS)?),
        device: "cpu".to_owned(),
        architecture: ArchitectureSettings::default(),
    };
    Ok(TrainerJob::new(&spec, places))
}

/// What each job's output folder says of it.
pub(crate) fn manifests(folder: &Path, jobs: &[PlannedJob]) -> Result<Vec<Manifest>> {
    let read = |job: &PlannedJob| {
        let path = output_folder(folder, job).join(layout::MANIFEST_FILE);
        let manifest: Manifest = serde_json::from_slice(&fs_err::read(&path)?).context("a manifest can't be read")?;
        ensure!(manifest.spec_hash == job.hash, "{} is another job's", path.display());
        Ok(manifest)
    };
    jobs.iter().map(read).collect()
}
