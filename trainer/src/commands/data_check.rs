//! Checking a data root: which data sets are there, what they lack, and which images can't be read.
//!
//! Rule of this room: what is refused here is what a job would refuse, because the same readers and the same decoder say so.
//! Nothing is written, and no image is kept: memory stays that of the lists and of one image per thread.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use promptfield_core::chain::chain;
use promptfield_core::experiment::dataset::{DatasetDefinition, published_size, sources_of};
use promptfield_core::job::outcome::LeftOut;
use promptfield_core::protocol::ClassSubset;
use promptfield_core::wire::data_report::{
    DataState, DatasetReport, ImageCheck, ImageCounts, SourceReport, Unreadable, UnreadableImage,
};
use rayon::prelude::*;

use crate::data::{self, DataError, Role, Split};
use crate::image::{self, ImageError};

/// What happens while images are looked at; called from several threads.
pub(super) trait Watch: Sync {
    /// So many images of this data set will be looked at.
    fn begin(&self, dataset: &str, images: usize);
    /// One more was.
    fn looked(&self);
    /// All of them were.
    fn end(&self);
}

/// Checks one data set.
pub(super) fn check(
    definition: &DatasetDefinition,
    data_root: &Path,
    depth: ImageCheck,
    watch: &dyn Watch,
) -> DatasetReport {
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
    let read = |shots, seed| Lists::read(definition, data_root, shots, seed);
    let whole = match read(0, 0) {
        Ok(whole) => whole,
        Err(error) => {
            report.state = if folder.is_dir() { DataState::Incomplete } else { DataState::Absent };
            report.problem = Some(chain(&error));
            return report;
        }
    };
    // What other code drew is read by jobs instead of the lists, and may name other images.
    let drawn: Result<Vec<Lists>, DataError> = pickles.iter().map(|&(shots, seed)| read(shots, seed)).collect();
    let (drawn, refused) = match drawn {
        Ok(drawn) => (drawn, None),
        Err(error) => (Vec::new(), Some(chain(&error))),
    };
    let all = || std::iter::once(&whole).chain(&drawn);
    let paths = different_images(all().flat_map(|lists| &lists.splits));
    let counts = count(&whole.splits, paths.len());
    report.counts = Some(counts);
    report.remarks = remarks(definition, counts, lies_there);
    report.remarks.extend(left_out(all()));
    watch.begin(&definition.key, paths.len());
    report.unreadable = unreadable(&paths, depth, watch);
    watch.end();
    report.problem = all().find_map(|lists| lists.problem.clone()).or(refused);
    report.state = match (&report.problem, report.unreadable.count) {
        (Some(_), _) => DataState::Incomplete,
        (None, 0) => DataState::Complete,
        (None, _) => DataState::Damaged,
    };
    report
}

/// What jobs read, with one few-shot selection or with none.
struct Lists {
    /// All classes, or the base and the new ones where only base-to-new jobs take the data set.
    splits: Vec<Split>,
    /// What some jobs refuse it for.
    problem: Option<String>,
}

impl Lists {
    fn read(definition: &DatasetDefinition, data_root: &Path, shots: u32, seed: u64) -> Result<Self, DataError> {
        let load = |classes| data::load(definition, data_root, shots, seed, classes);
        let untested = |classes| chain(&data::no_test_images(definition, data_root, classes));
        let refusal = match load(ClassSubset::All) {
            Ok(split) => {
                let problem = without_test_images(&split).map(untested);
                return Ok(Self { splits: vec![split], problem });
            }
            Err(refusal) => refusal,
        };
        // The halves are made of the classes that have training images: where a class has none, base-to-new jobs go on.
        let (Ok(base), Ok(new)) = (load(ClassSubset::Base), load(ClassSubset::New)) else { return Err(refusal) };
        let halves = [(ClassSubset::Base, &base), (ClassSubset::New, &new)];
        let problem = halves.iter().find(|(_, split)| split.test.is_empty()).map_or_else(
            || format!("few-shot and cross-dataset jobs refuse it: {}", chain(&refusal)),
            |&(classes, _)| untested(classes),
        );
        Ok(Self { splits: vec![base, new], problem: Some(problem) })
    }
}

/// The classes of which a split of all classes has no test image: all, or a half. The variants of `ImageNet` are never halved,
/// and one class can't be.
fn without_test_images(split: &Split) -> Option<ClassSubset> {
    let classes = split.classnames.len();
    let is_base = |label| label < classes.div_ceil(2);
    let lacks = |wanted: bool| !split.test.iter().any(|item| is_base(item.label) == wanted);
    let is_halved = classes > 1 && split.role != Role::TestOnly;
    if split.test.is_empty() {
        Some(ClassSubset::All)
    } else if is_halved && lacks(true) {
        Some(ClassSubset::Base)
    } else {
        (is_halved && lacks(false)).then_some(ClassSubset::New)
    }
}

/// A remark for each class that base-to-new jobs leave out.
fn left_out<'a>(lists: impl Iterator<Item = &'a Lists>) -> Vec<String> {
    let mut remarks = Vec::new();
    // What is left out belongs to neither half, so each of them lists it.
    for LeftOut { class, images } in lists.filter_map(|lists| lists.splits.first()).flat_map(|split| &split.left_out) {
        let remark =
            format!("class `{class}` has no training image: base-to-new jobs leave its {images} test images out");
        if !remarks.contains(&remark) {
            remarks.push(remark);
        }
    }
    remarks
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

/// Of splits that share no class.
fn count(splits: &[Split], images: usize) -> ImageCounts {
    let sum = |of: fn(&Split) -> usize| splits.iter().map(of).sum();
    ImageCounts {
        classes: sum(|split| split.classnames.len()),
        train: sum(|split| if split.role == Role::TestOnly { 0 } else { split.train.len() }),
        val: sum(|split| if split.role == Role::Full { split.val.len() } else { 0 }),
        test: sum(|split| split.test.len()),
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
