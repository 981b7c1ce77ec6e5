//! The state from the database's rows, and what must always hold.

use super::jobs::JobEntry;
use super::lease::FORGOTTEN_AFTER_MS;
use super::transition::hold;
use super::{
    Alarm, Counts, ExperimentEntry, JobRecord, JobState, Lease, NameId, Policy, RecipeEntry, Rows, Scheduler,
    WorkerEntry, identity,
};
use crate::id::JobId;
use crate::job::outcome::Progress;
use crate::time::Timestamp;

impl Scheduler {
    /// Rebuilds the state. Leases begin anew at `now`: their workers may well be alive, and have had nobody to report to.
    pub fn restore(policy: Policy, rows: Rows, now: Timestamp) -> Self {
        let mut scheduler = Self::new(policy.clone());
        scheduler.next_sequence = rows.last_sequence.0 + 1;
        scheduler.leases = vec![None; usize::try_from(rows.last_lease.0).unwrap_or_default()];
        for record in rows.experiments {
            scheduler.by_experiment_hash.insert(record.hash, record.id);
            let entry = ExperimentEntry { record, links: Vec::new(), counts: Counts::default() };
            scheduler.experiments.insert(entry.record.id, entry);
        }
        for (words, need) in rows.needs {
            scheduler.shapes.recall(&words, need);
        }
        scheduler.spared = rows.spared;
        scheduler.unfinished = rows.unfinished;
        scheduler.setbacks = rows.setbacks;
        for ((host, key), fault) in rows.faults {
            scheduler.faults.entry(host).or_default().insert(key, fault);
        }
        scheduler.today.pins = rows.pins;
        for (draw, reading) in rows.readings {
            scheduler.today.read(&draw, reading);
        }
        for (job, basis) in rows.bases {
            scheduler.note_basis(job, basis);
        }
        scheduler.superseded = rows.superseded;
        for (id, recipe) in rows.recipes {
            scheduler.by_recipe.insert(identity(&recipe), id);
            let entry = RecipeEntry::new(recipe, &mut scheduler.names, &mut scheduler.shapes, &policy.methods);
            scheduler.push_recipe(entry);
        }
        scheduler.last_worker = rows.last_worker;
        for record in rows.workers {
            let entry = WorkerEntry::new(record, &scheduler.today.pins, &mut scheduler.names, now);
            if entry.is_here() {
                let silent = now.plus(2 * policy.lease_ms);
                scheduler.alarms.insert((silent, Alarm::Silent(entry.record.id)));
                scheduler.by_name.insert(entry.record.description.name.clone(), entry.record.id);
            } else {
                scheduler.alarms.insert((now.plus(FORGOTTEN_AFTER_MS), Alarm::Forget(entry.record.id)));
            }
            scheduler.workers.insert(entry.record.id, WorkerEntry { used: true, ..entry });
        }
        rows.pools.into_values().for_each(|record| scheduler.fleet.add_pool(record));
        rows.pilots.into_values().for_each(|record| scheduler.fleet.add_pilot(record, now));
        scheduler.fleet.last_pilot = rows.last_pilot;
        scheduler.jobs.reserve(rows.jobs.len());
        for record in rows.jobs {
            let id = record.id;
            if let Some(needed) = record.needs.and_then(|needs| scheduler.jobs.get_mut(needs)) {
                needed.dependents.push(id);
            }
            let latest = record.latest().map(|attempt| attempt.held.lease);
            for lease in latest.into_iter().chain(record.state.lease().map(|lease| lease.id)) {
                let place = usize::try_from(lease.0 - 1).ok();
                if let Some(place) = place.and_then(|place| scheduler.leases.get_mut(place)) {
                    *place = Some(id);
                }
            }
            scheduler.jobs.push(record);
        }
        for link in rows.links {
            let Some(entry) = scheduler.experiments.get_mut(&link.experiment) else { continue };
            for job in link.jobs() {
                let Some(wanted) = scheduler.jobs.get_mut(job) else { continue };
                if wanted.experiments.last() != Some(&link.experiment) {
                    wanted.experiments.push(link.experiment);
                    let state = wanted.record.state.name();
                    *entry.counts.of(state) += 1;
                    if state.is_held() {
                        *scheduler.users.entry(entry.record.submitted_by.clone()).or_default() += 1;
                    }
                }
            }
            entry.links.push(link);
        }
        let ids: Vec<JobId> = scheduler.jobs.iter().map(|entry| entry.record.id).collect();
        for id in ids {
            scheduler.arm(id, now);
        }
        // The changes that the rows are from led to no further ones.
        scheduler.faults_changed = false;
        scheduler
    }

    /// Puts a restored job where its state says: into the queue, among the alarms, into its worker's hands.
    fn arm(&mut self, id: JobId, now: Timestamp) {
        let Some(entry) = self.jobs.get_mut(id) else { return };
        match &mut entry.record.state {
            JobState::Queued { not_before } if *not_before > now => {
                self.alarms.insert((*not_before, Alarm::Ready(id)));
            }
            JobState::Queued { .. } => self.enter_queue(id),
            state => {
                state.renew(now.plus(self.policy.lease_ms));
                hold(&mut self.alarms, &mut self.workers, id, state);
            }
        }
    }

