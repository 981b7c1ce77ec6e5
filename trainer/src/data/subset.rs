//! Base and new classes, and the names of the classes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use promptfield_core::job::outcome::LeftOut;
use promptfield_core::protocol::ClassSubset;

use super::lists::{Entry, Lists};
use super::{DataError, Place};

/// The classes of a subset.
pub(super) struct Selected {
    /// Their images, relabelled from 0.
    pub(super) lists: Lists,
    /// Their names by label.
    pub(super) classnames: Vec<String>,
    /// The classes that no subset has.
    pub(super) left_out: Vec<LeftOut>,
}

/// Keeps the classes of `subset`. As the published code does it: the labels that occur in the train list, sorted; the first
/// half, rounded up, is base, the rest is new. So a class without a training image is neither.
pub(super) fn select(mut lists: Lists, subset: ClassSubset, place: &Place) -> Result<Selected, DataError> {
    let names = names_by_label(&lists, place)?;
    let labels: Vec<usize> = {
        let mut labels: Vec<usize> = lists.train.iter().map(|entry| entry.label).collect();
        labels.sort_unstable();
        labels.dedup();
        labels
    };
    let (base, new) = labels.split_at(labels.len().div_ceil(2));
    let selected = match subset {
        ClassSubset::All => labels.as_slice(),
        ClassSubset::Base => base,
        ClassSubset::New => new,
    };
    if selected.is_empty() {
        let expected = if labels.is_empty() { "at least one training image" } else { "at least 2 classes to halve" };
        let found = format!("{} classes in its train list", labels.len());
        return Err(DataError::TooFew { dataset: place.dataset.clone(), found, expected });
    }
    let mut left_out = Vec::new();
    if subset == ClassSubset::All {
        check_no_gaps(&lists, &labels, place)?;
    } else {
        left_out = without_training_image(&lists, &labels, &names);
        let relabelled: HashMap<usize, usize> = selected.iter().enumerate().map(|(new, &old)| (old, new)).collect();
        for list in [&mut lists.train, &mut lists.val, &mut lists.test] {
            list.retain_mut(|entry| {
                let label = relabelled.get(&entry.label);
                entry.label = label.copied().unwrap_or(entry.label);
                label.is_some()
            });
        }
    }
    let classnames = selected.iter().map(|label| names[label].to_string()).collect();
    Ok(Selected { lists, classnames, left_out })
}

/// The classes that have test images and aren't among `labels`, in the order of their labels.
fn without_training_image(lists: &Lists, labels: &[usize], names: &BTreeMap<usize, Arc<str>>) -> Vec<LeftOut> {
    let mut images: BTreeMap<usize, u64> = BTreeMap::new();
    for entry in lists.test.iter().filter(|entry| labels.binary_search(&entry.label).is_err()) {
        *images.entry(entry.label).or_default() += 1;
    }
    images.into_iter().map(|(label, images)| LeftOut { class: names[&label].to_string(), images }).collect()
}

/// The name of each label; two names for one label are an error, wherever they stand.
fn names_by_label(lists: &Lists, place: &Place) -> Result<BTreeMap<usize, Arc<str>>, DataError> {
    let mut names: BTreeMap<usize, Arc<str>> = BTreeMap::new();
    for (list, entries) in [("train", &lists.train), ("val", &lists.val), ("test", &lists.test)] {
        for entry in entries {
            let name = names.entry(entry.label).or_insert_with(|| Arc::clone(&entry.classname));
            if *name != entry.classname {
                let problem = format!("label {} is named `{}`, elsewhere `{name}`", entry.label, entry.classname);
                return Err(malformed(lists, place, list, entry, problem, "one class name for each label"));
            }
        }
    }
    Ok(names)
}

/// With all classes the labels stay as they are, so they must be 0 to n − 1, each with a training image.
fn check_no_gaps(lists: &Lists, labels: &[usize], place: &Place) -> Result<(), DataError> {
    for (list, entries) in [("train", &lists.train), ("val", &lists.val), ("test", &lists.test)] {
        if let Some(entry) = entries.iter().find(|entry| entry.label >= labels.len()) {
            let problem = format!("label {}, where {} classes have training images", entry.label, labels.len());
            let expected = "labels from 0 without gaps, each with at least one training image";
            return Err(malformed(lists, place, list, entry, problem, expected));
        }
    }
    Ok(())
}

fn malformed(
    lists: &Lists,
    place: &Place,
    list: &str,
    entry: &Entry,
    problem: String,
    expected: &'static str,
) -> DataError {
    DataError::Malformed {
        path: lists.named_by.clone().unwrap_or_else(|| place.images.clone()),
        place: format!("{list}: `{}`", entry.path),
        problem,
        expected,
    }
}
