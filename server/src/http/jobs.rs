//! `/jobs`

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use promptfield_core::id::{JobId, LeaseId};
use promptfield_core::input::{InvalidInput, one_of};
use promptfield_core::job::evaluation::Evaluation;
use promptfield_core::scheduler::{Command, Explanation, JobRecord, JobState, Rejection, Reply, Scheduler};
use promptfield_core::wire::api::overview::{MOST_SELECTED, Selection};
use promptfield_core::wire::api::{Changed, Findings, JobDetail, JobSummary, MOST_FINDINGS, MetricPoint, Metrics};
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Id, JsonBody, Params};
use super::problem::{ApiError, answer};
use super::{App, Shared};
use crate::store::Reported;

/// What a list says of a job; `variant` are the sweep's values that it has there.
pub(super) fn summary(scheduler: &Scheduler, record: &JobRecord, variant: &str) -> JobSummary {
    let lease = record.state.lease();
    JobSummary {
        id: record.id,
        title: record.spec.to_spec().title_with(variant),
        variant: variant.to_owned(),
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
        adopted: scheduler.is_foreign(record.id),
    }
}

/// The query of [`rerun()`], and of an experiment's.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RerunQuery {
    /// Only those of an experiment that are stale.
    #[param(value_type = Option<bool>)]
    stale: Option<String>,
    /// Also jobs that other experiments show too.
    #[param(value_type = Option<bool>)]
    shared: Option<String>,
}

impl RerunQuery {
    /// `stale` and `shared`.
    pub(super) fn read(&self) -> Result<(bool, bool), ApiError> {
        let read = |name: &str, text: &Option<String>| match text.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(ApiError::Unreadable(InvalidInput::new(name, other, one_of(other, ["true", "false"])))),
        };
        Ok((read("stale", &self.stale)?, read("shared", &self.shared)?))
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
    let found = app.writer.look(move |scheduler, _| {
        let (experiments, stale) = (scheduler.experiments_of(id).to_vec(), scheduler.why_stale(id));
        let summary = |record| summary(scheduler, record, scheduler.variant_of(id));
        scheduler.job(id).map(|record| (record.clone(), summary(record), experiments, stale))
    });
    let (record, summary, experiments, stale) = found.await?.ok_or(Rejection::NoJob(id))?;
    let (attempts, manifest, superseded) =
        tokio::try_join!(app.reader.attempts(id), app.reader.manifest(id), app.reader.superseded(id))?;
    Ok(Json(JobDetail {
        summary,
        spec: record.spec.to_spec(),
        hash: record.hash,
        needs: record.needs,
        experiments,
        attempts,
        manifest,
        stale,
        superseded,
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
    changed(app.writer.apply(Command::CancelJobs(vec![id])).await?)
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
    changed(app.writer.apply(Command::RetryJobs(vec![id])).await?)
}

/// Cancels several jobs and the tests of their checkpoints; if one of them isn't there, none.
#[utoipa::path(
    post,
    path = "/jobs/cancel",
    operation_id = "cancel_jobs",
    tag = "jobs",
    request_body = Selection,
    responses(
        (status = 200, description = "How many jobs were cancelled.", body = Changed),
        answer::Unreadable,
        answer::NotFound,
        answer::TooLarge,
        answer::Invalid,
    ),
    security(("bearer" = ["submit"])),
)]
pub(super) async fn cancel_selected(
    State(app): Shared,
    JsonBody(selection): JsonBody<Selection>,
) -> Result<Json<Changed>, ApiError> {
    changed(app.writer.apply(Command::CancelJobs(bounded("jobs", selection.jobs, MOST_SELECTED)?)).await?)
}

/// Queues several failed or cancelled jobs again; if one of them isn't there, none.
#[utoipa::path(
    post,
    path = "/jobs/retry",
    operation_id = "retry_jobs",
    tag = "jobs",
    request_body = Selection,
    responses(
        (status = 200, description = "How many jobs are queued again.", body = Changed),
        answer::Unreadable,
        answer::NotFound,
        answer::TooLarge,
        answer::Invalid,
    ),
    security(("bearer" = ["submit"])),
)]
pub(super) async fn retry_selected(
    State(app): Shared,
    JsonBody(selection): JsonBody<Selection>,
) -> Result<Json<Changed>, ApiError> {
    changed(app.writer.apply(Command::RetryJobs(bounded("jobs", selection.jobs, MOST_SELECTED)?)).await?)
}

/// Queues a job that has a result again, with the tests of its checkpoint. The earlier results are kept.
#[utoipa::path(
    post,
    path = "/jobs/{id}/rerun",
    operation_id = "rerun_job",
    tag = "jobs",
    params(("id" = JobId, Path, description = "The job's identifier."), RerunQuery),
    responses(
        (status = 200, description = "How many jobs are queued again.", body = Changed),
        answer::Unreadable,
        answer::NotFound,
        answer::NotRerun,
    ),
    security(("bearer" = ["submit"])),
)]
pub(super) async fn rerun(
    State(app): Shared,
    Id(id): Id<JobId>,
    Params(query): Params<RerunQuery>,
) -> Result<Json<Changed>, ApiError> {
    let (stale, shared) = query.read()?;
    if stale {
        let expected = "only with an experiment";
        return Err(ApiError::Unreadable(InvalidInput::new("stale", stale, expected)));
    }
    changed(app.writer.apply(Command::RerunJobs { jobs: vec![id], shared }).await?)
}

