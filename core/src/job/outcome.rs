//! What a job says while it runs and brings back when it ends: counts, and the manifest that says where each number comes from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::input::{InvalidInput, Refusals};
use crate::job::backbone::Architecture;
use crate::job::spec::{JobSpec, SpecHash, is_sha256};
use crate::names::named;
use crate::time::Timestamp;

/// A job's numbers (method.md, section 4). Rates are in per cent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TestResult {
    /// Images evaluated.
    pub total: u64,
    /// Images classified correctly.
    pub correct: u64,
    /// 100·correct/total.
    pub accuracy: f64,
    /// 100 − accuracy.
    pub error: f64,
    /// The mean of the classes' F1 scores.
    pub macro_f1: f64,
    /// The expected calibration error; absent in the result of another tool, or of an earlier version.
    #[serde(default)]
    pub calibration_error: Option<f64>,
}

/// Counts end here; greater ones are a mistake.
const MOST_IMAGES: u64 = 1 << 53;
/// Between two rates that say the same, in per cent: what a text with six digits after the point leaves open.
const RATES_AGREE: f64 = 1e-5;

impl TestResult {
    /// Refuses counts and rates that are none.
    pub fn check(&self) -> Result<(), InvalidInput> {
        let Self { total, correct, accuracy, error, macro_f1, calibration_error } = *self;
        if !(1..=MOST_IMAGES).contains(&total) {
            return Err(InvalidInput::new("total", total, "at least one image"));
        }
        if correct > total {
            return Err(InvalidInput::new("correct", correct, format!("at most {total}, the number of images")));
        }
        let calibration = calibration_error.map(|rate| ("calibration_error", rate));
        for (field, rate) in
            [("accuracy", accuracy), ("error", error), ("macro_f1", macro_f1)].into_iter().chain(calibration)
        {
            if !(0.0..=100.0).contains(&rate) {
                return Err(InvalidInput::new(field, rate, "a number from 0 to 100"));
            }
        }
        Ok(())
    }

    /// Refuses rates that contradict the counts, or each other.
    pub fn check_rates(&self) -> Result<(), InvalidInput> {
        let Self { total, correct, accuracy, error, .. } = *self;
        let counted = 100.0 * correct as f64 / total as f64;
        if (accuracy - counted).abs() > RATES_AGREE {
            let expected = format!("{counted}, since {correct} of {total} images are correct");
            return Err(InvalidInput::new("accuracy", accuracy, expected));
        }
        if (error - (100.0 - accuracy)).abs() > RATES_AGREE {
            return Err(InvalidInput::new("error", error, format!("{}, 100 less `accuracy`", 100.0 - accuracy)));
        }
        Ok(())
    }
}

/// `manifest.json` of a completed output folder: from a number back to everything it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Manifest {
    /// The layout of this document; now [`Manifest::FORMAT`].
    pub format: u32,
    /// What was computed.
    pub spec: JobSpec,
    /// The specification's hash: the job's identity.
    pub spec_hash: SpecHash,
    /// SHA-256 of the weights file.
    pub weights_sha256: String,
    /// What the weights' shapes don't tell. What format 1 doesn't say was `OpenAI`'s.
    #[serde(default)]
    pub architecture: Architecture,
    /// The fields of [`Manifest::architecture`] that nothing said, so that `OpenAI`'s values were taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assumed: Vec<String>,
    /// SHA-256 of the class names and the lists of images and labels that were used.
    pub split_sha256: String,
    /// SHA-256 of the class names and the test list alone; format 1 doesn't say it.
    #[serde(default)]
    pub test_sha256: Option<String>,
    /// SHA-256 of the checkpoint that was tested; absent for what tests none, and in format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_sha256: Option<String>,
    /// The classes that have test images and no training image. The published code leaves them out, and so does the result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// Promptfield's version.
    pub code_version: String,
    /// The device: `cpu`, `cuda:0`.
    pub device: String,
    /// CPU threads of the trainer.
    pub threads: u32,
    /// The numbers; absent for a stage that evaluates nothing.
    #[serde(default)]
    pub result: Option<TestResult>,
    /// When the attempt that completed the folder began.
    pub started_at: Timestamp,
    /// Seconds of training and of evaluation, of that attempt.
    pub seconds: Seconds,
    /// Every other file of the folder, by its path below it.
    pub files: BTreeMap<String, FileEntry>,
}

impl Manifest {
    /// The document's current layout.
    pub const FORMAT: u32 = 2;

    /// The identity of the backbone that the numbers rest on ([`Architecture::identity`]).
    pub fn backbone_sha256(&self) -> String {
        self.architecture.identity(&self.weights_sha256)
    }

