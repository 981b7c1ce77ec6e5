//! What travels over HTTP (interfaces.md, section 7), for the coordinator, the worker and the commands alike.
//!
//! No file path is in any of these: a job names its data set and its backbone, and each machine's settings say where they
//! lie.

pub mod overview;
pub mod pools;
pub mod usage;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::experiment::Experiment;
use crate::id::{ExperimentId, FencingToken, JobId, LeaseId, Sequence, WorkerId};
use crate::input::FieldError;
use crate::job::basis::{Finding, Stale};
use crate::job::evaluation::Evaluation;
use crate::job::outcome::{Failure, Manifest, Outcome, Progress, TestResult};
use crate::job::spec::{BasisHash, JobSpec, SpecHash};
use crate::protocol::Protocol;
use crate::results::tables::ResultTable;
use crate::scheduler::machine_fault::{Cause, MachineFault};
use crate::scheduler::{AttemptEnd, Counts, ExperimentRecord, JobStateName, WorkerDescription, WorkerState};
use crate::time::Timestamp;

/// Where the API begins.
pub const PREFIX: &str = "/api/v1";

/// What went wrong, as `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// A stable identifier of the kind of problem, relative to the API: `/problems/invalid-input`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This problem in a sentence.
    pub detail: String,
    /// The request that had the problem, by its `x-request-id`: `urn:uuid:…`, or as the client gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// For bad input: every field that is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// An experiment in a list, and the answer to its submission.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExperimentSummary {
    /// Its identifier.
    pub id: ExperimentId,
    /// Its name.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// By whom; `null` where people aren't told apart, or by an earlier version.
    #[serde(default)]
    pub submitted_by: Option<String>,
    /// Whether it was cancelled.
    pub cancelled: bool,
    /// Its jobs by state.
    pub counts: Counts,
}

impl ExperimentSummary {
    /// Puts what is known of an experiment together.
    pub fn new(record: &ExperimentRecord, counts: &Counts) -> Self {
        Self {
            id: record.id,
            name: record.experiment.name.clone(),
            protocol: record.experiment.protocol,
            submitted_at: record.submitted_at,
            submitted_by: record.submitted_by.clone(),
            cancelled: record.cancelled,
            counts: *counts,
        }
    }
}

/// The answer to a submission.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SubmitResponse {
    /// Whether it's new; if not, the same one was submitted before, and nothing changed.
    pub created: bool,
    /// The experiment.
    #[serde(flatten)]
    pub experiment: ExperimentSummary,
}

/// An experiment with what was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ExperimentDetail {
    /// The experiment.
    #[serde(flatten)]
    pub summary: ExperimentSummary,
    /// What was asked for.
    pub experiment: Experiment,
    /// The combinations of the sweep, as rows of the table say them; none without a sweep.
    pub variants: Vec<String>,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// How many there are on all pages.
    pub total: usize,
    /// What to give as `cursor` for the next page; `null` on the last.
    pub next: Option<String>,
}

/// A job in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobSummary {
    /// Its identifier.
    pub id: JobId,
    /// A short name for people.
    pub title: String,
    /// The sweep's values that it has, as its row in the table says them; empty without a sweep, and if it stands for several.
    #[serde(default)]
    pub variant: String,
    /// Its data set.
    pub dataset: String,
    /// Its state.
    pub state: JobStateName,
    /// Failed attempts since it was last queued by a person.
    pub failures: u32,
    /// Who has it.
    pub worker: Option<WorkerId>,
    /// Where it stands, while a worker has it.
    pub progress: Option<Progress>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Its numbers.
    pub result: Option<TestResult>,
    /// Whether they come from a folder that another tool completed.
    #[serde(default)]
    pub adopted: bool,
}

/// A job with all that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobDetail {
    /// The job.
    #[serde(flatten)]
    pub summary: JobSummary,
    /// What it computes.
    pub spec: JobSpec,
    /// Its identity.
    pub hash: SpecHash,
    /// The training job whose checkpoint it tests.
    pub needs: Option<JobId>,
    /// The experiments that want it, oldest first.
    #[serde(default)]
    pub experiments: Vec<ExperimentId>,
    /// Its attempts, oldest first.
    pub attempts: Vec<AttemptSummary>,
    /// Where its numbers come from.
    pub manifest: Option<Manifest>,
    /// Why its result is stale; `null` if it isn't.
    #[serde(default)]
    pub stale: Option<Stale>,
    /// Its earlier results, oldest first: the job was computed again since.
    #[serde(default)]
    pub superseded: Vec<Superseded>,
}

/// A result that doesn't count any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Superseded {
    /// Its numbers; `null` for a stage that evaluates nothing.
    pub result: Option<TestResult>,
    /// Where they came from; `null` for a folder that another tool completed.
    pub manifest: Option<Manifest>,
    /// When it was superseded.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// What a machine found when it looked at the data sets of jobs that have results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Findings {
    /// At most [`MOST_FINDINGS`].
    pub findings: Vec<Finding>,
}