/// Notes what a machine found when it read the data sets of jobs that have results. A result that rests on something else is stale.
#[utoipa::path(
    post,
    path = "/jobs/findings",
    operation_id = "note_findings",
    tag = "jobs",
    request_body = Findings,
    responses(
        (status = 204, description = "They are noted."),
        answer::Unreadable,
        answer::NotFound,
        answer::TooLarge,
        answer::Invalid,
    ),
    security(("bearer" = ["submit"])),
)]
pub(super) async fn note_findings(
    State(app): Shared,
    JsonBody(Findings { findings }): JsonBody<Findings>,
) -> Result<StatusCode, ApiError> {
    let findings = bounded("findings", findings, MOST_FINDINGS)?;
    app.writer.apply(Command::Look(findings)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A list of a request, if it isn't too long.
fn bounded<T>(field: &'static str, list: Vec<T>, most: usize) -> Result<Vec<T>, ApiError> {
    if list.len() <= most {
        return Ok(list);
    }
    let (given, expected) = (format!("{} {field}", list.len()), format!("at most {most}"));
    Err(ApiError::Invalid(InvalidInput::new(field, given, expected)))
}

pub(super) async fn latest_attempt(app: &App, id: JobId) -> Result<Option<LeaseId>, ApiError> {
    Ok(app.reader.latest_attempt(id).await?.ok_or(Rejection::NoJob(id))?)
}

/// The query of [`metrics()`].
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MetricsParams {
    /// The most points of each value; all of them if absent. The first and the last are among them.
    #[param(value_type = Option<usize>, minimum = 2)]
    most: Option<String>,
}

/// The metric points of a job's latest attempt.
#[utoipa::path(
    get,
    path = "/jobs/{id}/metrics",
    operation_id = "get_metrics_of_job",
    tag = "jobs",
    params(("id" = JobId, Path, description = "The job's identifier."), MetricsParams),
    responses(
        (status = 200, description = "Numbers by step; none before the first attempt.", body = Metrics),
        answer::Unreadable,
        answer::NotFound,
        answer::Removed,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn metrics(
    State(app): Shared,
    Id(id): Id<JobId>,
    Params(params): Params<MetricsParams>,
) -> Result<Json<Metrics>, ApiError> {
    let most = params.most.map(|text| match text.parse() {
        Ok(most) if most >= 2 => Ok(most),
        _ => Err(ApiError::Unreadable(InvalidInput::new("most", text, "a whole number of at least 2"))),
    });
    let most = most.transpose()?;
    let Some(attempt) = latest_attempt(&app, id).await? else { return Ok(Json(Metrics { points: Vec::new() })) };
    let points = app.reader.metric_points(attempt).await?;
    // Looked at after the numbers: whoever gets them gets all of them.
    if app.reader.is_removed(Reported::Metrics, attempt).await? {
        return Err(ApiError::Removed(format!("the numbers of job {id}'s training steps aren't kept any more")));
    }
    Ok(Json(Metrics { points: if let Some(most) = most { thinned(points, most) } else { points } }))
}

/// At most `most` points of each value, evenly spread over those that it has.
fn thinned(points: Vec<MetricPoint>, most: usize) -> Vec<MetricPoint> {
    let mut left: HashMap<String, (usize, usize)> = HashMap::new();
    for name in points.iter().flat_map(|point| point.values.keys()) {
        left.entry(name.clone()).or_default().1 += 1;
    }
    let kept = points.into_iter().filter_map(|mut point| {
        point.values.retain(|name, _| {
            let Some((place, of)) = left.get_mut(name) else { return false };
            let here = *place;
            *place += 1;
            // The point in which one of `most` even steps from the first to the last lies.
            *of <= most || here == 0 || here * (most - 1) / (*of - 1) != (here - 1) * (most - 1) / (*of - 1)
        });
        (!point.values.is_empty()).then_some(point)
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_thinned_evenly_and_keeps_its_ends() {
        let point = |step: u64| {
            let mut values = std::collections::BTreeMap::from([("loss".to_owned(), step as f64)]);
            if step.is_multiple_of(100) {
                values.insert("accuracy".to_owned(), 1.0);
            }
            MetricPoint { step, values }
        };
        let points: Vec<MetricPoint> = (0..1001).map(point).collect();
        for most in [2, 3, 10, 11, 500, 1000, 1001, 5000] {
            let thin = thinned(points.clone(), most);
            let steps = |name: &str| -> Vec<u64> {
                thin.iter().filter(|point| point.values.contains_key(name)).map(|point| point.step).collect()
            };
            let loss = steps("loss");
            assert_eq!(loss.len(), most.min(1001));
            assert_eq!((loss.first(), loss.last()), (Some(&0), Some(&1000)));
            let gaps: Vec<u64> = loss.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(gaps.iter().max().unwrap() - gaps.iter().min().unwrap() <= 1, "{most}: {gaps:?}");
            assert_eq!(steps("accuracy").len(), most.min(11));
        }
    }
}
