//! Workers take, renew and give back jobs; time passes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::load::Load;
use super::{
    Alarm, Attempt, AttemptEnd, Change, EventKind, ExperimentEntry, Grant, GroupKey, Held, JobRecord, JobState,
    LaneKey, Lease, NameId, Names, Queue, Rejection, Reply, Scheduler, WorkerDescription, WorkerEntry, WorkerKind,
    WorkerRecord, WorkerState,
};
use crate::id::{FencingToken, JobId, LeaseId, WorkerId};
use crate::job::outcome::{Failure, FailureClass, Progress};
use crate::job::spec::BasisHash;
use crate::time::Timestamp;

/// A worker that has been gone for so long is no longer listed, in milliseconds.
pub(super) const FORGOTTEN_AFTER_MS: i64 = 24 * 60 * 60 * 1000;
/// Of the jobs of a group, so many are looked at for one that a worker has time for.
const LOOKED_AT: usize = 64;

impl Scheduler {
    /// Registers a worker process. An earlier process of the same name at the same place is gone: what it held is given back at once.
    /// One that lives elsewhere keeps its name.
    pub(super) fn register(&mut self, description: WorkerDescription, now: Timestamp) -> Result<Reply, Rejection> {
        let pilot = description.pilot.as_deref().map(|key| self.wanted_pilot(key)).transpose()?;
        let earlier = self.by_name.get(&description.name).copied();
        earlier.map_or(Ok(()), |earlier| self.check_place(earlier, &description, now))?;
        self.end_faults_at(&description);
        if let Some(earlier) = earlier {
            self.dismiss(earlier, WorkerState::Gone, "the worker was started again", now);
        }
        let id = WorkerId(self.last_worker.0 + 1);
        self.last_worker = id;
        let record = WorkerRecord { id, description, state: WorkerState::Active, registered_at: now };
        self.by_name.insert(record.description.name.clone(), id);
        self.workers.insert(id, WorkerEntry::new(record, &self.today.pins, &mut self.names, now));
        self.alarms.insert((self.silence_ends(now), Alarm::Silent(id)));
        self.note_worker(id, now);
        if let Some(pilot) = pilot {
            self.arrived(pilot, id, now);
        }
        Ok(Reply::Registered(id))
    }

    /// Refuses a name whose worker was heard of lately, from elsewhere: two of one name would push each other out for ever.
    fn check_place(&self, earlier: WorkerId, description: &WorkerDescription, now: Timestamp) -> Result<(), Rejection> {
        let Some(entry) = self.workers.get(&earlier) else { return Ok(()) };
        let WorkerDescription { name, host, output_root, .. } = entry.record.description.clone();
        let ends = entry.last_seen.plus(self.policy.lease_ms);
        // Who said nothing of its output root was of an earlier version.
        let same_root = output_root.is_empty() || output_root == description.output_root;
        if ends <= now || (host == description.host && same_root) {
            return Ok(());
        }
        let heard_s = now.since(entry.last_seen) / 1000;
        let wait_s = ends.since(now).unsigned_abs().div_ceil(1000).cast_signed();
        Err(Rejection::NameTaken { name, host, output_root, heard_s, wait_s })
    }

    /// Grants up to `slots` jobs that the worker can run.
    pub(super) fn lease(&mut self, worker: WorkerId, slots: usize, now: Timestamp) -> Result<Reply, Rejection> {
        let entry = self.seen(worker, now)?;
        if entry.record.state != WorkerState::Active {
            return Ok(Reply::Granted(Vec::new()));
        }
        let mut grants = Vec::new();
        let mut load = self.load(worker);
        while grants.len() < slots {
            let Some(job) = self.next_for(worker, &load, now) else { break };
            let Some(grant) = self.grant(job, worker, now) else { break };
            load.add(self, job);
            grants.push(grant);
        }
        Ok(Reply::Granted(grants))
    }

