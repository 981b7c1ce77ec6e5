//! People cancel and retry.

use super::{AttemptEnd, Change, EventKind, JobState, JobStateName, Rejection, Reply, Scheduler};
use crate::id::{ExperimentId, JobId};
use crate::job::outcome::FailureClass;
use crate::time::Timestamp;

impl Scheduler {
    /// Cancels jobs and the tests of their checkpoints; if one of them isn't there, none.
    pub(super) fn cancel_jobs(&mut self, jobs: &[JobId], now: Timestamp) -> Result<Reply, Rejection> {
        self.all_there(jobs)?;
        let all: Vec<JobId> = jobs.iter().flat_map(|job| std::iter::once(*job).chain(self.dependents(*job))).collect();
        Ok(Reply::Changed(all.into_iter().filter(|job| self.cancel(*job, now)).count()))
    }

    fn all_there(&self, jobs: &[JobId]) -> Result<(), Rejection> {
        jobs.iter().find(|job| self.job(**job).is_none()).map_or(Ok(()), |job| Err(Rejection::NoJob(*job)))
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
    pub(super) fn set_cancelled(&mut self, id: ExperimentId, cancelled: bool) -> Result<Vec<JobId>, Rejection> {
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
        if let Some(lease) = entry.record.state.lease().map(|lease| lease.id) {
            self.end_attempt(lease, AttemptEnd::Cancelled, None, now);
            self.forget_attempt(job);
        }
        self.set_state(job, JobState::Cancelled, None, now);
        true
    }

    /// Queues failed or cancelled jobs again; if one of `jobs` isn't there, none.
    pub(super) fn retry_jobs(&mut self, jobs: &[JobId], now: Timestamp) -> Result<Reply, Rejection> {
        self.all_there(jobs)?;
        Ok(Reply::Changed(jobs.iter().map(|job| self.retry(*job, now)).sum()))
    }

    fn retry(&mut self, job: JobId, now: Timestamp) -> usize {
        let needs = self.job(job).and_then(|record| record.needs);
        // What it took down comes back with it.
        let taken_down = self.dependents(job).into_iter().filter(|dependent| {
            self.job(*dependent).is_some_and(|job| match &job.state {
                JobState::Failed(failure) => failure.class == FailureClass::Dependency,
                state => state.name() == JobStateName::Cancelled,
            })
        });
        let jobs: Vec<JobId> = needs.into_iter().chain([job]).chain(taken_down).collect();
        self.revive(&jobs, now)
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
        self.try_at_once(jobs.iter().copied(), now);
        revived
    }
}
