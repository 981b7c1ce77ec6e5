//! `/workers/{id}/lease` and `/leases`: what a worker does.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use promptfield_core::api::{
    CheckpointSource, CompletionReport, FailureReport, LeaseGrant, LeaseRequest, LeaseResponse, ProgressReport,
    ReleaseReport, Renewed,
};
use promptfield_core::id::{LeaseId, WorkerId};
use promptfield_core::input::InvalidInput;
use promptfield_core::layout::{CHECKPOINT_FILE, CHECKPOINT_FOLDER};
use promptfield_core::outcome::TestResult;
use promptfield_core::scheduler::{Command, Grant, Held, Reply};

use super::extract::{Id, JsonBody};
use super::problem::ApiError;
use super::{App, Shared};

/// The longest poll. A worker that waits is also never silent for as long as a lease.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Steps and line numbers end here; later ones are a mistake.
const MOST: u64 = 1 << 53;

/// Grants jobs; waits for them as long as the worker likes, within limits.
pub(super) async fn lease(
    State(app): Shared,
    Id(worker): Id<WorkerId>,
    JsonBody(request): JsonBody<LeaseRequest>,
) -> Result<Json<LeaseResponse>, ApiError> {
    let limit = LONGEST_WAIT.min(Duration::from_millis(app.policy.lease_ms.unsigned_abs()));
    let wait = Duration::from_millis(request.wait_ms).min(limit);
    let grants = match app.writer.lease(worker, request.slots, wait).await? {
        Reply::Granted(grants) => grants,
        other => return Err(ApiError::unexpected(&other)),
    };
    let mut leases = Vec::with_capacity(grants.len());
    for grant in grants {
        leases.push(put_into_words(&app, grant).await?);
    }
    Ok(Json(LeaseResponse { leases }))
}

async fn put_into_words(app: &App, grant: Grant) -> Result<LeaseGrant, ApiError> {
    let checkpoint = match grant.needs {
        Some((job, spec)) => {
            let path = format!("{CHECKPOINT_FOLDER}/{CHECKPOINT_FILE}");
            let sha256 = app.reader.file_of(job, &path).await?;
            Some(CheckpointSource { spec: spec.to_spec(), sha256 })
        }
        None => None,
    };
    Ok(LeaseGrant {
        lease: grant.lease,
        token: grant.token,
        job: grant.job,
        spec: grant.spec.to_spec(),
        hash: grant.hash,
        checkpoint,
        ttl_ms: grant.ttl_ms,
    })
}

/// Renews a lease, and keeps numbers and log lines.
pub(super) async fn progress(
    State(app): Shared,
    Id(lease): Id<LeaseId>,
    JsonBody(report): JsonBody<ProgressReport>,
) -> Result<Json<Renewed>, ApiError> {
    let ProgressReport { token, progress, metrics, log } = report;
    if let Some((i, point)) = metrics.iter().enumerate().find(|(_, point)| point.step > MOST) {
        let expected = format!("a whole number from 0 to {MOST}");
        return Err(ApiError::Invalid(InvalidInput::new(format!("metrics[{i}].step"), point.step, expected)));
    }
    if let Some(log) = log.as_ref().filter(|log| log.first_line > MOST) {
        let expected = format!("a whole number from 0 to {MOST}");
        return Err(ApiError::Invalid(InvalidInput::new("log.first_line", log.first_line, expected)));
    }
    match app.writer.report(Held { lease, token }, progress, metrics, log).await? {
        Reply::Renewed { ttl_ms } => Ok(Json(Renewed { ttl_ms })),
        other => Err(ApiError::unexpected(&other)),
    }
}

/// Records a job's result, once.
pub(super) async fn complete(
    State(app): Shared,
    Id(lease): Id<LeaseId>,
    JsonBody(report): JsonBody<CompletionReport>,
) -> Result<StatusCode, ApiError> {
    let CompletionReport { token, outcome, evaluation } = report;
    check(&outcome.result).map_err(|error| ApiError::Invalid(error.under("outcome.result")))?;
    if let Some(evaluation) = &evaluation {
        evaluation.check(&outcome.result).map_err(|error| ApiError::Invalid(error.under("evaluation")))?;
    }
    if let Some(manifest) = &outcome.manifest
        && let Some(hash) = app.reader.hash_of_lease(lease).await?
        && manifest.spec_hash != hash
    {
        let expected = format!("{hash}, the identity of the lease's job");
        return Err(ApiError::Invalid(InvalidInput::new("outcome.manifest.spec_hash", manifest.spec_hash, expected)));
    }
    let (held, outcome, evaluation) = (Held { lease, token }, Box::new(outcome), evaluation.map(Box::new));
    app.writer.apply(Command::Complete { held, outcome, evaluation }).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn check(result: &TestResult) -> Result<(), InvalidInput> {
    let TestResult { total, correct, accuracy, error, macro_f1, calibration_error } = *result;
    if !(1..=MOST).contains(&total) {
        return Err(InvalidInput::new("total", total, "at least one image"));
    }
    if correct > total {
        return Err(InvalidInput::new("correct", correct, format!("at most {total}, the number of images")));
    }
    let calibration = calibration_error.map(|rate| ("calibration_error", rate));
    for (field, rate) in
        [("accuracy", accuracy), ("error", error), ("macro_f1", macro_f1)].into_iter().chain(calibration)
    {
        if !(0.0..=100.0).contains(&rate) {
            return Err(InvalidInput::new(field, rate, "a number from 0 to 100"));
        }
    }
    Ok(())
}

/// Ends an attempt without a result.
pub(super) async fn fail(
    State(app): Shared,
    Id(lease): Id<LeaseId>,
    JsonBody(report): JsonBody<FailureReport>,
) -> Result<StatusCode, ApiError> {
    let FailureReport { token, failure } = report;
    app.writer.apply(Command::Fail { held: Held { lease, token }, failure }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a job back that its worker could not finish.
pub(super) async fn release(
    State(app): Shared,
    Id(lease): Id<LeaseId>,
    JsonBody(report): JsonBody<ReleaseReport>,
) -> Result<StatusCode, ApiError> {
    app.writer.apply(Command::Release { held: Held { lease, token: report.token } }).await?;
    Ok(StatusCode::NO_CONTENT)
}