    /// The job that a worker should take next.
    fn next_for(&self, worker: WorkerId, load: &Load, now: Timestamp) -> Option<JobId> {
        let entry = self.workers.get(&worker)?;
        let share = |lane: &LaneKey| {
            let owner = self.experiments.get(&lane.owner)?;
            let free = owner.has_room() && self.obstacle(lane, entry, load).is_none();
            let of_user = self.users.get(&owner.record.submitted_by).copied().unwrap_or_default();
            free.then_some((of_user, owner.counts.held(), lane.owner))
        };
        let may = |record: &JobRecord| self.in_time(record, entry, now) && self.bar(entry, record, now).is_none();
        let in_time = |job: &JobId| self.job(*job).is_some_and(may);
        // Those of a group take about equally long.
        let first = |group: &GroupKey, jobs: &BTreeSet<JobId>| {
            let fits = self.fits(group.shape, load, entry);
            fits.then(|| jobs.iter().take(LOOKED_AT).copied().find(in_time)).flatten()
        };
        let lane = self.queue.best_lane(share, first)?;
        let own = self.folders_at(&entry.record.description.host);
        let warmest = own.chain(entry.fresh.iter().copied()).chain(self.kin_at(worker)).filter(in_time);
        self.queue.next(&lane, first, warmest, &entry.warm)
    }

    fn grant(&mut self, job: JobId, worker: WorkerId, now: Timestamp) -> Option<Grant> {
        let lease = self.next_lease();
        // The token is the place in the event log at which the lease is granted: it only grows.
        let token = FencingToken(self.next_sequence);
        let deadline = now.plus(self.policy.lease_ms);
        self.changes.push(Change::AttemptStarted { lease, token, job, worker, at: now });
        self.leave_queue(job);
        let entry = self.jobs.get_mut(job)?;
        let (since, progress, came_back) = (now, Progress::default(), false);
        let held = Box::new(Lease { id: lease, token, worker, since, came_back, deadline, progress });
        entry.record.latest = Some(Box::new(held.attempt()));
        self.leases.push(Some(job));
        self.set_state(job, JobState::Leased(held), None, now);
        let record = &self.jobs.get(job)?.record;
        let place = self.recipe(record.recipe)?.place;
        if let Some(entry) = self.workers.get_mut(&worker) {
            entry.used = true;
            entry.move_to(place, &mut self.queue);
        }
        self.note_kin(job, worker);
        self.begin_trials(job, lease, worker);
        let record = &self.jobs.get(job)?.record;
        let needs = record.needs.and_then(|needs| Some((needs, self.job(needs)?.spec.clone())));
        Some(Grant {
            lease,
            token,
            job,
            spec: record.spec.clone(),
            hash: record.hash,
            needs,
            unfinished: self.unfinished.get(&job).cloned(),
            backbone_sha256: self.today.pins.get(&record.spec.recipe.backbone).copied(),
            afresh: self.is_afresh(job),
            ttl_ms: self.policy.lease_ms,
        })
    }

    /// The next lease's number; one more than the last.
    pub(super) const fn next_lease(&self) -> LeaseId {
        LeaseId(self.leases.len() as u64 + 1)
    }

    /// The tests of a checkpoint go first to the worker that made it, as long as it remembers.
    pub(super) fn note_fresh(&mut self, trained: JobId) {
        let Some(entry) = self.jobs.get(trained) else { return };
        let Some(worker) = entry.record.latest().and_then(|attempt| self.workers.get_mut(&attempt.worker)) else {
            return;
        };
        let room = 2 * worker.record.description.slots.max(1);
        for job in &entry.dependents {
            if worker.fresh.len() >= room {
                worker.fresh.pop_front();
            }
            worker.fresh.push_back(*job);
        }
    }

    /// Renews a lease. One that has ended begins anew if nobody else has taken the job: its worker was cut off for a while
    /// and kept training.
    pub(super) fn progress(
        &mut self,
        held: Held,
        progress: Option<Progress>,
        now: Timestamp,
    ) -> Result<Reply, Rejection> {
        let job = self.valid(held)?;
        let Some(record) = self.job(job) else {
            return Err(Rejection::NoJob(job));
        };
        let deadline = now.plus(self.policy.lease_ms);
        let mut state = record.state.clone();
        if let Some(lease) = state.lease_mut() {
            lease.deadline = deadline;
            lease.progress = progress.unwrap_or(lease.progress);
            self.seen(lease.worker, now)?;
        } else if let (JobState::Queued { .. }, Some(Attempt { held: Held { lease: id, token }, worker })) =
            (&record.state, record.latest())
        {
            self.seen(worker, now)?;
            let progress = progress.unwrap_or_default();
            let lease = Lease { id, token, worker, since: now, came_back: true, deadline, progress };
            state = JobState::Leased(Box::new(lease));
            self.forgive(job);
            self.set_state(job, state.clone(), Some("its worker is back".into()), now);
        } else {
            return Err(self.stale(held, job));
        }
        if let (JobState::Leased(lease), Some(_)) = (&state, progress) {
            state = JobState::Running(lease.clone());
        }
        self.set_state(job, state, None, now);
        Ok(Reply::Renewed { ttl_ms: self.policy.lease_ms })
    }

