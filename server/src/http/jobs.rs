//! `/jobs`

use axum::Json;
use axum::extract::State;
use promptfield_core::api::{Changed, JobDetail, JobSummary, Metrics};
use promptfield_core::evaluation::Evaluation;
use promptfield_core::id::{JobId, LeaseId};
use promptfield_core::scheduler::{Command, Explanation, JobRecord, JobState, Rejection, Reply};

use super::extract::Id;
use super::problem::{ApiError, answer};
use super::{App, Shared};
use crate::store::Reported;

pub(super) fn summary(record: &JobRecord) -> JobSummary {
    let lease = record.state.lease();
    JobSummary {
        id: record.id,
        title: record.spec.to_spec().title(),
        dataset: record.spec.recipe.dataset.clone(),
        state: record.state.name(),
        failures: record.failures,
        worker: lease.map(|lease| lease.worker),
        progress: lease.map(|lease| lease.progress),
        failure: match &record.state {
            JobState::Failed(failure) => Some(failure.as_ref().clone()),
            _ => None,
        },
        result: record.state.result().copied(),
    }
}

/// The answer to a command that changes jobs.
pub(super) fn changed(reply: Reply) -> Result<Json<Changed>, ApiError> {
    match reply {
        Reply::Changed(changed) => Ok(Json(Changed { changed })),
        other => Err(ApiError::unexpected(&other)),
    }
}

/// A job with its attempts and where its numbers come from.
#[utoipa::path(
    get,
    path = "/jobs/{id}",
    operation_id = "get_job",
    tag = "jobs",
    params(("id" = JobId, Path, description = "The job's identifier.")),
    responses(
        (status = 200, description = "The job.", body = JobDetail),
        answer::Unreadable,
        answer::NotFound,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn show(State(app): Shared, Id(id): Id<JobId>) -> Result<Json<JobDetail>, ApiError> {
    let record = app.writer.look(move |scheduler, _| scheduler.job(id).cloned()).await?.ok_or(Rejection::NoJob(id))?;
    let (attempts, manifest) = tokio::try_join!(app.reader.attempts(id), app.reader.manifest(id))?;
    Ok(Json(JobDetail {
        summary: summary(&record),
        spec: record.spec.to_spec(),
        hash: record.hash,
        needs: record.needs,
        attempts,
        manifest,
    }))
}

/// A job's numbers by class.
#[utoipa::path(
    get,
    path = "/jobs/{id}/evaluation",
    operation_id = "get_evaluation",
    tag = "jobs",
    params(("id" = JobId, Path, description = "The job's identifier.")),
    responses(
        (status = 200, description = "Its numbers by class.", body = Evaluation),
        answer::Unreadable,
        answer::NotFound,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn evaluation(State(app): Shared, Id(id): Id<JobId>) -> Result<Json<Evaluation>, ApiError> {
    let find = app.writer.look(move |scheduler, _| scheduler.job(id).map(|job| job.state.result().is_some()));
    let has_result = find.await?.ok_or(Rejection::NoJob(id))?;
    let why = match app.reader.evaluation(id).await? {
        Some(evaluation) => return Ok(Json(evaluation)),
        None if has_result => "its output folder was completed by another tool or an earlier version",
        None => "it has no result yet",
    };
    Err(ApiError::NotFound(format!("job {id} has no numbers by class: {why}")))
}

/// Why a job waits, or why it failed.
#[utoipa::path(
    get,
    path = "/jobs/{id}/explain",
    operation_id = "explain_job",
    tag = "jobs",
    params(("id" = JobId, Path, description = "The job's identifier.")),
    responses(
        (status = 200, description = "Why.", body = Explanation),
        answer::Unreadable,
        answer::NotFound,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn explain(State(app): Shared, Id(id): Id<JobId>) -> Result<Json<Explanation>, ApiError> {
    Ok(Json(app.writer.look(move |scheduler, now| scheduler.explain(id, now)).await??))
}

/// Cancels a job and the tests of its checkpoint.
#[utoipa::path(
    post,
    path = "/jobs/{id}/cancel",
    operation_id = "cancel_job",
    tag = "jobs",
    params(("id" = JobId, Path, description = "The job's identifier.")),
    responses(
        (status = 200, description = "How many jobs were cancelled.", body = Changed),
        answer::Unreadable,
        answer::NotFound,
    ),
    security(("bearer" = ["submit"])),
)]
pub(super) async fn cancel(State(app): Shared, Id(id): Id<JobId>) -> Result<Json<Changed>, ApiError> {
    changed(app.writer.apply(Command::CancelJob(id)).await?)
}

/// Queues a failed or cancelled job again.
#[utoipa::path(
    post,
    path = "/jobs/{id}/retry",
    operation_id = "retry_job",
    tag = "jobs",
    params(("id" = JobId, Path, description = "The job's identifier.")),
    responses(
        (status = 200, description = "How many jobs are queued again.", body = Changed),
        answer::Unreadable,
        answer::NotFound,
    ),
    security(("bearer" = ["submit"])),
)]
pub(super) async fn retry(State(app): Shared, Id(id): Id<JobId>) -> Result<Json<Changed>, ApiError> {
    changed(app.writer.apply(Command::RetryJob(id)).await?)
}

pub(super) async fn latest_attempt(app: &App, id: JobId) -> Result<Option<LeaseId>, ApiError> {
    Ok(app.reader.latest_attempt(id).await?.ok_or(Rejection::NoJob(id))?)
}

/// The metric points of a job's latest attempt.
#[utoipa::path(
    get,
    path = "/jobs/{id}/metrics",
    operation_id = "get_metrics_of_job",
    tag = "jobs",
    params(("id" = JobId, Path, description = "The job's identifier.")),
    responses(
        (status = 200, description = "Numbers by step; none before the first attempt.", body = Metrics),
        answer::Unreadable,
        answer::NotFound,
        answer::Removed,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn metrics(State(app): Shared, Id(id): Id<JobId>) -> Result<Json<Metrics>, ApiError> {
    let Some(attempt) = latest_attempt(&app, id).await? else { return Ok(Json(Metrics { points: Vec::new() })) };
    let points = app.reader.metric_points(attempt).await?;
    // Looked at after the numbers: whoever gets them gets all of them.
    if app.reader.is_removed(Reported::Metrics, attempt).await? {
        return Err(ApiError::Removed(format!("the numbers of job {id}'s training steps aren't kept any more")));
    }
    Ok(Json(Metrics { points }))
}
