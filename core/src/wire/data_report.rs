//! What `promptfield doctor --data` finds in a data root: the trainer looks, with the readers and decoders of its jobs, and
//! people and programs read it.
//!
//! Unlike what travels over HTTP this has paths in it: it stays on the machine that it describes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::experiment::dataset::Source;
use crate::names::named;

named! {
    /// How a data set was found.
    pub enum DataState("state") {
        /// The reader takes it, and every image can be read.
        Complete = "complete",
        /// Its folder is there, but jobs refuse it, or some of them do.
        Incomplete = "incomplete",
        /// The reader takes it, but some images can't be read.
        Damaged = "damaged",
        /// Its folder isn't there.
        Absent = "absent",
    }
}

named! {
    /// How closely images were looked at.
    pub enum ImageCheck("image check") {
        /// Each was decoded, as for a job.
        Decoded = "decoded",
        /// Each was looked at only for how it begins.
        Quick = "quick",
    }
}

/// A data root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataReport {
    /// The folder of the data sets' folders.
    pub data_root: PathBuf,
    /// How closely images were looked at.
    pub images: ImageCheck,
    /// The data sets that were asked for, or all that are known.
    pub datasets: Vec<DatasetReport>,
    /// The TOML files of one's own data sets that are wrong, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wrong_definitions: Vec<String>,
}

/// One data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetReport {
    /// Its key: `caltech101`.
    pub name: String,
    /// Its name in tables: `Caltech101`.
    pub label: String,
    /// Where it lies, or should lie.
    pub folder: PathBuf,
    /// How it was found.
    pub state: DataState,
    /// What jobs refuse it for.
    pub problem: Option<String>,
    /// What is in it, of what jobs take; `None` if the reader can't tell.
    pub counts: Option<ImageCounts>,
    /// The images that can't be read.
    pub unreadable: Unreadable,
    /// Files of few-shot selections that other code drew (`split_fewshot/*.pkl`): jobs take them as they are.
    pub few_shot_pickles: usize,
    /// What doesn't keep a job from running, but makes its numbers others than the published ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Everything there is to download for it.
    pub sources: Vec<SourceReport>,
}

/// What is in a data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageCounts {
    /// Classes.
    pub classes: usize,
    /// Training images; 0 where the data set has none of its own.
    pub train: usize,
    /// Validation images; 0 where the data set has none of its own.
    pub val: usize,
    /// Test images.
    pub test: usize,
    /// Different images in all three, each of which was looked at.
    pub images: usize,
}

/// The images that can't be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// How many.
    pub count: usize,
    /// The first of them, at most [`Unreadable::MOST_NAMED`].
    pub first: Vec<UnreadableImage>,
}

impl Unreadable {
    /// So many unreadable images are named; the others are counted.
    pub const MOST_NAMED: usize = 20;
}

/// An image that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableImage {
    /// The file.
    pub path: PathBuf,
    /// Why, in a sentence that names the file.
    pub reason: String,
}

/// One thing to download, and whether it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReport {
    /// What, and from where.
    #[serde(flatten)]
    pub source: Source,
    /// Whether what it gives lies in the data set's folder.
    pub there: bool,
}

impl DataReport {
    /// Whether a person has to do something: a data set that is there can't be used, or one of those `named` isn't there.
    pub fn is_wrong(&self, named: bool) -> bool {
        let wrong = |state| match state {
            DataState::Complete => false,
            DataState::Incomplete | DataState::Damaged => true,
            DataState::Absent => named,
        };
        !self.wrong_definitions.is_empty() || self.datasets.iter().any(|dataset| wrong(dataset.state))
    }
}

impl DatasetReport {
    /// What to download: what isn't there, and what would replace something broken.
    pub fn to_download(&self) -> Vec<&Source> {
        let lacking = |report: &&SourceReport| !report.there;
        // Everything is there, but not whole.
        let all = self.state == DataState::Incomplete && self.sources.iter().all(|report| report.there);
        let replaces = |report: &&SourceReport| all || (self.unreadable.count > 0 && report.source.is_images());
        self.sources.iter().filter(|report| lacking(report) || replaces(report)).map(|report| &report.source).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::dataset::sources_of;

    fn dataset(state: DataState, unreadable: usize, there: [bool; 2]) -> DatasetReport {
        let sources = sources_of("dtd").into_iter().zip(there);
        DatasetReport {
            name: "dtd".to_owned(),
            label: "DescribableTextures".to_owned(),
            folder: PathBuf::from("dtd"),
            state,
            problem: None,
            counts: None,
            unreadable: Unreadable { count: unreadable, first: Vec::new() },
            few_shot_pickles: 0,
            remarks: Vec::new(),
            sources: sources.map(|(source, there)| SourceReport { source, there }).collect(),
        }
    }

    #[test]
    fn what_is_downloaded_is_what_is_lacking_or_broken() {
        for (state, unreadable, there, expected) in [
            (DataState::Complete, 0, [true, true], &[][..]),
            (DataState::Complete, 0, [true, false], &["split file"]),
            (DataState::Damaged, 1, [true, true], &["images"]),
            (DataState::Incomplete, 0, [true, false], &["split file"]),
            (DataState::Incomplete, 0, [true, true], &["images", "split file"]),
            (DataState::Absent, 0, [false, false], &["images", "split file"]),
        ] {
            let dataset = dataset(state, unreadable, there);
            let what: Vec<&str> = dataset.to_download().into_iter().map(|source| source.what.as_str()).collect();
            assert_eq!(what, expected, "{state}, {there:?}");
        }
    }

    #[test]
    fn an_absent_data_set_is_only_wrong_when_it_was_named() {
        let report = |state| DataReport {
            data_root: PathBuf::from("data"),
            images: ImageCheck::Decoded,
            datasets: vec![dataset(DataState::Complete, 0, [true, true]), dataset(state, 0, [true, true])],
            wrong_definitions: Vec::new(),
        };
        assert!(!report(DataState::Absent).is_wrong(false) && report(DataState::Absent).is_wrong(true));
        assert!(report(DataState::Incomplete).is_wrong(false) && report(DataState::Damaged).is_wrong(false));
        assert!(!report(DataState::Complete).is_wrong(true));
        let broken = DataReport { wrong_definitions: vec!["x".to_owned()], ..report(DataState::Complete) };
        assert!(broken.is_wrong(false));
    }
}