/// The most findings in one request.
pub const MOST_FINDINGS: usize = 10_000;

/// The identity that a backbone's name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PinnedBackbone {
    /// The name, as experiments have it.
    pub backbone: String,
    /// The identity: what `promptfield-trainer inspect weights` prints as `backbone_sha256`.
    pub sha256: BasisHash,
}

/// Every backbone with an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PinnedBackbones {
    /// By name.
    pub backbones: Vec<PinnedBackbone>,
}

/// What machines were found unable to use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MachineFaults {
    /// By machine.
    pub faults: Vec<MachineFault>,
}

/// Give machines again what they were found unable to use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Recheck {
    /// The machine's host; all of them without one.
    #[serde(default)]
    pub host: Option<String>,
}

/// A job that has a result, for who wants to look at its output folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobOutput {
    /// The job.
    pub job: JobId,
    /// What it computes; its folder follows from it.
    pub spec: JobSpec,
    /// The host of the worker that brought the result.
    pub host: Option<String>,
    /// Its manifest as it was reported; `null` for a folder that another tool completed.
    pub manifest: Option<Manifest>,
    /// SHA-256 over the image files of its split, where somebody recorded it.
    pub images_sha256: Option<BasisHash>,
}

/// One try of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttemptSummary {
    /// The attempt's lease.
    pub lease: LeaseId,
    /// Who ran it.
    pub worker: WorkerId,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub end: Option<AttemptEnd>,
    /// Why, for a failure.
    pub failure: Option<Failure>,
}

/// How many jobs a cancellation or a retry changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Changed {
    /// Jobs that are in another state now.
    pub changed: usize,
}

/// An experiment's results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Results {
    /// The experiment.
    pub experiment: ExperimentSummary,
    /// The protocol's table.
    pub table: ResultTable,
    /// What is to be known of its numbers, a sentence each: which are stale, come from other tools' folders, or leave classes
    /// out.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The jobs whose results are stale.
    #[serde(default)]
    pub stale: Vec<StaleResult>,
}

/// A result that rests on something else than what holds today.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StaleResult {
    /// The job.
    pub job: JobId,
    /// Its short name.
    pub title: String,
    /// Why.
    #[serde(flatten)]
    pub stale: Stale,
}

/// The answer to a worker's registration. The request is a [`WorkerDescription`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Registered {
    /// The worker's identifier until it is started again.
    pub worker: WorkerId,
    /// How long a lease lasts without a word, in milliseconds; a worker reports three times as often.
    pub lease_ttl_ms: i64,
    /// A file below the coordinator's output root, by its path from there, that it has made: a worker that finds it below its own
    /// has the same one. `null` where the coordinator has none.
    #[serde(default)]
    pub marker: Option<String>,
}

/// A worker in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WorkerSummary {
    /// Its identifier.
    pub id: WorkerId,
    /// What it said of itself.
    #[serde(flatten)]
    pub description: WorkerDescription,
    /// Whether it takes jobs.
    pub state: WorkerState,
    /// When it registered.
    pub registered_at: Timestamp,
    /// Its last word.
    pub last_seen: Timestamp,
    /// The jobs it holds.
    pub jobs: Vec<JobId>,
    /// The same with what they are and how far they have come there.
    #[serde(default)]
    pub held: Vec<HeldJob>,
}

/// A job in a worker's hands, in the list of workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HeldJob {
    /// Its identifier.
    pub id: JobId,
    /// Its short name.
    pub title: String,
    /// Where it stands there.
    pub progress: Progress,
}

/// A worker with free slots asks for jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// How many jobs it can take.
    pub slots: usize,
    /// How long to wait for one, in milliseconds, when there is none.
    pub wait_ms: u64,
}

/// The jobs that a worker got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeaseResponse {
    /// At most as many as it asked for; none if there were none in the time it would wait.
    pub leases: Vec<LeaseGrant>,
    /// Whether it gets none any more.
    #[serde(default)]
    pub draining: bool,
}

/// A job in a worker's hands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeaseGrant {
    /// The lease.
    pub lease: LeaseId,
    /// What every write under it must show.
    pub token: FencingToken,
    /// The job.
    pub job: JobId,
    /// What to compute.
    pub spec: JobSpec,
    /// Its identity.
    pub hash: SpecHash,
    /// For a test: where its checkpoint comes from.
    pub checkpoint: Option<CheckpointSource>,
    /// SHA-256 of the artefact from which the job goes on, if a worker that gave it back kept one.
    #[serde(default)]
    pub unfinished: Option<String>,
    /// The identity that the backbone must have; `null` for any.
    #[serde(default)]
    pub backbone_sha256: Option<BasisHash>,
    /// The SHA-256 of the method's declaration, by which the job is to be done.
    #[serde(default)]
    pub method_sha256: Option<BasisHash>,
    /// Whether a complete folder is to be put aside instead of adopted: the job is computed again.
    #[serde(default)]
    pub afresh: bool,
    /// The sweep's values, for its short name; empty without a sweep.
    #[serde(default)]
    pub variant: String,
    /// Milliseconds until the lease ends.
    pub ttl_ms: i64,
}