    /// Takes back the failure that was counted when a lease ended: its worker was there all along.
    fn forgive(&mut self, job: JobId) {
        self.leave_queue(job);
        let counted = self.setbacks.get(&job).is_none_or(|setback| setback.counted);
        if let Some(entry) = self.jobs.get_mut(job) {
            entry.record.failures -= u32::from(counted && entry.record.failures > 0);
            entry.record.losses = entry.record.losses.saturating_sub(1);
        }
    }

    /// Takes a job back that its worker could not finish, without counting it as a failure.
    pub(super) fn release(
        &mut self,
        held: Held,
        unfinished: Option<String>,
        now: Timestamp,
    ) -> Result<Reply, Rejection> {
        let job = self.valid(held)?;
        let Some(worker) = self.lease_of(job, |lease| lease.id == held.lease).map(|lease| lease.worker) else {
            return Err(self.stale(held, job));
        };
        self.seen(worker, now)?;
        if let Some(sha256) = unfinished {
            self.unfinished.insert(job, sha256.clone());
            self.changes.push(Change::UnfinishedChanged { job, sha256: Some(sha256) });
        }
        self.give_back(job, held.lease, "the worker released it", now);
        Ok(Reply::Done)
    }

    /// Ends an attempt unharmed: the job waits again.
    pub(super) fn give_back(&mut self, job: JobId, lease: LeaseId, reason: &str, now: Timestamp) {
        self.end_attempt(lease, AttemptEnd::Released, None, now);
        self.forget_attempt(job);
        self.set_state(job, JobState::Queued { not_before: now }, Some(reason.to_owned()), now);
    }

    /// A job's lease, if it's the one that is meant.
    pub(super) fn lease_of(&self, job: JobId, which: impl Fn(&Lease) -> bool) -> Option<&Lease> {
        self.job(job)?.state.lease().filter(|lease| which(lease))
    }

    /// Gives a worker no more jobs.
    pub(super) fn drain(&mut self, worker: WorkerId, now: Timestamp) -> Result<Reply, Rejection> {
        let entry = self.workers.get_mut(&worker).filter(|entry| entry.is_here()).ok_or(Rejection::NoWorker(worker))?;
        if entry.record.state == WorkerState::Active {
            entry.record.state = WorkerState::Draining;
            self.note_worker(worker, now);
        }
        Ok(Reply::Done)
    }

    /// Lets a worker go; what it still holds is given back.
    pub(super) fn leave(&mut self, worker: WorkerId, now: Timestamp) -> Result<Reply, Rejection> {
        let held = &self.workers.get(&worker).filter(|entry| entry.is_here()).ok_or(Rejection::NoWorker(worker))?.held;
        for job in held.clone() {
            if let Some(lease) = self.lease_of(job, |lease| lease.worker == worker).map(|lease| lease.id) {
                self.give_back(job, lease, "the worker left", now);
            }
        }
        self.dismiss(worker, WorkerState::Gone, "the worker left", now);
        Ok(Reply::Done)
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, now: Timestamp) {
        while let Some(&(at, alarm)) = self.alarms.first().filter(|(at, _)| *at <= now) {
            self.alarms.remove(&(at, alarm));
            match alarm {
                Alarm::Ready(job) => self.enter_queue(job),
                Alarm::Expire(job, lease) => self.expire(job, lease, now),
                Alarm::Silent(worker) => self.check_silence(worker, now),
                Alarm::Forget(worker) => self.forget_worker(worker),
            }
        }
    }

