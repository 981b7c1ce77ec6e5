//! What can be wrong with a data set.

use std::io;
use std::path::PathBuf;

use promptfield_core::input::InvalidInput;
use promptfield_core::protocol::ClassSubset;

/// Why a data set can't be used; every message names the file or folder and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// No data set has this name.
    #[error("no such data set")]
    Unknown(#[source] InvalidInput),
    /// The data set's own TOML file is wrong.
    #[error("the data set file `{}` is not valid", path.display())]
    Definition {
        /// The TOML file.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidInput,
    },
    /// A folder or a file of the data set is not there.
    #[error("the data set `{dataset}` lacks {what}: expected it at `{}`", path.display())]
    Missing {
        /// The data set's key.
        dataset: String,
        /// What is missing.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
    },
    /// A file or a folder can't be read.
    #[error("could not read `{}`", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// A list file has an entry that means nothing, or that contradicts another.
    #[error("`{}`: {place}: {problem}, expected {expected}", path.display())]
    Malformed {
        /// The list file.
        path: PathBuf,
        /// Where in it: `train[3]`, `line 7`.
        place: String,
        /// What stands there.
        problem: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A list file names images that are not there.
    #[error(
        "`{}` names the image `{}`, which is missing ({missing} of {total} are): expected a file there",
        list.display(),
        path.display()
    )]
    MissingImage {
        /// The list file.
        list: PathBuf,
        /// Where the first of them should be.
        path: PathBuf,
        /// How many entries of the list name an image that is not there.
        missing: usize,
        /// How many entries it has.
        total: usize,
    },
    /// There is nothing to evaluate, and so no result.
    #[error(
        "the data set `{dataset}` has no test image{}: expected at least one in `{}`",
        match classes { ClassSubset::All => "", ClassSubset::Base => " of its base classes", ClassSubset::New => " of its new classes" },
        list.display()
    )]
    NoTestImages {
        /// The data set's key.
        dataset: String,
        /// The classes that were to be evaluated.
        classes: ClassSubset,
        /// The file or the folder that says which images are for testing.
        list: PathBuf,
    },
    /// There are too few classes or images for what was asked.
    #[error("the data set `{dataset}` has {found}: expected {expected}")]
    TooFew {
        /// The data set's key.
        dataset: String,
        /// What there is.
        found: String,
        /// What is needed.
        expected: &'static str,
    },
}
