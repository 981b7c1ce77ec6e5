//! A job moves from one state to another, and every index with it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{
    Alarm, Change, Event, EventKind, GroupKey, JobChange, JobRecord, JobState, LaneKey, Scheduler, Spot, WorkerEntry,
};
use crate::id::{ExperimentId, JobId, Sequence, WorkerId};
use crate::time::Timestamp;

impl Scheduler {
    pub(super) fn event(&mut self, kind: EventKind, now: Timestamp) -> Sequence {
        let sequence = Sequence(self.next_sequence);
        self.next_sequence += 1;
        self.changes.push(Change::Event(Event { sequence, at: now, kind }));
        sequence
    }

    /// Notes where a job and what moves with it stand now.
    pub(super) fn note_job(&mut self, id: JobId) {
        let Some(record) = self.job(id) else { return };
        let JobRecord { priority, failures, losses, .. } = *record;
        let (state, latest) = (record.state.clone(), record.latest());
        let change = JobChange { job: id, state, priority, failures, losses, latest };
        self.changes.push(Change::JobChanged(Box::new(change)));
    }

    /// Moves a job to `next` and keeps every index with it: counters, the queue, alarms, held jobs. `reason` is for the event
    /// log.
    pub(super) fn set_state(&mut self, id: JobId, next: JobState, reason: Option<String>, now: Timestamp) {
        self.leave_queue(id);
        let Some(entry) = self.jobs.get_mut(id) else { return };
        let (from, to) = (entry.record.state.name(), next.name());
        debug_assert!(from == to || from.may_become(to), "job {id}: {from} may not become {to}");
        let worker = next.lease().or(entry.record.state.lease()).map(|lease| lease.worker);
        match &entry.record.state {
            JobState::Queued { not_before } => {
                self.alarms.remove(&(*not_before, Alarm::Ready(id)));
            }
            state => {
                if let Some(lease) = state.lease() {
                    self.alarms.remove(&(lease.deadline, Alarm::Expire(id, lease.id)));
                    if let Some(holder) = self.workers.get_mut(&lease.worker) {
                        holder.held.remove(&id);
                        holder.idle_since = now;
                    }
                }
            }
        }
        match &next {
            JobState::Queued { not_before } => {
                if *not_before > now {
                    self.alarms.insert((*not_before, Alarm::Ready(id)));
                }
            }
            state => hold(&mut self.alarms, &mut self.workers, id, state),
        }
        entry.record.state = next;
        if from != to {
            for experiment in &entry.experiments {
                if let Some(experiment) = self.experiments.get_mut(experiment) {
                    *experiment.counts.of(from) -= 1;
                    *experiment.counts.of(to) += 1;
                    if from.is_held() != to.is_held() {
                        let running = self.users.entry(experiment.record.submitted_by.clone()).or_default();
                        *running = if to.is_held() { *running + 1 } else { running.saturating_sub(1) };
                    }
                }
            }
        }
        self.enter_queue(id);
        if from != to {
            self.note_job(id);
            self.event(EventKind::JobChanged { job: id, from: Some(from), to, worker, reason }, now);
        }
        if to.is_final() && !from.is_final() {
            if self.unfinished.remove(&id).is_some() {
                self.changes.push(Change::UnfinishedChanged { job: id, sha256: None });
            }
            self.forget_setbacks(id);
            self.end_faults_with(id);
            let concerned = self.jobs.get(id).map(|entry| entry.experiments.clone()).unwrap_or_default();
            for experiment in concerned {
                self.note_end(experiment, now);
            }
        }
    }

    /// Says so if nothing will happen to an experiment's jobs by itself any more.
    pub(super) fn note_end(&mut self, id: ExperimentId, now: Timestamp) {
        let Some((record, counts)) = self.experiment(id).filter(|(_, counts)| counts.open() == 0) else { return };
        let (name, jobs, done) = (record.experiment.name.clone(), counts.total(), counts.done());
        self.event(EventKind::ExperimentFinished { experiment: id, name, jobs, done }, now);
    }

    /// Where a job stands in the queue if it does.
    pub(super) fn spot(&self, id: JobId) -> Option<Spot> {
        let entry = self.jobs.get(id)?;
        let record = &entry.record;
        let recipe = self.recipe(record.recipe)?;
        let wanted = |id: &&ExperimentId| self.experiments.get(id).is_some_and(|entry| !entry.record.cancelled);
        let owner = entry.experiments.iter().find(wanted).or_else(|| entry.experiments.first());
        let lane = LaneKey {
            priority: Reverse(record.priority),
            owner: owner.copied().unwrap_or_default(),
            backbone: recipe.backbone,
            alone: self.is_suspect(record),
        };
        let unblocks = Reverse(entry.dependents.len() as u32);
        let shape = recipe.shape_of(record.spec.stage);
        Some(Spot { lane, group: GroupKey { unblocks, place: recipe.place, shape } })
    }

    /// Takes a job out of the queue. Whatever its place there depends on may then change until [`Scheduler::enter_queue`].
    pub(super) fn leave_queue(&mut self, id: JobId) {
        if self.job(id).is_some_and(|job| matches!(job.state, JobState::Queued { .. }))
            && let Some(spot) = self.spot(id)
        {
            self.queue.remove(spot, id);
        }
    }

    /// Lines a job up if it is queued and its back-off is over.
    pub(super) fn enter_queue(&mut self, id: JobId) {
        if let Some(JobState::Queued { not_before }) = self.job(id).map(|job| &job.state)
            && !self.alarms.contains(&(*not_before, Alarm::Ready(id)))
            && let Some(spot) = self.spot(id)
        {
            self.queue.insert(spot, id);
            self.faults_changed = true;
        }
    }

    /// Whether a job has taken so many workers along that the next one should have nothing else to lose.
    pub(super) const fn is_suspect(&self, record: &JobRecord) -> bool {
        record.losses >= self.policy.losses_until_alone
    }
}

/// Notes when a job's lease ends, and who has it.
pub(super) fn hold(
    alarms: &mut BTreeSet<(Timestamp, Alarm)>,
    workers: &mut BTreeMap<WorkerId, WorkerEntry>,
    id: JobId,
    state: &JobState,
) {
    if let Some(lease) = state.lease() {
        alarms.insert((lease.deadline, Alarm::Expire(id, lease.id)));
        if let Some(holder) = workers.get_mut(&lease.worker) {
            holder.held.insert(id);
        }
    }
}