impl LeaseGrant {
    /// The job's short name.
    pub fn title(&self) -> String {
        self.spec.title_with(&self.variant)
    }
}

/// The training job whose checkpoint a job tests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CheckpointSource {
    /// The training job: its folder lies below the same output root if both machines share one.
    pub spec: JobSpec,
    /// The checkpoint's SHA-256, if the coordinator knows it: it can then be had as an artefact.
    pub sha256: Option<String>,
}

/// A lease is alive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProgressReport {
    /// The lease's token.
    pub token: FencingToken,
    /// Where the job stands; `null` renews the lease only.
    #[serde(default)]
    pub progress: Option<Progress>,
    /// Numbers of training steps since the last report.
    #[serde(default)]
    pub metrics: Vec<MetricPoint>,
    /// Lines of the log since the last report.
    #[serde(default)]
    pub log: Option<LogChunk>,
}

/// Numbers of one training step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MetricPoint {
    /// The step, counted from 0 over all epochs.
    pub step: u64,
    /// Values by name.
    pub values: BTreeMap<String, f64>,
}

/// Consecutive lines of an attempt's log. Sending a chunk twice is harmless: lines are known by their number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogChunk {
    /// The number of the first line, counted from 0.
    pub first_line: u64,
    /// The lines, without their ends.
    pub lines: Vec<String>,
}

/// A line of a log, as its followers get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogLine {
    /// The attempt that printed it.
    pub attempt: LeaseId,
    /// Its number, counted from 0.
    pub line: u64,
    /// What it says, without its end.
    pub text: String,
}

/// A log's followers have all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogEnd {
    /// The attempt whose log it is; `null` when the job ended without one.
    pub attempt: Option<LeaseId>,
    /// How the attempt ended.
    pub end: Option<AttemptEnd>,
}

/// Events that aren't kept any more, in the place where they would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Gap {
    /// The last event before them that the follower asked for or was sent.
    pub after: Sequence,
    /// The first event after them, which comes next.
    pub first: Sequence,
}

/// The answer to a progress report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Renewed {
    /// Milliseconds until the lease ends.
    pub ttl_ms: i64,
}

/// A job is complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompletionReport {
    /// The lease's token.
    pub token: FencingToken,
    /// What it brought.
    pub outcome: Outcome,
    /// Its numbers by class; absent when its folder has none.
    #[serde(default)]
    pub evaluation: Option<Evaluation>,
    /// The most memory that its trainer took for it, in MiB; absent where that was not measured.
    #[serde(default)]
    pub memory_mib: Option<u32>,
}

/// An attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FailureReport {
    /// The lease's token.
    pub token: FencingToken,
    /// Why.
    pub failure: Failure,
    /// What it failed for, if that isn't the job's own fault: the job then goes to others, and isn't counted as failed, but for a
    /// lost checkpoint.
    #[serde(default)]
    pub cause: Option<Cause>,
}

/// A worker gives a job back unharmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseReport {
    /// The lease's token.
    pub token: FencingToken,
    /// SHA-256 of the artefact from which another worker goes on: 64 lower-case hexadecimal digits. Without one, an earlier one
    /// stays.
    #[serde(default)]
    pub unfinished: Option<String>,
}

/// What a worker says of several leases in one request. Each report is dealt with for itself, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reports {
    /// At most [`MOST_REPORTS`].
    pub reports: Vec<LeaseReport>,
}

/// The most reports in one request.
pub const MOST_REPORTS: usize = 1000;

/// What a worker says of one lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseReport {
    /// The lease.
    pub lease: LeaseId,
    /// What is to be said.
    pub report: Report,
}

/// The body of one of the lease's routes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// As for `/leases/{id}/progress`.
    Progress(ProgressReport),
    /// As for `/leases/{id}/complete`.
    Complete(Box<CompletionReport>),
    /// As for `/leases/{id}/fail`.
    Fail(FailureReport),
    /// As for `/leases/{id}/release`.
    Release(ReleaseReport),
}

/// The answers to [`Reports`], in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReportAnswers {
    /// One for each report.
    pub answers: Vec<ReportAnswer>,
}

/// What the lease's route would have answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReportAnswer {
    /// To a progress report.
    Renewed(Renewed),
    /// To the others.
    Done,
    /// The report changed nothing; `status` says of which kind the problem is.
    Refused(Problem),
}

/// The metric points of a job's latest attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Metrics {
    /// By step.
    pub points: Vec<MetricPoint>,
}
