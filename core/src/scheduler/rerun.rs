//! Jobs that have a result are computed again.

use std::collections::BTreeSet;

use super::{AttemptEnd, Change, JobState, JobStateName, Rejection, Reply, Scheduler};
use crate::id::{ExperimentId, JobId};
use crate::names::named;
use crate::time::Timestamp;

named! {
    /// Which of an experiment's results are to be computed again.
    pub enum RerunWhich("which") {
        /// All of them.
        All = "all",
        /// Those that are stale.
        Stale = "stale",
    }
}

/// Who has a job computed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// A person.
    Person,
    /// The scheduler, for want of a checkpoint.
    Itself,
}

impl Scheduler {
    /// Queues jobs of an experiment that have results again.
    pub(super) fn rerun_experiment(
        &mut self,
        id: ExperimentId,
        which: RerunWhich,
        shared: bool,
        now: Timestamp,
    ) -> Result<Reply, Rejection> {
        if self.experiment(id).is_none() {
            return Err(Rejection::NoExperiment(id));
        }
        let jobs = match which {
            RerunWhich::All => self.jobs_of(id).map(|(job, _)| job.id).collect(),
            RerunWhich::Stale => self.stale_of(id).into_iter().map(|(job, _)| job).collect(),
        };
        self.rerun(jobs, Some(id), shared, now)
    }

    /// Queues jobs that have results again; if one of `jobs` isn't there, or has none, nothing happens.
    pub(super) fn rerun_jobs(&mut self, jobs: &[JobId], shared: bool, now: Timestamp) -> Result<Reply, Rejection> {
        for &job in jobs {
            let state = self.job(job).ok_or(Rejection::NoJob(job))?.state.name();
            if !state.is_done() {
                return Err(Rejection::NoResult { job, state });
            }
        }
        self.rerun(jobs.iter().copied().collect(), None, shared, now)
    }

    fn rerun(
        &mut self,
        mut jobs: BTreeSet<JobId>,
        of: Option<ExperimentId>,
        shared: bool,
        now: Timestamp,
    ) -> Result<Reply, Rejection> {
        jobs.retain(|job| self.is_done(*job));
        let tests: Vec<JobId> = jobs.iter().flat_map(|job| self.dependents(*job)).collect();
        jobs.extend(tests.into_iter().filter(|test| self.is_done(*test)));
        if !shared {
            let experiments = self.sharing(&jobs, of);
            if let Some((job, experiments)) = experiments {
                return Err(Rejection::Shared { job, experiments });
            }
        }
        if let Some(id) = of.filter(|_| !jobs.is_empty()) {
            self.set_cancelled(id, false)?;
        }
        // A training job's number is smaller than those of its tests, which it takes along.
        for job in &jobs {
            self.begin_anew(*job, "it is computed again", Who::Person, now);
        }
        self.try_at_once(jobs.iter().copied(), now);
        Ok(Reply::Changed(jobs.len()))
    }

    /// The first job that other experiments want too, besides the one that is meant; all that do, if none is.
    fn sharing(&self, jobs: &BTreeSet<JobId>, of: Option<ExperimentId>) -> Option<(JobId, Vec<ExperimentId>)> {
        let mut first = None;
        let mut experiments = BTreeSet::new();
        for &job in jobs {
            let open = |id: &ExperimentId| self.experiments.get(id).is_some_and(|entry| !entry.record.cancelled);
            let wanting: Vec<ExperimentId> = self.experiments_of(job).iter().copied().filter(open).collect();
            let others = wanting.iter().any(|id| Some(*id) != of);
            if if of.is_some() { others } else { wanting.len() > 1 } {
                first.get_or_insert(job);
                experiments.extend(wanting);
            }
        }
        first.map(|job| (job, experiments.into_iter().filter(|id| Some(*id) != of).collect()))
    }

    fn is_done(&self, job: JobId) -> bool {
        self.job(job).is_some_and(|record| record.state.name().is_done())
    }

    /// Takes a job's result away, keeping it among the superseded ones, and queues the job, or blocks it while its training job
    /// isn't done. No report of an earlier attempt counts from then on, and its folder isn't adopted. The tests of a training job
    /// wait for it.
    pub(super) fn begin_anew(&mut self, job: JobId, reason: &str, who: Who, now: Timestamp) {
        if !self.is_done(job) {
            return;
        }
        self.supersede(job, reason, now);
        for test in self.dependents(job) {
            match self.job(test).map(|record| record.state.name()) {
                Some(JobStateName::Completed | JobStateName::Skipped) => self.supersede(test, reason, now),
                Some(JobStateName::Queued | JobStateName::Leased | JobStateName::Running) => {}
                _ => continue,
            }
            self.cancel_attempt(test, now);
            // Tests that lack their checkpoint in turn must not forget each other's failures: they would go on for ever.
            if who == Who::Person {
                self.forget_failures(test);
            }
            let why = format!("its training, job {job}, is done again");
            self.forget_attempt(test);
            self.set_state(test, JobState::Blocked, Some(why), now);
        }
        let needs = self.job(job).and_then(|record| record.needs);
        let ready = needs.is_none_or(|needs| self.is_done(needs));
        let next = if ready { JobState::Queued { not_before: now } } else { JobState::Blocked };
        self.forget_failures(job);
        self.forget_attempt(job);
        self.set_state(job, next, Some(reason.to_owned()), now);
    }

    fn supersede(&mut self, job: JobId, reason: &str, now: Timestamp) {
        self.changes.push(Change::ResultSuperseded { job, at: now, reason: reason.to_owned() });
        self.basis_of.remove(&job);
        self.superseded.insert(job);
    }

    /// Whether a complete folder of a job that has no result is out of date: its result was superseded; or that of its training
    /// was, and the folder may be of an attempt that tested the checkpoint before.
    pub(super) fn is_afresh(&self, job: JobId) -> bool {
        let needs = self.job(job).and_then(|record| record.needs);
        std::iter::once(job).chain(needs).any(|job| self.superseded.contains(&job))
    }

    fn cancel_attempt(&mut self, job: JobId, now: Timestamp) {
        if let Some(lease) = self.job(job).and_then(|job| job.state.lease()).map(|lease| lease.id) {
            self.end_attempt(lease, AttemptEnd::Cancelled, None, now);
        }
    }

    fn forget_failures(&mut self, job: JobId) {
        // Its place in the queue depends on them; whoever asks for this moves it elsewhere.
        self.leave_queue(job);
        if let Some(entry) = self.jobs.get_mut(job) {
            (entry.record.failures, entry.record.losses) = (0, 0);
        }
    }
}
