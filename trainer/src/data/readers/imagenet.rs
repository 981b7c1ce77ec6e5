//! `ImageNet` and its four variants: class folders named by `WordNet` ids, and a `classnames.txt` that puts them into
//! words, a line per class: `<wordnet id> <class name>`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;

use super::class_folders::{class_folders, file_names};
use crate::data::lists::{Entry, Lists, Role, read_text};
use crate::data::{DataError, Place};

/// `ImageNet`: `images/train` and `images/val`, labels in the order of the folders' names. The published protocol tests on
/// val.
pub(super) fn read(place: &Place) -> Result<Lists, DataError> {
    let classnames = read_classnames(place)?;
    let list = |part: &'static str, what| {
        let folder = place.images.join(part);
        if !folder.is_dir() {
            return Err(DataError::Missing { dataset: place.dataset.clone(), what, path: folder });
        }
        list_folders(place, Some(part), named(class_folders(&folder)?, &classnames, place)?)
    };
    let train = list("train", "its training images")?;
    let test = list("val", "its test images")?;
    Ok(Lists { train, val: Vec::new(), test, role: Role::ValidatedOnTest, named_by: None })
}

/// `ImageNetV2`: the folders are 0 to 999, numbering the lines of `classnames.txt`.
pub(super) fn read_v2(place: &Place) -> Result<Lists, DataError> {
    let classnames = read_classnames(place)?;
    let folders = classnames.names.into_iter().enumerate().map(|(line, name)| (line.to_string(), name)).collect();
    Ok(test_only(list_folders(place, None, folders)?))
}

/// `ImageNet`-Sketch, -A and -R: the variant's own folders, sorted, are labelled from 0.
pub(super) fn read_variant(place: &Place) -> Result<Lists, DataError> {
    let classnames = read_classnames(place)?;
    let folders = named(class_folders(&place.images)?, &classnames, place)?;
    Ok(test_only(list_folders(place, None, folders)?))
}

fn test_only(entries: Vec<Entry>) -> Lists {
    Lists { train: entries.clone(), val: Vec::new(), test: entries, role: Role::TestOnly, named_by: None }
}

/// The files of the class folders, which lie in `part` of the image folder; the label is the folder's position.
fn list_folders(place: &Place, part: Option<&str>, folders: Vec<(String, Arc<str>)>) -> Result<Vec<Entry>, DataError> {
    let lists: Vec<Vec<Entry>> = folders
        .into_par_iter()
        .enumerate()
        .map(|(label, (folder, classname))| {
            let below = part.map_or_else(|| folder.clone(), |part| format!("{part}/{folder}"));
            let names = file_names(&place.images.join(&below))?;
            let entry = |name| Entry { path: format!("{below}/{name}"), label, classname: Arc::clone(&classname) };
            Ok(names.into_iter().map(entry).collect())
        })
        .collect::<Result<_, DataError>>()?;
    Ok(lists.concat())
}

/// Puts folders into words.
fn named(folders: Vec<String>, classnames: &Classnames, place: &Place) -> Result<Vec<(String, Arc<str>)>, DataError> {
    let name = |folder: String| match classnames.lines.get(&folder) {
        Some(&line) => Ok((folder, Arc::clone(&classnames.names[line]))),
        None => Err(DataError::Malformed {
            path: classnames_file(place),
            place: format!("class `{folder}`"),
            problem: "there is a folder of that name, but no line".to_owned(),
            expected: LINE,
        }),
    };
    folders.into_iter().map(name).collect()
}

const LINE: &str = "one line `<wordnet id> <class name>` for each class";

struct Classnames {
    names: Vec<Arc<str>>,
    lines: HashMap<String, usize>,
}

fn classnames_file(place: &Place) -> PathBuf {
    place.folder.join("classnames.txt")
}

fn read_classnames(place: &Place) -> Result<Classnames, DataError> {
    let file = classnames_file(place);
    if !file.is_file() {
        return Err(DataError::Missing { dataset: place.dataset.clone(), what: "its class names", path: file });
    }
    let mut classnames = Classnames { names: Vec::new(), lines: HashMap::new() };
    let text = read_text(&file)?;
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let class = line.trim().split_once(' ');
        let new = class.filter(|(id, _)| classnames.lines.insert((*id).to_owned(), classnames.names.len()).is_none());
        let Some((_, name)) = new else {
            let (place, problem) = (format!("line {}", index + 1), format!("it reads `{line}`"));
            return Err(DataError::Malformed { path: file, place, problem, expected: LINE });
        };
        classnames.names.push(name.into());
    }
    Ok(classnames)
}
