//! What lies in an output folder: compared with what the job rests on today, never assumed.
//!
//! A manifest names the specification, the split, the backbone and every file by their hashes. A folder is whole if all of them
//! are what they are today, and if its log and its numbers by class say the same as its manifest. Nothing here needs a model or
//! reads an image.

use std::io;
use std::path::{Path, PathBuf};

use fs_err::File;
use promptfield_core::input::InvalidInput;
use promptfield_core::job::earlier::{self, Training};
use promptfield_core::job::evaluation::Evaluation;
use promptfield_core::job::layout::{self, EVALUATION_FILE, LOG_FILE, MANIFEST_FILE, foreign_result, parse_log_result};
use promptfield_core::job::outcome::{Manifest, Outcome, TestResult};
use promptfield_core::job::spec::SpecHash;
use promptfield_core::method::Methods;
use promptfield_core::wire::output_report::OutputState;

use crate::file::digest;
use crate::folder::Today;
use crate::partial::leftovers;

/// What lies in a folder.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing that could be a result: no folder, or one without a manifest and without a log.
    Nothing,
    /// What the job would make.
    Whole(Box<Outcome>),
    /// Something else, and what is different.
    Other(String),
}

/// Whether a folder that another tool completed counts.
#[derive(Clone, Debug)]
pub enum Foreign {
    /// Never.
    Refused,
    /// If its run is whole: an evaluation that rests on no training, or a training whose checkpoint nobody tests.
    Alone,
    /// A training, if its checkpoint can be tested here, or together with its test.
    Training {
        /// Where the one test of its checkpoint lies, and how many images that has; `None` where there are several.
        test: Option<(PathBuf, usize)>,
    },
    /// A test, beside the training that it belongs to, which another tool completed too.
    Test {
        /// The training's folder.
        training: PathBuf,
        /// Its test images; `None` if its data set isn't known here.
        images: Option<usize>,
    },
}

/// Looks into a folder.
pub(crate) fn look(folder: &Path, today: &Today) -> Found {
    let manifest = match manifest_in(folder, today.training) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => return look_for_log(folder, today),
        Err(why) => return Found::Other(why.to_string()),
    };
    let difference = differs(&manifest, today).or_else(|| is_damaged(folder, &manifest, today.on_block));
    difference.map_or_else(
        || {
            // The split is the same, so what an older manifest doesn't say of it is known now.
            let test_sha256 = Some(today.test_sha256.clone());
            let left_out = today.left_out.to_vec();
            let manifest = Manifest { test_sha256, left_out, ..manifest };
            Found::Whole(Box::new(Outcome { result: manifest.result, adopted: true, manifest: Some(manifest) }))
        },
        Found::Other,
    )
}

/// What lies in the output folder of a job that has a result, whatever it rests on, with its manifest and what is wrong.
/// After each block of a file that was hashed, `on_block` is called.
pub fn look_at_output(folder: &Path, on_block: fn()) -> (OutputState, Option<Manifest>, Option<String>) {
    let damaged = |reason: String| (OutputState::Damaged, None, Some(reason));
    match manifest_in(folder, None) {
        Err(why) => damaged(why.to_string()),
        Ok(None) if !folder.is_dir() => (OutputState::Absent, None, None),
        Ok(None) if folder.join(LOG_FILE).is_file() => (OutputState::Foreign, None, None),
        Ok(None) => damaged(format!("it has no {MANIFEST_FILE}, and no {LOG_FILE}")),
        Ok(Some(manifest)) => match is_damaged(folder, &manifest, on_block) {
            Some(reason) => (OutputState::Damaged, Some(manifest), Some(reason)),
            None => (OutputState::Whole, Some(manifest), None),
        },
    }
}

/// Why a folder's manifest can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Its bytes can't be read.
    #[error("its {MANIFEST_FILE} can't be read: {0}")]
    Read(io::Error),
    /// It is none.
    #[error("its {MANIFEST_FILE} can't be understood: {0}")]
    Parse(InvalidInput),
}

/// A folder's manifest, if there is one. That of an earlier version is brought to today's form; `training` is the one that it may rest on.
pub fn manifest_in(folder: &Path, training: Option<Training>) -> Result<Option<Manifest>, ManifestError> {
    Ok(read_manifest(folder, training)?.map(|(manifest, _)| manifest))
}

/// The training in a folder, if an earlier version left it there.
pub fn earlier_training(folder: &Path) -> Option<Training> {
    let (manifest, earlier) = read_manifest(folder, None).ok()??;
    Some(Training { earlier: earlier?, today: manifest.spec_hash })
}

/// A folder's manifest, and the identity that its job had in an earlier version.
fn read_manifest(
    folder: &Path,
    training: Option<Training>,
) -> Result<Option<(Manifest, Option<SpecHash>)>, ManifestError> {
    let text = match fs_err::read_to_string(folder.join(MANIFEST_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ManifestError::Read(error)),
    };
    earlier::read(&text, Methods::built_in(), training).map(Some).map_err(ManifestError::Parse)
}

