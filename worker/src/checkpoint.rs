//! Checkpoints between machines.
//!
//! A test needs the checkpoint of its training job. If the training ran below this output root, its folder is used as it
//! lies; otherwise the file comes from the coordinator, into `.artefacts` below the output root, named and verified by its
//! SHA-256. The other way, a finished training hands its checkpoint to the coordinator.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use promptfield_core::chain::chain;
use promptfield_core::job::layout::{self, LOG_FILE, MANIFEST_FILE};
use promptfield_core::job::outcome::{Failure, FailureClass, Manifest};
use promptfield_core::method::Methods;
use promptfield_core::wire::api::CheckpointSource;
use promptfield_output::file::{replace_from, sha256_of};
use promptfield_output::{ManifestError, manifest_in};

use crate::coordinator::{Coordinator, Rejected};
use crate::options::Machine;

/// Where artefacts are kept, below the output root.
pub(crate) const CACHE_FOLDER: &str = ".artefacts";

/// Why there is no checkpoint, or why it couldn't be handed over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error(
        "no checkpoint of `{title}`: {local}, and the coordinator has none ({remote}); either all workers share one output \
         root, or `shared_output` must be false where the training ran"
    )]
    Missing { title: String, local: String, remote: String },
    #[error("checkpoint {sha256}: what the coordinator sent has the hash {found}")]
    OtherContents { sha256: String, found: String },
    #[error("checkpoint {sha256}: it could not be kept below `output_root`")]
    NotKept { sha256: String, source: io::Error },
    #[error("checkpoint {sha256}: it could not be read from the finished folder")]
    NotRead { sha256: String, source: io::Error },
    #[error("checkpoint {sha256}: the coordinator did not give or take it")]
    Refused { sha256: String, source: Rejected },
}

impl CheckpointError {
    pub(crate) fn failure(&self) -> Failure {
        let class = match self {
            Self::Missing { .. } => FailureClass::Missing,
            Self::OtherContents { .. } | Self::NotKept { .. } | Self::NotRead { .. } => FailureClass::Storage,
            Self::Refused { .. } => FailureClass::Bug,
        };
        Failure { class, reason: chain(self) }
    }
}

/// The checkpoint to test: a training folder, or a file. `training` is where the training job's folder would lie. Waits for
/// as long as the coordinator is out of reach.
pub(crate) async fn find(
    coordinator: &Coordinator,
    machine: &Machine,
    source: &CheckpointSource,
    training: PathBuf,
) -> Result<PathBuf, CheckpointError> {
    let looked = {
        let (training, source, methods) = (training.clone(), source.clone(), Arc::clone(&machine.methods));
        tokio::task::spawn_blocking(move || lies_in(&training, &source, &methods)).await
    };
    let local = match looked.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(()) => return Ok(training),
        Err(why) => why,
    };
    let missing = |remote: String| CheckpointError::Missing { title: source.spec.title(), local, remote };
    let Some(sha256) = &source.sha256 else {
        return Err(missing("the training job's result came without one".into()));
    };
    // It becomes part of a path.
    if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(missing(format!("`{sha256}` is no SHA-256")));
    }
    let cache = machine.output_root.join(CACHE_FOLDER);
    let kept = cache.join(format!("{sha256}.safetensors"));
    if fs_err::tokio::read(&kept).await.is_ok_and(|bytes| sha256_of(&bytes) == *sha256) {
        return Ok(kept);
    }
    let bytes = match coordinator.until_answered(|| coordinator.client.get_artefact(sha256, u64::MAX)).await {
        Ok(bytes) => bytes,
        Err(Rejected::NotFound(reason)) => return Err(missing(reason)),
        Err(source) => return Err(CheckpointError::Refused { sha256: sha256.clone(), source }),
    };
    let found = sha256_of(&bytes);
    if found != *sha256 {
        return Err(CheckpointError::OtherContents { sha256: sha256.clone(), found });
    }
    let path = kept.clone();
    tokio::task::spawn_blocking(move || replace_from(&cache, &path, &bytes))
        .await
        .map_err(io::Error::other)
        .flatten()
        .map_err(|source| CheckpointError::NotKept { sha256: sha256.clone(), source })?;
    tracing::info!(sha256, "checkpoint of `{}` fetched", source.spec.title());
    Ok(kept)
}

/// Whether a folder holds the checkpoint that is meant; if not, why.
fn lies_in(folder: &Path, source: &CheckpointSource, methods: &Methods) -> Result<(), String> {
    let shown = folder.display();
    let name = layout::checkpoint(source.spec.method, methods).unwrap_or_default();
    match manifest_in(folder, None) {
        Ok(Some(manifest)) => {
            let checkpoint = manifest.files.get(&name);
            if manifest.spec_hash != source.spec.hash() {
                Err(format!("`{shown}` is of another specification"))
            } else if checkpoint.is_none() {
                Err(format!("`{shown}` has none"))
            } else if source.sha256.is_some() && source.sha256 != checkpoint.map(|entry| entry.sha256.clone()) {
                // Another attempt of the same job, on another device: the result must come from the recorded one.
                Err(format!("`{shown}` has another one"))
            } else {
                let file = folder.join(&name);
                match fs_err::read(&file) {
                    Ok(bytes) if Some(sha256_of(&bytes)) == checkpoint.map(|entry| entry.sha256.clone()) => Ok(()),
                    Ok(_) => Err(format!("`{}` was changed, or damaged", file.display())),
                    Err(error) => Err(format!("it can't be read: {error}")),
                }
            }
        }
        Err(ManifestError::Parse(error)) => Err(format!("`{shown}` has a {MANIFEST_FILE} that can't be read: {error}")),
        // Another tool trained it: the trainer sees whether it tested it, too, or whether its checkpoint can be tested.
        _ if source.sha256.is_none() && folder.join(LOG_FILE).is_file() => Ok(()),
        _ => Err(format!("`{shown}` is not a complete folder on this machine")),
    }
}

/// The SHA-256 of a job's checkpoint, if it made one.
pub(crate) fn made<'a>(manifest: &'a Manifest, methods: &Methods) -> Option<&'a str> {
    Some(&manifest.files.get(&layout::checkpoint(manifest.spec.method, methods)?)?.sha256)
}

/// Hands a checkpoint file to the coordinator, if it hasn't got it. Waits for as long as the coordinator is out of reach.
pub(crate) async fn hand_over(coordinator: &Coordinator, path: &Path, sha256: &str) -> Result<(), CheckpointError> {
    let refused = |source| CheckpointError::Refused { sha256: sha256.to_owned(), source };
    if coordinator.until_answered(|| coordinator.client.has_artefact(sha256)).await.map_err(refused)? {
        return Ok(());
    }
    let bytes = fs_err::tokio::read(path)
        .await
        .map_err(|source| CheckpointError::NotRead { sha256: sha256.to_owned(), source })?;
    coordinator.until_answered(|| coordinator.client.put_artefact(sha256, bytes.clone())).await.map_err(refused)
}
