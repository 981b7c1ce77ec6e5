//! What machines were found unable to do, and who does it instead.
//!
//! A fault counts for a host and what it can't use. Its jobs go elsewhere without a counted failure. A job fails only when each worker
//! that could run it is barred by a fault, and no pool may start another. A fault ends when its machine registers anew, when a job
//! that needs the same ends well there, by a person's word, or by a trial: after ten minutes, and then ever more rarely, one job may
//! try it.

use std::collections::BTreeSet;

use super::shape::ShapeId;
use super::{AttemptEnd, Change, JobRecord, JobState, LaneKey, Reply, Scheduler, WorkerDescription, WorkerEntry};
use crate::id::{JobId, LeaseId, RecipeId, WorkerId};
use crate::job::outcome::{Failure, FailureClass};
use crate::job::spec::CompactSpec;
use crate::scheduler::machine_fault::{Cause, FaultKey, FaultOf, MachineFault};
use crate::time::Timestamp;

impl Scheduler {
    /// What machines were found unable to use, by host.
    pub fn faults(&self) -> impl Iterator<Item = &MachineFault> {
        self.faults.values().flat_map(|of_host| of_host.values())
    }

    /// The fault that keeps a worker from a job now.
    pub(super) fn bar(&self, worker: &WorkerEntry, record: &JobRecord, now: Timestamp) -> Option<&MachineFault> {
        let of_host = self.faults.get(&worker.record.description.host)?;
        needed(&worker.record.description, record.id, &record.spec)
            .into_iter()
            .find_map(|key| of_host.get(&key).filter(|fault| fault.bars(now)))
    }

    /// Whether a worker's host was found unable to do something.
    pub(super) fn has_faults(&self, worker: &WorkerEntry) -> bool {
        self.faults.contains_key(&worker.record.description.host)
    }

    /// Ends an attempt that failed for want of something that another machine may have. The job waits again, uncounted.
    pub(super) fn fail_by_machine(
        &mut self,
        (job, lease, worker): (JobId, LeaseId, WorkerId),
        cause: &Cause,
        failure: Failure,
        now: Timestamp,
    ) {
        self.note_fault((job, lease, worker), cause, &failure, now);
        self.end_attempt(lease, AttemptEnd::Failed, Some(failure.clone()), now);
        self.forget_attempt(job);
        self.set_state(job, JobState::Queued { not_before: now }, Some(failure.reason), now);
    }

    /// Notes what the machine of an attempt can't use.
    fn note_fault(
        &mut self,
        (job, lease, worker): (JobId, LeaseId, WorkerId),
        cause: &Cause,
        failure: &Failure,
        now: Timestamp,
    ) {
        let Some(description) = self.worker(worker).map(|record| record.description.clone()) else { return };
        let Some(spec) = self.job(job).map(|record| record.spec.clone()) else { return };
        let what = match cause {
            Cause::OutputRoot => FaultOf::OutputRoot(description.output_root),
            Cause::Dataset => FaultOf::Dataset(spec.recipe.dataset.clone()),
            Cause::Backbone => FaultOf::Backbone(spec.recipe.backbone.clone()),
            Cause::Method => FaultOf::Method(spec.recipe.method.key().to_owned()),
            _ => FaultOf::Job(job),
        };
        let places = if *cause == Cause::OutputRoot { String::new() } else { description.places };
        let key = (places.clone(), what.clone());
        let known = self.faults.get(&description.host).and_then(|of_host| of_host.get(&key));
        // Of several attempts that were under way at the same place, the first one has found it.
        let (found_at, times, next_trial) = match known {
            Some(known) if known.trial != Some(lease) && known.bars(now) => {
                (known.found_at, known.times, known.next_trial)
            }
            known => {
                let times = known.map_or(0, |known| known.times).saturating_add(1);
                let found_at = known.map_or(now, |known| known.found_at);
                (found_at, times, now.plus(MachineFault::wait_ms(times)))
            }
        };
        let trial = known.and_then(|known| known.trial).filter(|trial| *trial != lease);
        let (host, failure) = (description.host, failure.clone());
        self.set_fault(MachineFault { host, places, what, failure, found_at, times, next_trial, trial });
    }

    /// A job whose trainer died is rather tried by another machine, if there is one that could.
    pub(super) fn avoid(&mut self, job: JobId, lease: LeaseId, worker: WorkerId, failure: &Failure, now: Timestamp) {
        let place = |description: &WorkerDescription| (description.host.clone(), description.places.clone());
        let Some(own) = self.worker(worker).map(|record| place(&record.description)) else { return };
        let Some(record) = self.job(job).filter(|record| matches!(record.state, JobState::Queued { .. })) else {
            return;
        };
        let elsewhere =
            |worker: &&WorkerEntry| place(&worker.record.description) != own && self.bar(worker, record, now).is_none();
        let able =
            self.spot(job).is_some_and(|spot| self.able(&spot.lane, spot.group.shape).any(|worker| elsewhere(&worker)));
        if able {
            self.note_fault((job, lease, worker), &Cause::Job, failure, now);
        }
    }

