//! From the names in a job to this machine's paths.
//!
//! A specification comes over the network: nothing in it may lead out of the roots that the settings name.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use promptfield_core::chain::chain;
use promptfield_core::input::InvalidInput;
use promptfield_core::job::layout;
use promptfield_core::job::outcome::{Failure, FailureClass, Manifest};
use promptfield_core::job::spec::JobSpec;
use promptfield_core::scheduler::machine_fault::Cause;
use promptfield_core::wire::api::LeaseGrant;
use promptfield_core::wire::trainer_job::{Places, TrainerJob};

use crate::checkpoint::{self, CheckpointError};
use crate::coordinator::Coordinator;
use crate::options::Machine;

/// A file system that doesn't answer for so long is gone.
const ANSWER_LIMIT: Duration = Duration::from_mins(2);

/// Why a job can't be done here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error(
        "the coordinator and this worker (version {}) don't agree on the job's hash; both must be of the same version",
        promptfield_core::VERSION
    )]
    OtherHash,
    #[error("the setting `backbones` has no file for backbone `{0}`")]
    NoBackbone(String),
    #[error("the setting `backbones` names a file for backbone `{backbone}` that can't be read")]
    Weights { backbone: String, source: io::Error },
    #[error("the setting `data_root` names a folder that can't be read")]
    DataRoot { source: io::Error },
    #[error("the job's output folder `{0}` would lie outside `output_root`")]
    Outside(String),
    #[error("the job is not one that a trainer can do")]
    Invalid { source: InvalidInput },
    #[error(transparent)]
    Checkpoint(CheckpointError),
}

impl PlaceError {
    /// What is at fault, if it isn't the job itself.
    pub(crate) const fn cause(&self) -> Option<Cause> {
        match self {
            Self::Checkpoint(CheckpointError::Missing { .. }) => Some(Cause::Checkpoint),
            Self::Checkpoint(CheckpointError::NotKept { .. }) => Some(Cause::OutputRoot),
            Self::NoBackbone(_) | Self::Weights { .. } => Some(Cause::Backbone),
            Self::DataRoot { .. } => Some(Cause::Dataset),
            Self::Checkpoint(_) | Self::OtherHash | Self::Outside(_) | Self::Invalid { .. } => None,
        }
    }

    pub(crate) fn failure(&self) -> Failure {
        let class = match self {
            Self::Checkpoint(error) => return error.failure(),
            Self::OtherHash => FailureClass::Bug,
            Self::NoBackbone(_) | Self::Weights { .. } | Self::DataRoot { .. } => FailureClass::Missing,
            Self::Outside(_) | Self::Invalid { .. } => FailureClass::BadData,
        };
        Failure { class, reason: chain(self) }
    }
}

/// The job that a lease asks for, as a trainer on this machine does it. Fetches the checkpoint of a test if it isn't here, and
/// waits for it as long as the coordinator is out of reach.
pub(crate) async fn trainer_job(
    coordinator: &Coordinator,
    machine: &Machine,
    device: &str,
    grant: &LeaseGrant,
) -> Result<TrainerJob, PlaceError> {
    let spec = &grant.spec;
    if spec.hash() != grant.hash {
        return Err(PlaceError::OtherHash);
    }
    let backbone = &spec.backbone;
    let file = machine.backbones.get(backbone).ok_or_else(|| PlaceError::NoBackbone(backbone.clone()))?;
    let unreadable = |source| PlaceError::Weights { backbone: backbone.clone(), source };
    let metadata = in_time(fs_err::tokio::metadata(&file.weights)).await.map_err(unreadable)?;
    if !metadata.is_file() {
        let what = format!("`{}` is no regular file", file.weights.display());
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidInput, what)));
    }
    let data_root = in_time(fs_err::tokio::read_dir(&machine.data_root)).await;
    data_root.map(drop).map_err(|source| PlaceError::DataRoot { source })?;
    let checkpoint = match &grant.checkpoint {
        None => None,
        Some(source) => {
            let training = output_folder(machine, &source.spec)?;
            let found = checkpoint::find(coordinator, machine, source, training).await;
            Some(found.map_err(PlaceError::Checkpoint)?)
        }
    };
    let places = Places {
        weights: file.weights.clone(),
        data_root: machine.data_root.clone(),
        output: output_folder(machine, spec)?,
        checkpoint,
        datasets: machine.datasets.clone(),
        device: device.to_owned(),
        architecture: file.architecture.clone(),
    };
    let LeaseGrant { backbone_sha256, method_sha256, afresh, .. } = *grant;
    let job = TrainerJob { backbone_sha256, method_sha256, afresh, ..TrainerJob::new(spec, places) };
    job.check().map_err(|source| PlaceError::Invalid { source })?;
    Ok(job)
}

/// What a file system answers, if it answers.
async fn in_time<T>(answer: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let silent = || io::Error::new(io::ErrorKind::TimedOut, "its file system doesn't answer");
    tokio::time::timeout(ANSWER_LIMIT, answer).await.unwrap_or_else(|_| Err(silent()))
}

/// Hands the checkpoint of a finished job to the coordinator, if the job made one that the other workers can't reach here.
/// Waits for as long as the coordinator is out of reach.
pub(crate) async fn hand_over(
    coordinator: &Coordinator,
    machine: &Machine,
    spec: &JobSpec,
    manifest: Option<&Manifest>,
) -> Result<(), PlaceError> {
    let made = manifest.and_then(|manifest| checkpoint::made(manifest, &machine.methods));
    let Some(sha256) = made.filter(|_| machine.shared_output != Some(true)) else {
        return Ok(());
    };
    let name = layout::checkpoint(spec.method, &machine.methods).unwrap_or_default();
    let path = output_folder(machine, spec)?.join(name);
    checkpoint::hand_over(coordinator, &path, sha256).await.map_err(PlaceError::Checkpoint)
}

/// Where a job's folder lies on this machine.
pub(crate) fn output_folder(machine: &Machine, spec: &JobSpec) -> Result<PathBuf, PlaceError> {
    let folder = layout::folder(spec, &machine.methods);
    let inside = Path::new(&folder).components().all(|part| matches!(part, Component::Normal(_)));
    if inside { Ok(machine.output_root.join(folder)) } else { Err(PlaceError::Outside(folder)) }
}
