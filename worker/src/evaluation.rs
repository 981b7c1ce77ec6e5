//! The numbers by class of a finished folder, on their way to the coordinator.
//!
//! They lie in the folder, whoever made it and when; its manifest says which bytes are meant. A folder that has none, or
//! others, costs its result nothing.

use std::io;
use std::path::Path;

use promptfield_core::input::InvalidInput;
use promptfield_core::job::evaluation::Evaluation;
use promptfield_core::job::layout::EVALUATION_FILE;
use promptfield_core::job::outcome::Manifest;
use promptfield_output::file::sha256_of;

/// Why a folder's numbers by class can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EvaluationError {
    #[error("`{EVALUATION_FILE}` could not be read from the finished folder")]
    NotRead(#[source] io::Error),
    #[error("`{EVALUATION_FILE}` has the hash {found}, and the manifest says {expected}")]
    OtherContents { expected: String, found: String },
    #[error("`{EVALUATION_FILE}` is not one")]
    Wrong(#[source] InvalidInput),
}

/// The numbers by class in a finished folder; `None` if its manifest names none, as those of earlier versions.
pub(crate) async fn read(folder: &Path, manifest: &Manifest) -> Result<Option<Evaluation>, EvaluationError> {
    let Some(entry) = manifest.files.get(EVALUATION_FILE) else { return Ok(None) };
    let bytes = fs_err::tokio::read(folder.join(EVALUATION_FILE)).await.map_err(EvaluationError::NotRead)?;
    let found = sha256_of(&bytes);
    if found != entry.sha256 {
        return Err(EvaluationError::OtherContents { expected: entry.sha256.clone(), found });
    }
    let parse = || {
        let evaluation = Evaluation::parse(&String::from_utf8_lossy(&bytes))?;
        let expected = || InvalidInput::new("result", "null", "the numbers that the evaluation is of");
        evaluation.check(manifest.result.as_ref().ok_or_else(expected)?)?;
        Ok(evaluation)
    };
    parse().map(Some).map_err(EvaluationError::Wrong)
}
