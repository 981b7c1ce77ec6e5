//! `/workers/{id}/lease` and `/leases`: what a worker does.

use std::collections::HashMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use promptfield_core::id::{JobId, LeaseId, WorkerId};
use promptfield_core::input::InvalidInput;
use promptfield_core::job::layout;
use promptfield_core::job::spec::{BasisHash, SpecHash, is_sha256};
use promptfield_core::scheduler::{Command, Grant, Held, Reply, Scheduler, WorkerState};
use promptfield_core::wire::api::{
    CheckpointSource, CompletionReport, FailureReport, LeaseGrant, LeaseReport, LeaseRequest, LeaseResponse,
    MOST_REPORTS, MetricPoint, ProgressReport, ReleaseReport, Renewed, Report, ReportAnswer, ReportAnswers, Reports,
};

use super::extract::{Id, JsonBody, MEDIUM, SMALL};
use super::problem::{ApiError, answer};
use super::{App, Shared, aside};
use crate::store::Telemetry;
use crate::writer::Reported;

/// The longest poll. A worker that waits is also never silent for as long as a lease.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Steps and line numbers end here; later ones are a mistake.
pub(super) const MOST: u64 = 1 << 53;

/// The most names of a step, the longest name in bytes, and the most numbers of a report: many times what a method logs.
pub(super) const MOST_NAMES: usize = 1_000;
pub(super) const LONGEST_NAME: usize = 200;
const MOST_NUMBERS: usize = 100_000;

/// No job takes more memory: 16 TiB.
pub(super) const MOST_MIB: u32 = 1 << 24;

/// Grants jobs; waits for them as long as the worker likes, within limits.
#[utoipa::path(
    post,
    path = "/workers/{id}/lease",
    operation_id = "lease_jobs",
    tag = "leases",
    params(("id" = WorkerId, Path, description = "The worker's identifier.")),
    request_body = LeaseRequest,
    responses(
        (status = 200, description = "The jobs; none if there were none in time.", body = LeaseResponse),
        answer::Unreadable,
        answer::UnknownWorker,
        answer::TooLarge,
        answer::Invalid,
    ),
    security(("bearer" = ["work"])),
)]
pub(super) async fn lease(
    State(app): Shared,
    Id(worker): Id<WorkerId>,
    JsonBody(request): JsonBody<LeaseRequest, SMALL>,
) -> Result<Json<LeaseResponse>, ApiError> {
    let limit = LONGEST_WAIT.min(Duration::from_millis(app.policy.lease_ms.unsigned_abs()));
    let wait = Duration::from_millis(request.wait_ms).min(limit);
    let grants = match app.writer.lease(worker, request.slots, wait).await? {
        Reply::Granted(grants) => grants,
        other => return Err(ApiError::unexpected(&other)),
    };
    let variants = variants_of(&app, &grants).await?;
    let mut leases = Vec::with_capacity(grants.len());
    for (grant, variant) in grants.into_iter().zip(variants) {
        leases.push(put_into_words(&app, grant, variant).await?);
    }
    // Whoever got something comes again anyway.
    let draining = leases.is_empty() && app.writer.look(move |scheduler, _| is_draining(scheduler, worker)).await?;
    Ok(Json(LeaseResponse { leases, draining }))
}

fn is_draining(scheduler: &Scheduler, worker: WorkerId) -> bool {
    scheduler.worker(worker).is_some_and(|record| record.state == WorkerState::Draining)
}

/// The sweep's values that each job has.
async fn variants_of(app: &App, grants: &[Grant]) -> Result<Vec<String>, ApiError> {
    let jobs: Vec<JobId> = grants.iter().map(|grant| grant.job).collect();
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let of = |scheduler: &Scheduler, job: JobId| scheduler.variant_of(job).to_owned();
    Ok(app.writer.look(move |scheduler, _| jobs.into_iter().map(|job| of(scheduler, job)).collect()).await?)
}

