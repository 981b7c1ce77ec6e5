//! What can be asked of the scheduler, what it answers, and what it changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rerun::RerunWhich;
use super::setbacks::Setback;
use super::shape::Need;
use super::state::{Counts, JobState, JobStateName};
use crate::experiment::Experiment;
use crate::experiment::matrix::PlannedJob;
use crate::id::{ExperimentId, FencingToken, JobId, LeaseId, PilotId, RecipeId, Sequence, WorkerId};
use crate::job::basis::{Draw, Finding, Reading};
use crate::job::evaluation::Evaluation;
use crate::job::outcome::{Failure, Manifest, Outcome, Progress, TestResult};
use crate::job::spec::{BasisHash, CompactSpec, Recipe, SpecHash};
use crate::method::Method;
use crate::names::named;
use crate::scheduler::machine_fault::{Cause, MachineFault};
use crate::scheduler::pilot_records::{
    Launch, LauncherKind, PilotRecord, PilotState, PoolRecord, PoolSettings, PoolState, Sighting, Step,
};
use crate::time::Timestamp;

/// A request to the scheduler.
#[derive(Clone, Debug)]
pub enum Command {
    /// Take an experiment with its expanded matrix.
    Submit {
        /// The experiment.
        experiment: Box<Experiment>,
        /// Its jobs, a training job before those that need it.
        jobs: Vec<PlannedJob>,
        /// Who asks for it, where people are told apart.
        by: Option<String>,
    },
    /// A worker process says hello.
    Register(Box<WorkerDescription>),
    /// A worker with free slots asks for jobs.
    Lease {
        /// The worker.
        worker: WorkerId,
        /// How many jobs it can take.
        slots: usize,
    },
    /// A lease is alive.
    Progress {
        /// The lease.
        held: Held,
        /// Where its job stands; `None` renews the lease only.
        progress: Option<Progress>,
    },
    /// A job is complete.
    Complete {
        /// The lease.
        held: Held,
        /// What it brought.
        outcome: Box<Outcome>,
        /// Its numbers by class.
        evaluation: Option<Box<Evaluation>>,
        /// The most memory that it took, in MiB, where that was measured.
        memory_mib: Option<u32>,
    },
    /// An attempt failed.
    Fail {
        /// The lease.
        held: Held,
        /// Why.
        failure: Failure,
        /// What it failed for, if that isn't the job's own fault.
        cause: Option<Cause>,
    },
    /// A worker gives a job back unharmed.
    Release {
        /// The lease.
        held: Held,
        /// The artefact from which another worker goes on, if it kept what it had of the job; without one, an earlier one stays.
        unfinished: Option<String>,
    },
    /// A worker takes no more jobs.
    Drain {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker says goodbye; what it still holds is given back.
    Leave {
        /// The worker.
        worker: WorkerId,
    },
    /// Cancel jobs, and those that need them.
    CancelJobs(Vec<JobId>),
    /// Cancel the jobs of an experiment that no other open experiment wants.
    CancelExperiment(ExperimentId),
    /// Queue failed or cancelled jobs again, with what they need and what they took down.
    RetryJobs(Vec<JobId>),
    /// Retry all failed and cancelled jobs of an experiment.
    RetryExperiment(ExperimentId),
    /// Queue jobs that have results again.
    RerunJobs {
        /// The jobs. The tests of a training job go with it.
        jobs: Vec<JobId>,
        /// Whether it may be done to jobs that several experiments want.
        shared: bool,
    },
    /// Queue those of an experiment's jobs that have results again.
    RerunExperiment {
        /// The experiment.
        experiment: ExperimentId,
        /// Which of them.
        which: RerunWhich,
        /// Whether it may be done to jobs that other experiments want too.
        shared: bool,
    },
    /// A machine has read the data sets of jobs that have results.
    Look(Vec<Finding>),
    /// Pin a backbone's name to an identity.
    Pin {
        /// The name.
        backbone: String,
        /// The identity.
        sha256: BasisHash,
    },
    /// Give machines again what they were found unable to do.
    Recheck {
        /// The machine; `None` for all.
        host: Option<String>,
    },
    /// Have a pool with these settings: a new one, or one that is there.
    SetPool {
        /// Its name.
        name: String,
        /// What its pilots are like.
        settings: Box<PoolSettings>,
        /// Whether the coordinator's settings file says so.
        from_file: bool,
    },
    /// End a pool's pilots, and start no more.
    EndPool(String),
    /// Let a pool that was paused go on.
    ResumePool(String),
    /// What is a launcher to do next?
    Scale {
        /// The launcher.
        launcher: LauncherKind,
        /// Names for what it may be asked for, which nobody can guess: one for each pool at least.
        batches: Vec<String>,
    },
    /// An order to a launcher went so.
    Launched {
        /// What was ordered.
        batch: String,
        /// How it went.
        launch: Launch,
    },
    /// A launcher has these pilots.
    Sight {
        /// The launcher.
        launcher: LauncherKind,
        /// When it was asked: what was ordered later can't be among them.
        asked_at: Timestamp,
        /// All that it has or still remembers.
        seen: Vec<Sighting>,
    },
    /// Let time pass: leases end, back-offs end, silent workers are lost.
    Tick,
}

/// A lease as its holder names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The lease.
    pub lease: LeaseId,
    /// The token it was granted with.
    pub token: FencingToken,
}

