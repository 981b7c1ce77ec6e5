//! What others read of the state.

use std::collections::BTreeSet;

use super::{
    Counts, ExperimentRecord, JobRecord, RecipeEntry, Scheduler, WorkerEntry, WorkerKind, WorkerRecord, WorkerState,
};
use crate::id::{ExperimentId, JobId, LeaseId, RecipeId, Sequence, WorkerId};
use crate::time::Timestamp;

impl Scheduler {
    /// When [`Command::Tick`] is due next; `None` while there is nothing to wait for.
    pub fn next_alarm(&self) -> Option<Timestamp> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// A job, by its identifier.
    pub fn job(&self, id: JobId) -> Option<&JobRecord> {
        self.jobs.get(id).map(|entry| &entry.record)
    }

    /// The experiments that want a job, oldest first.
    pub fn experiments_of(&self, id: JobId) -> &[ExperimentId] {
        self.jobs.get(id).map_or(&[], |entry| &entry.experiments)
    }

    /// All jobs by state.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in self.jobs.iter() {
            *counts.of(entry.record.state.name()) += 1;
        }
        counts
    }

    /// The job of a lease, unless an earlier run granted it and the job was leased anew since.
    pub fn job_of(&self, lease: LeaseId) -> Option<&JobRecord> {
        let place = usize::try_from(lease.0.checked_sub(1)?).ok()?;
        self.job((*self.leases.get(place)?)?)
    }

    /// An experiment with its jobs by state.
    pub fn experiment(&self, id: ExperimentId) -> Option<(&ExperimentRecord, &Counts)> {
        self.experiments.get(&id).map(|entry| (&entry.record, &entry.counts))
    }

    /// All experiments with their jobs by state, oldest first.
    pub fn experiments(&self) -> impl Iterator<Item = (&ExperimentRecord, &Counts)> {
        self.experiments.values().map(|entry| (&entry.record, &entry.counts))
    }

    /// An experiment's jobs in the order of its matrix, each with the sweep's values.
    pub fn jobs_of(&self, id: ExperimentId) -> impl Iterator<Item = (&JobRecord, &str)> {
        let links = self.experiments.get(&id).map_or(&[][..], |entry| &entry.links);
        links.iter().flat_map(|link| link.jobs().filter_map(|job| Some((self.job(job)?, link.variant.as_ref()))))
    }

    /// A worker, by its identifier.
    pub fn worker(&self, id: WorkerId) -> Option<&WorkerRecord> {
        self.workers.get(&id).map(|entry| &entry.record)
    }

    /// Whether a worker is registered, and neither gone nor lost.
    pub fn is_here(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(WorkerEntry::is_here)
    }

    /// Whether a worker is here and isn't to end.
    pub fn takes_jobs(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|entry| entry.record.state == WorkerState::Active)
    }

    /// What a worker can run.
    pub fn kind_of(&self, id: WorkerId) -> Option<WorkerKind> {
        self.workers.get(&id).map(|entry| entry.kind)
    }

    /// Whether a worker that got no job means that no other of its kind gets one now: it takes jobs, and holds none that could
    /// stand in the way of others. One whose time is limited, or whose machine can't use something, speaks for itself alone.
    pub fn speaks_for_its_kind(&self, id: WorkerId) -> bool {
        let idle = |entry: &WorkerEntry| {
            let whole = entry.ends_at.is_none() && !self.has_faults(entry);
            whole && entry.record.state == WorkerState::Active && entry.held.is_empty()
        };
        self.workers.get(&id).is_some_and(idle)
    }

    /// All workers that aren't forgotten, oldest first, with the time of their last word and the jobs they hold.
    pub fn workers(&self) -> impl Iterator<Item = (&WorkerRecord, Timestamp, &BTreeSet<JobId>)> {
        self.workers.values().map(|entry| (&entry.record, entry.last_seen, &entry.held))
    }

    /// The greatest sequence number given out.
    pub const fn last_sequence(&self) -> Sequence {
        Sequence(self.next_sequence - 1)
    }

    pub(super) fn recipe(&self, id: RecipeId) -> Option<&RecipeEntry> {
        self.recipes.get(usize::try_from(id.0.checked_sub(1)?).ok()?)
    }
}