async fn put_into_words(app: &App, grant: Grant, variant: String) -> Result<LeaseGrant, ApiError> {
    let checkpoint = match grant.needs {
        Some((job, spec)) => {
            let path = layout::checkpoint(spec.recipe.method, &app.policy.methods);
            let sha256 = match path {
                Some(path) => app.reader.file_of(job, &path).await?,
                None => None,
            };
            Some(CheckpointSource { spec: spec.to_spec(), sha256 })
        }
        None => None,
    };
    let declared = app.policy.methods.get(grant.spec.recipe.method);
    Ok(LeaseGrant {
        lease: grant.lease,
        token: grant.token,
        job: grant.job,
        spec: grant.spec.to_spec(),
        hash: grant.hash,
        checkpoint,
        unfinished: grant.unfinished,
        backbone_sha256: grant.backbone_sha256,
        method_sha256: declared.map(|declared| BasisHash(declared.sha256())),
        afresh: grant.afresh,
        variant,
        ttl_ms: grant.ttl_ms,
    })
}

/// Renews a lease, and keeps numbers and log lines.
#[utoipa::path(
    post,
    path = "/leases/{id}/progress",
    operation_id = "report_progress",
    tag = "leases",
    params(("id" = LeaseId, Path, description = "The lease's identifier.")),
    request_body = ProgressReport,
    responses(
        (status = 200, description = "The lease is renewed.", body = Renewed),
        answer::Unreadable,
        answer::StaleLease,
        answer::TooLarge,
        answer::Invalid,
    ),
    security(("bearer" = ["work"])),
)]
pub(super) async fn progress(
    State(app): Shared,
    Id(lease): Id<LeaseId>,
    JsonBody(report): JsonBody<ProgressReport, MEDIUM>,
) -> Result<Json<Renewed>, ApiError> {
    match one(&app, lease, Report::Progress(report)).await? {
        Reply::Renewed { ttl_ms } => Ok(Json(Renewed { ttl_ms })),
        other => Err(ApiError::unexpected(&other)),
    }
}

/// Records a job's result, once.
#[utoipa::path(
    post,
    path = "/leases/{id}/complete",
    operation_id = "complete",
    tag = "leases",
    params(("id" = LeaseId, Path, description = "The lease's identifier.")),
    request_body = CompletionReport,
    responses(
        (status = 204, description = "The result is recorded, by this report or an earlier one."),
        answer::Unreadable,
        answer::StaleLease,
        answer::TooLarge,
        answer::Invalid,
    ),
    security(("bearer" = ["work"])),
)]
pub(super) async fn complete(
    State(app): Shared,
    Id(lease): Id<LeaseId>,
    JsonBody(report): JsonBody<CompletionReport>,
) -> Result<StatusCode, ApiError> {
    one(&app, lease, Report::Complete(Box::new(report))).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends an attempt without a result.
#[utoipa::path(
    post,
    path = "/leases/{id}/fail",
    operation_id = "fail",
    tag = "leases",
    params(("id" = LeaseId, Path, description = "The lease's identifier.")),
    request_body = FailureReport,
    responses(
        (status = 204, description = "The attempt has ended."),
        answer::Unreadable,
        answer::StaleLease,
        answer::TooLarge,
        answer::Invalid,
    ),
    security(("bearer" = ["work"])),
)]
pub(super) async fn fail(
    State(app): Shared,
    Id(lease): Id<LeaseId>,
    JsonBody(report): JsonBody<FailureReport, SMALL>,
) -> Result<StatusCode, ApiError> {
    one(&app, lease, Report::Fail(report)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a job back that its worker could not finish.
#[utoipa::path(
    post,
    path = "/leases/{id}/release",
    operation_id = "release",
    tag = "leases",
    params(("id" = LeaseId, Path, description = "The lease's identifier.")),
    request_body = ReleaseReport,
    responses(
        (status = 204, description = "The job is free again."),
        answer::Unreadable,
        answer::StaleLease,
        answer::TooLarge,
        answer::Invalid,
    ),
    security(("bearer" = ["work"])),
)]
pub(super) async fn release(
    State(app): Shared,
    Id(lease): Id<LeaseId>,
    JsonBody(report): JsonBody<ReleaseReport, SMALL>,
) -> Result<StatusCode, ApiError> {
    one(&app, lease, Report::Release(report)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deals with reports on several leases in one request, each for itself.
#[utoipa::path(
    post,
    path = "/leases/reports",
    operation_id = "report_on_leases",
    tag = "leases",
    request_body = Reports,
    responses(
        (status = 200, description = "An answer to each report.", body = ReportAnswers),
        answer::Unreadable,
        answer::TooLarge,
        answer::Invalid,
    ),
    security(("bearer" = ["work"])),
)]
pub(super) async fn reports(
    State(app): Shared,
    JsonBody(Reports { reports }): JsonBody<Reports>,
) -> Result<Json<ReportAnswers>, ApiError> {
    if reports.len() > MOST_REPORTS {
        let expected = format!("at most {MOST_REPORTS} reports");
        return Err(ApiError::Invalid(InvalidInput::new("reports", reports.len(), expected)));
    }
    let mut hashes = hashes(&app, &reports).await?;
    let checked = aside::work(move || {
        let check = |LeaseReport { lease, report }| command(lease, report, hashes.remove(&lease));
        reports.into_iter().map(check).collect::<Vec<_>>()
    });
    let checked = checked.await?;
    // What is refused here doesn't reach the writer.
    let mut refused: Vec<Option<ApiError>> = Vec::with_capacity(checked.len());
    let mut commands = Vec::with_capacity(checked.len());
    for command in checked {
        match command {
            Ok(command) => {
                commands.push(command);
                refused.push(None);
            }
            Err(error) => refused.push(Some(error)),
        }
    }
    let mut replies = app.writer.apply_all(commands).await?.into_iter().map(|reply| reply.map_err(ApiError::from));
    let answers =
        refused.into_iter().map(|refused| match refused.map_or_else(|| replies.next(), |error| Some(Err(error))) {
            Some(Ok(Reply::Renewed { ttl_ms })) => ReportAnswer::Renewed(Renewed { ttl_ms }),
            Some(Ok(_)) => ReportAnswer::Done,
            Some(Err(error)) => ReportAnswer::Refused(error.problem()),
            None => ReportAnswer::Refused(ApiError::Internal("a report had no reply".into()).problem()),
        });
    Ok(Json(ReportAnswers { answers: answers.collect() }))
}

