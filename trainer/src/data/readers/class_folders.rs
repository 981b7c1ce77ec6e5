//! A folder per class, without a split file: split per class into 50 % train, 20 % val and the rest test.
//!
//! The published code shuffles each class's images, in the order in which the file system happens to list them, with the
//! generator of whichever run comes first, and writes the split file that all later runs read. That can't be repeated, so
//! two things are fixed here: the images are sorted by name first, and the generator is seeded with [`SPLIT_SEED`]
//! whatever the run's seed. All seeds then share one test set, as they do under the published code, and no file needs
//! to be written. The few-shot draw starts from a fresh generator, as in every run that finds a split file.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use crate::data::cpython_random::CPythonRandom;
use crate::data::lists::{Entry, Lists, Role};
use crate::data::{DataError, Place, few_shot};

/// The seed of the split: the first of the published runs'.
const SPLIT_SEED: u64 = 1;

/// The data sets of the literature that the published code splits itself where their split file is missing.
pub(super) const CAN_BE_SPLIT: [&str; 4] = ["caltech101", "dtd", "eurosat", "food101"];

/// Folders that are no classes, and classes that are called otherwise than their folder.
struct Special {
    ignored: &'static [&'static str],
    renamed: &'static [(&'static str, &'static str)],
}

const CALTECH101: Special = Special {
    ignored: &["BACKGROUND_Google", "Faces_easy"],
    renamed: &[("airplanes", "airplane"), ("Faces", "face"), ("Leopards", "leopard"), ("Motorbikes", "motorbike")],
};

const EUROSAT: Special = Special {
    ignored: &[],
    renamed: &[
        ("AnnualCrop", "Annual Crop Land"),
        ("HerbaceousVegetation", "Herbaceous Vegetation Land"),
        ("Highway", "Highway or Road"),
        ("Industrial", "Industrial Buildings"),
        ("Pasture", "Pasture Land"),
        ("PermanentCrop", "Permanent Crop Land"),
        ("Residential", "Residential Buildings"),
        ("SeaLake", "Sea or Lake"),
    ],
};

/// Lists the class folders, labelled in the order of their names, and splits each.
pub(super) fn read(key: &str, place: &Place) -> Result<Lists, DataError> {
    let special = match key {
        "caltech101" => CALTECH101,
        "eurosat" => EUROSAT,
        _ => Special { ignored: &[], renamed: &[] },
    };
    let mut folders = class_folders(&place.images)?;
    folders.retain(|folder| !special.ignored.contains(&folder.as_str()));
    let images: Vec<Vec<String>> =
        folders.par_iter().map(|folder| file_names(&place.images.join(folder))).collect::<Result<_, _>>()?;

    let mut random = CPythonRandom::new(SPLIT_SEED);
    let mut lists = Lists { train: Vec::new(), val: Vec::new(), test: Vec::new(), role: Role::Full, named_by: None };
    for (label, (folder, mut names)) in folders.into_iter().zip(images).enumerate() {
        random.shuffle(&mut names);
        let train = (names.len() as f64 * 0.5).round_ties_even() as usize;
        let val = (names.len() as f64 * 0.2).round_ties_even() as usize;
        if train == 0 || val == 0 || train + val >= names.len() {
            return Err(DataError::TooFew {
                dataset: place.dataset.clone(),
                found: format!("{} images in `{}`", names.len(), place.images.join(&folder).display()),
                expected: "at least 4 per class, to split them into train, val and test",
            });
        }
        let classname = special.renamed.iter().find(|(from, _)| *from == folder).map_or(folder.as_str(), |(_, to)| to);
        let classname: Arc<str> = classname.into();
        let entry =
            |name: &String| Entry { path: format!("{folder}/{name}"), label, classname: Arc::clone(&classname) };
        lists.train.extend(names[..train].iter().map(entry));
        lists.val.extend(names[train..train + val].iter().map(entry));
        lists.test.extend(names[train + val..].iter().map(entry));
    }
    Ok(lists)
}

/// The names of the folders inside `folder`, sorted; hidden ones are left out, and few-shot selections, which lie among the
/// classes where a data set has no folder for its images alone.
pub(super) fn class_folders(folder: &Path) -> Result<Vec<String>, DataError> {
    let mut folders = names(folder, std::fs::FileType::is_dir)?;
    folders.retain(|folder| folder != few_shot::FOLDER);
    Ok(folders)
}

/// The names of the files inside `folder`, sorted; hidden ones are left out.
pub(super) fn file_names(folder: &Path) -> Result<Vec<String>, DataError> {
    names(folder, |kind| !kind.is_dir())
}

fn names(folder: &Path, wanted: impl Fn(&std::fs::FileType) -> bool) -> Result<Vec<String>, DataError> {
    let read = |source| DataError::Read { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs_err::read_dir(folder).map_err(read)? {
        let entry = entry.map_err(read)?;
        let mut kind = entry.file_type().map_err(read)?;
        if kind.is_symlink() {
            kind = fs_err::metadata(entry.path()).map_err(read)?.file_type();
        }
        let name = entry.file_name().into_string().map_err(|name| DataError::Malformed {
            path: folder.to_owned(),
            place: "folder".to_owned(),
            problem: format!("the name `{}` is not UTF-8", name.display()),
            expected: "names in UTF-8",
        })?;
        if wanted(&kind) && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
