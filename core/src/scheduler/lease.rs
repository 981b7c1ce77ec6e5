//! Workers take, renew and give back jobs; time passes.

use std::collections::BTreeSet;

use super::{
    Alarm, Attempt, AttemptEnd, Change, EventKind, Grant, Held, JobState, JobStateName, Lease, Rejection, Reply,
    Scheduler, WorkerDescription, WorkerEntry, WorkerRecord, WorkerState,
};
use crate::id::{FencingToken, JobId, LeaseId, WorkerId};
use crate::outcome::{Failure, FailureClass};
use crate::time::Timestamp;
use crate::trainer_wire::Progress;

impl Scheduler {
    /// Registers a worker process. An earlier process of the same name is gone: what it held is given back at once.
    pub(super) fn register(&mut self, description: WorkerDescription, now: Timestamp) -> Reply {
        let earlier: Vec<WorkerId> = self
            .workers
            .values()
            .filter(|worker| worker.record.description.name == description.name && worker.is_here())
            .map(|worker| worker.record.id)
            .collect();
        for worker in earlier {
            self.dismiss(worker, WorkerState::Gone, "the worker was started again", now);
        }
        let id = WorkerId(self.workers.last_key_value().map_or(1, |(last, _)| last.0 + 1));
        let record = WorkerRecord { id, description, state: WorkerState::Active, registered_at: now };
        self.workers.insert(id, WorkerEntry { record, last_seen: now, held: BTreeSet::new() });
        self.alarms.insert((self.silence_ends(now), Alarm::Silent(id)));
        self.note_worker(id, now);
        Reply::Registered(id)
    }

    /// Grants up to `slots` jobs that the worker can run.
    pub(super) fn lease(&mut self, worker: WorkerId, slots: usize, now: Timestamp) -> Result<Reply, Rejection> {
        let entry = self.seen(worker, now)?;
        if entry.record.state != WorkerState::Active {
            return Ok(Reply::Granted(Vec::new()));
        }
        let backbones = entry.record.description.backbones.clone();
        let can_run =
            |id: &JobId| self.jobs.get(id).is_some_and(|entry| backbones.contains(&entry.record.spec.backbone));
        let chosen: Vec<JobId> = self.ready.iter().map(|(.., id)| *id).filter(can_run).take(slots).collect();
        let grants = chosen.into_iter().filter_map(|job| self.grant(job, worker, now)).collect();
        Ok(Reply::Granted(grants))
    }

    fn grant(&mut self, job: JobId, worker: WorkerId, now: Timestamp) -> Option<Grant> {
        let lease = LeaseId(self.next_lease);
        self.next_lease += 1;
        // The token is the place in the event log at which the lease is granted: it only grows.
        let token = FencingToken(self.next_sequence);
        let deadline = now.plus(self.policy.lease_ms);
        self.changes.push(Change::AttemptStarted { lease, token, job, worker, at: now });
        let held = Lease { id: lease, token, worker, deadline, progress: Progress::default() };
        self.jobs.get_mut(&job)?.record.latest = Some(Attempt { held: Held { lease, token }, worker });
        self.leases.insert(lease, job);
        self.set_state(job, JobState::Leased(held), None, now);
        let record = &self.jobs.get(&job)?.record;
        let needs = record.needs.and_then(|needs| Some(self.jobs.get(&needs)?.record.spec.clone()));
        Some(Grant {
            lease,
            token,
            job,
            spec: record.spec.clone(),
            hash: record.hash,
            needs,
            ttl_ms: self.policy.lease_ms,
        })
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
        let (before, state) = match &record.state {
            JobState::Leased(lease) | JobState::Running(lease) => (lease.progress, record.state.name()),
            JobState::Queued { .. } => (Progress::default(), JobStateName::Queued),
            _ => return Err(self.stale(held, job)),
        };
        let Some(worker) = record.latest.map(|attempt| attempt.worker) else {
            return Err(self.stale(held, job));
        };
        self.seen(worker, now)?;
        let deadline = now.plus(self.policy.lease_ms);
        let Held { lease: id, token } = held;
        let lease = Lease { id, token, worker, deadline, progress: progress.unwrap_or(before) };
        if state == JobStateName::Queued {
            self.set_state(job, JobState::Leased(lease.clone()), Some("its worker is back".into()), now);
        }
        if progress.is_some() || state == JobStateName::Running {
            self.set_state(job, JobState::Running(lease), None, now);
        } else {
            self.set_state(job, JobState::Leased(lease), None, now);
        }
        Ok(Reply::Renewed { ttl_ms: self.policy.lease_ms })
    }

