//! The methods that can be named in an experiment.
//!
//! This table is the one place where a method is registered: its names, the numbers that mean something for it, its presets and
//! its published results. It holds what the coordinator must know without libtorch; the arithmetic is a file in the trainer that
//! has the method's key as its name. A handle is a reference into the table, so a method that isn't registered can't be
//! expressed.

pub mod hyper;
pub mod preset;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

use crate::input::{InvalidInput, one_of};
use crate::protocol::Protocol;

/// A registered method.
#[derive(Clone, Copy)]
pub struct Method(&'static Info);

#[derive(Debug)]
struct Info {
    key: &'static str,
    label: &'static str,
    folder: &'static str,
    /// The keys of [`crate::method::hyper::Overrides`] that mean something for the method, besides `test_batch`.
    hyperparameters: &'static [&'static [&'static str]],
    presets: Presets,
    /// The file of the paper's results, if there are any.
    published: Option<&'static str>,
}

/// The preset file of each protocol, as it was written.
#[derive(Debug)]
struct Presets {
    base_to_new: &'static str,
    cross_dataset: &'static str,
    few_shot: &'static str,
}

/// What every method that learns has.
const TRAINING: &[&str] = &["epochs", "lr", "warmup_epochs", "warmup_lr", "weight_decay", "train_batch", "eval"];
/// What every method with representation tokens has.
const TOKENS: &[&str] = &["alpha", "reg_weight", "rep_layers", "rep_dim", "n_rep_tokens"];
/// What shared-residual aligners have.
const RESIDUALS: &[&str] = &["beta", "proj_lora_dim", "res_lora_dim"];
/// The weights of the norm terms.
const NORMS: &[&str] = &["final_norm", "seq_norm"];
/// What context vectors trained by gradient descent with momentum have.
const CONTEXT: &[&str] = &["n_ctx", "momentum"];

/// The files `configs/trainer/<key>.<protocol>.toml`.
macro_rules! presets {
    ($key:literal) => {
        Presets {
            base_to_new: include_str!(concat!("../../../configs/trainer/", $key, ".base_to_new.toml")),
            cross_dataset: include_str!(concat!("../../../configs/trainer/", $key, ".cross_dataset.toml")),
            few_shot: include_str!(concat!("../../../configs/trainer/", $key, ".few_shot.toml")),
        }
    };
}

static METHODS: &[Info] = &[
    Info {
        key: "alignednorm",
        label: "AlignedNorm",
        folder: "ALIGNEDNORM",
        hyperparameters: &[TRAINING, TOKENS, RESIDUALS, NORMS],
        presets: presets!("alignednorm"),
        published: Some(include_str!("../../../configs/published/alignednorm.json")),
    },
    Info {
        key: "mmrlpp",
        label: "MMRL++",
        folder: "MMRLpp",
        hyperparameters: &[TRAINING, TOKENS, RESIDUALS],
        presets: presets!("mmrlpp"),
        published: Some(include_str!("../../../configs/published/mmrlpp.json")),
    },
    Info {
        key: "mmrl",
        label: "MMRL",
        folder: "MMRL",
        hyperparameters: &[TRAINING, TOKENS],
        presets: presets!("mmrl"),
        published: Some(include_str!("../../../configs/published/mmrl.json")),
    },
    Info {
        key: "coop",
        label: "CoOp",
        folder: "CoOp",
        hyperparameters: &[TRAINING, CONTEXT],
        presets: presets!("coop"),
        published: None,
    },
    Info {
        key: "zero_shot",
        label: "CLIP (zero-shot)",
        folder: "ZeroshotCLIP",
        hyperparameters: &[],
        presets: presets!("zero_shot"),
        published: None,
    },
];

impl Method {
    /// Every registered method, in the order in which tables list them.
    pub fn all() -> impl ExactSizeIterator<Item = Self> + Clone {
        METHODS.iter().map(Self)
    }

    /// The name in experiments, jobs and the database: `alignednorm`.
    pub const fn key(self) -> &'static str {
        self.0.key
    }

    /// The name in tables: `AlignedNorm`.
    pub const fn label(self) -> &'static str {
        self.0.label
    }

    /// The trainer's name in output folders: `ALIGNEDNORM` (method.md, section 7).
    pub const fn folder(self) -> &'static str {
        self.0.folder
    }

    /// Whether the method learns anything: if not, its jobs have no seeds, no shots and no checkpoint.
    pub const fn learns(self) -> bool {
        !self.0.hyperparameters.is_empty()
    }

    /// Whether the hyper-parameter `key` changes what the method computes.
    pub fn has(self, key: &str) -> bool {
        key == "test_batch" || self.0.hyperparameters.iter().any(|keys| keys.contains(&key))
    }

    /// The method's preset file for a protocol, as it was written.
    pub const fn preset(self, protocol: Protocol) -> &'static str {
        match protocol {
            Protocol::BaseToNew => self.0.presets.base_to_new,
            Protocol::CrossDataset => self.0.presets.cross_dataset,
            Protocol::FewShot => self.0.presets.few_shot,
        }
    }

    /// The method's published results, as the file was written; `None` if there are none.
    pub const fn published(self) -> Option<&'static str> {
        self.0.published
    }
}

impl std::str::FromStr for Method {
    type Err = InvalidInput;

    fn from_str(text: &str) -> Result<Self, InvalidInput> {
        Self::all()
            .find(|method| method.key() == text)
            .ok_or_else(|| InvalidInput::new("method", text, one_of(text, Self::all().map(Self::key))))
    }
}

impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Method {}

impl std::hash::Hash for Method {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialOrd for Method {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Method {
    /// The order of the registry, which is the order of rows in tables.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let rank = |method: &Self| METHODS.iter().position(|info| info.key == method.key());
        rank(self).cmp(&rank(other))
    }
}

impl std::fmt::Debug for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Method").field(&self.key()).finish()
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.key())
    }
}

impl utoipa::PartialSchema for Method {
    fn schema() -> RefOr<Schema> {
        let keys = Self::all().map(Self::key);
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(keys)).description(Some("A method.")).into()
    }
}

impl utoipa::ToSchema for Method {}

impl Serialize for Method {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.key())
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|_| serde::de::Error::custom(format!("expected {}", one_of(&text, Self::all().map(Self::key)))))
    }
}
