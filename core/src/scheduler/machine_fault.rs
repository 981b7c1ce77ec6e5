//! What machines were found unable to do.
//!
//! An attempt that fails for want of something that another machine may have (room in the output root, a data set, weights) says
//! nothing about its job. It's noted as a fault of its machine, and the job goes elsewhere.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{JobId, LeaseId};
use crate::job::outcome::Failure;
use crate::job::spec::BasisHash;
use crate::time::{Timestamp, doubling_ms};

/// What an attempt failed for that isn't the job's own fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Cause {
    /// The checkpoint to test is lost, damaged, or was trained on something else: its training is done again.
    Checkpoint,
    /// The machine's weights are others than those that the job's results rest on.
    OtherBackbone {
        /// Their identity ([`crate::job::backbone::Architecture::identity`]).
        sha256: BasisHash,
    },
    /// Somebody else works in the job's output folder: the job is tried again a little later.
    FolderInUse {
        /// Who, as far as it's known: a process and its host.
        holder: String,
        /// That process's host, where it is known.
        host: Option<String>,
    },
    /// The machine can't write its output root.
    OutputRoot,
    /// The machine hasn't the job's data set.
    Dataset,
    /// The machine can't read the weights of the job's backbone.
    Backbone,
    /// The machine can't compute the job's method.
    Method,
    /// The machine can't do this job, whose like it may be able to do: an image is missing or damaged, a device is gone.
    Job,
}

/// What a machine can't use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "of", content = "name", rename_all = "snake_case")]
pub enum FaultOf {
    /// An output root, by its path.
    OutputRoot(String),
    /// A data set, by its key.
    Dataset(String),
    /// A backbone's weights, by its name.
    Backbone(String),
    /// A method, by its key.
    Method(String),
    /// A job.
    Job(JobId),
}

impl FaultOf {
    /// The kind and the name, as the database has them.
    pub fn parts(&self) -> (&'static str, String) {
        match self {
            Self::OutputRoot(path) => ("output_root", path.clone()),
            Self::Dataset(key) => ("dataset", key.clone()),
            Self::Backbone(name) => ("backbone", name.clone()),
            Self::Method(key) => ("method", key.clone()),
            Self::Job(job) => ("job", job.to_string()),
        }
    }

    /// From [`FaultOf::parts`].
    pub fn from_parts(kind: &str, name: String) -> Option<Self> {
        Some(match kind {
            "output_root" => Self::OutputRoot(name),
            "dataset" => Self::Dataset(name),
            "backbone" => Self::Backbone(name),
            "method" => Self::Method(name),
            "job" => Self::Job(name.parse().ok()?),
            _ => return None,
        })
    }
}

impl fmt::Display for FaultOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutputRoot(path) => write!(f, "the output root `{path}`"),
            Self::Dataset(key) => write!(f, "the data set `{key}`"),
            Self::Backbone(name) => write!(f, "the backbone `{name}`"),
            Self::Method(key) => write!(f, "the method `{key}`"),
            Self::Job(job) => write!(f, "job {job}"),
        }
    }
}

/// A machine was found unable to use something: it gets no job that needs this, but for a trial now and then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MachineFault {
    /// The machine.
    pub host: String,
    /// Of its workers, those with these settings ([`crate::scheduler::WorkerDescription::places`]); empty for an output root, which is
    /// theirs whose it is.
    #[serde(default)]
    pub places: String,
    /// What it can't use.
    #[serde(flatten)]
    pub what: FaultOf,
    /// Why the attempt failed that found it last.
    pub failure: Failure,
    /// When it was found first.
    pub found_at: Timestamp,
    /// How often it was found: at first, and by trials.
    pub times: u32,
    /// From then on one job may try it.
    pub next_trial: Timestamp,
    /// The attempt that tries it.
    pub trial: Option<LeaseId>,
}

/// What tells the faults of a host apart.
pub type FaultKey = (String, FaultOf);

impl MachineFault {
    /// Its key among those of its host.
    pub fn key(&self) -> FaultKey {
        (self.places.clone(), self.what.clone())
    }

    /// The wait before the first trial, in milliseconds; it doubles with each that fails.
    pub const FIRST_WAIT_MS: i64 = 10 * 60 * 1000;
    /// The longest wait, in milliseconds.
    pub const LONGEST_WAIT_MS: i64 = 2 * 60 * 60 * 1000;

    /// The wait before the next trial, after so many times, in milliseconds.
    pub fn wait_ms(times: u32) -> i64 {
        doubling_ms(Self::FIRST_WAIT_MS, times, Self::LONGEST_WAIT_MS)
    }

    /// Whether its machine gets no job now that needs this.
    pub fn bars(&self, now: Timestamp) -> bool {
        self.trial.is_some() || now < self.next_trial
    }

    /// When somebody tries it again, in words.
    pub fn next_words(&self, now: Timestamp) -> String {
        match (self.trial, self.next_trial.since(now)) {
            (Some(lease), _) => format!("lease {lease} tries it"),
            (None, left) if left > 0 => format!("tried again in {} s", left / 1000),
            (None, _) => "the next job tries it".to_owned(),
        }
    }

    /// What was found, in words.
    pub fn words(&self) -> String {
        format!("`{}` can't use {}: {}", self.host, self.what, self.failure.reason)
    }
}