    fn expire(&mut self, job: JobId, lease: LeaseId, now: Timestamp) {
        let seconds = self.policy.lease_ms / 1000;
        let failure = Failure {
            class: FailureClass::WorkerLost,
            reason: format!("the worker was silent for {seconds} seconds, and its lease ended"),
        };
        self.lose(job, lease, AttemptEnd::Expired, failure, now);
    }

    fn forget_worker(&mut self, worker: WorkerId) {
        if let Some(entry) = self.workers.remove(&worker) {
            self.changes.push(Change::WorkerForgotten { worker, used: entry.used });
        }
    }

    fn check_silence(&mut self, worker: WorkerId, now: Timestamp) {
        let Some(entry) = self.workers.get(&worker).filter(|entry| entry.is_here()) else {
            return;
        };
        let ends = self.silence_ends(entry.last_seen);
        if ends > now {
            self.alarms.insert((ends, Alarm::Silent(worker)));
        } else {
            self.dismiss(worker, WorkerState::Lost, "the worker was silent for too long", now);
        }
    }

    /// A worker that says nothing for two lease times is lost: its leases have ended by then.
    const fn silence_ends(&self, last_seen: Timestamp) -> Timestamp {
        last_seen.plus(2 * self.policy.lease_ms)
    }

    pub(super) fn dismiss(&mut self, worker: WorkerId, state: WorkerState, reason: &str, now: Timestamp) {
        let Some(entry) = self.workers.get_mut(&worker) else {
            return;
        };
        entry.record.state = state;
        self.by_name.remove(&entry.record.description.name);
        entry.forget(&mut self.queue);
        self.alarms.insert((now.plus(FORGOTTEN_AFTER_MS), Alarm::Forget(worker)));
        for job in std::mem::take(&mut entry.held) {
            let Some(lease) = self.lease_of(job, |lease| lease.worker == worker).map(|lease| lease.id) else {
                continue;
            };
            let failure = Failure { class: FailureClass::WorkerLost, reason: reason.to_owned() };
            self.lose(job, lease, AttemptEnd::Failed, failure, now);
        }
        self.note_worker(worker, now);
    }

    /// Notes a word from a worker.
    fn seen(&mut self, worker: WorkerId, now: Timestamp) -> Result<&WorkerEntry, Rejection> {
        let entry = self.workers.get_mut(&worker).filter(|entry| entry.is_here()).ok_or(Rejection::NoWorker(worker))?;
        entry.last_seen = entry.last_seen.max(now);
        Ok(entry)
    }

    fn note_worker(&mut self, worker: WorkerId, now: Timestamp) {
        let Some(record) = self.workers.get(&worker).map(|entry| entry.record.clone()) else {
            return;
        };
        let (name, to) = (record.description.name.clone(), record.state);
        self.faults_changed = true;
        self.changes.push(Change::Worker(record));
        self.event(EventKind::WorkerChanged { worker, name, to }, now);
    }

    pub(super) fn end_attempt(&mut self, lease: LeaseId, end: AttemptEnd, failure: Option<Failure>, now: Timestamp) {
        self.changes.push(Change::AttemptEnded { lease, at: now, end, failure });
        self.end_trials(lease);
    }

    /// Nothing that comes later under a job's latest lease is heard: its holder has said itself that it's over, or somebody cancelled the job.
    pub(super) fn forget_attempt(&mut self, job: JobId) {
        if let Some(entry) = self.jobs.get_mut(job) {
            entry.record.latest = None;
        }
    }

    /// The job of a lease that is its latest attempt's, whether or not it still runs.
    pub(super) fn valid(&self, held: Held) -> Result<JobId, Rejection> {
        let place = held.lease.0.checked_sub(1).and_then(|place| usize::try_from(place).ok());
        let job = place.and_then(|place| self.leases.get(place));
        let unknown = |reason: &str| Rejection::Stale { lease: held.lease, reason: reason.to_owned() };
        let job = job.ok_or_else(|| unknown("there is no such lease"))?;
        let job = job.ok_or_else(|| unknown("it is over"))?;
        let latest = self.jobs.get(job).and_then(|entry| entry.record.latest());
        if latest.is_some_and(|attempt| attempt.held == held) { Ok(job) } else { Err(self.stale(held, job)) }
    }

