//! Deciding who runs what.
//!
//! [`Scheduler::apply`] takes a command and the time and gives an answer and a list of changes; a rejected command changes
//! nothing. It is the only way the state moves, except for [`Scheduler::restore`], which rebuilds it from the rows that
//! the changes made. Waiting jobs lie in one ordered set, so that leasing is a walk from its front; everything that must
//! happen at a certain time lies in another.
//!
//! | file | what |
//! | --- | --- |
//! | `command` | the vocabulary: commands, replies, changes |
//! | `state` | a job's states and the table of legal transitions |
//! | `submit` | experiments come in |
//! | `lease` | workers take, renew and give back jobs; time passes |
//! | `finish` | results and failures |
//! | `control` | people cancel and retry |
//! | `restore` | the state from the database's rows, and what must always hold |
//! | `explain` | why a job waits, or why it failed |

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

mod command;
mod control;
mod explain;
mod finish;
mod lease;
mod restore;
mod state;
mod submit;
#[cfg(test)]
mod tests;

pub use command::{
    Attempt, AttemptEnd, Change, Command, Event, EventKind, ExperimentRecord, Grant, Held, JobRecord, Rejection, Reply,
    Submitted, WorkerDescription, WorkerRecord, WorkerState,
};
pub use explain::Explanation;
pub use restore::Rows;
pub use state::{Counts, JobState, JobStateName, Lease};

use crate::id::{ExperimentId, JobId, LeaseId, Sequence, WorkerId};
use crate::spec::SpecHash;
use crate::time::Timestamp;

/// The scheduler's numbers.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// How long a lease lasts without a word from its worker, in milliseconds.
    pub lease_ms: i64,
    /// The wait after a job's first failed attempt, in milliseconds; it doubles with each further one.
    pub backoff_ms: i64,
    /// The longest wait, in milliseconds.
    pub longest_backoff_ms: i64,
    /// A job that has failed so often has failed for good.
    pub most_failures: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self { lease_ms: 30_000, backoff_ms: 1_000, longest_backoff_ms: 60_000, most_failures: 5 }
    }
}

/// All live scheduling state.
#[derive(Debug)]
pub struct Scheduler {
    policy: Policy,
    experiments: BTreeMap<ExperimentId, ExperimentEntry>,
    by_experiment_hash: HashMap<SpecHash, ExperimentId>,
    jobs: BTreeMap<JobId, JobEntry>,
    by_hash: HashMap<SpecHash, JobId>,
    leases: HashMap<LeaseId, JobId>,
    workers: BTreeMap<WorkerId, WorkerEntry>,
    /// Queued jobs whose back-off is over, in the order in which they should run.
    ready: BTreeSet<Rank>,
    /// What must happen at a certain time.
    alarms: BTreeSet<(Timestamp, Alarm)>,
    next_lease: u64,
    next_sequence: u64,
    /// What the command at hand has changed so far.
    changes: Vec<Change>,
}

/// Priority first, then the job that unblocks most, then the oldest.
type Rank = (Reverse<i32>, Reverse<usize>, JobId);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    /// A job's back-off is over.
    Ready(JobId),
    /// A job's lease ends.
    Expire(JobId, LeaseId),
    /// A worker may have been silent for too long.
    Silent(WorkerId),
}

#[derive(Debug, PartialEq)]
struct ExperimentEntry {
    record: ExperimentRecord,
    jobs: Vec<(JobId, String)>,
    counts: Counts,
}

#[derive(Debug, PartialEq)]
struct JobEntry {
    record: JobRecord,
    /// The jobs that test this one's checkpoint.
    dependents: Vec<JobId>,
    /// The experiments that want it, each once.
    experiments: Vec<ExperimentId>,
}

#[derive(Debug, PartialEq)]
struct WorkerEntry {
    record: WorkerRecord,
    last_seen: Timestamp,
    held: BTreeSet<JobId>,
}

