//! People cancel and retry.

use smallvec::SmallVec;

use super::{AttemptEnd, Change, EventKind, JobState, JobStateName, Rejection, Reply, Scheduler};
use crate::id::{ExperimentId, JobId, LeaseId};
use crate::outcome::FailureClass;
use crate::time::Timestamp;

impl Scheduler {
    /// Cancels a job and the tests of its checkpoint.
    pub(super) fn cancel_job(&mut self, job: JobId, now: Timestamp) -> Result<Reply, Rejection> {
        if self.job(job).is_none() {
            return Err(Rejection::NoJob(job));
        }
        let jobs: Vec<JobId> = std::iter::once(job).chain(self.dependents(job)).collect();
        Ok(Reply::Changed(jobs.into_iter().filter(|job| self.cancel(*job, now)).count()))
    }

    /// Cancels what only this experiment wants.
    pub(super) fn cancel_experiment(&mut self, id: ExperimentId, now: Timestamp) -> Result<Reply, Rejection> {
        let before = self.experiments.get(&id).is_some_and(|entry| entry.record.cancelled);
        let jobs = self.set_cancelled(id, true)?;
        if !before {
            self.event(EventKind::ExperimentCancelled { experiment: id }, now);
        }
        // Tests first: a training job that another experiment wants must not take this one's tests with it.
        let unwanted = jobs.into_iter().rev().filter(|job| !self.is_wanted(*job));
        // With a training job go the tests of its checkpoint that somebody retried after their own experiment was cancelled.
        let unwanted: Vec<JobId> = unwanted.flat_map(|job| self.dependents(job).into_iter().chain([job])).collect();
        Ok(Reply::Changed(unwanted.into_iter().filter(|job| self.cancel(*job, now)).count()))
    }

    /// Notes whether an experiment is cancelled, which its jobs' places in the queue depend on; gives its jobs in order.
    fn set_cancelled(&mut self, id: ExperimentId, cancelled: bool) -> Result<Vec<JobId>, Rejection> {
        let entry = self.experiments.get(&id).ok_or(Rejection::NoExperiment(id))?;
        let jobs: Vec<JobId> = entry.links.iter().flat_map(super::Link::jobs).collect();
        if entry.record.cancelled != cancelled {
            for job in &jobs {
                self.leave_queue(*job);
            }
            if let Some(entry) = self.experiments.get_mut(&id) {
                entry.record.cancelled = cancelled;
            }
            for job in &jobs {
                self.enter_queue(*job);
            }
            self.changes.push(Change::ExperimentCancelled { experiment: id, cancelled });
        }
        Ok(jobs)
    }

    fn is_wanted(&self, job: JobId) -> bool {
        self.jobs.get(job).is_some_and(|entry| {
            entry.experiments.iter().any(|id| self.experiments.get(id).is_some_and(|entry| !entry.record.cancelled))
        })
    }

    fn cancel(&mut self, job: JobId, now: Timestamp) -> bool {
        let Some(entry) = self.jobs.get(job) else { return false };
        if entry.record.state.name().is_final() {
            return false;
        }
        let leases: SmallVec<[LeaseId; 2]> = entry.record.state.leases().map(|lease| lease.id).collect();
        for lease in leases {
            self.end_attempt(lease, AttemptEnd::Cancelled, None, now);
            self.forget_attempt(job);
        }
        self.set_state(job, JobState::Cancelled, None, now);
        true
    }

    /// Queues a failed or cancelled job again.
    pub(super) fn retry_job(&mut self, job: JobId, now: Timestamp) -> Result<Reply, Rejection> {
        let entry = self.jobs.get(job).ok_or(Rejection::NoJob(job))?;
        let needs = entry.record.needs;
        // What it took down comes back with it.
        let taken_down = self.dependents(job).into_iter().filter(|dependent| {
            self.job(*dependent).is_some_and(|job| match &job.state {
                JobState::Failed(failure) => failure.class == FailureClass::Dependency,
                state => state.name() == JobStateName::Cancelled,
            })
        });
        let jobs: Vec<JobId> = needs.into_iter().chain([job]).chain(taken_down).collect();
        Ok(Reply::Changed(self.revive(&jobs, now)))
    }

    /// Queues all failed and cancelled jobs of an experiment again.
    pub(super) fn retry_experiment(&mut self, id: ExperimentId, now: Timestamp) -> Result<Reply, Rejection> {
        let jobs = self.set_cancelled(id, false)?;
        Ok(Reply::Changed(self.revive(&jobs, now)))
    }

    /// Queues those of `jobs` that failed or were cancelled, a training job standing before its tests.
    pub(super) fn revive(&mut self, jobs: &[JobId], now: Timestamp) -> usize {
        let mut revived = 0;
        for &job in jobs {
            let Some(entry) = self.jobs.get_mut(job) else { continue };
            if !matches!(entry.record.state.name(), JobStateName::Failed | JobStateName::Cancelled) {
                continue;
            }
            entry.record.failures = 0;
            entry.record.losses = 0;
            let needs = entry.record.needs;
            let trained = needs.and_then(|needs| self.job(needs)).is_none_or(|job| job.state.name().is_done());
            let next = if trained { JobState::Queued { not_before: now } } else { JobState::Blocked };
            self.set_state(job, next, Some("retried".into()), now);
            revived += 1;
        }
        revived
    }
}