    /// A job begins that needs what its machine was found unable to use: it tries it.
    pub(super) fn begin_trials(&mut self, job: JobId, lease: LeaseId, worker: WorkerId) {
        for mut fault in self.faults_of(job, worker) {
            fault.trial = Some(lease);
            self.set_fault(fault);
        }
    }

    /// The faults of a worker's host that concern a job.
    fn faults_of(&self, job: JobId, worker: WorkerId) -> Vec<MachineFault> {
        let (Some(worker), Some(record)) = (self.workers.get(&worker), self.job(job)) else { return Vec::new() };
        let Some(of_host) = self.faults.get(&worker.record.description.host) else { return Vec::new() };
        let needed = needed(&worker.record.description, job, &record.spec);
        needed.iter().filter_map(|key| of_host.get(key).cloned()).collect()
    }

    /// An attempt is over. What it tried, another may try at once, unless it was found again.
    pub(super) fn end_trials(&mut self, lease: LeaseId) {
        let tried: Vec<MachineFault> = self.faults().filter(|fault| fault.trial == Some(lease)).cloned().collect();
        for fault in tried {
            self.set_fault(MachineFault { trial: None, ..fault });
        }
    }

    /// A job ended well: its machine can use what it needed.
    pub(super) fn end_faults_of(&mut self, job: JobId, worker: WorkerId) {
        let ended = self.faults_of(job, worker);
        self.end_faults(ended);
    }

    /// A machine registered anew: what it couldn't use may have been mended. A pilot says nothing of that: it is another process on the
    /// same node.
    pub(super) fn end_faults_at(&mut self, description: &WorkerDescription) {
        if description.pilot.is_some() || !self.faults.contains_key(&description.host) {
            return;
        }
        let its_own = |fault: &&MachineFault| match &fault.what {
            FaultOf::OutputRoot(path) => *path == description.output_root,
            _ => fault.places == description.places,
        };
        let of_host = self.faults().filter(|fault| fault.host == description.host);
        let ended: Vec<MachineFault> = of_host.filter(its_own).cloned().collect();
        self.end_faults(ended);
    }

    /// A person says that a machine, or all of them, can be given everything again.
    pub(super) fn recheck(&mut self, host: Option<&str>) -> Reply {
        let concerned = |fault: &&MachineFault| host.is_none_or(|host| fault.host == host);
        let ended: Vec<MachineFault> = self.faults().filter(concerned).cloned().collect();
        let count = ended.len();
        self.end_faults(ended);
        Reply::Changed(count)
    }

    /// What was found of a single job is of no use once that has come to its end.
    pub(super) fn end_faults_with(&mut self, job: JobId) {
        let ended: Vec<MachineFault> = self.faults().filter(|fault| fault.what == FaultOf::Job(job)).cloned().collect();
        self.end_faults(ended);
    }

    /// A person wants jobs tried: where nobody could take one, the machines try it at once.
    pub(super) fn try_at_once(&mut self, jobs: impl IntoIterator<Item = JobId>, now: Timestamp) {
        if self.faults.is_empty() {
            return;
        }
        let mut seen: BTreeSet<RecipeId> = BTreeSet::new();
        for job in jobs {
            let Some(record) = self.job(job).filter(|record| matches!(record.state, JobState::Queued { .. })) else {
                continue;
            };
            let has_own = self.faults().any(|fault| fault.what == FaultOf::Job(job));
            // Jobs of one recipe need the same.
            if !seen.insert(record.recipe) && !has_own {
                continue;
            }
            let Some(spot) = self.spot(job) else { continue };
            let fit: Vec<WorkerId> = self.able(&spot.lane, spot.group.shape).map(|worker| worker.record.id).collect();
            let barred =
                |id: &WorkerId| self.workers.get(id).is_some_and(|worker| self.bar(worker, record, now).is_some());
            if !fit.iter().all(barred) {
                continue;
            }
            for fault in fit.into_iter().flat_map(|worker| self.faults_of(job, worker)).collect::<Vec<_>>() {
                if fault.trial.is_none() && fault.next_trial > now {
                    self.set_fault(MachineFault { next_trial: now, ..fault });
                }
            }
        }
    }