impl Scheduler {
    /// A scheduler without jobs.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            experiments: BTreeMap::new(),
            by_experiment_hash: HashMap::new(),
            jobs: BTreeMap::new(),
            by_hash: HashMap::new(),
            leases: HashMap::new(),
            workers: BTreeMap::new(),
            ready: BTreeSet::new(),
            alarms: BTreeSet::new(),
            next_lease: 1,
            next_sequence: 1,
            changes: Vec::new(),
        }
    }

    /// Carries `command` out. The changes must be durable before the reply is sent.
    pub fn apply(&mut self, command: Command, now: Timestamp) -> (Vec<Change>, Result<Reply, Rejection>) {
        let reply = match command {
            Command::Submit { experiment, jobs } => Ok(self.submit(*experiment, jobs, now)),
            Command::Register(description) => Ok(self.register(description, now)),
            Command::Lease { worker, slots } => self.lease(worker, slots, now),
            Command::Progress { held, progress } => self.progress(held, progress, now),
            Command::Complete { held, outcome, evaluation } => self.complete(held, *outcome, evaluation, now),
            Command::Fail { held, failure } => self.fail(held, failure, now),
            Command::Release { held } => self.release(held, now),
            Command::Drain { worker } => self.drain(worker, now),
            Command::Leave { worker } => self.leave(worker, now),
            Command::CancelJob(job) => self.cancel_job(job, now),
            Command::CancelExperiment(experiment) => self.cancel_experiment(experiment, now),
            Command::RetryJob(job) => self.retry_job(job, now),
            Command::RetryExperiment(experiment) => self.retry_experiment(experiment, now),
            Command::Tick => {
                self.tick(now);
                Ok(Reply::Done)
            }
        };
        (std::mem::take(&mut self.changes), reply)
    }

    /// When [`Command::Tick`] is due next; `None` while there is nothing to wait for.
    pub fn next_alarm(&self) -> Option<Timestamp> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// A job, by its identifier.
    pub fn job(&self, id: JobId) -> Option<&JobRecord> {
        self.jobs.get(&id).map(|entry| &entry.record)
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
        let links = self.experiments.get(&id).map_or(&[][..], |entry| &entry.jobs);
        links.iter().filter_map(|(job, variant)| Some((self.job(*job)?, variant.as_str())))
    }

    /// All workers, oldest first, with the time of their last word and the jobs they hold.
    pub fn workers(&self) -> impl Iterator<Item = (&WorkerRecord, Timestamp, &BTreeSet<JobId>)> {
        self.workers.values().map(|entry| (&entry.record, entry.last_seen, &entry.held))
    }

    /// The greatest sequence number given out.
    pub const fn last_sequence(&self) -> Sequence {
        Sequence(self.next_sequence - 1)
    }

    fn event(&mut self, kind: EventKind, now: Timestamp) -> Sequence {
        let sequence = Sequence(self.next_sequence);
        self.next_sequence += 1;
        self.changes.push(Change::Event(Event { sequence, at: now, kind }));
        sequence
    }

    /// Moves a job to `next` and keeps every index with it: counters, the ready set, alarms, held jobs. `reason` is for the
    /// event log.
    fn set_state(&mut self, id: JobId, next: JobState, reason: Option<String>, now: Timestamp) {
        let Some(entry) = self.jobs.get_mut(&id) else { return };
        let (from, to) = (entry.record.state.name(), next.name());
        debug_assert!(from == to || from.may_become(to), "job {id}: {from} may not become {to}");
        let rank = (Reverse(entry.record.priority), Reverse(entry.dependents.len()), id);
        let worker = next.lease().or(entry.record.state.lease()).map(|lease| lease.worker);
        match &entry.record.state {
            JobState::Queued { not_before } => {
                self.ready.remove(&rank);
                self.alarms.remove(&(*not_before, Alarm::Ready(id)));
            }
            JobState::Leased(lease) | JobState::Running(lease) => {
                self.alarms.remove(&(lease.deadline, Alarm::Expire(id, lease.id)));
                if let Some(holder) = self.workers.get_mut(&lease.worker) {
                    holder.held.remove(&id);
                }
            }
            _ => {}
        }
        match &next {
            JobState::Queued { not_before } if *not_before > now => {
                self.alarms.insert((*not_before, Alarm::Ready(id)));
            }
            JobState::Queued { .. } => {
                self.ready.insert(rank);
            }
            JobState::Leased(lease) | JobState::Running(lease) => {
                self.alarms.insert((lease.deadline, Alarm::Expire(id, lease.id)));
                if let Some(holder) = self.workers.get_mut(&lease.worker) {
                    holder.held.insert(id);
                }
            }
            _ => {}
        }
        for experiment in &entry.experiments {
            if let Some(experiment) = self.experiments.get_mut(experiment) {
                *experiment.counts.of(from) -= 1;
                *experiment.counts.of(to) += 1;
            }
        }
        entry.record.state = next.clone();
        let failures = entry.record.failures;
        if from != to {
            self.changes.push(Change::JobChanged { job: id, state: next, failures });
            self.event(EventKind::JobChanged { job: id, from: Some(from), to, worker, reason }, now);
        }
    }
}
