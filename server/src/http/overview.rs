//! Answers that sum up: what can be asked for, what a matrix would cost, where it stands.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;

use axum::Json;
use axum::extract::State;
use promptfield_core::experiment::dataset::{all_of, published_size};
use promptfield_core::experiment::matrix::{self, PlannedJob};
use promptfield_core::experiment::{Document, Experiment, Known};
use promptfield_core::id::ExperimentId;
use promptfield_core::method::value::ValueDeclaration;
use promptfield_core::method::{Declaration, Methods};
use promptfield_core::names::Precision;
use promptfield_core::protocol::{Protocol, Stage};
use promptfield_core::scheduler::{Forecast, JobStateName, Preview, Rejection, Scheduler};
use promptfield_core::wire::api::overview::{
    Catalogue, CatalogueDataset, CatalogueMethod, CatalogueProtocol, CatalogueValue, Matrix, MatrixJob,
};
use tokio::sync::Semaphore;

use super::extract::{Id, JsonBody};
use super::problem::{ApiError, answer};
use super::{Shared, aside};

/// One for each processor.
static PROCESSORS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(available_parallelism().map_or(1, std::num::NonZero::get)));

/// What an experiment can be made of.
#[utoipa::path(
    get,
    path = "/catalogue",
    operation_id = "get_catalogue",
    tag = "experiments",
    responses((status = 200, description = "Methods, protocols, data sets, backbones and values.", body = Catalogue)),
    security(("bearer" = ["read"])),
)]
pub(super) async fn catalogue(State(app): Shared) -> Json<Catalogue> {
    Json(Catalogue {
        methods: app.known.methods.list().iter().map(method).collect(),
        protocols: Protocol::ALL.iter().copied().map(protocol).collect(),
        datasets: datasets(&app.known),
        backbones: app.known.backbones.clone(),
        precisions: Precision::ALL.to_vec(),
        hyperparameters: hyperparameters(&app.known.methods),
    })
}

fn method(known: &Declaration) -> CatalogueMethod {
    CatalogueMethod { key: known.key(), label: known.label.clone(), learns: known.learns }
}

fn protocol(key: Protocol) -> CatalogueProtocol {
    CatalogueProtocol { key, all: all_of(key), published: key == Protocol::BaseToNew }
}

fn datasets(known: &Known) -> Vec<CatalogueDataset> {
    let definitions = known.datasets.definitions();
    definitions
        .map(|definition| CatalogueDataset {
            key: definition.key.clone(),
            label: definition.label().to_owned(),
            classes: published_size(&definition.key).map(|size| size.classes),
        })
        .collect()
}

/// The values of all methods.
fn hyperparameters(methods: &Methods) -> Vec<CatalogueValue> {
    let having = |name: &str| {
        let having = methods.list().iter().filter(|known| known.values.contains_key(name));
        having.map(Declaration::key).collect()
    };
    let value = |(name, value): (&str, &ValueDeclaration)| CatalogueValue {
        name: name.to_owned(),
        kind: value.json_type().to_owned(),
        description: value.help.clone(),
        methods: having(name),
        choices: value.choices.clone(),
        sweeps: value.identity,
    };
    methods.values().map(value).collect()
}

/// Reads an experiment and expands it into its jobs.
pub(super) async fn expand(
    known: &Arc<Known>,
    document: serde_json::Value,
) -> Result<(Experiment, Vec<PlannedJob>), ApiError> {
    let known = Arc::clone(known);
    // A document and its matrix can be large: checking the one and hashing the jobs of the other takes a processor's time.
    // No more of them at once than there are processors; who is cut off while others are at it has caused no work.
    let turn = PROCESSORS.acquire().await.map_err(|error| ApiError::Internal(error.into()))?;
    let expanded = aside::work(move || {
        let _turn = turn;
        let experiment = Experiment::from_json(document, &known)?;
        let jobs = matrix::expand(&experiment, &known)?;
        Ok((experiment, jobs))
    });
    expanded.await?.map_err(ApiError::Invalid)
}

