//! Why a job ended without a result, and what kind of failure that is.

use std::any::Any;
use std::io::ErrorKind;
use std::path::PathBuf;

use promptfield_core::chain::chain;
use promptfield_core::input::InvalidInput;
use promptfield_core::job::outcome::{Failure, FailureClass};
use promptfield_core::job::spec::BasisHash;
use promptfield_core::names::Precision;
use promptfield_core::scheduler::machine_fault::Cause;
use tch::TchError;

use super::checkpoint::CheckpointError;
use crate::clip::WeightsError;
use crate::data::DataError;
use crate::image::ImageError;
use crate::methods::MethodError;
use crate::optimiser::StateError;
use promptfield_output::FolderError;

/// Why a job ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// It was asked to stop.
    #[error("the job was cancelled")]
    Cancelled,
    /// A field of the job is wrong.
    #[error(transparent)]
    Input(#[from] InvalidInput),
    /// The device isn't there.
    #[error("`device`: `{asked}` is not on this machine: expected one of {}", .there.join(", "))]
    Device {
        /// What the job names.
        asked: String,
        /// What it could name.
        there: Vec<String>,
    },
    /// The data set can't be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// An image can't be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The weights can't be used.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The weights are others than those that the experiment's results rest on.
    #[error(
        "the weights `{}` of the backbone `{backbone}` have the identity {}, and its results rest on {wanted}: put that file there, or \
         pin the backbone anew",
        .path.display(),
        .found.map(|found| found.to_string()).unwrap_or_default()
    )]
    OtherBackbone {
        /// The backbone's name.
        backbone: String,
        /// The weights file.
        path: PathBuf,
        /// The identity of this machine's.
        found: Option<BasisHash>,
        /// The identity that is asked for.
        wanted: BasisHash,
    },
    /// The method can't be set up as the job wants it.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// The state of an earlier attempt isn't this optimiser's.
    #[error(transparent)]
    Optimiser(#[from] StateError),
    /// The checkpoint to test can't be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The output folder can't be written.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Another trainer makes the same output folder.
    #[error("`{}` is being worked on by {holder}: one trainer at a time can make an output folder", .partial.display())]
    Busy {
        /// The folder that is held.
        partial: PathBuf,
        /// Which process holds it.
        holder: String,
    },
    /// Training diverged.
    #[error("{what} at step {step} (epoch {epoch}, batch {batch}): expected finite numbers; a lower `lr` may help")]
    Diverged {
        /// What isn't finite.
        what: String,
        /// The step, counted from 0 over all epochs.
        step: u64,
        /// The epoch, counted from 1.
        epoch: u32,
        /// The batch of the epoch, counted from 1.
        batch: u32,
    },
    /// The weights make no numbers of a class or of an image, or of a batch before anything was trained.
    #[error(
        "{what} not finite: expected finite numbers from the weights of `{backbone}`{} in precision {precision}",
        if *trained { " and what was trained on them" } else { "" }
    )]
    NotFinite {
        /// What isn't finite, with its verb.
        what: String,
        /// The backbone's name.
        backbone: String,
        /// What it's computed in.
        precision: Precision,
        /// Whether parameters that were trained take part.
        trained: bool,
    },
    /// A tensor couldn't be read back.
    #[error("the trainer failed inside libtorch")]
    Torch(#[from] TchError),
    /// A panic inside the job; most of libtorch's errors come this way.
    #[error("the trainer failed inside: {0}")]
    Panicked(String),
}

impl JobError {
    /// The error of what a job panicked with. An error of libtorch comes as the text of an unwrapped `TchError`, with the C++
    /// frames behind it; those went to stderr with the panic.
    pub(super) fn from_panic(panic: &(dyn Any + Send)) -> Self {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without a message");
        let message = message.split_once("value: Torch(\"").map_or(message, |(_, inner)| inner);
        Self::Panicked(message.split("\\nException raised from").next().unwrap_or_default().to_owned())
    }