/// What a worker says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkerDescription {
    /// A name that stays the same when the worker is started again: a second registration under it, from the same host and output
    /// root, ends the first.
    pub name: String,
    /// The host it runs on.
    pub host: String,
    /// Where its jobs' folders lie on that host; empty where it isn't said.
    #[serde(default)]
    pub output_root: String,
    /// A hash of where its settings say that data sets and weights lie: the workers of a host that have the same one can use the same.
    #[serde(default)]
    pub places: String,
    /// Jobs it runs at once.
    pub slots: usize,
    /// Its devices: `cpu`, `cuda:0`.
    pub devices: Vec<String>,
    /// The backbones whose weights it has.
    pub backbones: Vec<String>,
    /// Their identities, as far as they are known ([`crate::job::backbone::Architecture::identity`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub backbone_sha256: BTreeMap<String, BasisHash>,
    /// The methods that it can run, by the SHA-256 of their declarations; empty of a worker that says nothing of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub methods: BTreeMap<Method, BasisHash>,
    /// Promptfield's version.
    pub version: String,
    /// What experiments may ask for: `a100`, `site=north`.
    #[serde(default)]
    pub labels: Vec<String>,
    /// The memory that its slots share, in MiB; absent where what jobs take is not to be counted against it.
    #[serde(default)]
    pub memory_mib: Option<u64>,
    /// Which pilot it is, if it is one: `BATCH.INDEX`.
    #[serde(default)]
    pub pilot: Option<String>,
    /// How long it has until it's ended from outside, in milliseconds; absent where nobody will.
    #[serde(default)]
    pub time_left_ms: Option<i64>,
}

/// The answer to a [`Command`], one variant for each kind of answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To `Submit`.
    Submitted(Submitted),
    /// To `Register`.
    Registered(WorkerId),
    /// To `Lease`; empty when there is nothing to do now.
    Granted(Vec<Grant>),
    /// To `Progress`: the lease's new end.
    Renewed {
        /// Milliseconds until the lease ends.
        ttl_ms: i64,
    },
    /// To the commands that cancel, retry and rerun: how many jobs it changed.
    Changed(usize),
    /// To `Scale` and `Sight`.
    Steps(Vec<Step>),
    /// To the other commands.
    Done,
}

/// What a submission led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// The experiment.
    pub experiment: ExperimentId,
    /// Whether it's new; if not, the same one was submitted before, and nothing changed.
    pub created: bool,
    /// Its jobs by state.
    pub counts: Counts,
}

