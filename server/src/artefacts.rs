//! Checkpoints and other files that travel between workers, by their SHA-256.
//!
//! A file lies below the artefacts' folder under its own hash, and it's there complete or not at all: it is written under
//! another name, checked, synced, and then renamed. Nothing is ever changed in place, so whoever reads a file needs no lock.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use promptfield_core::input::InvalidInput;
use promptfield_core::job::spec::{hex, is_sha256};
use sha2::{Digest as _, Sha256};
use tempfile::{NamedTempFile, TempPath};
use tokio::io::AsyncWriteExt;

/// The largest file that is taken.
pub(crate) const MOST_BYTES: u64 = 1 << 30;

/// Why an artefact could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArtefactError {
    /// What was sent is something else.
    #[error("the SHA-256 of what was sent, which is {actual}")]
    WrongHash { expected: String, actual: String },
    /// What was sent is too long.
    #[error("an artefact has at most {MOST_BYTES} bytes")]
    TooLarge,
    /// The sender stopped in the middle.
    #[error("what was sent broke off")]
    BrokeOff(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The disk refuses.
    #[error("can't {doing} `{}`", path.display())]
    Failed { doing: &'static str, path: PathBuf, source: io::Error },
}

/// SHA-256 as 64 lower-case hexadecimal digits, and so a safe file name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArtefactHash(String);

impl std::str::FromStr for ArtefactHash {
    type Err = InvalidInput;

    fn from_str(text: &str) -> Result<Self, InvalidInput> {
        if is_sha256(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidInput::new("sha256", text, "64 lower-case hexadecimal digits"))
        }
    }
}

impl std::fmt::Display for ArtefactHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The folder. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Artefacts {
    root: PathBuf,
}

impl Artefacts {
    /// Makes the folder if there is none, and removes what was not completed before.
    pub(crate) async fn open(root: PathBuf) -> Result<Self, ArtefactError> {
        let artefacts = Self { root };
        let incoming = artefacts.incoming();
        if fs_err::tokio::try_exists(&incoming).await.map_err(failed("look for", &incoming))? {
            fs_err::tokio::remove_dir_all(&incoming).await.map_err(failed("empty", &incoming))?;
        }
        fs_err::tokio::create_dir_all(&incoming).await.map_err(failed("make the folder", &incoming))?;
        Ok(artefacts)
    }

    fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// Two digits of the hash make a folder, so that no folder gets very long.
    fn path(&self, hash: &ArtefactHash) -> PathBuf {
        self.root.join(&hash.0[..2]).join(&hash.0)
    }

    /// Opens an artefact for reading, with its length; `None` if it isn't here.
    pub(crate) async fn get(&self, hash: &ArtefactHash) -> Result<Option<(tokio::fs::File, u64)>, ArtefactError> {
        let path = self.path(hash);
        let file = match tokio::fs::File::open(&path).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let length = file.metadata().await.map_err(failed("look at", &path))?.len();
        Ok(Some((file, length)))
    }

    /// Keeps what `body` sends; `true` if it wasn't here before. An error leaves nothing behind.
    pub(crate) async fn put<E>(
        &self,
        hash: &ArtefactHash,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<bool, ArtefactError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = self.path(hash);
        let written = receive(&self.incoming(), hash, body).await?;
        let is_new = !fs_err::tokio::try_exists(&path).await.map_err(failed("look for", &path))?;
        tokio::task::spawn_blocking(move || settle(written, &path)).await.map_err(|error| {
            let source = io::Error::other(error);
            ArtefactError::Failed { doing: "keep", path: self.path(hash), source }
        })??;
        Ok(is_new)
    }
}

/// Writes `body` into a temporary file, synced and checked. The file goes when the returned path is dropped.
async fn receive<E>(
    folder: &Path,
    hash: &ArtefactHash,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<TempPath, ArtefactError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (file, path) = NamedTempFile::new_in(folder).map_err(failed("make a file in", folder))?.into_parts();
    let mut file = tokio::fs::File::from_std(file);
    let (mut hasher, mut length) = (Sha256::new(), 0);
    let mut body = std::pin::pin!(body);
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| ArtefactError::BrokeOff(error.into()))?;
        length += chunk.len() as u64;
        if length > MOST_BYTES {
            return Err(ArtefactError::TooLarge);
        }
        hasher.update(&chunk);
        file.write_all(&chunk).await.map_err(failed("write", &path))?;
    }
    let actual = hex(&hasher.finalize());
    if actual != hash.0 {
        return Err(ArtefactError::WrongHash { expected: hash.0.clone(), actual });
    }
    file.flush().await.map_err(failed("write", &path))?;
    file.sync_all().await.map_err(failed("sync", &path))?;
    Ok(path)
}

/// Gives a complete file its name, durably.
fn settle(written: TempPath, path: &Path) -> Result<(), ArtefactError> {
    let folder = path.parent().unwrap_or(path);
    fs_err::create_dir_all(folder).map_err(failed("make the folder", folder))?;
    written.persist(path).map_err(|error| failed("name", path)(error.error))?;
    for folder in [Some(folder), folder.parent()].into_iter().flatten() {
        fs_err::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync the folder", folder))?;
    }
    Ok(())
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArtefactError {
    let path = path.to_owned();
    move |source| ArtefactError::Failed { doing, path, source }
}
