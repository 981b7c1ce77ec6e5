//! The state from the database's rows, and what must always hold.

use super::{
    Alarm, Counts, ExperimentEntry, ExperimentRecord, JobEntry, JobRecord, JobState, Lease, Policy, Scheduler,
    WorkerEntry, WorkerRecord,
};
use crate::id::{ExperimentId, JobId, LeaseId, Sequence};
use crate::time::Timestamp;

/// Everything that the changes of earlier runs left behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The experiments, by identifier.
    pub experiments: Vec<ExperimentRecord>,
    /// The jobs, by identifier.
    pub jobs: Vec<JobRecord>,
    /// Experiments' jobs with the sweep's values, in the order in which they were linked.
    pub links: Vec<(ExperimentId, JobId, String)>,
    /// The workers, by identifier.
    pub workers: Vec<WorkerRecord>,
    /// Every attempt and its job.
    pub attempts: Vec<(LeaseId, JobId)>,
    /// The greatest sequence number of the event log.
    pub last_sequence: Sequence,
}

impl Scheduler {
    /// Rebuilds the state. Leases begin anew at `now`: their workers may well be alive, and have had nobody to report to.
    pub fn restore(policy: Policy, rows: Rows, now: Timestamp) -> Self {
        let mut scheduler = Self::new(policy);
        scheduler.next_sequence = rows.last_sequence.0 + 1;
        scheduler.next_lease = rows.attempts.iter().map(|(lease, _)| lease.0 + 1).max().unwrap_or(1);
        scheduler.leases = rows.attempts.into_iter().collect();
        for record in rows.experiments {
            scheduler.by_experiment_hash.insert(record.hash, record.id);
            let entry = ExperimentEntry { record, jobs: Vec::new(), counts: Counts::default() };
            scheduler.experiments.insert(entry.record.id, entry);
        }
        for record in rows.workers {
            let entry = WorkerEntry { record, last_seen: now, held: std::collections::BTreeSet::new() };
            if entry.is_here() {
                let silent = now.plus(2 * policy.lease_ms);
                scheduler.alarms.insert((silent, Alarm::Silent(entry.record.id)));
            }
            scheduler.workers.insert(entry.record.id, entry);
        }
        for record in rows.jobs {
            scheduler.by_hash.insert(record.hash, record.id);
            if let Some(needed) = record.needs.and_then(|needs| scheduler.jobs.get_mut(&needs)) {
                needed.dependents.push(record.id);
            }
            let entry = JobEntry { record, dependents: Vec::new(), experiments: Vec::new() };
            scheduler.jobs.insert(entry.record.id, entry);
        }
        for (experiment, job, variant) in rows.links {
            let (Some(entry), Some(wanted)) =
                (scheduler.experiments.get_mut(&experiment), scheduler.jobs.get_mut(&job))
            else {
                continue;
            };
            if !wanted.experiments.contains(&experiment) {
                wanted.experiments.push(experiment);
                *entry.counts.of(wanted.record.state.name()) += 1;
            }
            entry.jobs.push((job, variant));
        }
        let ids: Vec<JobId> = scheduler.jobs.keys().copied().collect();
        for id in ids {
            scheduler.arm(id, now);
        }
        scheduler
    }

    /// Puts a restored job where its state says: into the ready set, among the alarms, into its worker's hands.
    fn arm(&mut self, id: JobId, now: Timestamp) {
        let Some(entry) = self.jobs.get_mut(&id) else { return };
        match &mut entry.record.state {
            JobState::Queued { not_before } if *not_before > now => {
                self.alarms.insert((*not_before, Alarm::Ready(id)));
            }
            JobState::Queued { .. } => self.rerank(id, |_| ()),
            JobState::Leased(lease) | JobState::Running(lease) => {
                lease.deadline = now.plus(self.policy.lease_ms);
                let Lease { id: lease, deadline, worker, .. } = *lease;
                self.alarms.insert((deadline, Alarm::Expire(id, lease)));
                if let Some(holder) = self.workers.get_mut(&worker) {
                    holder.held.insert(id);
                }
            }
            _ => {}
        }
    }

    /// What must hold after every command, as a list of what doesn't. Empty in a sound state.
    pub fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |holds: bool, what: String| {
            if !holds {
                found.push(what);
            }
        };
        for (id, entry) in &self.jobs {
            let state = &entry.record.state;
            let rank = (std::cmp::Reverse(entry.record.priority), std::cmp::Reverse(entry.dependents.len()), *id);
            let (ready, waiting) = match state {
                JobState::Queued { not_before } => {
                    let waiting = self.alarms.contains(&(*not_before, Alarm::Ready(*id)));
                    (!waiting, waiting)
                }
                _ => (false, false),
            };
            check(self.ready.contains(&rank) == ready, format!("job {id}: {} and its place in line", state.name()));
            check(!(ready && waiting), format!("job {id}: both in line and waiting"));
            if let Some(lease) = state.lease() {
                check(
                    entry
                        .record
                        .latest
                        .is_some_and(|latest| (latest.held.lease, latest.held.token) == (lease.id, lease.token)),
                    format!("job {id}: its lease isn't its latest"),
                );
                let alarm = (lease.deadline, Alarm::Expire(*id, lease.id));
                check(self.alarms.contains(&alarm), format!("job {id}: its lease never ends"));
                let held = self.workers.get(&lease.worker).is_some_and(|worker| worker.held.contains(id));
                check(held, format!("job {id}: its worker doesn't hold it"));
            }
            let needs_done =
                entry.record.needs.and_then(|needs| self.job(needs)).is_none_or(|job| job.state.name().is_done());
            let free = !matches!(state, JobState::Queued { .. } | JobState::Leased(_) | JobState::Running(_));
            check(free || needs_done, format!("job {id}: {} before its training job is done", state.name()));
            check(*state != JobState::Blocked || !needs_done, format!("job {id}: blocked by a job that is done"));
        }
        check(self.ready.len() <= self.jobs.len(), "more jobs in line than there are".to_owned());
        for worker in self.workers.values() {
            for job in &worker.held {
                let holder = self.holder(*job);
                check(
                    holder == Some(worker.record.id),
                    format!("worker {} holds job {job} of {holder:?}", worker.record.id),
                );
            }
        }
        for (id, entry) in &self.experiments {
            let mut counts = Counts::default();
            let jobs: std::collections::BTreeSet<_> = entry.jobs.iter().map(|(job, _)| *job).collect();
            for job in jobs.iter().filter_map(|job| self.job(*job)) {
                *counts.of(job.state.name()) += 1;
            }
            check(counts == entry.counts, format!("experiment {id}: counters {:?}, jobs {counts:?}", entry.counts));
        }
        found
    }
}
