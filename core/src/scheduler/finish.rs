//! Results and failures.

use super::{AttemptEnd, Change, Held, JobState, Rejection, Reply, Scheduler, Took};
use crate::evaluation::Evaluation;
use crate::id::{JobId, LeaseId};
use crate::outcome::{Failure, FailureClass};
use crate::time::Timestamp;
use crate::trainer_wire::Outcome;

impl Scheduler {
    /// Records a job's result, once. A worker that was cut off is heard as long as its attempt is the latest: its lease may
    /// have ended, but nobody else has begun. The same report again is answered as the first was.
    pub(super) fn complete(
        &mut self,
        held: Held,
        outcome: Outcome,
        evaluation: Option<Box<Evaluation>>,
        memory_mib: Option<u32>,
        now: Timestamp,
    ) -> Result<Reply, Rejection> {
        let job = self.valid(held)?;
        let Some(entry) = self.jobs.get_mut(job) else {
            return Err(Rejection::NoJob(job));
        };
        match entry.record.state {
            JobState::Completed(_) | JobState::Skipped(_) => return Ok(Reply::Done),
            JobState::Leased(_) | JobState::Running(_) | JobState::Queued { .. } => {}
            JobState::Blocked | JobState::Failed(_) | JobState::Cancelled => return Err(self.stale(held, job)),
        }
        let Outcome { result, adopted, manifest } = outcome;
        let own = entry.record.state.leases().find(|lease| lease.id == held.lease);
        let (since, attempt) = (own.map(|lease| lease.since), own.map(|lease| Box::new(lease.attempt())));
        entry.record.latest = attempt.or(entry.record.latest.take());
        self.end_attempt(held.lease, AttemptEnd::Completed, None, now);
        self.end_others(job, held.lease, now);
        let manifest = manifest.map(Box::new);
        self.changes.push(Change::ResultRecorded { job, lease: held.lease, result, manifest, evaluation });
        let result = Box::new(result);
        let state = if adopted { JobState::Skipped(result) } else { JobState::Completed(result) };
        self.set_state(job, state, None, now);
        if let Some(since) = since.filter(|_| !adopted) {
            self.note_duration(job, since, now);
            self.learn_duration(Took { job, attempts: 1, total_ms: now.since(since).max(0) });
        }
        // What was found took no memory.
        if let Some(memory_mib) = memory_mib.filter(|_| !adopted) {
            self.learn_memory(job, memory_mib);
        }
        self.unblock_dependents(job, now);
        self.note_fresh(job);
        Ok(Reply::Done)
    }

    /// Ends an attempt without a result.
    pub(super) fn fail(&mut self, held: Held, failure: Failure, now: Timestamp) -> Result<Reply, Rejection> {
        let job = self.valid(held)?;
        let Some(worker) = self.lease_of(job, |lease| lease.id == held.lease).map(|lease| lease.worker) else {
            return Err(self.stale(held, job));
        };
        let jobs = self.workers.get(&worker).map_or(0, |worker| worker.held.len());
        let crowded = failure.class == FailureClass::OutOfMemory && jobs > 1;
        if crowded {
            self.learn_crowd(job, jobs);
        }
        self.end_attempt(held.lease, AttemptEnd::Failed, Some(failure.clone()), now);
        if failure.class.retryable() && self.goes_on_without(job, held.lease, now) {
            return Ok(Reply::Done);
        }
        self.end_others(job, held.lease, now);
        self.forget_attempt(job);
        // Perhaps the others were to blame: the next attempt will have fewer beside it.
        if crowded && self.spare(job) {
            self.set_state(job, JobState::Queued { not_before: now }, Some(failure.reason), now);
        } else {
            self.attempt_failed(job, failure, now);
        }
        Ok(Reply::Done)
    }

    /// Ends the attempt beside the one that has decided the job.
    fn end_others(&mut self, job: JobId, decided: LeaseId, now: Timestamp) {
        if let Some(other) = self.lease_of(job, |lease| lease.id != decided).map(|lease| lease.id) {
            self.end_attempt(other, AttemptEnd::Cancelled, None, now);
        }
    }

    /// Queues the job again, or fails it for good.
    pub(super) fn attempt_failed(&mut self, job: JobId, failure: Failure, now: Timestamp) {
        let policy = self.policy;
        let Some(entry) = self.jobs.get_mut(job) else { return };
        entry.record.failures += 1;
        entry.record.losses += u32::from(failure.class == FailureClass::WorkerLost);
        let failures = entry.record.failures;
        if !failure.class.retryable() {
            self.fail_for_good(job, failure, now);
        } else if failures >= policy.most_failures {
            let reason = format!("failed {failures} times, the last time because: {}", failure.reason);
            self.fail_for_good(job, Failure { reason, ..failure }, now);
        } else {
            let doubled = policy.backoff_ms.saturating_mul(1 << (failures - 1).min(30));
            let not_before = now.plus(doubled.min(policy.longest_backoff_ms));
            self.set_state(job, JobState::Queued { not_before }, Some(failure.reason), now);
        }
    }

    fn fail_for_good(&mut self, job: JobId, failure: Failure, now: Timestamp) {
        let reason = format!("the training job {job} failed: {}", failure.reason);
        self.set_state(job, JobState::Failed(Box::new(failure.clone())), Some(failure.reason), now);
        for dependent in self.dependents(job) {
            if self.job(dependent).is_some_and(|job| job.state == JobState::Blocked) {
                let failure = Failure { class: FailureClass::Dependency, reason: reason.clone() };
                self.set_state(dependent, JobState::Failed(Box::new(failure)), Some(reason.clone()), now);
            }
        }
    }

    pub(super) fn unblock_dependents(&mut self, job: JobId, now: Timestamp) {
        for dependent in self.dependents(job) {
            if self.job(dependent).is_some_and(|job| job.state == JobState::Blocked) {
                self.set_state(dependent, JobState::Queued { not_before: now }, None, now);
            }
        }
    }

    pub(super) fn dependents(&self, job: JobId) -> Vec<JobId> {
        self.jobs.get(job).map_or_else(Vec::new, |entry| entry.dependents.to_vec())
    }
}