/// What the submission of an experiment would bring. Nothing is submitted.
#[utoipa::path(
    post,
    path = "/experiments/preview",
    operation_id = "preview_experiment",
    tag = "experiments",
    request_body = Document,
    responses(
        (status = 200, description = "How many jobs it has, how many are done, and what the others would cost.", body = Preview),
        answer::Unreadable,
        answer::TooLarge,
        answer::Invalid,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn preview(
    State(app): Shared,
    JsonBody(document): JsonBody<serde_json::Value>,
) -> Result<Json<Preview>, ApiError> {
    let (_, jobs) = expand(&app.known, document).await?;
    Ok(Json(app.writer.look(move |scheduler, _| scheduler.preview(&jobs)).await?))
}

/// Where an experiment stands in time: what it has cost, and when it will be done.
#[utoipa::path(
    get,
    path = "/experiments/{id}/forecast",
    operation_id = "get_forecast",
    tag = "experiments",
    params(("id" = ExperimentId, Path, description = "The experiment's identifier.")),
    responses(
        (status = 200, description = "Device time so far and to come.", body = Forecast),
        answer::Unreadable,
        answer::NotFound,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn forecast(State(app): Shared, Id(id): Id<ExperimentId>) -> Result<Json<Forecast>, ApiError> {
    let runs = app.writer.look(move |scheduler, _| scheduler.runs_of(id)).await?;
    let spent = app.reader.spent(&runs, app.clock.now()).await?;
    Ok(Json(app.writer.look(move |scheduler, now| scheduler.forecast(id, spent, now)).await??))
}

/// All jobs of an experiment, in few bytes.
#[utoipa::path(
    get,
    path = "/experiments/{id}/matrix",
    operation_id = "get_matrix",
    tag = "experiments",
    params(("id" = ExperimentId, Path, description = "The experiment's identifier.")),
    responses(
        (status = 200, description = "The jobs, and the lists that they point into.", body = Matrix),
        answer::Unreadable,
        answer::NotFound,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn matrix_of(State(app): Shared, Id(id): Id<ExperimentId>) -> Result<Json<Matrix>, ApiError> {
    let found = app.writer.look(move |scheduler, _| scheduler.experiment(id).map(|_| draw(scheduler, id)));
    Ok(Json(found.await?.ok_or(Rejection::NoExperiment(id))?))
}

fn draw(scheduler: &Scheduler, id: ExperimentId) -> Matrix {
    let mut matrix = Matrix {
        methods: Vec::new(),
        datasets: Vec::new(),
        variants: Vec::new(),
        stages: Stage::ALL.to_vec(),
        states: JobStateName::ALL.to_vec(),
        jobs: Vec::new(),
    };
    let mut seen = HashSet::new();
    for (record, variant) in scheduler.jobs_of(id).filter(|(record, _)| seen.insert(record.id)) {
        let (spec, recipe) = (&record.spec, &record.spec.recipe);
        matrix.jobs.push(MatrixJob(
            record.id,
            place(&mut matrix.methods, &recipe.method),
            place(&mut matrix.datasets, recipe.dataset.as_str()),
            place(&mut matrix.variants, variant),
            spec.shots,
            spec.seed,
            place(&mut matrix.stages, &spec.stage),
            place(&mut matrix.states, &record.state.name()),
        ));
    }
    matrix
}

/// The place of `entry` in a list of few, to which it's added if it isn't there.
fn place<T: PartialEq<B>, B: ?Sized + ToOwned<Owned = T>>(list: &mut Vec<T>, entry: &B) -> usize {
    // Jobs that follow each other have most of these in common.
    list.iter().rposition(|known| known == entry).unwrap_or_else(|| {
        list.push(entry.to_owned());
        list.len() - 1
    })
}
