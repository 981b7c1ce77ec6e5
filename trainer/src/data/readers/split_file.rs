//! `CoOp`'s split files: `{"train": [[path, label, classname], …], "val": …, "test": …}`.

use std::path::Path;

use crate::data::lists::{Lists, Role, parse_list, read_json};
use crate::data::{DataError, Place};

/// Reads a split file.
pub(super) fn read(file: &Path, place: &Place) -> Result<Lists, DataError> {
    if !file.is_file() {
        return Err(DataError::Missing {
            dataset: place.dataset.clone(),
            what: "its split file",
            path: file.to_owned(),
        });
    }
    let document = read_json(file)?;
    let list = |name| parse_list(&document, name, file);
    Ok(Lists {
        train: list("train")?,
        val: list("val")?,
        test: list("test")?,
        role: Role::Full,
        named_by: Some(file.to_owned()),
    })
}
