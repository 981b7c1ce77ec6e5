//! Checking a data root: which data sets are there, what they lack, and which images can't be read.
//!
//! Rule of this room: what is refused here is what a job would refuse, because the same readers and the same decoder say so.
//! Nothing is written, and no image is kept: memory stays that of the lists and of one image per thread.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use promptfield_core::chain::chain;
use promptfield_core::data_report::{
    DataState, DatasetReport, ImageCheck, ImageCounts, SourceReport, Unreadable, UnreadableImage,
};
use promptfield_core::dataset::{DatasetDefinition, published_size, sources_of};
use promptfield_core::names::ClassSubset;
use rayon::prelude::*;

use crate::data::{self, DataError, Role, Split};
use crate::image::{self, ImageError};

/// What happens while images are looked at; called from several threads.
pub trait Watch: Sync {
    /// So many images of this data set will be looked at.
    fn begin(&self, dataset: &str, images: usize);
    /// One more was.
    fn looked(&self);
    /// All of them were.
    fn end(&self);
}

/// Checks one data set.
pub fn check(definition: &DatasetDefinition, data_root: &Path, depth: ImageCheck, watch: &dyn Watch) -> DatasetReport {
    let folder = data_root.join(&definition.folder);
    let lies_there = |below: &str| folder.join(below).exists();
    let pickles = data::pickles(definition, data_root);
    let mut report = DatasetReport {
        name: definition.key.clone(),
        label: definition.label().to_owned(),
        state: DataState::Complete,
        problem: None,
        counts: None,
        unreadable: Unreadable::default(),
        few_shot_pickles: pickles.len(),
        remarks: Vec::new(),
        sources: sources_of(&definition.key)
            .into_iter()
            .map(|source| SourceReport { there: lies_there(&source.gives), source })
            .collect(),
        folder: folder.clone(),
    };
    let load = |shots, seed| data::load(definition, data_root, shots, seed, ClassSubset::All);
    let whole = match load(0, 0) {
        Ok(split) => split,
        Err(error) => {
            report.state = if folder.is_dir() { DataState::Incomplete } else { DataState::Absent };
            report.problem = Some(chain(&error));
            return report;
        }
    };
    // What other code drew is read by jobs instead of the lists, and may name other images.
    let drawn: Result<Vec<Split>, DataError> = pickles.iter().map(|&(shots, seed)| load(shots, seed)).collect();
    let (drawn, refused) = match drawn {
        Ok(drawn) => (drawn, None),
        Err(error) => (Vec::new(), Some(chain(&error))),
    };
    let paths = different_images(std::iter::once(&whole).chain(&drawn));
    let counts = count(&whole, paths.len());
    report.counts = Some(counts);
    report.remarks = remarks(definition, counts, lies_there);
    watch.begin(&definition.key, paths.len());
    report.unreadable = unreadable(&paths, depth, watch);
    watch.end();
    report.state = match (&refused, report.unreadable.count) {
        (Some(_), _) => DataState::Incomplete,
        (None, 0) => DataState::Complete,
        (None, _) => DataState::Damaged,
    };
    report.problem = refused;
    report
}

/// The images of all lists, each once, in the order of the lists.
fn different_images<'a>(splits: impl Iterator<Item = &'a Split>) -> Vec<&'a Path> {
    let mut seen = HashSet::new();
    splits
        .flat_map(|split| split.train.iter().chain(&split.val).chain(&split.test))
        .map(|item| item.path.as_path())
        .filter(|path| seen.insert(*path))
        .collect()
}

fn count(split: &Split, images: usize) -> ImageCounts {
    ImageCounts {
        classes: split.classnames.len(),
        train: if split.role == Role::TestOnly { 0 } else { split.train.len() },
        val: if split.role == Role::Full { split.val.len() } else { 0 },
        test: split.test.len(),
        images,
    }
}

/// What makes the numbers of a data set that can be used others than the published ones.
fn remarks(definition: &DatasetDefinition, counts: ImageCounts, lies_there: impl Fn(&str) -> bool) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(split) = definition.split.as_deref().filter(|split| !lies_there(split)) {
        remarks.push(format!("it lacks {split}: jobs split the class folders themselves, otherwise than published"));
    }
    if let Some(published) = published_size(&definition.key)
        && (published.classes, published.test) != (counts.classes, counts.test)
    {
        remarks.push(format!(
            "it has {} classes and {} test images, the published one {} and {}",
            counts.classes, counts.test, published.classes, published.test
        ));
    }
    remarks
}

/// Looks at every image; of the bad ones the first few are named, whichever thread comes upon them first.
fn unreadable(paths: &[&Path], depth: ImageCheck, watch: &dyn Watch) -> Unreadable {
    let look = |path: &Path| match depth {
        ImageCheck::Decoded => image::decode(path).map(|_| ()),
        ImageCheck::Quick => image::check_start(path),
    };
    let bad = paths
        .par_iter()
        .enumerate()
        .filter_map(|(position, path)| {
            let error = look(path).err();
            watch.looked();
            Some((position, error?))
        })
        .fold(Bad::default, Bad::with)
        .reduce(Bad::default, Bad::merge);
    let first = bad
        .first
        .into_iter()
        .map(|(position, error)| UnreadableImage { path: paths[position].to_owned(), reason: chain(&error) });
    Unreadable { count: bad.count, first: first.collect() }
}

/// How many images are bad, and the first of them by position.
#[derive(Default)]
struct Bad {
    count: usize,
    first: BTreeMap<usize, ImageError>,
}

impl Bad {
    fn with(mut self, (position, error): (usize, ImageError)) -> Self {
        self.count += 1;
        self.first.insert(position, error);
        self.trimmed()
    }

    fn merge(mut self, other: Self) -> Self {
        self.count += other.count;
        self.first.extend(other.first);
        self.trimmed()
    }

    fn trimmed(mut self) -> Self {
        while self.first.len() > Unreadable::MOST_NAMED {
            self.first.pop_last();
        }
        self
    }
}