    /// The kind of failure.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Device { .. }
            | Self::OtherBackbone { .. }
            | Self::Checkpoint(CheckpointError::Missing { .. })
            | Self::Data(DataError::Missing { .. } | DataError::Unknown(_)) => FailureClass::Missing,
            Self::Weights(WeightsError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
                FailureClass::Missing
            }
            // After the last of them, the next attempt finds the weights as they are then.
            Self::Folder(_) | Self::Busy { .. } | Self::Weights(WeightsError::Changed { .. }) => FailureClass::Storage,
            Self::Input(_)
            | Self::Data(_)
            | Self::Image(_)
            | Self::Weights(_)
            | Self::Method(_)
            | Self::Checkpoint(_)
            | Self::Diverged { .. }
            | Self::NotFinite { .. } => FailureClass::BadData,
            Self::Panicked(message) if is_out_of_memory(message) => FailureClass::OutOfMemory,
            Self::Torch(error) if is_out_of_memory(&error.to_string()) => FailureClass::OutOfMemory,
            Self::Panicked(_) | Self::Torch(_) | Self::Optimiser(_) | Self::Cancelled => FailureClass::Bug,
        }
    }

    /// What is at fault, if it isn't the job itself: what another machine may have, or another training would make.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Checkpoint(CheckpointError::Read { .. }) | Self::Weights(WeightsError::Changed { .. }) => None,
            Self::Checkpoint(_) => Some(Cause::Checkpoint),
            Self::OtherBackbone { found, .. } => found.map(|sha256| Cause::OtherBackbone { sha256 }),
            Self::Busy { holder, .. } => {
                let host = holder.split_once(" on ").map(|(_, host)| host.to_owned());
                Some(Cause::FolderInUse { holder: holder.clone(), host })
            }
            Self::Folder(FolderError { source, .. }) if has_no_room(source) => Some(Cause::OutputRoot),
            Self::Data(DataError::Missing { .. } | DataError::Unknown(_)) => Some(Cause::Dataset),
            Self::Weights(_) => Some(Cause::Backbone),
            // What else is wrong with a data set or a folder may concern this job alone.
            Self::Folder(_) | Self::Data(_) | Self::Image(_) | Self::Device { .. } => Some(Cause::Job),
            Self::Panicked(message) if is_of_device(message) => Some(Cause::Job),
            Self::Torch(error) if is_of_device(&error.to_string()) => Some(Cause::Job),
            _ => None,
        }
    }

    /// What is reported: the class, and this error with its causes as a sentence.
    pub fn failure(&self) -> Failure {
        Failure { class: self.class(), reason: chain(self) }
    }
}

/// Whether nothing can be written where a folder lies, whichever folder it is.
fn has_no_room(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem)
}

/// Whether a device failed, rather than what was computed on it. libtorch says so only in words.
fn is_of_device(message: &str) -> bool {
    message.contains("CUDA error") && !is_out_of_memory(message)
}

/// libtorch has no error code for it, only these words (CUDA's allocator; the CPU's).
fn is_out_of_memory(message: &str) -> bool {
    let message = message.to_lowercase();
    ["out of memory", "can't allocate memory", "can't allocate"].iter().any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_says_in_words_that_memory_is_short() {
        let class = |message: &str| JobError::from_panic(&message.to_owned()).class();
        assert_eq!(class("Torch(\"CUDA out of memory. Tried to allocate 2.00 GiB\")"), FailureClass::OutOfMemory);
        assert_eq!(
            class("DefaultCPUAllocator: can't allocate memory: you tried to allocate 400 bytes"),
            FailureClass::OutOfMemory
        );
        assert_eq!(class("index out of bounds"), FailureClass::Bug);
    }

    #[test]
    fn a_panic_of_libtorch_is_reported_without_its_frames() {
        let panic =
            std::panic::catch_unwind(|| tch::Tensor::zeros([2], (tch::Kind::Float, tch::Device::Cpu)).view([3]));
        let reason = JobError::from_panic(panic.unwrap_err().as_ref()).failure().reason;
        assert_eq!(reason, "the trainer failed inside: shape '[3]' is invalid for input of size 2");
    }

    #[test]
    fn the_reason_names_the_causes() {
        let error =
            JobError::Folder(FolderError { output: "out/seed1".into(), source: std::io::Error::other("disk full") });
        let failure = error.failure();
        assert_eq!(failure.class, FailureClass::Storage);
        assert_eq!(failure.reason, "cannot write the output folder `out/seed1`: disk full");
    }

    #[test]
    fn what_is_the_machine_s_fault_is_told_from_what_is_the_job_s() {
        let folder = |kind: ErrorKind| JobError::Folder(FolderError { output: "o".into(), source: kind.into() });
        let missing = DataError::Missing { dataset: "dtd".into(), what: "its images", path: "x".into() };
        let read = DataError::Read { path: "x".into(), source: ErrorKind::PermissionDenied.into() };
        let busy = |holder: &str| JobError::Busy { partial: "p".into(), holder: holder.into() };
        let in_use = |holder: &str, host: Option<&str>| Cause::FolderInUse {
            holder: holder.to_owned(),
            host: host.map(str::to_owned),
        };
        for (error, cause) in [
            (folder(ErrorKind::StorageFull), Some(Cause::OutputRoot)),
            (folder(ErrorKind::QuotaExceeded), Some(Cause::OutputRoot)),
            (folder(ErrorKind::ReadOnlyFilesystem), Some(Cause::OutputRoot)),
            (folder(ErrorKind::PermissionDenied), Some(Cause::Job)),
            (JobError::Data(missing), Some(Cause::Dataset)),
            (JobError::Data(read), Some(Cause::Job)),
            (JobError::from_panic(&"CUDA error: an illegal memory access".to_owned()), Some(Cause::Job)),
            (JobError::from_panic(&"CUDA error: out of memory".to_owned()), None),
            (JobError::from_panic(&"index out of bounds".to_owned()), None),
            (busy("process 7 on n1"), Some(in_use("process 7 on n1", Some("n1")))),
            (busy("another trainer"), Some(in_use("another trainer", None))),
        ] {
            assert_eq!(error.cause(), cause, "{error}");
        }
    }
}
