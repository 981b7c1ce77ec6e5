//! Experiments come in.

use std::sync::Arc;

use super::{
    Change, EventKind, ExperimentEntry, ExperimentRecord, JobEntry, JobRecord, JobState, Reply, Scheduler, Submitted,
};
use crate::experiment::Experiment;
use crate::id::{ExperimentId, JobId};
use crate::matrix::PlannedJob;
use crate::time::Timestamp;

impl Scheduler {
    /// Takes an experiment. The same one again is a no-op; a job that another experiment has too is shared with it.
    pub(super) fn submit(&mut self, experiment: Experiment, planned: Vec<PlannedJob>, now: Timestamp) -> Reply {
        let hash = experiment.hash();
        if let Some(&id) = self.by_experiment_hash.get(&hash)
            && let Some(entry) = self.experiments.get(&id)
        {
            return Reply::Submitted(Submitted { experiment: id, created: false, counts: entry.counts });
        }
        let id = ExperimentId(self.experiments.last_key_value().map_or(1, |(last, _)| last.0 + 1));
        let (name, priority) = (experiment.name.clone(), experiment.priority);
        let record =
            ExperimentRecord { id, hash, experiment: Arc::new(experiment), submitted_at: now, cancelled: false };
        self.changes.push(Change::ExperimentAdded(record.clone()));
        self.experiments.insert(id, ExperimentEntry { record, jobs: Vec::new(), counts: super::Counts::default() });
        self.by_experiment_hash.insert(hash, id);
        self.event(EventKind::ExperimentSubmitted { experiment: id, name, jobs: planned.len() }, now);
        let mut jobs = Vec::with_capacity(planned.len());
        for plan in planned {
            let job = match self.by_hash.get(&plan.hash) {
                Some(&job) => job,
                None => self.add_job(&plan, priority, now),
            };
            self.link(id, job, plan.variant, priority);
            jobs.push(job);
        }
        // What an earlier experiment left failed or cancelled is wanted again.
        self.revive(&jobs, now);
        let counts = self.experiments.get(&id).map_or_else(Default::default, |entry| entry.counts);
        Reply::Submitted(Submitted { experiment: id, created: true, counts })
    }

    fn add_job(&mut self, plan: &PlannedJob, priority: i32, now: Timestamp) -> JobId {
        let id = JobId(self.jobs.last_key_value().map_or(1, |(last, _)| last.0 + 1));
        let needs = plan.spec.trained_by.and_then(|hash| self.by_hash.get(&hash).copied());
        let trained = needs.and_then(|needs| self.jobs.get(&needs)).is_none_or(|job| job.record.state.name().is_done());
        let state = if trained { JobState::Queued { not_before: now } } else { JobState::Blocked };
        let record = JobRecord {
            id,
            spec: Arc::new(plan.spec.clone()),
            hash: plan.hash,
            needs,
            priority,
            state: state.clone(),
            failures: 0,
            latest: None,
        };
        self.changes.push(Change::JobAdded(Box::new(record.clone())));
        self.event(EventKind::JobChanged { job: id, from: None, to: state.name(), worker: None, reason: None }, now);
        self.by_hash.insert(plan.hash, id);
        self.jobs.insert(id, JobEntry { record, dependents: Vec::new(), experiments: Vec::new() });
        if let Some(needs) = needs {
            self.rerank(needs, |entry| entry.dependents.push(id));
        }
        self.rerank(id, |_| ());
        id
    }

    fn link(&mut self, id: ExperimentId, job: JobId, variant: String, priority: i32) {
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let first = !entry.experiments.contains(&id);
        if first {
            entry.experiments.push(id);
        }
        let state = entry.record.state.name();
        if priority > entry.record.priority {
            self.changes.push(Change::JobPriority { job, priority });
            self.rerank(job, |entry| entry.record.priority = priority);
        }
        self.changes.push(Change::JobLinked { experiment: id, job, variant: variant.clone() });
        if let Some(experiment) = self.experiments.get_mut(&id) {
            experiment.jobs.push((job, variant));
            if first {
                *experiment.counts.of(state) += 1;
            }
        }
    }

    /// Changes something that a job's place in the ready set depends on. A queued job whose back-off is over is in the set
    /// afterwards.
    pub(super) fn rerank(&mut self, id: JobId, change: impl FnOnce(&mut JobEntry)) {
        let Some(entry) = self.jobs.get_mut(&id) else { return };
        let rank = |entry: &JobEntry| {
            (std::cmp::Reverse(entry.record.priority), std::cmp::Reverse(entry.dependents.len()), id)
        };
        self.ready.remove(&rank(entry));
        change(entry);
        if let JobState::Queued { not_before } = entry.record.state
            && !self.alarms.contains(&(not_before, super::Alarm::Ready(id)))
        {
            self.ready.insert(rank(entry));
        }
    }
}