    /// Refuses a manifest that contradicts itself, or `result`, which is the one reported beside it.
    pub fn check(&self, result: Option<&TestResult>) -> Result<(), InvalidInput> {
        let mut refusals = Refusals::default();
        if !(1..=Self::FORMAT).contains(&self.format) {
            let expected = format!("a whole number from 1 to {}", Self::FORMAT);
            refusals.add(InvalidInput::new("format", self.format, expected));
        }
        if self.spec.hash() != self.spec_hash {
            let expected = format!("{}, the hash of `spec`", self.spec.hash());
            refusals.add(InvalidInput::new("spec_hash", self.spec_hash, expected));
        }
        let hashes = [("weights_sha256", Some(&self.weights_sha256)), ("split_sha256", Some(&self.split_sha256))];
        for (field, hash) in hashes
            .into_iter()
            .chain([("test_sha256", self.test_sha256.as_ref()), ("checkpoint_sha256", self.checkpoint_sha256.as_ref())])
        {
            if let Some(hash) = hash.filter(|hash| !is_sha256(hash)) {
                refusals.add(InvalidInput::new(field, hash, SHA256));
            }
        }
        if self.result.is_some() != self.spec.stage.evaluates() {
            let shown = serde_json::json!(self.result);
            let expected =
                if self.result.is_none() { "the numbers that a job of stage" } else { "nothing: no evaluation" };
            refusals.add(InvalidInput::new("result", shown, format!("{expected} `{}` ends with", self.spec.stage)));
        }
        if self.result.as_ref() != result {
            let shown = serde_json::json!(self.result);
            refusals.add(InvalidInput::new("result", shown, "the numbers of the report's own `result`"));
        }
        for (name, entry) in &self.files {
            let inside = name.split('/').all(|part| !matches!(part, "" | "." | "..")) && !name.contains(['\\', '\0']);
            if !inside {
                refusals.add(InvalidInput::new("files", name, "paths below the output folder"));
            } else if !is_sha256(&entry.sha256) {
                refusals.add(InvalidInput::new(format!("files.{name}.sha256"), &entry.sha256, SHA256));
            }
        }
        refusals.finish(())
    }
}

const SHA256: &str = "64 lower-case hexadecimal digits";

/// A class that is evaluated by nobody, since it has no training image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeftOut {
    /// Its name.
    pub class: String,
    /// Its test images.
    pub images: u64,
}

/// Wall-clock seconds by part of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Seconds {
    /// Everything before the first step: reading weights, split and images' names.
    pub prepare: f64,
    /// Training.
    pub train: f64,
    /// Evaluation.
    pub test: f64,
}

/// A file of an output folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FileEntry {
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
    /// Length in bytes.
    pub bytes: u64,
}

named! {
    /// Why an attempt ended without a result; decides whether another one is worth it.
    pub enum FailureClass("class") {
        /// The worker was lost: its lease expired, or it registered anew.
        WorkerLost = "worker_lost",
        /// The trainer process died.
        TrainerDied = "trainer_died",
        /// The device's memory was not enough.
        OutOfMemory = "out_of_memory",
        /// A file could not be written: disk full, no permission.
        Storage = "storage",
        /// The machine lacks something the job names: a data set, a backbone, a checkpoint.
        Missing = "missing",
        /// The input is wrong: a corrupt image, a split that names missing files, weights without a tensor.
        BadData = "bad_data",
        /// The program is wrong.
        Bug = "bug",
        /// The training job that this one needs failed or was cancelled.
        Dependency = "dependency",
    }
}

impl FailureClass {
    /// Whether another attempt may end differently. What is wrong with the input or the program stays wrong.
    pub const fn retryable(self) -> bool {
        match self {
            Self::WorkerLost | Self::TrainerDied | Self::OutOfMemory | Self::Storage => true,
            Self::Missing | Self::BadData | Self::Bug | Self::Dependency => false,
        }
    }
}

/// Why an attempt or a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Failure {
    /// The kind of failure.
    pub class: FailureClass,
    /// A sentence for a person: which file or field, and what would be right.
    pub reason: String,
}

/// Where a running job stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Progress {
    /// Epochs completed.
    pub epoch: u32,
    /// Epochs in all; 0 for a job that only evaluates.
    pub epochs: u32,
    /// Steps done, over training and evaluation.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// How long its trainer has said nothing, in seconds, as its worker knows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub silent_s: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_zero(seconds: &u32) -> bool {
    *seconds == 0
}

/// What a completed job made: the numbers of an evaluation, or only files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Outcome {
    /// The numbers; absent for a stage that evaluates nothing, whose manifest names its files.
    #[serde(default)]
    pub result: Option<TestResult>,
    /// The folder was already complete, and nothing was computed.
    pub adopted: bool,
    /// The folder's manifest; absent when another tool completed the folder.
    pub manifest: Option<Manifest>,
}
