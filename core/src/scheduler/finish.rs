//! Results and failures.

use super::faults::may_be_of_machine;
use super::rerun::Who;
use super::{AttemptEnd, Change, Held, JobState, Rejection, Reply, Scheduler, Took};
use crate::id::{JobId, WorkerId};
use crate::job::basis::{Basis, Reading};
use crate::job::evaluation::Evaluation;
use crate::job::outcome::{Failure, FailureClass, Manifest, Outcome};
use crate::job::spec::{BasisHash, CompactSpec};
use crate::scheduler::machine_fault::Cause;
use crate::time::{Timestamp, doubling_ms};

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
        let spec = entry.record.spec.clone();
        let Outcome { result, adopted, manifest } = outcome;
        let own = entry.record.state.lease();
        let (since, worker) = (own.map(|lease| lease.since), own.map(|lease| lease.worker));
        // Of a worker that was away, it isn't known when it read the lists: perhaps long before it came back.
        let read_after = own.filter(|lease| !lease.came_back).map(|lease| lease.since);
        self.end_attempt(held.lease, AttemptEnd::Completed, None, now);
        if let Some(manifest) = &manifest {
            self.note_manifest(job, &spec, manifest, read_after);
        }
        let manifest = manifest.map(Box::new);
        self.changes.push(Change::ResultRecorded { job, lease: held.lease, result, manifest, evaluation });
        let result = result.map(Box::new);
        let state = if adopted { JobState::Skipped(result) } else { JobState::Completed(result) };
        self.set_state(job, state, None, now);
        if let Some(since) = since.filter(|_| !adopted) {
            self.learn_duration(Took { job, attempts: 1, total_ms: now.since(since).max(0) });
        }
        // What was found took no memory.
        if let Some(memory_mib) = memory_mib.filter(|_| !adopted) {
            self.learn_memory(job, memory_mib);
        }
        // What was found needed nothing of its machine.
        if let Some(worker) = worker.filter(|_| !adopted) {
            self.end_faults_of(job, worker);
        }
        self.unblock_dependents(job, now);
        self.note_fresh(job);
        Ok(Reply::Done)
    }

    /// Notes what a result rests on. The first that rests on a backbone pins its name.
    fn note_manifest(&mut self, job: JobId, spec: &CompactSpec, manifest: &Manifest, read_after: Option<Timestamp>) {
        let basis = Basis::of(manifest);
        self.note_basis(job, basis);
        if let Some(sha256) = basis.backbone.filter(|_| !self.today.pins.contains_key(&spec.recipe.backbone)) {
            self.pin(&spec.recipe.backbone, sha256);
        }
        // The machine has read the lists after it got the job, so whatever was read before that is out of date.
        if let (Some(split), Some(test), Some(at)) = (basis.split, basis.test, read_after) {
            self.note_reading(job, Reading { split, test, images: None, at });
        }
    }

    /// Ends an attempt without a result.
    pub(super) fn fail(
        &mut self,
        held: Held,
        failure: Failure,
        cause: Option<Cause>,
        now: Timestamp,
    ) -> Result<Reply, Rejection> {
        let job = self.valid(held)?;
        let Some(worker) = self.lease_of(job, |lease| lease.id == held.lease).map(|lease| lease.worker) else {
            return Err(self.stale(held, job));
        };
        match &cause {
            Some(Cause::OtherBackbone { sha256 }) if self.note_other_backbone(job, worker, *sha256) => {
                self.give_back(job, held.lease, &failure.reason, now);
                return Ok(Reply::Done);
            }
            Some(Cause::FolderInUse { holder, host }) => {
                self.wait_for_folder(job, held.lease, (holder, host.as_deref()), &failure.reason, now);
                return Ok(Reply::Done);
            }
            Some(Cause::OtherBackbone { .. } | Cause::Checkpoint) | None => {}
            Some(cause) => {
                self.fail_by_machine((job, held.lease, worker), cause, failure, now);
                return Ok(Reply::Done);
            }
        }
        let lacks_backbone = matches!(cause, Some(Cause::OtherBackbone { .. }));
        let jobs = self.workers.get(&worker).map_or(0, |worker| worker.held.len());
        let crowded = failure.class == FailureClass::OutOfMemory && jobs > 1;
        if crowded {
            self.learn_crowd(job, jobs);
        }
        self.end_attempt(held.lease, AttemptEnd::Failed, Some(failure.clone()), now);
        self.forget_attempt(job);
        if cause == Some(Cause::Checkpoint)
            && let Some(training) = self.job(job).and_then(|record| record.needs)
        {
            self.train_again(job, training, failure, now);
            return Ok(Reply::Done);
        }
        // Perhaps the others were to blame: the next attempt will have fewer beside it.
        if crowded && self.spare(job) {
            self.set_state(job, JobState::Queued { not_before: now }, Some(failure.reason), now);
        } else if lacks_backbone {
            // The name was pinned anew meanwhile, and this worker may be right for it now.
            self.try_again(job, failure, true, now);
        } else {
            self.attempt_failed(job, failure.clone(), now);
            if may_be_of_machine(failure.class) {
                self.avoid(job, held.lease, worker, &failure, now);
            }
        }
        Ok(Reply::Done)
    }

    /// Notes which weights a worker has of a job's backbone. `false` if they are those that its name is pinned to, or it is
    /// pinned to none: then the worker would get the job again.
    fn note_other_backbone(&mut self, job: JobId, worker: WorkerId, sha256: BasisHash) -> bool {
        let Some(backbone) = self.job(job).map(|record| record.spec.recipe.backbone.clone()) else { return false };
        let Some(entry) = self.workers.get_mut(&worker) else { return false };
        let known = entry.record.description.backbone_sha256.insert(backbone.clone(), sha256);
        if known != Some(sha256) {
            entry.find_able(&self.today.pins, &mut self.names);
            self.changes.push(Change::Worker(entry.record.clone()));
        }
        let is_other = entry.other_backbone(&backbone, &self.today.pins).is_some();
        self.fleet.describe(worker, &backbone, sha256);
        is_other
    }

    /// The checkpoint that a job tests can't be had, or isn't what it should be: its training is done again, and the test waits
    /// for it. That counts as a failure of the test, so that it doesn't go on for ever.
    fn train_again(&mut self, job: JobId, training: JobId, failure: Failure, now: Timestamp) {
        let Some(entry) = self.jobs.get_mut(job) else { return };
        entry.record.failures += 1;
        let failures = entry.record.failures;
        if failures >= self.policy.most_failures {
            self.fail_too_often(job, failure, now);
            return;
        }
        let reason = format!("job {job} can't test its checkpoint: {}", failure.reason);
        self.set_state(job, JobState::Blocked, Some(failure.reason), now);
        self.begin_anew(training, &reason, Who::Itself, now);
    }

    /// Queues the job again, or fails it for good.
    pub(super) fn attempt_failed(&mut self, job: JobId, failure: Failure, now: Timestamp) {
        if failure.class.retryable() {
            self.try_again(job, failure, true, now);
        } else if let Some(entry) = self.jobs.get_mut(job) {
            entry.record.failures += 1;
            self.fail_for_good(job, failure, now);
        }
    }

    /// Queues a job again whose attempt failed, unless it has failed too often.
    pub(super) fn try_again(&mut self, job: JobId, failure: Failure, counted: bool, now: Timestamp) {
        let policy = &self.policy;
        let Some(entry) = self.jobs.get_mut(job) else { return };
        entry.record.failures += u32::from(counted);
        entry.record.losses += u32::from(failure.class == FailureClass::WorkerLost);
        let failures = entry.record.failures;
        if failures >= policy.most_failures {
            self.fail_too_often(job, failure, now);
        } else {
            let not_before = now.plus(doubling_ms(policy.backoff_ms, failures, policy.longest_backoff_ms));
            self.set_state(job, JobState::Queued { not_before }, Some(failure.reason), now);
        }
    }

    fn fail_too_often(&mut self, job: JobId, failure: Failure, now: Timestamp) {
        let failures = self.job(job).map_or(0, |record| record.failures);
        let reason = format!("failed {failures} times, the last time because: {}", failure.reason);
        self.fail_for_good(job, Failure { reason, ..failure }, now);
    }

    pub(super) fn fail_for_good(&mut self, job: JobId, failure: Failure, now: Timestamp) {
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