/// Deals with one report.
async fn one(app: &App, lease: LeaseId, report: Report) -> Result<Reply, ApiError> {
    let reports = [LeaseReport { lease, report }];
    let hash = hashes(app, &reports).await?.remove(&lease);
    let [LeaseReport { lease, report }] = reports;
    let command = aside::work(move || command(lease, report, hash)).await??;
    let replies = app.writer.apply_all(vec![command]).await?;
    let reply = replies.into_iter().next().ok_or_else(|| ApiError::Internal("a report had no reply".into()))?;
    Ok(reply?)
}

/// The identities of the jobs that reports with a manifest are about.
async fn hashes(app: &App, reports: &[LeaseReport]) -> Result<HashMap<LeaseId, SpecHash>, ApiError> {
    let has_manifest =
        |report: &&LeaseReport| matches!(&report.report, Report::Complete(report) if report.outcome.manifest.is_some());
    let leases: Vec<LeaseId> = reports.iter().filter(has_manifest).map(|report| report.lease).collect();
    if leases.is_empty() {
        return Ok(HashMap::new());
    }
    let look = app.writer.look(move |scheduler, _| {
        leases.iter().filter_map(|lease| Some((*lease, scheduler.job_of(*lease)?.hash))).collect()
    });
    Ok(look.await?)
}

