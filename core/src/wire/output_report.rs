//! What a machine finds in the output folders of jobs that have results: asked by the commands, answered by the trainer, a JSON
//! document a line each way.
//!
//! Unlike what travels over HTTP this has paths in it: it stays on the machine that it describes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::id::JobId;
use crate::job::outcome::Manifest;
use crate::job::spec::BasisHash;
use crate::names::named;
use crate::wire::trainer_job::TrainerJob;

/// A job to look at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputQuestion {
    /// The job.
    pub job: JobId,
    /// The same with this machine's paths.
    pub places: TrainerJob,
}

named! {
    /// What lies where a job's output folder should be.
    pub enum OutputState("state") {
        /// A folder whose files are those that its manifest names.
        Whole = "whole",
        /// A folder that another tool made.
        Foreign = "foreign",
        /// A folder with files that were changed, or are missing.
        Damaged = "damaged",
        /// No folder.
        Absent = "absent",
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputReport {
    /// The job.
    pub job: JobId,
    /// Where its folder lies, or should lie.
    pub folder: PathBuf,
    /// What lies there.
    pub state: OutputState,
    /// What is wrong with it.
    pub reason: Option<String>,
    /// Its manifest.
    pub manifest: Option<Manifest>,
    /// What the data set's lists are now; `None` if they can't be read here.
    pub lists: Option<ListHashes>,
    /// Why they can't be read.
    pub problem: Option<String>,
}

/// The hashes of a data set's lists as they are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListHashes {
    /// SHA-256 of the class names and the lists of images and labels.
    pub split_sha256: BasisHash,
    /// SHA-256 of the class names and the test list alone.
    pub test_sha256: BasisHash,
    /// SHA-256 over the image files, if they were to be read.
    pub images_sha256: Option<BasisHash>,
}
