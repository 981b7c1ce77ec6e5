//! Data sets: from the files below a data root to the lists that a job trains and tests on.
//!
//! Rule of this room: which images a job sees is a function of the data set's files, the shots, the seed and the class
//! subset, and equals what the published code (`CoOp`'s readers under Dassl) takes. Nothing here opens an image.
//!
//! The way: a reader ([`readers`]) gives the data set's train, val and test lists; [`few_shot`] draws from train and val,
//! or takes what the reference code drew before; [`subset`] keeps the base or the new classes. [`Split::hash`] goes into
//! the manifest, so that two numbers can be seen to come from the same images.

pub mod cpython_random;
mod definitions;
mod error;
mod few_shot;
mod kept;
mod lists;
mod readers;
mod subset;

use std::path::{Path, PathBuf};

use promptfield_core::experiment::dataset::DatasetDefinition;
use promptfield_core::job::outcome::LeftOut;
use promptfield_core::job::spec::hex;
use promptfield_core::protocol::ClassSubset;
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

pub use definitions::{all_definitions, find_definition};
pub use error::DataError;
pub use few_shot::pickles;
pub use kept::KeptSplits;
pub use lists::Role;
use lists::{Entry, Lists};
use subset::Selected;

/// The images and class names of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Class names by label, with `_` where the data set has them.
    pub classnames: Vec<String>,
    /// Training images.
    pub train: Vec<Item>,
    /// Validation images: few, and unused by the published protocols. For `ImageNet` they are the test images.
    pub val: Vec<Item>,
    /// Test images.
    pub test: Vec<Item>,
    /// Which of the lists are different images.
    pub role: Role,
    /// The classes with test images and without a training image, by label: they are neither base nor new.
    pub left_out: Vec<LeftOut>,
}

/// One image with its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where the file lies.
    pub path: PathBuf,
    /// The path below the data set's image folder, with `/`.
    pub relative: String,
    /// The label: an index into [`Split::classnames`].
    pub label: usize,
}

impl Split {
    /// The split as JSON without spaces, `{"classnames":[…],"train":[[path,label],…],"val":[…],"test":[…]}`, with the
    /// paths below the image folder.
    pub fn to_json(&self) -> String {
        #[derive(serde::Serialize)]
        struct Canonical<'a> {
            classnames: &'a [String],
            train: Vec<(&'a str, usize)>,
            val: Vec<(&'a str, usize)>,
            test: Vec<(&'a str, usize)>,
        }
        fn pairs(items: &[Item]) -> Vec<(&str, usize)> {
            items.iter().map(|item| (item.relative.as_str(), item.label)).collect()
        }
        let canonical = Canonical {
            classnames: &self.classnames,
            train: pairs(&self.train),
            val: pairs(&self.val),
            test: pairs(&self.test),
        };
        serde_json::to_string(&canonical).expect("strings and numbers are always valid JSON")
    }

    /// SHA-256 of the class names and the test list alone, in lower-case hexadecimal: what results that stand side by side must
    /// share.
    pub fn test_hash(&self) -> String {
        let test: Vec<(&str, usize)> = self.test.iter().map(|item| (item.relative.as_str(), item.label)).collect();
        hex(&Sha256::digest(serde_json::json!({ "classnames": self.classnames, "test": test }).to_string()))
    }

    /// About how much memory it takes.
    fn bytes(&self) -> usize {
        let items = self.train.iter().chain(&self.val).chain(&self.test);
        items.map(|item| size_of::<Item>() + item.relative.len() + item.path.as_os_str().len()).sum()
    }

    /// The data-split hash of manifests: the SHA-256 of [`Split::to_json`] in lower-case hexadecimal. It changes with any
    /// image, label, class name or their order, and not with where the data root lies.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.to_json()))
    }
}

/// Reads the lists of a data set below `data_root`, draws `shots` images per class with `seed` (0 takes all of them) and
/// keeps the classes of `subset`. Every image of the result exists; whether it can be decoded is seen when it is.
pub fn load(
    definition: &DatasetDefinition,
    data_root: &Path,
    shots: u32,
    seed: u64,
    subset: ClassSubset,
) -> Result<Split, DataError> {
    let place = Place::new(definition, data_root)?;
    let mut lists = readers::read(definition, &place)?;
    if shots > 0 && lists.role != Role::TestOnly {
        few_shot::select(&mut lists, &place, shots, seed)?;
    }
    if lists.role == Role::ValidatedOnTest {
        lists.val.clone_from(&lists.test);
    }
    let role = lists.role;
    let Selected { lists, classnames, left_out } = subset::select(lists, subset, &place)?;
    check_images(&lists, &place)?;
    let items = |entries: Vec<Entry>| -> Vec<Item> {
        entries
            .into_iter()
            .map(|entry| Item { path: place.images.join(&entry.path), relative: entry.path, label: entry.label })
            .collect()
    };
    Ok(Split { classnames, train: items(lists.train), val: items(lists.val), test: items(lists.test), role, left_out })
}

/// Why a split of `classes` that has no test image is refused by whoever wants to evaluate something.
pub fn no_test_images(definition: &DatasetDefinition, data_root: &Path, classes: ClassSubset) -> DataError {
    let refusal = |place| {
        let list = readers::test_list(definition, &place);
        DataError::NoTestImages { dataset: place.dataset, classes, list }
    };
    Place::new(definition, data_root).map_or_else(|error| error, refusal)
}

/// Where a data set lies on this machine.
struct Place {
    /// The data set's key, for messages.
    dataset: String,
    /// The data set's folder.
    folder: PathBuf,
    /// The folder that the paths of the lists are relative to.
    images: PathBuf,
    /// That folder below the data root, as it stands in paths that another machine wrote.
    images_below_root: String,
}

impl Place {
    fn new(definition: &DatasetDefinition, data_root: &Path) -> Result<Self, DataError> {
        let folder = data_root.join(&definition.folder);
        let images = if definition.images.is_empty() { folder.clone() } else { folder.join(&definition.images) };
        for (path, what) in [(&folder, "its folder"), (&images, "its image folder")] {
            if !path.is_dir() {
                return Err(DataError::Missing { dataset: definition.key.clone(), what, path: path.clone() });
            }
        }
        let images_below_root = format!("{}/{}", definition.folder, definition.images).trim_end_matches('/').to_owned();
        Ok(Self { dataset: definition.key.clone(), folder, images, images_below_root })
    }
}

/// Looks whether every image that a list file names is there; the error names the first that isn't.
fn check_images(lists: &Lists, place: &Place) -> Result<(), DataError> {
    let Some(source) = &lists.named_by else { return Ok(()) };
    let entries: Vec<&Entry> = lists.train.iter().chain(&lists.val).chain(&lists.test).collect();
    let missing: Vec<&&Entry> = entries.par_iter().filter(|entry| !place.images.join(&entry.path).is_file()).collect();
    match missing.first() {
        None => Ok(()),
        Some(first) => Err(DataError::MissingImage {
            list: source.clone(),
            path: place.images.join(&first.path),
            missing: missing.len(),
            total: entries.len(),
        }),
    }
}

#[cfg(test)]
mod tests;