/// A job handed to a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// The lease.
    pub lease: LeaseId,
    /// What writes under it must show.
    pub token: FencingToken,
    /// The job.
    pub job: JobId,
    /// What to compute.
    pub spec: CompactSpec,
    /// The specification's hash.
    pub hash: SpecHash,
    /// The job whose checkpoint this one tests.
    pub needs: Option<(JobId, CompactSpec)>,
    /// The artefact from which it goes on, if a worker that gave it back kept one.
    pub unfinished: Option<String>,
    /// The identity that its backbone is pinned to.
    pub backbone_sha256: Option<BasisHash>,
    /// Whether a complete folder is to be put aside instead of adopted.
    pub afresh: bool,
    /// Milliseconds until the lease ends.
    pub ttl_ms: i64,
}

/// One try of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its lease.
    pub held: Held,
    /// Who got it.
    pub worker: WorkerId,
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No such experiment.
    #[error("there is no experiment {0}")]
    NoExperiment(ExperimentId),
    /// No such job.
    #[error("there is no job {0}")]
    NoJob(JobId),
    /// A job that is to be computed again has no result.
    #[error("job {job} is {state}: only a job with a result can be computed again")]
    NoResult {
        /// The job.
        job: JobId,
        /// Its state.
        state: JobStateName,
    },
    /// Jobs that are to be computed again have results that other experiments show too.
    #[error(
        "job {job}, perhaps with others, is shared with {}: they would be computed again for all of them; say `--shared` if that is meant",
        name_experiments(.experiments)
    )]
    Shared {
        /// The first of the jobs.
        job: JobId,
        /// The other experiments that want them.
        experiments: Vec<ExperimentId>,
    },
    /// No such worker, or one that was lost or has been started again.
    #[error(
        "worker {0} isn't registered: it said goodbye, was silent for too long, or was started again; register anew"
    )]
    NoWorker(WorkerId),
    /// A worker of this name is at work elsewhere.
    #[error(
        "the name `{name}` is taken: a worker of that name on host `{host}`, with the output root `{output_root}`, was heard of {heard_s} s \
         ago; choose another one with `--name`, or wait {wait_s} s if that worker has ended"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// The host of the worker that has it.
        host: String,
        /// Its output root.
        output_root: String,
        /// How long ago it was heard of, in seconds.
        heard_s: i64,
        /// How long it will be taken to be alive, in seconds.
        wait_s: i64,
    },
    /// No such pool.
    #[error("there is no pool `{0}`")]
    NoPool(String),
    /// A worker says that it's a pilot which isn't there, or is to end.
    #[error("the pilot {0} isn't wanted: it was told to end, or its pool was turned off")]
    UnwantedPilot(String),
    /// The lease isn't the latest attempt's, or its job has ended.
    #[error("lease {lease} is no longer valid: {reason}")]
    Stale {
        /// The lease.
        lease: LeaseId,
        /// What happened to its job.
        reason: String,
    },
}

fn name_experiments(experiments: &[ExperimentId]) -> String {
    let names: Vec<String> = experiments.iter().map(|id| format!("experiment {id}")).collect();
    names.join(", ")
}

