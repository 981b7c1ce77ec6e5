//! What a job brings back: counts, and the manifest that says where each number comes from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::named;
use crate::spec::{JobSpec, SpecHash};
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
    /// SHA-256 of the class names and the lists of images and labels that were used.
    pub split_sha256: String,
    /// Promptfield's version.
    pub code_version: String,
    /// The device: `cpu`, `cuda:0`.
    pub device: String,
    /// CPU threads of the trainer.
    pub threads: u32,
    /// The numbers.
    pub result: TestResult,
    /// When the attempt that completed the folder began.
    pub started_at: Timestamp,
    /// Seconds of training and of evaluation, of that attempt.
    pub seconds: Seconds,
    /// Every other file of the folder, by its path below it.
    pub files: BTreeMap<String, FileEntry>,
}

impl Manifest {
    /// The document's current layout.
    pub const FORMAT: u32 = 1;
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
