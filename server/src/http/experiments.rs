//! `/experiments`

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use promptfield_core::experiment::{Document, Experiment};
use promptfield_core::id::ExperimentId;
use promptfield_core::input::InvalidInput;
use promptfield_core::method::{Declaration, Method};
use promptfield_core::names::known_name;
use promptfield_core::protocol::Stage;
use promptfield_core::scheduler::{
    Command, Counts, ExperimentRecord, JobRecord, JobStateName, Rejection, RerunWhich, Scheduler,
};
use promptfield_core::wire::access::Principal;
use promptfield_core::wire::api::{
    Changed, ExperimentDetail, ExperimentSummary, JobOutput, JobSummary, PREFIX, Page, SubmitResponse,
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use utoipa::IntoParams;

use super::conditional::unless_known;
use super::extract::{Id, IdempotencyKey, JsonBody, Params};
use super::jobs::RerunQuery;
use super::page::WindowParams;
use super::problem::{ApiError, answer};
use super::{Shared, aside, jobs, overview};
use crate::store::Key;

pub(super) fn json(answer: &impl serde::Serialize) -> Result<String, ApiError> {
    serde_json::to_string(answer).map_err(|error| ApiError::Internal(error.into()))
}

pub(super) fn find(scheduler: &Scheduler, id: ExperimentId) -> Result<(&ExperimentRecord, &Counts), Rejection> {
    scheduler.experiment(id).ok_or(Rejection::NoExperiment(id))
}

/// Takes an experiment: 201 if it's new, 200 if it was submitted before.
#[utoipa::path(
    post,
    path = "/experiments",
    operation_id = "submit_experiment",
    tag = "experiments",
    params((
        "Idempotency-Key" = Option<String>,
        Header,
        description = "A name of the client's for this submission, 1 to 255 visible ASCII characters. For a day, the same key with the same body gets the same answer.",
    )),
    request_body = Document,
    responses(
        (status = 201, description = "It is new.", body = SubmitResponse),
        (status = 200, description = "The same experiment was submitted before; nothing changed.", body = SubmitResponse),
        answer::Unreadable,
        answer::TooLarge,
        answer::NotSubmitted,
    ),
    security(("bearer" = ["submit"])),
)]
pub(super) async fn submit(
    State(app): Shared,
    Extension(principal): Extension<Principal>,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(document): JsonBody<serde_json::Value>,
) -> Result<Response, ApiError> {
    let (key, document) = aside::work(move || {
        let key = key.map(|name| Key { name, body: Sha256::digest(document.to_string()).into() });
        (key, document)
    })
    .await?;
    let (experiment, jobs) = overview::expand(&app.known, document).await?;
    let command = Command::Submit { experiment: Box::new(experiment), jobs, by: Some(principal.name) };
    let response = app.writer.submit(command, key).await?;
    let id = response.experiment.id;
    let status = if response.created { StatusCode::CREATED } else { StatusCode::OK };
    let location = HeaderValue::try_from(format!("{PREFIX}/experiments/{id}"))
        .map_err(|error| ApiError::Internal(error.into()))?;
    Ok((status, [(header::LOCATION, location)], Json(response)).into_response())
}

/// All experiments, oldest first.
#[utoipa::path(
    get,
    path = "/experiments",
    operation_id = "list_experiments",
    tag = "experiments",
    params(WindowParams),
    responses(
        (status = 200, description = "A page of the list.", body = Page<ExperimentSummary>),
        answer::Unreadable,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn list(
    State(app): Shared,
    Params(window): Params<WindowParams>,
) -> Result<Json<Page<ExperimentSummary>>, ApiError> {
    let window = window.window().map_err(ApiError::Unreadable)?;
    let page = app.writer.look(move |scheduler, _| {
        window.cut(scheduler.experiments(), |_| true, |(record, counts)| ExperimentSummary::new(record, counts))
    });
    Ok(Json(page.await?))
}

/// One experiment with what was asked for.
#[utoipa::path(
    get,
    path = "/experiments/{id}",
    operation_id = "get_experiment",
    tag = "experiments",
    params(("id" = ExperimentId, Path, description = "The experiment's identifier."), ("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier answer: if this one would be the same, it's 304.")),
    responses(
        (status = 200, description = "The experiment.", body = ExperimentDetail),
        (status = 304, description = "The client has it already."), answer::Unreadable,
        answer::NotFound,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn show(
    State(app): Shared,
    Id(id): Id<ExperimentId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let found = app.writer.look(move |scheduler, _| {
        let (record, counts) = find(scheduler, id)?;
        Ok::<_, Rejection>((ExperimentSummary::new(record, counts), Arc::clone(&record.experiment)))
    });
    let (summary, experiment) = found.await??;
    let variants = if experiment.sweep.is_empty() { Vec::new() } else { variants_of(&experiment) };
    let detail = ExperimentDetail { summary, experiment: Arc::unwrap_or_clone(experiment), variants };
    unless_known(&headers, "application/json", json(&detail)?)
}

/// Cancels the jobs that no other experiment wants.
#[utoipa::path(
    post,
    path = "/experiments/{id}/cancel",
    operation_id = "cancel_experiment",
    tag = "experiments",
    params(("id" = ExperimentId, Path, description = "The experiment's identifier.")),
    responses(
        (status = 200, description = "How many jobs were cancelled.", body = Changed),
        answer::Unreadable,
        answer::NotFound,
    ),
    security(("bearer" = ["submit"])),
)]
pub(super) async fn cancel(State(app): Shared, Id(id): Id<ExperimentId>) -> Result<Json<Changed>, ApiError> {
    jobs::changed(app.writer.apply(Command::CancelExperiment(id)).await?)
}

