//! The JSON lines between a worker and its resident trainer: requests on stdin, replies on stdout, one object a line.
//!
//! A trainer does one job at a time. End of file on stdin means that the worker is gone: the trainer stops after writing
//! nothing more into the job's folder. Lines that a person should read go to stderr.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::job::backbone::ArchitectureSettings;
use crate::job::outcome::{Failure, Outcome, Progress};
use crate::job::spec::BasisHash;
use crate::method::Method;
use crate::scheduler::machine_fault::Cause;
use crate::wire::trainer_job::TrainerJob;

/// The backbones whose identities a trainer is to say when it's ready, by name: JSON, the value of its flag `--backbones`.
pub type Backbones = BTreeMap<String, BackboneFile>;

/// A backbone as a machine has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackboneFile {
    /// The weights file.
    pub weights: PathBuf,
    /// What the settings say of it.
    #[serde(default)]
    pub architecture: ArchitectureSettings,
}

/// Worker to trainer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Run a job; the number names it in the replies.
    Run {
        /// The worker's number for the job.
        id: u64,
        /// The job.
        job: Box<TrainerJob>,
    },
    /// Stop a job at the next step. What it did up to its last epoch stays in the `.partial` folder.
    Cancel {
        /// The job's number.
        id: u64,
    },
}

/// Trainer to worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// Sent once, when the trainer can take a job.
    Ready {
        /// Promptfield's version.
        version: String,
        /// What jobs can name as `device`: `cpu`, `cuda:0`, ….
        devices: Vec<String>,
        /// The methods that it has an implementation of, by the SHA-256 of their declarations.
        #[serde(default)]
        methods: BTreeMap<Method, BasisHash>,
        /// The identities of the backbones that it was started with ([`Backbones`]), by name.
        #[serde(default)]
        backbone_sha256: BTreeMap<String, BasisHash>,
        /// Why others of them can't be used, by name.
        #[serde(default)]
        unusable: BTreeMap<String, String>,
    },
    /// How far a job is; at most a few a second.
    Progress {
        /// The job's number.
        id: u64,
        /// Where it stands.
        progress: Progress,
    },
    /// Numbers of one training step.
    Metrics {
        /// The job's number.
        id: u64,
        /// The step, counted from 0 over all epochs.
        step: u64,
        /// Values by name: `loss`, `acc`, `lr`, `loss/ce`, ….
        values: BTreeMap<String, f64>,
    },
    /// A line that was also written into `log.txt`.
    Log {
        /// The job's number.
        id: u64,
        /// The line, without its end.
        line: String,
    },
    /// The job is complete: its folder stands under its final name.
    Completed {
        /// The job's number.
        id: u64,
        /// What was made, or what an adopted folder holds.
        outcome: Box<Outcome>,
    },
    /// The job ended without a result.
    Failed {
        /// The job's number.
        id: u64,
        /// Why.
        failure: Failure,
        /// What it failed for, if that isn't the job's own fault.
        #[serde(default)]
        cause: Option<Cause>,
    },
    /// The job goes on, and has nothing else to say: a piece of its work is done. Number 0 is the time before `ready`. From the thread
    /// that works, and at least every 10 seconds, where no single piece takes longer.
    Working {
        /// The job's number.
        id: u64,
    },
    /// The job was cancelled and has stopped.
    Cancelled {
        /// The job's number.
        id: u64,
    },
}
