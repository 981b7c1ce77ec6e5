//! FGVC-Aircraft's own text files: `variants.txt` names the classes in the order of their labels, and
//! `images_variant_{train,val,test}.txt` have a line `<image id> <variant>` per image.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::data::lists::{Entry, Lists, Role, read_text, stays_below};
use crate::data::{DataError, Place};

/// Reads the four text files.
pub(super) fn read(place: &Place) -> Result<Lists, DataError> {
    let text = |name: &str| -> Result<(PathBuf, String), DataError> {
        let path = place.folder.join(name);
        if !path.is_file() {
            return Err(DataError::Missing { dataset: place.dataset.clone(), what: "one of its lists", path });
        }
        let text = read_text(&path)?;
        Ok((path, text))
    };
    let (_, variants) = text("variants.txt")?;
    let labels: HashMap<Arc<str>, usize> =
        variants.lines().enumerate().map(|(label, line)| (Arc::from(line.trim()), label)).collect();
    let list = |name: &str| -> Result<Vec<Entry>, DataError> {
        let (path, lines) = text(name)?;
        let entry = |(index, line): (usize, &str)| {
            line.trim()
                .split_once(' ')
                .filter(|(image, _)| stays_below(image))
                .and_then(|(image, variant)| {
                    let (classname, &label) = labels.get_key_value(variant)?;
                    Some(Entry { path: format!("{image}.jpg"), label, classname: Arc::clone(classname) })
                })
                .ok_or_else(|| DataError::Malformed {
                    path: path.clone(),
                    place: format!("line {}", index + 1),
                    problem: format!("it reads `{line}`"),
                    expected: "`<image id> <variant>`, with a variant of variants.txt",
                })
        };
        lines.lines().enumerate().map(entry).collect()
    };
    Ok(Lists {
        train: list("images_variant_train.txt")?,
        val: list("images_variant_val.txt")?,
        test: list("images_variant_test.txt")?,
        role: Role::Full,
        named_by: Some(place.folder.join("images_variant_*.txt")),
    })
}