    /// The parts of the state that a restart must bring back: two schedulers with the same one decide alike, but for the ends
    /// of leases and for where workers are warm.
    pub fn essence(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let timeless = |state: &JobState| {
            let (none, came_back, progress) = (Timestamp(0), false, Progress::default());
            match state.lease() {
                Some(lease) => {
                    let lease = Lease { since: none, came_back, deadline: none, progress, ..lease.clone() };
                    JobState::Leased(Box::new(lease))
                }
                None => state.clone(),
            }
        };
        let job = |entry: &JobEntry| {
            let record = JobRecord { state: timeless(&entry.record.state), ..entry.record.clone() };
            // Not where: names and shapes have other numbers after a restart, and decide nothing by them.
            let in_line = self.spot(record.id).is_some_and(|spot| self.queue.contains(spot, record.id));
            (entry.record.state.name(), record, in_line, entry.dependents.clone(), entry.experiments.clone())
        };
        let experiment = |entry: &ExperimentEntry| (entry.record.clone(), entry.links.clone(), entry.counts);
        let worker = |entry: &WorkerEntry| (entry.record.clone(), entry.held.clone());
        let jobs: Vec<_> = self.jobs.iter().map(job).collect();
        let experiments: Vec<_> = self.experiments.values().map(experiment).collect();
        let workers: Vec<_> = self.workers.values().map(worker).collect();
        let learned = (self.shapes.learned(), self.spared.clone(), self.unfinished.clone());
        let bases: Vec<_> = self.jobs.iter().map(|entry| self.basis(entry.record.id)).collect();
        let pools: Vec<_> = self.pools().cloned().collect();
        let pilots: Vec<_> = self.pilots().cloned().collect();
        (
            jobs,
            experiments,
            workers,
            (pools, pilots, self.fleet.last_pilot),
            learned,
            (self.faults.clone(), self.setbacks.clone()),
            (bases, self.superseded.clone(), self.today.clone()),
            (self.next_lease(), self.last_worker),
            self.next_sequence,
        )
    }

    /// What must hold after every command, as a list of what doesn't. Empty in a sound state.
    pub fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |holds: bool, what: String| {
            if !holds {
                found.push(what);
            }
        };
        let mut lined_up = 0;
        for entry in self.jobs.iter() {
            let (id, state) = (&entry.record.id, &entry.record.state);
            let in_line = self.spot(*id).is_some_and(|spot| self.queue.contains(spot, *id));
            lined_up += usize::from(in_line);
            let (ready, waiting) = match state {
                JobState::Queued { not_before } => {
                    let waiting = self.alarms.contains(&(*not_before, Alarm::Ready(*id)));
                    (!waiting, waiting)
                }
                _ => (false, false),
            };
            check(in_line == ready, format!("job {id}: {} and its place in line", state.name()));
            check(!(ready && waiting), format!("job {id}: both in line and waiting"));
            if let Some(lease) = state.lease() {
                let latest = entry.record.latest();
                check(latest == Some(lease.attempt()), format!("job {id}: its lease isn't its latest"));
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
        for job in self.unfinished.keys() {
            let is_open = self.job(*job).is_some_and(|job| !job.state.name().is_final());
            check(is_open, format!("job {job}: something is kept from which nobody will go on"));
        }
        for job in self.setbacks.keys() {
            let is_open = self.job(*job).is_some_and(|job| !job.state.name().is_final());
            check(is_open, format!("job {job}: how it was broken off is kept, and it has ended"));
        }
        for fault in self.faults() {
            let tried = fault.trial.and_then(|lease| self.job_of(lease).zip(Some(lease)));
            let runs = tried.is_none_or(|(job, lease)| self.lease_of(job.id, |own| own.id == lease).is_some());
            check(runs, format!("`{}` and {}: the attempt that tries it is over", fault.host, fault.what));
        }
        for worker in self.workers.values().filter(|worker| worker.is_here()) {
            let other = |name: &NameId| worker.other_backbone(self.names.name(*name), self.pins()).is_some();
            check(
                !worker.backbones.iter().any(other),
                format!("worker {}: other weights than pinned", worker.record.id),
            );
        }
        for job in self.basis_of.keys() {
            let has_one = self.job(*job).is_some_and(|job| job.state.name().is_done());
            check(has_one, format!("job {job}: what its result rests on is known, and it has none"));
        }
        check(self.queue.len() == lined_up, "jobs stand in line twice, or at a wrong place".to_owned());
        for worker in self.workers.values() {
            for job in &worker.held {
                let id = worker.record.id;
                let has = self.lease_of(*job, |lease| lease.worker == id).is_some();
                check(has, format!("worker {id} holds job {job}, which it has no lease of"));
            }
        }
        for (id, entry) in &self.experiments {
            let mut counts = Counts::default();
            let jobs: std::collections::BTreeSet<_> = entry.links.iter().flat_map(super::Link::jobs).collect();
            for job in jobs.iter().filter_map(|job| self.job(*job)) {
                *counts.of(job.state.name()) += 1;
            }
            check(counts == entry.counts, format!("experiment {id}: counters {:?}, jobs {counts:?}", entry.counts));
        }
        let running = |user: &Option<String>| -> usize {
            let theirs = self.experiments.values().filter(|entry| entry.record.submitted_by == *user);
            theirs.map(|entry| entry.counts.held()).sum()
        };
        for (user, count) in &self.users {
            check(*count == running(user), format!("user {user:?}: {count} jobs run, by experiment {}", running(user)));
        }
        found.extend(self.pilot_violations());
        found
    }
}