/// One change of the state, for the database and for whoever follows the event log. Applied in order to an empty
/// database, the changes of a run give the rows from which [`super::Scheduler::restore`] rebuilds the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A new experiment.
    ExperimentAdded(ExperimentRecord),
    /// An experiment was cancelled, or revived.
    ExperimentCancelled {
        /// The experiment.
        experiment: ExperimentId,
        /// Whether it now is.
        cancelled: bool,
    },
    /// A new recipe, before the first jobs that have it.
    RecipeAdded(RecipeId, Arc<Recipe>),
    /// New jobs: blocked, or able to run, and never tried.
    JobsAdded(Vec<JobRecord>),
    /// An experiment's link to some of its jobs, the next in the order of its matrix.
    JobsLinked(Link),
    /// A job's state changed, or something else that moves with it.
    JobChanged(Box<JobChange>),
    /// An attempt began.
    AttemptStarted {
        /// The attempt.
        lease: LeaseId,
        /// Its token.
        token: FencingToken,
        /// Its job.
        job: JobId,
        /// Who has it.
        worker: WorkerId,
        /// When.
        at: Timestamp,
    },
    /// An attempt ended. An attempt that was given up may still report its end later.
    AttemptEnded {
        /// The attempt.
        lease: LeaseId,
        /// When.
        at: Timestamp,
        /// How.
        end: AttemptEnd,
        /// Why, for a failure.
        failure: Option<Failure>,
    },
    /// A job's result; once for each job, unless the one before was superseded.
    ResultRecorded {
        /// The job.
        job: JobId,
        /// The attempt that brought it.
        lease: LeaseId,
        /// The numbers; absent for a stage that evaluates nothing.
        result: Option<TestResult>,
        /// Where they come from; absent when another tool completed the folder.
        manifest: Option<Box<Manifest>>,
        /// The numbers by class; absent when the folder has none.
        evaluation: Option<Box<Evaluation>>,
    },
    /// A job's result doesn't count any more, and is kept among the superseded ones.
    ResultSuperseded {
        /// The job.
        job: JobId,
        /// When.
        at: Timestamp,
        /// Why.
        reason: String,
    },
    /// A machine read lists of a data set; nobody is known to have read them later.
    DataRead {
        /// Which.
        draw: Draw,
        /// What it found.
        reading: Reading,
    },
    /// A backbone's name was pinned to an identity, by the first result that rests on it or by a person.
    BackbonePinned {
        /// The name.
        backbone: String,
        /// The identity.
        sha256: BasisHash,
    },
    /// Something was learned of the memory that the jobs of a shape take.
    NeedChanged {
        /// The shape, in words.
        shape: Arc<str>,
        /// What is known now.
        need: Need,
    },
    /// An out-of-memory error of a job was overlooked; once for each job.
    JobSpared(JobId),
    /// A worker kept what it had of a job that it gave back, or the job came to its end and that is of no more use.
    UnfinishedChanged {
        /// The job.
        job: JobId,
        /// The artefact from which it goes on, if there is one now.
        sha256: Option<String>,
    },
    /// What is known of a job's attempts that were broken off; `None` once that is of no more use.
    SetbackChanged {
        /// The job.
        job: JobId,
        /// What is known now.
        setback: Option<Setback>,
    },
    /// A machine was found unable to use something, or something of that changed.
    MachineFault {
        /// What was found.
        fault: Box<MachineFault>,
        /// Whether it still counts.
        stands: bool,
    },
    /// A worker registered, or its state changed.
    Worker(WorkerRecord),
    /// A worker that has been gone for long is no longer listed.
    WorkerForgotten {
        /// The worker.
        worker: WorkerId,
        /// Whether it may have had a job, or been a pilot: then what is known of these names it.
        used: bool,
    },
    /// A pool is new, or something of it changed.
    Pool(Box<PoolRecord>),
    /// A pilot is new, or something of it changed.
    Pilot(Box<PilotRecord>),
    /// Something for the event log.
    Event(Event),
}

named! {
    /// How an attempt ended.
    pub enum AttemptEnd("end") {
        /// With a result.
        Completed = "completed",
        /// With a failure.
        Failed = "failed",
        /// The worker gave it back.
        Released = "released",
        /// Its lease ended without a word.
        Expired = "expired",
        /// Someone cancelled the job.
        Cancelled = "cancelled",
    }
}

/// What moves of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobChange {
    /// The job.
    pub job: JobId,
    /// Its state now.
    pub state: JobState,
    /// See [`JobRecord::priority`].
    pub priority: i32,
    /// See [`JobRecord::failures`].
    pub failures: u32,
    /// See [`JobRecord::losses`].
    pub losses: u32,
    /// See [`JobRecord::latest`].
    pub latest: Option<Attempt>,
}

/// Jobs with consecutive identifiers that follow each other in an experiment's matrix, and have one variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The experiment.
    pub experiment: ExperimentId,
    /// The first job.
    pub first: JobId,
    /// How many there are.
    pub count: u64,
    /// The sweep's values.
    pub variant: Arc<str>,
}

