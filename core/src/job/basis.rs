//! What results rest on, and what of it holds today.
//!
//! A result rests on a backbone, a split and a test list, each known by its SHA-256. What holds today is what a machine found
//! last when it read the data set, and the identity that the backbone's name is pinned to. A result that rests on something else
//! is stale: it stays, and says so.

use serde::{Deserialize, Serialize};

use crate::id::JobId;
use crate::job::outcome::Manifest;
use crate::job::spec::{BasisHash, CompactSpec};
use crate::names::named;
use crate::protocol::ClassSubset;
use crate::time::Timestamp;

/// What a result rests on; `None` for what its manifest doesn't say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Basis {
    /// The backbone's identity.
    pub backbone: Option<BasisHash>,
    /// The class names and the lists of images and labels.
    pub split: Option<BasisHash>,
    /// The class names and the test list alone.
    pub test: Option<BasisHash>,
}

impl Basis {
    /// What a manifest says.
    pub fn of(manifest: &Manifest) -> Self {
        let hash = |text: &str| text.parse().ok();
        Self {
            backbone: hash(&manifest.backbone_sha256()),
            split: hash(&manifest.split_sha256),
            test: manifest.test_sha256.as_deref().and_then(hash),
        }
    }

    /// Whether anything is known.
    pub const fn is_known(&self) -> bool {
        self.backbone.is_some() || self.split.is_some() || self.test.is_some()
    }
}

/// Which lists of a data set a job reads: what its split is a function of, besides the data set's files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Draw {
    /// The data set's key.
    pub dataset: String,
    /// The classes.
    pub classes: ClassSubset,
    /// Training images per class; 0 for all.
    pub shots: u32,
    /// The seed.
    pub seed: u64,
}

impl Draw {
    /// That of a job.
    pub fn of(spec: &CompactSpec) -> Self {
        let classes = ClassSubset::of(spec.recipe.protocol, spec.stage);
        Self { dataset: spec.recipe.dataset.clone(), classes, shots: spec.shots, seed: spec.seed }
    }
}

/// What a machine found when it read a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// See [`Basis::split`].
    pub split: BasisHash,
    /// See [`Basis::test`].
    pub test: BasisHash,
    /// SHA-256 over the image files themselves, where somebody asked for it.
    pub images: Option<BasisHash>,
    /// When it was read, at the latest.
    pub at: Timestamp,
}

/// What a machine found for a job that has a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// The job.
    pub job: JobId,
    /// SHA-256 of the class names and the lists of images and labels, as they are now.
    pub split_sha256: BasisHash,
    /// SHA-256 of the class names and the test list, as they are now.
    pub test_sha256: BasisHash,
    /// SHA-256 over the image files of the split, if they were read.
    #[serde(default)]
    pub images_sha256: Option<BasisHash>,
}

named! {
    /// What of a result's basis is no longer what it was.
    pub enum Changed("change") {
        /// The backbone's name is pinned to another identity.
        Backbone = "backbone",
        /// The lists of images and labels are others.
        Split = "split",
        /// The test list, or the class names, are others.
        TestList = "test_list",
        /// The result of the training job that it needs is stale.
        Training = "training",
    }
}

/// Why a result is stale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Stale {
    /// What changed.
    pub changed: Changed,
    /// The same in a sentence, with both hashes.
    pub because: String,
}