    /// Fails the jobs that every worker which could run them was found unable to do, where no pool may start another.
    pub(super) fn fail_what_nobody_can(&mut self, now: Timestamp) {
        if !std::mem::take(&mut self.faults_changed) || self.faults.is_empty() {
            return;
        }
        let mut failing: Vec<(JobId, Failure)> = Vec::new();
        let mut lifted: Vec<MachineFault> = Vec::new();
        let own: BTreeSet<JobId> = self.faults().filter_map(|fault| single(&fault.what)).collect();
        for (lane, group, jobs) in self.queue.waiting() {
            // Jobs of a group need the same, but for those of which something was found by themselves.
            let first = jobs.iter().find(|job| !own.contains(job));
            let all_fail = first.and_then(|job| self.why_nobody_can(lane, group.shape, *job, now));
            if let Some(verdict) = &all_fail {
                let failure = verdict.failure();
                failing.extend(jobs.iter().filter(|job| !own.contains(job)).map(|job| (*job, failure.clone())));
            }
            for job in jobs.iter().filter(|job| own.contains(job)) {
                let Some(verdict) = self.why_nobody_can(lane, group.shape, *job, now) else { continue };
                // A trainer that died isn't proof: with nobody else there, the same machine tries again, as often as may be.
                let doubtful: Vec<MachineFault> =
                    verdict.0.iter().filter(|fault| is_doubtful(fault)).cloned().collect();
                if doubtful.is_empty() {
                    failing.push((*job, verdict.failure()));
                }
                lifted.extend(doubtful);
            }
        }
        self.end_faults(lifted);
        for (job, failure) in failing {
            if let Some(entry) = self.jobs.get_mut(job) {
                entry.record.failures += 1;
            }
            self.fail_for_good(job, failure, now);
        }
        // What the failures have changed bars nobody more than before.
        self.faults_changed = false;
    }

    /// Why nobody can do a job: the fault of each worker that could; `None` if one can, or may soon.
    fn why_nobody_can(&self, lane: &LaneKey, shape: ShapeId, job: JobId, now: Timestamp) -> Option<Verdict> {
        let record = self.job(job)?;
        let mut faults: Vec<MachineFault> = Vec::new();
        for worker in self.able(lane, shape) {
            let fault = self.bar(worker, record, now).filter(|fault| fault.trial.is_none())?;
            if !faults.contains(fault) {
                faults.push(fault.clone());
            }
        }
        (!faults.is_empty() && !self.may_start_another(lane, shape, now)).then_some(Verdict(faults))
    }

    fn set_fault(&mut self, fault: MachineFault) {
        self.faults_changed = true;
        self.changes.push(Change::MachineFault { fault: Box::new(fault.clone()), stands: true });
        self.faults.entry(fault.host.clone()).or_default().insert(fault.key(), fault);
    }

    fn end_faults(&mut self, ended: Vec<MachineFault>) {
        for fault in ended {
            self.end_fault(fault);
        }
    }

    fn end_fault(&mut self, fault: MachineFault) {
        self.faults_changed = true;
        if let Some(of_host) = self.faults.get_mut(&fault.host) {
            of_host.remove(&fault.key());
            if of_host.is_empty() {
                self.faults.remove(&fault.host);
            }
        }
        self.changes.push(Change::MachineFault { fault: Box::new(fault), stands: false });
    }

    /// What keeps machines from a waiting job now, in words.
    pub(super) fn explain_faults(
        &self,
        lane: &LaneKey,
        shape: ShapeId,
        record: &JobRecord,
        now: Timestamp,
    ) -> Option<String> {
        let mut words: Vec<String> = Vec::new();
        for fault in self.able(lane, shape).filter_map(|worker| self.bar(worker, record, now)) {
            let one = format!("{} ({})", fault.words(), fault.next_words(now));
            if !words.contains(&one) {
                words.push(one);
            }
        }
        (!words.is_empty()).then(|| words.join("; "))
    }
}

/// The faults for which a job fails.
struct Verdict(Vec<MachineFault>);

impl Verdict {
    fn failure(&self) -> Failure {
        let class = self.0.first().map_or(FailureClass::Missing, |fault| fault.failure.class);
        let mut reasons: Vec<&str> = self.0.iter().map(|fault| fault.failure.reason.as_str()).collect();
        reasons.sort_unstable();
        reasons.dedup();
        let reason = if let [one] = reasons.as_slice() {
            (*one).to_owned()
        } else {
            let each: Vec<String> = self.0.iter().map(MachineFault::words).collect();
            format!("no machine here can do it: {}", each.join("; "))
        };
        Failure { class, reason }
    }
}

/// Whether a fault is only a suspicion.
fn is_doubtful(fault: &MachineFault) -> bool {
    single(&fault.what).is_some() && may_be_of_machine(fault.failure.class)
}

/// Whether a counted failure may be its machine's fault: another machine is then to try the job.
pub(super) const fn may_be_of_machine(class: FailureClass) -> bool {
    matches!(class, FailureClass::TrainerDied | FailureClass::OutOfMemory)
}

const fn single(what: &FaultOf) -> Option<JobId> {
    match what {
        FaultOf::Job(job) => Some(*job),
        _ => None,
    }
}

/// All that a worker's machine must be able to use for a job.
fn needed(description: &WorkerDescription, job: JobId, spec: &CompactSpec) -> [FaultKey; 5] {
    let own = |what| (description.places.clone(), what);
    [
        (String::new(), FaultOf::OutputRoot(description.output_root.clone())),
        own(FaultOf::Dataset(spec.recipe.dataset.clone())),
        own(FaultOf::Backbone(spec.recipe.backbone.clone())),
        own(FaultOf::Method(spec.recipe.method.key().to_owned())),
        own(FaultOf::Job(job)),
    ]
}
