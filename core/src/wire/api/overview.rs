//! Answers that sum up, for whoever looks at the whole: what can be asked for, what a matrix would cost, where it stands.

use serde::{Deserialize, Serialize};

use crate::id::JobId;
use crate::method::Method;
use crate::names::Precision;
use crate::protocol::{Protocol, Stage};
use crate::scheduler::JobStateName;

/// What an experiment can be made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Catalogue {
    /// The methods, in the order of tables.
    pub methods: Vec<CatalogueMethod>,
    /// The protocols.
    pub protocols: Vec<CatalogueProtocol>,
    /// The data sets: those of the literature, and this coordinator's own.
    pub datasets: Vec<CatalogueDataset>,
    /// The backbones that the coordinator's settings name.
    pub backbones: Vec<String>,
    /// The arithmetics.
    pub precisions: Vec<Precision>,
    /// The values that an experiment can override or sweep.
    pub hyperparameters: Vec<CatalogueValue>,
}

/// A method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CatalogueMethod {
    /// Its name in experiments.
    pub key: Method,
    /// Its name in tables.
    pub label: String,
    /// Whether it learns anything: if not, it has neither seeds nor shots.
    pub learns: bool,
}

/// A protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CatalogueProtocol {
    /// Its name in experiments.
    pub key: Protocol,
    /// What `datasets = "all"` means under it.
    pub all: Vec<String>,
    /// Whether papers' numbers can be put beside its table.
    pub published: bool,
}

/// A data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CatalogueDataset {
    /// Its name in experiments.
    pub key: String,
    /// Its name in print.
    pub label: String,
    /// How many classes it has; `null` for one that isn't of the literature.
    pub classes: Option<usize>,
}

/// A value that an experiment can override or sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CatalogueValue {
    /// Its key.
    pub name: String,
    /// What it is, in the words of JSON Schema: `integer`, `number`, `boolean`, `string`, `array`, `object`.
    pub kind: String,
    /// What it means.
    pub description: String,
    /// The methods that have it.
    pub methods: Vec<Method>,
    /// The texts that it may be, if it is a choice.
    #[serde(default)]
    pub choices: Vec<String>,
    /// Whether it can be swept: it changes what is computed.
    #[serde(default)]
    pub sweeps: bool,
}

/// All jobs of an experiment, in few bytes: 100,000 of them are to be drawn at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Matrix {
    /// The methods that the jobs name by their place here.
    pub methods: Vec<Method>,
    /// The data sets.
    pub datasets: Vec<String>,
    /// The sweep's values; a job of several stands in the first one's place.
    pub variants: Vec<String>,
    /// The stages.
    pub stages: Vec<Stage>,
    /// The states.
    pub states: Vec<JobStateName>,
    /// The jobs in the order of the matrix, each once.
    pub jobs: Vec<MatrixJob>,
}

/// A job as a list: identifier, method, data set, variant, shots, seed, stage, state; what has a list in [`Matrix`] by its place
/// there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatrixJob(pub JobId, pub usize, pub usize, pub usize, pub u32, pub u64, pub usize, pub usize);

impl utoipa::PartialSchema for MatrixJob {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
        let number = ObjectBuilder::new().schema_type(Type::Integer).build();
        ArrayBuilder::new()
            .items(number)
            .min_items(Some(8))
            .max_items(Some(8))
            .description(Some(
                "Identifier, method, data set, variant, shots, seed, stage, state; what has a list by its place there.",
            ))
            .into()
    }
}

impl utoipa::ToSchema for MatrixJob {}

/// Several jobs at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// At most [`MOST_SELECTED`].
    pub jobs: Vec<JobId>,
}

/// The most jobs in one [`Selection`].
pub const MOST_SELECTED: usize = 100_000;