/// Queues the failed and cancelled jobs again.
#[utoipa::path(
    post,
    path = "/experiments/{id}/retry",
    operation_id = "retry_experiment",
    tag = "experiments",
    params(("id" = ExperimentId, Path, description = "The experiment's identifier.")),
    responses(
        (status = 200, description = "How many jobs are queued again.", body = Changed),
        answer::Unreadable,
        answer::NotFound,
    ),
    security(("bearer" = ["submit"])),
)]
pub(super) async fn retry(State(app): Shared, Id(id): Id<ExperimentId>) -> Result<Json<Changed>, ApiError> {
    jobs::changed(app.writer.apply(Command::RetryExperiment(id)).await?)
}

/// Queues jobs that have results again, with the tests of their checkpoints. The earlier results are kept.
#[utoipa::path(
    post,
    path = "/experiments/{id}/rerun",
    operation_id = "rerun_experiment",
    tag = "experiments",
    params(("id" = ExperimentId, Path, description = "The experiment's identifier."), RerunQuery),
    responses(
        (status = 200, description = "How many jobs are queued again.", body = Changed),
        answer::Unreadable,
        answer::NotFound,
        answer::SharedJobs,
    ),
    security(("bearer" = ["submit"])),
)]
pub(super) async fn rerun(
    State(app): Shared,
    Id(experiment): Id<ExperimentId>,
    Params(query): Params<RerunQuery>,
) -> Result<Json<Changed>, ApiError> {
    let (stale, shared) = query.read()?;
    let which = if stale { RerunWhich::Stale } else { RerunWhich::All };
    jobs::changed(app.writer.apply(Command::RerunExperiment { experiment, which, shared }).await?)
}

/// The query of [`jobs()`].
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct JobsParams {
    /// Only jobs in this state.
    state: Option<JobStateName>,
    /// Only jobs on this data set.
    dataset: Option<String>,
    /// Only jobs of this method.
    method: Option<Method>,
    /// Only jobs with these values of the sweep, as rows of the table say them: `beta=0.1`.
    variant: Option<String>,
    /// Only jobs of this stage.
    stage: Option<Stage>,
    /// Only jobs with so many training images per class; 0 for methods that learn nothing.
    #[param(value_type = Option<u32>)]
    shots: Option<String>,
    /// The `next` of an earlier page.
    cursor: Option<String>,
    /// The most entries of a page.
    #[param(value_type = Option<usize>, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<String>,
}