    /// The reason why `held` may not write to `job`.
    pub(super) fn stale(&self, held: Held, job: JobId) -> Rejection {
        let reason = match self.jobs.get(job) {
            None => format!("there is no job {job}"),
            Some(entry) => match entry.record.latest() {
                Some(Attempt { held: latest, .. }) if latest.lease != held.lease => {
                    format!("job {job} was leased again, as {}", latest.lease)
                }
                Some(Attempt { held: latest, .. }) if latest.token != held.token => {
                    format!("it was granted with token {}, not {}", latest.token.0, held.token.0)
                }
                _ => format!("job {job} is {}", entry.record.state.name()),
            },
        };
        Rejection::Stale { lease: held.lease, reason }
    }
}

impl WorkerEntry {
    /// A worker that has nothing yet.
    pub(super) fn new(
        record: WorkerRecord,
        pins: &BTreeMap<String, BasisHash>,
        names: &mut Names,
        now: Timestamp,
    ) -> Self {
        let (warm, fresh) = (VecDeque::new(), VecDeque::new());
        let ends_at = record.description.time_left_ms.map(|left| record.registered_at.plus(left));
        let (kind, backbones) = able(&record.description, pins, names);
        let (last_seen, idle_since) = (now, now);
        let used = record.description.pilot.is_some();
        Self { record, kind, backbones, last_seen, idle_since, ends_at, held: BTreeSet::new(), used, warm, fresh }
    }

    /// Finds out anew what it can run: the pins, or what is known of its weights, changed.
    pub(super) fn find_able(&mut self, pins: &BTreeMap<String, BasisHash>, names: &mut Names) {
        (self.kind, self.backbones) = able(&self.record.description, pins, names);
    }

    /// The identity of its weights for a backbone, if it is another than the pinned one.
    pub(super) fn other_backbone(&self, backbone: &str, pins: &BTreeMap<String, BasisHash>) -> Option<BasisHash> {
        self.record.description.other_backbone(backbone, pins)
    }

    pub(super) const fn is_here(&self) -> bool {
        matches!(self.record.state, WorkerState::Active | WorkerState::Draining)
    }

    /// Its slots are warm for as many places as there are slots, the latest.
    fn move_to(&mut self, place: NameId, queue: &mut Queue) {
        if self.warm.front() == Some(&place) {
            return;
        }
        match self.warm.iter().position(|warm| *warm == place) {
            Some(position) => {
                self.warm.remove(position);
            }
            None => queue.warmed(place),
        }
        self.warm.push_front(place);
        while self.warm.len() > self.record.description.slots.max(1) {
            self.warm.pop_back().into_iter().for_each(|place| queue.cooled(place));
        }
    }

    /// What its process knew went with it.
    fn forget(&mut self, queue: &mut Queue) {
        self.warm.drain(..).for_each(|place| queue.cooled(place));
        self.fresh.clear();
    }
}

/// What a worker can run: its kind, and the backbones whose weights it has, and not others of the same name.
fn able(
    description: &WorkerDescription,
    pins: &BTreeMap<String, BasisHash>,
    names: &mut Names,
) -> (WorkerKind, Vec<NameId>) {
    let WorkerDescription { backbones, labels, methods, .. } = description;
    let mut able: Vec<&str> = backbones.iter().map(String::as_str).collect();
    able.retain(|name| description.other_backbone(name, pins).is_none());
    able.sort_unstable();
    let mut carried = labels.clone();
    carried.sort_unstable();
    let kind = WorkerKind(names.number(&format!("{able:?} {carried:?} {methods:?}")));
    (kind, able.into_iter().map(|name| names.number(name)).collect())
}

impl WorkerDescription {
    /// The identity of its weights for a backbone, if it is another than the pinned one.
    pub fn other_backbone(&self, backbone: &str, pins: &BTreeMap<String, BasisHash>) -> Option<BasisHash> {
        let pinned = pins.get(backbone)?;
        self.backbone_sha256.get(backbone).copied().filter(|own| own != pinned)
    }
}

impl ExperimentEntry {
    /// Whether another of its jobs may run.
    pub(super) fn has_room(&self) -> bool {
        self.has_room_beside(0)
    }

    /// The same, if so many more ran than do now.
    pub(super) fn has_room_beside(&self, more: usize) -> bool {
        self.record.experiment.max_running.is_none_or(|most| self.counts.held() + more < most as usize)
    }
}