/// In what a manifest isn't of the same origin.
fn differs(manifest: &Manifest, today: &Today) -> Option<String> {
    let origin = today.origin;
    if manifest.spec_hash != origin.spec.hash() || manifest.spec.hash() != manifest.spec_hash {
        return Some("it is of another specification".to_owned());
    }
    let differs = |what: &str, had: &str, is: &str| (had != is).then(|| format!("{what} was {had}, and is {is} now"));
    differs("the split", &manifest.split_sha256, &origin.split_sha256)
        .or_else(|| differs("the backbone", &manifest.backbone_sha256(), &origin.backbone_sha256))
        .or_else(|| {
            // What an older manifest doesn't say can't be compared.
            let (had, is) = manifest.checkpoint_sha256.as_ref().zip(today.checkpoint_sha256.as_ref())?;
            differs("the checkpoint", had, is)
        })
}

/// What of a folder's files isn't what its manifest says.
fn is_damaged(folder: &Path, manifest: &Manifest, on_block: fn()) -> Option<String> {
    let result = manifest.result.as_ref();
    let counted = || result.map_or(Ok(()), |result| result.check().and_then(|()| result.check_rates()));
    if let Err(error) = manifest.check(result).and_then(|()| counted()) {
        return Some(format!("its {MANIFEST_FILE} contradicts itself: {error}"));
    }
    for (name, entry) in &manifest.files {
        let found = File::open(folder.join(name)).and_then(|mut file| digest(&mut file, on_block));
        match found {
            Ok(found) if found == *entry => {}
            Ok(_) => {
                return Some(format!(
                    "its {name} isn't the one that its {MANIFEST_FILE} names: it was changed, or damaged"
                ));
            }
            Err(error) => return Some(format!("its {name} can't be read: {error}")),
        }
    }
    let what = result.and_then(|result| contradicts(folder, manifest, result));
    what.map(|what| format!("its {what} says something else than its {MANIFEST_FILE}"))
}

/// Which of its files says something else than a manifest's numbers. They have the hashes that it names, so either was written
/// by hand, or by a program that was wrong.
fn contradicts(folder: &Path, manifest: &Manifest, result: &TestResult) -> Option<&'static str> {
    let has = |name: &str| manifest.files.contains_key(name);
    let text = |name: &str| String::from_utf8_lossy(&fs_err::read(folder.join(name)).unwrap_or_default()).into_owned();
    if has(EVALUATION_FILE) {
        let evaluation = Evaluation::parse(&text(EVALUATION_FILE));
        if evaluation.and_then(|evaluation| evaluation.check(result)).is_err() {
            return Some(EVALUATION_FILE);
        }
    }
    let logged = has(LOG_FILE).then(|| parse_log_result(&text(LOG_FILE)))?;
    let counts = |result: &TestResult| (result.total, result.correct);
    let agrees = logged.is_some_and(|logged| counts(&logged) == counts(result));
    (!agrees).then_some(LOG_FILE)
}

/// Looks for what another tool left: a log with a result, and no manifest.
fn look_for_log(folder: &Path, today: &Today) -> Found {
    let log = match fs_err::read(folder.join(LOG_FILE)) {
        Ok(log) => String::from_utf8_lossy(&log).into_owned(),
        Err(_) if leftovers(folder).unwrap_or_default().is_empty() => return Found::Nothing,
        Err(_) => return Found::Other(format!("it has no {MANIFEST_FILE}, and no {LOG_FILE}")),
    };
    let result = match foreign_result(&log, today.test_images) {
        Ok(result) => result,
        Err(why) => return Found::Other(format!("another tool's {LOG_FILE} {why}")),
    };
    let whole = || Found::Whole(Box::new(Outcome { result: Some(result), adopted: true, manifest: None }));
    let checkpoint = layout::checkpoint(today.origin.spec.method, Methods::built_in());
    let is_testable =
        || checkpoint.as_ref().is_some_and(|name| (today.is_checkpoint_of)(&folder.join(name), today.origin));
    match &today.foreign {
        Foreign::Alone => whole(),
        Foreign::Training { .. } if is_testable() => whole(),
        Foreign::Training { test: Some((test, images)) } if is_complete_log(test, Some(*images)) => whole(),
        Foreign::Training { .. } => Found::Other(
            "another tool trained it, its checkpoint can't be tested here, and no complete test of it lies beside it"
                .to_owned(),
        ),
        Foreign::Test { training, images } if is_complete_log(training, *images) => whole(),
        Foreign::Test { training, .. } => Found::Other(format!(
            "another tool tested it, and {} is not the folder of the training that it belongs to",
            training.display()
        )),
        Foreign::Refused => Found::Other("another tool made it".to_owned()),
    }
}

/// Whether a folder holds what another tool left of a whole run on so many test images.
fn is_complete_log(folder: &Path, images: Option<usize>) -> bool {
    let is_own = fs_err::symlink_metadata(folder.join(MANIFEST_FILE)).is_ok();
    let log = fs_err::read(folder.join(LOG_FILE)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let images = images.or_else(|| parse_log_result(&log).map(|result| result.total as usize));
    !is_own && images.is_some_and(|images| foreign_result(&log, images).is_ok())
}

/// Where the test of a base-to-new training lies: the same path below `test_new` as the training's below `train_base`.
pub fn test_of(output: &Path) -> Option<PathBuf> {
    let mut found = false;
    let parts = output.components().map(|part| match part.as_os_str() {
        name if name == "train_base" && !std::mem::replace(&mut found, true) => {
            Path::new("test_new").components().next()
        }
        _ => Some(part),
    });
    let path: PathBuf = parts.collect::<Option<_>>()?;
    found.then_some(path)
}