impl Link {
    /// Its jobs.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = JobId> + use<> {
        (self.first.0..self.first.0 + self.count).map(JobId)
    }
}

/// An experiment as the database holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct ExperimentRecord {
    /// Its identifier.
    pub id: ExperimentId,
    /// Its identity.
    pub hash: SpecHash,
    /// What was asked for.
    pub experiment: Arc<Experiment>,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// By whom, where people are told apart.
    pub submitted_by: Option<String>,
    /// Whether it was cancelled.
    pub cancelled: bool,
}

/// A job as the database holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRecord {
    /// Its identifier.
    pub id: JobId,
    /// What it computes.
    pub spec: CompactSpec,
    /// The identifier of [`CompactSpec::recipe`].
    pub recipe: RecipeId,
    /// Its identity.
    pub hash: SpecHash,
    /// The training job whose checkpoint it tests.
    pub needs: Option<JobId>,
    /// Jobs of greater priority run first.
    pub priority: i32,
    /// Where it stands.
    pub state: JobState,
    /// Failed attempts since it was last queued by a person, or was to be trained again for want of its checkpoint.
    pub failures: u32,
    /// How many of them took the worker along.
    pub losses: u32,
    /// The latest attempt.
    pub latest: Option<Box<Attempt>>,
}

impl JobRecord {
    /// The latest attempt.
    pub fn latest(&self) -> Option<Attempt> {
        self.latest.as_deref().copied()
    }
}

named! {
    /// Whether a worker takes jobs.
    pub enum WorkerState("worker state") {
        /// It does.
        Active = "active",
        /// It finishes what it has.
        Draining = "draining",
        /// It said goodbye or was started again.
        Gone = "gone",
        /// It was silent for too long.
        Lost = "lost",
    }
}

/// A worker as the database holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// Its identifier.
    pub id: WorkerId,
    /// What it said of itself.
    pub description: WorkerDescription,
    /// Whether it takes jobs.
    pub state: WorkerState,
    /// When it registered.
    pub registered_at: Timestamp,
}

/// An entry of the event log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Event {
    /// Its place in the log.
    pub sequence: Sequence,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// An experiment was submitted.
    ExperimentSubmitted {
        /// The experiment.
        experiment: ExperimentId,
        /// Its name.
        name: String,
        /// How many jobs it has.
        jobs: usize,
    },
    /// An experiment was cancelled.
    ExperimentCancelled {
        /// The experiment.
        experiment: ExperimentId,
    },
    /// Nothing will happen to an experiment's jobs by itself any more.
    ExperimentFinished {
        /// The experiment.
        experiment: ExperimentId,
        /// Its name.
        name: String,
        /// How many jobs it has.
        jobs: usize,
        /// How many of them have a result.
        done: usize,
    },
    /// A job went from one state to another.
    JobChanged {
        /// The job.
        job: JobId,
        /// The state it left; absent in logs of earlier versions, for a new job.
        from: Option<JobStateName>,
        /// The state it is in.
        to: JobStateName,
        /// The worker that has it, or had it.
        worker: Option<WorkerId>,
        /// Why, where there is a reason.
        reason: Option<String>,
    },
    /// A worker registered, drains, left or was lost.
    WorkerChanged {
        /// The worker.
        worker: WorkerId,
        /// Its name.
        name: String,
        /// What it is now.
        to: WorkerState,
    },
    /// A pool is new, or its settings or its state changed.
    PoolChanged {
        /// The pool.
        pool: String,
        /// What it is now.
        to: PoolState,
        /// Why, where there is a reason.
        reason: Option<String>,
    },
    /// Something became of a pilot.
    PilotChanged {
        /// The pilot.
        pilot: PilotId,
        /// Its pool.
        pool: String,
        /// Where it stands now.
        to: PilotState,
        /// What its launcher says of it, or why.
        reason: Option<String>,
    },
}
