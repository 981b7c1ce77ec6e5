//! Unfinished trainings between machines.
//!
//! A training that is broken off leaves its last epoch's state in `….partial`, where the next trainer that sees the same output
//! root goes on from. Where the others have roots of their own, the files travel through the coordinator, as artefacts: a worker
//! hands them over when it gives the job back, and whoever gets the job puts them into place before its trainer starts. The trainer
//! then looks at them as at any attempt's: what doesn't fit its weights, its data or its version, it puts aside.
//!
//! Whatever goes wrong here costs epochs, not the job.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use fs_err::File;
use promptfield_core::VERSION;
use promptfield_core::input::InvalidInput;
use promptfield_core::job::layout::{MANIFEST_FILE, ORIGIN_FILE, STATE_FILE};
use promptfield_core::job::outcome::FileEntry;
use promptfield_core::job::spec::SpecHash;
use promptfield_core::job::unfinished::{Origin, Reached, Unfinished};
use promptfield_output::file::{replace_from, sha256_of};
use promptfield_output::partial::{self, Lock, leftovers, put_aside};

use crate::checkpoint::CACHE_FOLDER;
use crate::coordinator::{Coordinator, Rejected};

/// The most bytes of a list of files.
const LONGEST_LIST: u64 = 64 << 10;

/// Why a training's files didn't travel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnfinishedError {
    #[error("the list of its files can't be understood")]
    NoList(#[source] serde_json::Error),
    #[error("the list of its files")]
    WrongList(#[source] InvalidInput),
    #[error("artefact {sha256}: what the coordinator sent has the hash {found}")]
    OtherContents { sha256: String, found: String },
    #[error("its files are no state of this job that version {VERSION} goes on from")]
    Unfit,
    #[error("artefact {sha256}: the coordinator did not give or take it")]
    Refused { sha256: String, source: Rejected },
    #[error("another process works in `{}`", .0.display())]
    Held(PathBuf),
    #[error("its folder can't be read or written")]
    Folder(#[source] io::Error),
}

impl UnfinishedError {
    /// Whether nobody else will have more luck with what the coordinator has.
    pub(crate) const fn is_lasting(&self) -> bool {
        match self {
            Self::NoList(_) | Self::WrongList(_) | Self::OtherContents { .. } | Self::Unfit | Self::Refused { .. } => {
                true
            }
            Self::Held(_) | Self::Folder(_) => false,
        }
    }
}

/// What stands in a `….partial` folder, if a trainer of this version goes on from there.
struct Left {
    epochs: u32,
    files: BTreeMap<&'static str, Vec<u8>>,
}

impl Left {
    /// Files that may be those of a job.
    fn of(files: BTreeMap<&'static str, Vec<u8>>, job: SpecHash) -> Option<Self> {
        let origin: Origin = serde_json::from_slice(files.get(ORIGIN_FILE)?).ok()?;
        let Reached { spec_hash, epochs } = Reached::of(files.get(STATE_FILE)?)?;
        let fits = origin.spec.hash() == job && spec_hash == job && origin.code_version == VERSION;
        fits.then_some(Self { epochs, files })
    }

    fn read(partial: &Path, job: SpecHash) -> io::Result<Option<Self>> {
        let mut files = BTreeMap::new();
        for name in Unfinished::FILES {
            match fs_err::read(partial.join(name)) {
                Ok(bytes) => drop(files.insert(name, bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self::of(files, job))
    }

    fn list(&self) -> Unfinished {
        let entry = |bytes: &Vec<u8>| FileEntry { sha256: sha256_of(bytes), bytes: bytes.len() as u64 };
        let files = self.files.iter().map(|(name, bytes)| ((*name).to_owned(), entry(bytes))).collect();
        Unfinished { format: Unfinished::FORMAT, epochs: self.epochs, files }
    }
}

/// Hands over what a broken-off training left beside `output`, if that's more than `known` epochs. Gives what was handed over:
/// its artefact and its epochs. Waits for as long as the coordinator is out of reach.
pub(crate) async fn hand_over(
    coordinator: &Coordinator,
    output: &Path,
    job: SpecHash,
    known: u32,
) -> Result<Option<(String, u32)>, UnfinishedError> {
    let partial = partial::of(output);
    let read = move || {
        let left = Left::read(&partial, job).map_err(UnfinishedError::Folder)?;
        Ok(left.filter(|left| left.epochs > known).map(|left| (left.list(), left)))
    };
    let Some((list, mut left)) = blocking(read).await? else { return Ok(None) };
    list.check().map_err(UnfinishedError::WrongList)?;
    for (name, FileEntry { sha256, .. }) in &list.files {
        if let Some(bytes) = left.files.remove(name.as_str()) {
            send(coordinator, sha256, bytes).await?;
        }
    }
    let text = serde_json::json!(list).to_string().into_bytes();
    let sha256 = sha256_of(&text);
    send(coordinator, &sha256, text).await?;
    Ok(Some((sha256, list.epochs)))
}

/// Where a training goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// From what another machine left, which lies in place now.
    Travelled,
    /// From what lies here.
    Local,
}

/// Puts what another machine left of a training where the trainer looks for it, unless it finds more here. Gives how many epochs
/// the coordinator has too. Waits for as long as the coordinator is out of reach.
pub(crate) async fn take_over(
    coordinator: &Coordinator,
    output_root: &Path,
    output: &Path,
    job: SpecHash,
    sha256: &str,
) -> Result<(Start, u32), UnfinishedError> {
    let list = fetch(coordinator, sha256, LONGEST_LIST).await?;
    let list: Unfinished = serde_json::from_slice(&list).map_err(UnfinishedError::NoList)?;
    list.check().map_err(UnfinishedError::WrongList)?;
    let place = Place { cache: output_root.join(CACHE_FOLDER), output: output.to_owned(), job, list };
    let (place, is_wanted) = blocking(move || {
        let is_wanted = place.is_wanted()?;
        Ok((place, is_wanted))
    })
    .await?;
    let epochs = place.list.epochs;
    if !is_wanted {
        return Ok((Start::Local, epochs));
    }
    let mut files = BTreeMap::new();
    for name in Unfinished::FILES {
        if let Some(FileEntry { sha256, bytes }) = place.list.files.get(name) {
            files.insert(name, fetch(coordinator, sha256, *bytes).await?);
        }
    }
    let travelled =
        Left::of(files, job).filter(|travelled| travelled.epochs == epochs).ok_or(UnfinishedError::Unfit)?;
    Ok((blocking(move || place.fill(&travelled)).await?, epochs))
}

/// Where a training's files are to lie, and what they are to be.
struct Place {
    /// Where files are written before they have their names.
    cache: PathBuf,
    output: PathBuf,
    job: SpecHash,
    list: Unfinished,
}

impl Place {
    /// Whether the trainer would go on from there, and further than from what it finds.
    fn is_wanted(&self) -> Result<bool, UnfinishedError> {
        // Complete or not, the trainer knows better what is to become of it.
        if fs_err::symlink_metadata(&self.output).is_ok() {
            return Ok(false);
        }
        let partial = partial::of(&self.output);
        if fs_err::symlink_metadata(partial.join(MANIFEST_FILE)).is_ok() {
            return Ok(false);
        }
        let local = Left::read(&partial, self.job).map_err(UnfinishedError::Folder)?;
        Ok(local.is_none_or(|local| {
            // Where it's of other weights or images, so would be the trainer's.
            let is_of_same = |bytes: &Vec<u8>| {
                self.list.files.get(ORIGIN_FILE).is_some_and(|origin| origin.sha256 == sha256_of(bytes))
            };
            local.epochs < self.list.epochs && local.files.get(ORIGIN_FILE).is_some_and(is_of_same)
        }))
    }

    /// Writes the files, if they are still wanted when nobody else works there.
    fn fill(&self, travelled: &Left) -> Result<Start, UnfinishedError> {
        let partial = partial::of(&self.output);
        let held = hold(&partial)?;
        if !self.is_wanted()? {
            return Ok(Start::Local);
        }
        let origin = fs_err::read(partial.join(ORIGIN_FILE)).ok();
        let is_of_same = origin.is_some() && origin.as_ref() == travelled.files.get(ORIGIN_FILE);
        let held = if is_of_same || leftovers(&partial).map_err(UnfinishedError::Folder)?.is_empty() {
            held
        } else {
            let aside = put_aside(&partial).map_err(UnfinishedError::Folder)?;
            tracing::info!("`{}` was put aside as `{}`", partial.display(), aside.display());
            hold(&partial)?
        };
        for name in Unfinished::FILES {
            if let Some(bytes) = travelled.files.get(name) {
                replace_from(&self.cache, &partial.join(name), bytes).map_err(UnfinishedError::Folder)?;
            }
        }
        drop(held);
        Ok(Start::Travelled)
    }
}

/// Takes hold of a `….partial` folder, made if it isn't there, as a trainer does: until the file is closed, none will.
fn hold(partial: &Path) -> Result<File, UnfinishedError> {
    let lock = fs_err::create_dir_all(partial).and_then(|()| partial::lock(partial));
    match lock.map_err(UnfinishedError::Folder)? {
        Lock::Held(file) => Ok(file),
        // Where it's gone, its holder has just renamed the folder.
        Lock::Gone | Lock::Busy(_) => Err(UnfinishedError::Held(partial.to_owned())),
    }
}

async fn fetch(coordinator: &Coordinator, sha256: &str, most: u64) -> Result<Vec<u8>, UnfinishedError> {
    let fetched = coordinator.until_answered(|| coordinator.client.get_artefact(sha256, most)).await;
    let bytes = fetched.map_err(|source| UnfinishedError::Refused { sha256: sha256.to_owned(), source })?;
    let found = sha256_of(&bytes);
    if found == sha256 { Ok(bytes) } else { Err(UnfinishedError::OtherContents { sha256: sha256.to_owned(), found }) }
}

async fn send(coordinator: &Coordinator, sha256: &str, bytes: Vec<u8>) -> Result<(), UnfinishedError> {
    let refused = |source| UnfinishedError::Refused { sha256: sha256.to_owned(), source };
    if coordinator.until_answered(|| coordinator.client.has_artefact(sha256)).await.map_err(refused)? {
        return Ok(());
    }
    coordinator.until_answered(|| coordinator.client.put_artefact(sha256, bytes.clone())).await.map_err(refused)
}

/// What takes a disk's time.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, UnfinishedError> + Send + 'static,
) -> Result<T, UnfinishedError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| UnfinishedError::Folder(io::Error::other(error))).flatten()
}
