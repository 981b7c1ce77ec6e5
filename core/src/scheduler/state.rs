//! The states of a job, and which may follow which.

use serde::{Deserialize, Serialize};

use super::command::{Attempt, Held};
use crate::id::{FencingToken, LeaseId, WorkerId};
use crate::job::outcome::{Failure, Progress, TestResult};
use crate::names::named;
use crate::time::Timestamp;

/// Where a job stands, with what belongs to that state. Most jobs of a large matrix wait or are done, so that the greater states
/// lie elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub enum JobState {
    /// Its training job isn't complete.
    Blocked,
    /// It can run, from `not_before` on.
    Queued {
        /// The end of the back-off after a failed attempt; long past for a fresh job.
        not_before: Timestamp,
    },
    /// A worker has it and hasn't reported yet.
    Leased(Box<Lease>),
    /// A worker has it and has reported progress.
    Running(Box<Lease>),
    /// It has a result.
    Completed(Option<Box<TestResult>>),
    /// A completed output was found and adopted.
    Skipped(Option<Box<TestResult>>),
    /// It failed for good.
    Failed(Box<Failure>),
    /// Someone cancelled it.
    Cancelled,
}

/// An attempt's right to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// The attempt.
    pub id: LeaseId,
    /// What its writes must show.
    pub token: FencingToken,
    /// Who has it.
    pub worker: WorkerId,
    /// When it began; when its worker came back, if it ended meanwhile.
    pub since: Timestamp,
    /// Whether it ended meanwhile, and its worker came back.
    pub came_back: bool,
    /// When it ends unless the worker reports before.
    pub deadline: Timestamp,
    /// The last report.
    pub progress: Progress,
}

named! {
    /// A state without its data, for lists and counters.
    pub enum JobStateName("state") {
        /// See [`JobState::Blocked`].
        Blocked = "blocked",
        /// See [`JobState::Queued`].
        Queued = "queued",
        /// See [`JobState::Leased`].
        Leased = "leased",
        /// See [`JobState::Running`].
        Running = "running",
        /// See [`JobState::Completed`].
        Completed = "completed",
        /// See [`JobState::Skipped`].
        Skipped = "skipped",
        /// See [`JobState::Failed`].
        Failed = "failed",
        /// See [`JobState::Cancelled`].
        Cancelled = "cancelled",
    }
}

impl JobStateName {
    /// The one table of legal transitions.
    pub const fn may_become(self, next: Self) -> bool {
        match (self, next) {
            // The training job completed; or failed; or nobody wants this one any more.
            (Self::Blocked, Self::Queued | Self::Failed | Self::Cancelled)
            // Leased; or an earlier attempt of the worker that was cut off reports its end after all; or, as in the next two
            // lines, its training job is computed again.
            | (
                Self::Queued,
                Self::Blocked | Self::Leased | Self::Completed | Self::Skipped | Self::Failed | Self::Cancelled,
            )
            | (
                Self::Leased,
                Self::Blocked
                | Self::Queued
                | Self::Running
                | Self::Completed
                | Self::Skipped
                | Self::Failed
                | Self::Cancelled,
            )
            | (
                Self::Running,
                Self::Blocked | Self::Queued | Self::Completed | Self::Skipped | Self::Failed | Self::Cancelled,
            )
            // Retried by a person, or wanted by a new experiment; computed again.
            | (Self::Failed | Self::Cancelled | Self::Completed | Self::Skipped, Self::Queued | Self::Blocked) => true,
            _ => false,
        }
    }

    /// Whether the job has a result.
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Completed | Self::Skipped)
    }

    /// Whether nothing more will happen to the job by itself.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Skipped | Self::Failed | Self::Cancelled)
    }

    /// Whether a worker has the job.
    pub const fn is_held(self) -> bool {
        matches!(self, Self::Leased | Self::Running)
    }
}

impl Lease {
    /// The attempt that has it.
    pub const fn attempt(&self) -> Attempt {
        Attempt { held: Held { lease: self.id, token: self.token }, worker: self.worker }
    }
}

impl JobState {
    /// The state's name.
    pub const fn name(&self) -> JobStateName {
        match self {
            Self::Blocked => JobStateName::Blocked,
            Self::Queued { .. } => JobStateName::Queued,
            Self::Leased(_) => JobStateName::Leased,
            Self::Running(_) => JobStateName::Running,
            Self::Completed(_) => JobStateName::Completed,
            Self::Skipped(_) => JobStateName::Skipped,
            Self::Failed(_) => JobStateName::Failed,
            Self::Cancelled => JobStateName::Cancelled,
        }
    }

    /// The lease of a job that a worker has.
    pub fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Leased(lease) | Self::Running(lease) => Some(lease),
            _ => None,
        }
    }

    /// The same, to change it.
    pub(super) fn lease_mut(&mut self) -> Option<&mut Lease> {
        match self {
            Self::Leased(lease) | Self::Running(lease) => Some(lease),
            _ => None,
        }
    }

    /// Begins the lease anew, after a restart: how far its job is is heard from its worker.
    pub(super) fn renew(&mut self, until: Timestamp) {
        if let Some(lease) = self.lease_mut() {
            (lease.deadline, lease.progress, lease.came_back) = (until, Progress::default(), false);
        }
    }

    /// The result, of a job that has one.
    pub fn result(&self) -> Option<&TestResult> {
        match self {
            Self::Completed(result) | Self::Skipped(result) => result.as_deref(),
            _ => None,
        }
    }
}

/// How many jobs are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Counts {
    /// Jobs whose training job isn't complete.
    pub blocked: usize,
    /// Jobs that can run.
    pub queued: usize,
    /// Jobs that a worker has taken.
    pub leased: usize,
    /// Jobs that have reported progress.
    pub running: usize,
    /// Jobs with a result of their own.
    pub completed: usize,
    /// Jobs whose completed output was found.
    pub skipped: usize,
    /// Jobs that failed for good.
    pub failed: usize,
    /// Jobs that someone cancelled.
    pub cancelled: usize,
}

impl Counts {
    /// The counter of one state.
    pub const fn of(&mut self, state: JobStateName) -> &mut usize {
        match state {
            JobStateName::Blocked => &mut self.blocked,
            JobStateName::Queued => &mut self.queued,
            JobStateName::Leased => &mut self.leased,
            JobStateName::Running => &mut self.running,
            JobStateName::Completed => &mut self.completed,
            JobStateName::Skipped => &mut self.skipped,
            JobStateName::Failed => &mut self.failed,
            JobStateName::Cancelled => &mut self.cancelled,
        }
    }

    /// All jobs.
    pub const fn total(&self) -> usize {
        self.blocked + self.queued + self.leased + self.running + self.done() + self.failed + self.cancelled
    }

    /// Jobs that a worker has.
    pub const fn held(&self) -> usize {
        self.leased + self.running
    }

    /// Jobs with a result.
    pub const fn done(&self) -> usize {
        self.completed + self.skipped
    }

    /// Jobs to which something will still happen by itself.
    pub const fn open(&self) -> usize {
        self.blocked + self.queued + self.leased + self.running
    }
}
