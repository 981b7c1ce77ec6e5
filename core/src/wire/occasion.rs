//! What people want to be told of, out of all that happens.

use crate::names::named;
use crate::scheduler::pilot_records::PoolState;
use crate::scheduler::{EventKind, JobStateName, Scheduler, WorkerState};

named! {
    /// A kind of news for people.
    pub enum Occasion("events") {
        /// Nothing will happen to an experiment's jobs by itself any more.
        ExperimentFinished = "experiment_finished",
        /// A job failed for good.
        JobFailed = "job_failed",
        /// A worker was silent for too long.
        WorkerLost = "worker_lost",
        /// A pool gets no more pilots until a person has looked at why.
        PoolPaused = "pool_paused",
    }
}

impl Occasion {
    /// The occasion that an event is, if it's one.
    pub const fn of(kind: &EventKind) -> Option<Self> {
        match kind {
            EventKind::ExperimentFinished { .. } => Some(Self::ExperimentFinished),
            EventKind::JobChanged { to: JobStateName::Failed, .. } => Some(Self::JobFailed),
            EventKind::WorkerChanged { to: WorkerState::Lost, .. } => Some(Self::WorkerLost),
            EventKind::PoolChanged { to: PoolState::Paused, .. } => Some(Self::PoolPaused),
            _ => None,
        }
    }

    /// What happened, in a sentence; `None` for what is no occasion.
    pub fn words(scheduler: &Scheduler, kind: &EventKind) -> Option<String> {
        Some(match kind {
            EventKind::ExperimentFinished { experiment, name, jobs, done } => {
                format!("Experiment {experiment} “{name}” has ended: {done} of {jobs} jobs have their result.")
            }
            EventKind::JobChanged { job, to: JobStateName::Failed, reason, .. } => {
                let title = scheduler
                    .job(*job)
                    .map(|record| format!(" ({})", record.spec.to_spec().title_with(scheduler.variant_of(*job))));
                let reason = reason.as_deref().unwrap_or("nobody said why");
                format!("Job {job}{} failed: {reason}", title.unwrap_or_default())
            }
            EventKind::WorkerChanged { name, to: WorkerState::Lost, .. } => {
                format!("Worker “{name}” was silent for too long and is lost.")
            }
            EventKind::PoolChanged { pool, to: PoolState::Paused, reason } => {
                let reason = reason.as_deref().unwrap_or("nobody said why");
                format!("The pool “{pool}” gets no more pilots: {reason}")
            }
            _ => return None,
        })
    }
}