    /// Takes a job back that its worker could not finish, without counting it as a failure.
    pub(super) fn release(&mut self, held: Held, now: Timestamp) -> Result<Reply, Rejection> {
        let job = self.valid(held)?;
        let Some(worker) = self.holder(job) else {
            return Err(self.stale(held, job));
        };
        self.seen(worker, now)?;
        self.end_attempt(held.lease, AttemptEnd::Released, None, now);
        self.set_state(job, JobState::Queued { not_before: now }, Some("the worker released it".into()), now);
        Ok(Reply::Done)
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
            if let Some(lease) = self.jobs.get(&job).and_then(|entry| entry.record.state.lease()).map(|lease| lease.id)
            {
                self.end_attempt(lease, AttemptEnd::Released, None, now);
                self.set_state(job, JobState::Queued { not_before: now }, Some("the worker left".into()), now);
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
                Alarm::Ready(job) => self.rerank(job, |_| ()),
                Alarm::Expire(job, lease) => self.expire(job, lease, now),
                Alarm::Silent(worker) => self.check_silence(worker, now),
            }
        }
    }

    fn expire(&mut self, job: JobId, lease: LeaseId, now: Timestamp) {
        let seconds = self.policy.lease_ms / 1000;
        let failure = Failure {
            class: FailureClass::WorkerLost,
            reason: format!("the worker was silent for {seconds} seconds, and its lease ended"),
        };
        self.end_attempt(lease, AttemptEnd::Expired, Some(failure.clone()), now);
        self.attempt_failed(job, failure, now);
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

    fn dismiss(&mut self, worker: WorkerId, state: WorkerState, reason: &str, now: Timestamp) {
        let Some(entry) = self.workers.get_mut(&worker) else {
            return;
        };
        entry.record.state = state;
        for job in std::mem::take(&mut entry.held) {
            let Some(lease) = self.jobs.get(&job).and_then(|entry| entry.record.state.lease()).map(|lease| lease.id)
            else {
                continue;
            };
            let failure = Failure { class: FailureClass::WorkerLost, reason: reason.to_owned() };
            self.end_attempt(lease, AttemptEnd::Failed, Some(failure.clone()), now);
            self.attempt_failed(job, failure, now);
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
        self.changes.push(Change::Worker(record));
        self.event(EventKind::WorkerChanged { worker, name, to }, now);
    }

    pub(super) fn end_attempt(&mut self, lease: LeaseId, end: AttemptEnd, failure: Option<Failure>, now: Timestamp) {
        self.changes.push(Change::AttemptEnded { lease, at: now, end, failure });
    }

    pub(super) fn holder(&self, job: JobId) -> Option<WorkerId> {
        self.jobs.get(&job)?.record.state.lease().map(|lease| lease.worker)
    }

    /// The job of a lease that is its latest attempt's, whether or not it still runs.
    pub(super) fn valid(&self, held: Held) -> Result<JobId, Rejection> {
        let job = self.leases.get(&held.lease).copied();
        let unknown = || Rejection::Stale { lease: held.lease, reason: "there is no such lease".into() };
        let job = job.ok_or_else(unknown)?;
        let latest = self.jobs.get(&job).and_then(|entry| entry.record.latest);
        if latest.is_some_and(|attempt| attempt.held == held) { Ok(job) } else { Err(self.stale(held, job)) }
    }

    /// The reason why `held` may not write to `job`.
    pub(super) fn stale(&self, held: Held, job: JobId) -> Rejection {
        let reason = match self.jobs.get(&job) {
            None => format!("there is no job {job}"),
            Some(entry) => match entry.record.latest {
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
    pub(super) const fn is_here(&self) -> bool {
        matches!(self.record.state, WorkerState::Active | WorkerState::Draining)
    }
}
