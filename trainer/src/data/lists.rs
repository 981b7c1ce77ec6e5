//! The lists of a data set, as its files say them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::DataError;

/// An image, its label in the whole data set, and the label's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Below the image folder, with `/`.
    pub(super) path: String,
    pub(super) label: usize,
    pub(super) classname: Arc<str>,
}

/// How the lists of a data set are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Train, val and test are different images.
    Full,
    /// There is no val; the test images take its place after the draw (`ImageNet`).
    ValidatedOnTest,
    /// All images are for testing; train is the same list and is there for its class names (the `ImageNet` variants).
    TestOnly,
}

/// Train, val and test before anything is drawn.
#[derive(Clone, Debug)]
pub(super) struct Lists {
    pub(super) train: Vec<Entry>,
    pub(super) val: Vec<Entry>,
    pub(super) test: Vec<Entry>,
    pub(super) role: Role,
    /// The file that names the images; `None` where the folders themselves were listed.
    pub(super) named_by: Option<PathBuf>,
}

/// Parses one entry of `CoOp`'s JSON: `[path, label, classname]`. `place` says where it stands: `train[3]`.
pub(super) fn parse_entry(
    value: &serde_json::Value,
    file: &Path,
    place: impl FnOnce() -> String,
) -> Result<Entry, DataError> {
    let problem = match value.as_array().map(Vec::as_slice) {
        Some([path, label, classname]) => match (path.as_str(), label.as_u64(), classname.as_str()) {
            (Some(path), Some(label), Some(classname)) if stays_below(path) => {
                return Ok(Entry { path: path.to_owned(), label: label as usize, classname: classname.into() });
            }
            (Some(path), Some(_), Some(_)) => format!("the path `{path}` leaves the image folder"),
            (_, None, _) => format!("the label is `{label}`"),
            _ => format!("the entry is `{value}`"),
        },
        _ => format!("the entry is `{value}`"),
    };
    let expected = "`[path, label, classname]`: a path below the image folder, a whole number from 0, and a name";
    Err(DataError::Malformed { path: file.to_owned(), place: place(), problem, expected })
}

/// Parses the list `name` of `CoOp`'s JSON.
pub(super) fn parse_list(document: &serde_json::Value, name: &str, file: &Path) -> Result<Vec<Entry>, DataError> {
    let Some(entries) = document.get(name).and_then(serde_json::Value::as_array) else {
        return Err(DataError::Malformed {
            path: file.to_owned(),
            place: name.to_owned(),
            problem: "there is no such list".to_owned(),
            expected: "`{\"train\": [[path, label, classname], …], \"val\": […], \"test\": […]}`",
        });
    };
    entries.iter().enumerate().map(|(index, entry)| parse_entry(entry, file, || format!("{name}[{index}]"))).collect()
}

/// Whether a path of a list is relative and doesn't climb.
pub(super) fn stays_below(path: &str) -> bool {
    !path.is_empty() && !path.starts_with(['/', '\\']) && path.split(['/', '\\']).all(|part| part != "..")
}

/// Reads a JSON file.
pub(super) fn read_json(path: &Path) -> Result<serde_json::Value, DataError> {
    let text = read_text(path)?;
    serde_json::from_str(&text).map_err(|error| DataError::Malformed {
        path: path.to_owned(),
        place: format!("line {}", error.line()),
        problem: error.to_string(),
        expected: "a JSON document",
    })
}

/// Reads a text file.
pub(super) fn read_text(path: &Path) -> Result<String, DataError> {
    fs_err::read_to_string(path).map_err(|source| DataError::Read { path: path.to_owned(), source })
}