/// Refuses numbers that no training has.
fn check_metrics(metrics: &[MetricPoint]) -> Result<(), InvalidInput> {
    let numbers: usize = metrics.iter().map(|point| point.values.len()).sum();
    if numbers > MOST_NUMBERS {
        return Err(InvalidInput::new("", format!("{numbers} numbers"), format!("at most {MOST_NUMBERS} in a report")));
    }
    for (i, MetricPoint { step, values }) in metrics.iter().enumerate() {
        let refusal = |field: &str, value: String, expected: String| {
            Err(InvalidInput::new(format!("[{i}].{field}"), value, expected))
        };
        if *step > MOST {
            return refusal("step", step.to_string(), format!("a whole number from 0 to {MOST}"));
        }
        if values.len() > MOST_NAMES {
            return refusal("values", format!("{} names", values.len()), format!("at most {MOST_NAMES} for a step"));
        }
        if let Some(name) = values.keys().find(|name| name.len() > LONGEST_NAME) {
            let start: String = name.chars().take(20).collect();
            let expected = format!("names of at most {LONGEST_NAME} bytes");
            return refusal("values", format!("{start}…, {} bytes", name.len()), expected);
        }
    }
    Ok(())
}

/// A report as the writer takes it, if it makes sense.
fn command(lease: LeaseId, report: Report, hash: Option<SpecHash>) -> Result<Reported, ApiError> {
    match report {
        Report::Progress(ProgressReport { token, progress, metrics, log }) => {
            check_metrics(&metrics).map_err(|error| ApiError::Invalid(error.under("metrics")))?;
            if let Some(log) = log.as_ref().filter(|log| log.first_line > MOST) {
                let expected = format!("a whole number from 0 to {MOST}");
                return Err(ApiError::Invalid(InvalidInput::new("log.first_line", log.first_line, expected)));
            }
            let telemetry = Telemetry { lease, metrics, log };
            let command = Command::Progress { held: Held { lease, token }, progress };
            Ok((command, (!telemetry.is_empty()).then_some(telemetry)))
        }
        Report::Complete(report) => {
            let CompletionReport { token, outcome, evaluation, memory_mib } = *report;
            let wrong_result = |error: InvalidInput| ApiError::Invalid(error.under("outcome.result"));
            match (&outcome.result, &evaluation) {
                (Some(result), evaluation) => {
                    result.check().map_err(wrong_result)?;
                    if let Some(evaluation) = evaluation {
                        evaluation.check(result).map_err(|error| ApiError::Invalid(error.under("evaluation")))?;
                    }
                    result.check_rates().map_err(wrong_result)?;
                }
                (None, Some(_)) => {
                    let expected = "the numbers that `evaluation` is of";
                    return Err(ApiError::Invalid(InvalidInput::new("outcome.result", "null", expected)));
                }
                (None, None) if outcome.manifest.is_none() => {
                    let expected = "numbers, or a manifest that names the files";
                    return Err(ApiError::Invalid(InvalidInput::new("outcome.result", "null", expected)));
                }
                (None, None) => {}
            }
            if let Some(manifest) = &outcome.manifest {
                let checked = manifest.check(outcome.result.as_ref());
                checked.map_err(|error| ApiError::Invalid(error.under("outcome.manifest")))?;
            }
            if let Some(memory_mib) = memory_mib.filter(|memory_mib| !(1..=MOST_MIB).contains(memory_mib)) {
                let expected = format!("a whole number from 1 to {MOST_MIB}");
                return Err(ApiError::Invalid(InvalidInput::new("memory_mib", memory_mib, expected)));
            }
            if let Some(manifest) = &outcome.manifest
                && let Some(hash) = hash
                && manifest.spec_hash != hash
            {
                let expected = format!("{hash}, the identity of the lease's job");
                let input = InvalidInput::new("outcome.manifest.spec_hash", manifest.spec_hash, expected);
                return Err(ApiError::Invalid(input));
            }
            let (held, outcome, evaluation) = (Held { lease, token }, Box::new(outcome), evaluation.map(Box::new));
            Ok((Command::Complete { held, outcome, evaluation, memory_mib }, None))
        }
        Report::Fail(FailureReport { token, failure, cause }) => {
            Ok((Command::Fail { held: Held { lease, token }, failure, cause }, None))
        }
        Report::Release(ReleaseReport { token, unfinished }) => {
            if let Some(sha256) = unfinished.as_deref().filter(|sha256| !is_sha256(sha256)) {
                let input = InvalidInput::new("unfinished", sha256, "64 lower-case hexadecimal digits");
                return Err(ApiError::Invalid(input));
            }
            Ok((Command::Release { held: Held { lease, token }, unfinished }, None))
        }
    }
}