/// An experiment's jobs in the order of its matrix, each once.
#[utoipa::path(
    get,
    path = "/experiments/{id}/jobs",
    operation_id = "list_jobs_of_experiment",
    tag = "experiments",
    params(("id" = ExperimentId, Path, description = "The experiment's identifier."), JobsParams),
    responses(
        (status = 200, description = "A page of the list.", body = Page<JobSummary>),
        answer::Unreadable,
        answer::NotFound,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn jobs(
    State(app): Shared,
    Id(id): Id<ExperimentId>,
    Params(params): Params<JobsParams>,
) -> Result<Json<Page<JobSummary>>, ApiError> {
    let JobsParams { state, dataset, method, variant, stage, shots, cursor, limit } = params;
    let window = WindowParams { cursor, limit }.window().map_err(ApiError::Unreadable)?;
    let known = Arc::clone(&app.known.methods);
    let page = app.writer.look(move |scheduler, _| {
        let (record, _) = find(scheduler, id)?;
        let methods = record.experiment.methods.iter().copied().chain(known.list().iter().map(Declaration::key));
        let methods: Vec<Method> = methods.collect();
        if let Some(method) = &method
            && let Err(error) = known_name("method", method.key(), methods.iter().map(Method::key))
        {
            return Ok(Err(error));
        }
        if let Some(dataset) = &dataset
            && let Err(error) = known_name("dataset", dataset, datasets_of(&record.experiment))
        {
            return Ok(Err(error));
        }
        if let Some(variant) = &variant
            && let Err(error) = known_variant(variant, &record.experiment)
        {
            return Ok(Err(error));
        }
        let shots = match shots.as_deref().map(|shots| known_shots(shots, &record.experiment)).transpose() {
            Ok(shots) => shots,
            Err(error) => return Ok(Err(error)),
        };
        let mut seen = HashSet::new();
        let wanted = |(job, of): &(&JobRecord, &str)| {
            state.is_none_or(|state| job.state.name() == state)
                && method.is_none_or(|method| job.spec.recipe.method == method)
                && dataset.as_ref().is_none_or(|dataset| job.spec.recipe.dataset == *dataset)
                && variant.as_deref().is_none_or(|variant| variant == *of)
                && stage.is_none_or(|stage| job.spec.stage == stage)
                && shots.is_none_or(|shots| job.spec.shots == shots)
                && seen.insert(job.id)
        };
        let summary = |(job, _): (&JobRecord, &str)| jobs::summary(scheduler, job, scheduler.variant_in(job.id, id));
        Ok::<_, Rejection>(Ok(window.cut(scheduler.jobs_of(id), wanted, summary)))
    });
    page.await??.map(Json).map_err(ApiError::Unreadable)
}

/// An experiment's jobs that have results, with what is recorded of their output folders.
#[utoipa::path(
    get,
    path = "/experiments/{id}/outputs",
    operation_id = "list_outputs_of_experiment",
    tag = "experiments",
    params(("id" = ExperimentId, Path, description = "The experiment's identifier."), WindowParams),
    responses(
        (status = 200, description = "A page of the list.", body = Page<JobOutput>),
        answer::Unreadable,
        answer::NotFound,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn outputs(
    State(app): Shared,
    Id(id): Id<ExperimentId>,
    Params(window): Params<WindowParams>,
) -> Result<Json<Page<JobOutput>>, ApiError> {
    let window = window.window().map_err(ApiError::Unreadable)?;
    let page = app.writer.look(move |scheduler, _| {
        find(scheduler, id)?;
        let mut seen = HashSet::new();
        let wanted = |job: &&JobRecord| job.state.name().is_done() && seen.insert(job.id);
        let output = |job: &JobRecord| {
            let worker = job.latest().and_then(|attempt| scheduler.worker(attempt.worker));
            JobOutput {
                job: job.id,
                spec: job.spec.to_spec(),
                host: worker.map(|worker| worker.description.host.clone()),
                manifest: None,
                images_sha256: scheduler.reading(job.id).and_then(|reading| reading.images),
            }
        };
        Ok::<_, Rejection>(window.cut(scheduler.jobs_of(id).map(|(job, _)| job), wanted, output))
    });
    let mut page = page.await??;
    for output in &mut page.items {
        output.manifest = app.reader.manifest(output.job).await?;
    }
    Ok(Json(page))
}

/// Refuses values that no job of an experiment has.
fn known_variant(variant: &str, experiment: &Experiment) -> Result<(), InvalidInput> {
    known_name("variant", variant, variants_of(experiment).iter().map(String::as_str))
}

fn variants_of(experiment: &Experiment) -> Vec<String> {
    experiment.variants().into_iter().map(|(label, _)| label).collect()
}

/// A number of shots that jobs of an experiment can have.
fn known_shots(text: &str, experiment: &Experiment) -> Result<u32, InvalidInput> {
    let known: Vec<String> =
        std::iter::once(0).chain(experiment.shots.iter().copied()).map(|n| n.to_string()).collect();
    known_name("shots", text, known.iter().map(String::as_str))?;
    text.parse().map_err(|_| InvalidInput::new("shots", text, "a whole number"))
}

/// The data sets that an experiment's jobs can be on.
pub(super) fn datasets_of(experiment: &Experiment) -> impl Iterator<Item = &str> + Clone {
    experiment.datasets.iter().chain(&experiment.source).map(String::as_str)
}
