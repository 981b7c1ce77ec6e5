//! What must hold, checked against what was written and what was said.
//!
//! The audit knows the scheduler's promises, not its workings. It follows the changes of each batch that reached the database
//! in a few bytes for each job, so that it can also follow a million jobs, and compares every answer with them.

use std::collections::HashMap;

use promptfield_core::id::{ExperimentId, FencingToken, JobId, LeaseId, Sequence, WorkerId};
use promptfield_core::input::InvalidInput;
use promptfield_core::job::basis::Changed;
use promptfield_core::scheduler::{
    AttemptEnd, Change, Counts, Held, JobChange, JobRecord, JobStateName, Misfit, Policy, Rejection, Reply, Rows,
    Scheduler, WorkerState,
};
use promptfield_core::time::Timestamp;

use crate::basis::Bases;
use crate::faults::Faults;
use crate::packing::Packing;
use crate::wire::{Answer, Ask, NO_LEASE};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A refused command left changes.
    #[error("a command was refused, and changed something all the same")]
    RefusedButChanged,
    /// A report counted that isn't the latest attempt's.
    #[error("lease {lease} of job {job} isn't the latest, and its report was accepted")]
    StaleAccepted {
        /// The lease.
        lease: LeaseId,
        /// Its job.
        job: JobId,
    },
    /// The latest attempt's result was refused, though nobody else had begun.
    #[error("lease {lease} is the latest of job {job}, which is {state}, and its result was refused")]
    ValidRefused {
        /// The lease.
        lease: LeaseId,
        /// Its job.
        job: JobId,
        /// The job's state.
        state: JobStateName,
    },
    /// A completion was acknowledged without a result.
    #[error("the completion of job {0} was acknowledged, and no result recorded")]
    NoResult(JobId),
    /// A token isn't greater than all before it.
    #[error("token {} follows token {}", found.0, last.0)]
    TokenWentBack {
        /// The token.
        found: FencingToken,
        /// The greatest before it.
        last: FencingToken,
    },
    /// A job was leased while another lease of it was valid.
    #[error("job {job} was leased as {lease} while its lease {other} was valid")]
    TwoLeases {
        /// The job.
        job: JobId,
        /// The new lease.
        lease: LeaseId,
        /// The valid one.
        other: LeaseId,
    },
    /// A lease ended before the time that its worker was told.
    #[error("lease {lease} expired {early_ms} ms before the time that its worker was told")]
    EndedEarly {
        /// The lease.
        lease: LeaseId,
        /// How much too early.
        early_ms: i64,
    },
    /// A job could run, or ran, before its training job was done.
    #[error("job {job} is {state} while its training job is {training}")]
    TooSoon {
        /// The job.
        job: JobId,
        /// Its state.
        state: JobStateName,
        /// Its training job's state.
        training: JobStateName,
    },
    /// A transition that isn't in the table.
    #[error("job {job} went from {from} to {to}")]
    IllegalMove {
        /// The job.
        job: JobId,
        /// The state before.
        from: JobStateName,
        /// The state after.
        to: JobStateName,
    },
    /// A second result of a job, while the first counts.
    #[error("job {0} has a second result")]
    SecondResult(JobId),
    /// A result was superseded that isn't there.
    #[error("the result of job {0} was superseded, and it has none")]
    NothingToSupersede(JobId),
    /// A worker was told something wrong of the folders that a job may find.
    #[error(
        "job {job} was granted as one whose folder counts, or as one whose folder doesn't; whether it's to be put aside: {afresh}"
    )]
    WrongAfresh {
        /// The job.
        job: JobId,
        /// Whether its result, or that of its training, was superseded.
        afresh: bool,
    },
    /// A result is stale and isn't said to be, or the other way about, or for another reason.
    #[error(
        "by what was written, this is another than when the result of job {job} came in: {written:?}; the scheduler says {known:?}"
    )]
    WrongStale {
        /// The job.
        job: JobId,
        /// What the changes say.
        written: Option<Changed>,
        /// What the scheduler says.
        known: Option<Changed>,
    },
    /// An older reading took the place of a later one.
    #[error("an older reading of `{0}` took the place of a later one")]
    ReadingWentBack(String),
    /// A worker got a job though it's known to have other weights than those that the backbone is pinned to.
    #[error("worker {worker} got job {job}, and is known to have other weights")]
    OtherWeights {
        /// The worker.
        worker: WorkerId,
        /// The job.
        job: JobId,
    },
    /// A job is done without a result, or has one without being done.
    #[error("job {job} is {state} and has {results} results")]
    ResultAndState {
        /// The job.
        job: JobId,
        /// Its state.
        state: JobStateName,
        /// Its results.
        results: u8,
    },
    /// An experiment's counters differ from its jobs.
    #[error("experiment {experiment} counts {counted:?}, and its jobs are {jobs:?}")]
    WrongCounts {
        /// The experiment.
        experiment: ExperimentId,
        /// What the scheduler says.
        counted: Box<Counts>,
        /// What the changes say.
        jobs: Box<Counts>,
    },
    /// A job that was written down is unknown, or is something else than what was written.
    #[error("job {job} is {written} in the database and {known:?} in the scheduler")]
    JobLost {
        /// The job.
        job: JobId,
        /// Its written state.
        written: JobStateName,
        /// What the scheduler knows.
        known: Option<JobStateName>,
    },
    /// Results that were recorded neither count nor were superseded.
    #[error("results that were recorded are gone")]
    ResultsLost,
    /// The scheduler knows a job that was never written down.
    #[error("the scheduler knows job {0}, which was never written")]
    JobFromNowhere(JobId),
    /// A worker that held something got a job for which it held too much.
    #[error(
        "worker {worker} got job {job} as one of {jobs} at once, of which {measured} MiB are known; too many, or too large"
    )]
    TooMuch {
        /// The worker.
        worker: WorkerId,
        /// The job.
        job: JobId,
        /// How many jobs it holds with it.
        jobs: usize,
        /// The sum of what was measured of jobs like them, in MiB.
        measured: u64,
    },
    /// What is known of a shape's memory became less careful.
    #[error("less is known of the memory of `{0}` than before")]
    Unlearned(String),
    /// A second out-of-memory error of a job was overlooked.
    #[error("a second out-of-memory error of job {0} was overlooked")]
    SparedTwice(JobId),
    /// A machine got a job that it was found unable to do.
    #[error("worker {worker} got job {job}, though {fault}")]
    GivenToUnable {
        /// The worker.
        worker: WorkerId,
        /// The job.
        job: JobId,
        /// What was found.
        fault: String,
    },
    /// What was just found is to be tried again at once.
    #[error("{fault}, and that is to be tried again at once")]
    TriedTooSoon {
        /// What was found.
        fault: String,
    },
    /// A failure was counted that isn't the job's, or one wasn't that is.
    #[error("job {job} has {found} counted failures, and should have {expected}")]
    WrongFailures {
        /// The job.
        job: JobId,
        /// By what was written.
        expected: u32,
        /// What the scheduler says.
        found: u32,
    },
    /// A client was told something that isn't in the database.
    #[error("a client was answered {answer} to {ask}, and the database doesn't have it")]
    SaidNotWritten {
        /// What it asked.
        ask: String,
        /// What it was told.
        answer: String,
    },
    /// The same experiment led to two.
    #[error("an experiment was submitted again and became {second} besides {first}")]
    SubmittedTwice {
        /// The first.
        first: ExperimentId,
        /// The second.
        second: ExperimentId,
    },
    /// A change names what was never written, or leaves a gap.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// The state rebuilt from the rows differs from the state in memory.
    #[error("the state rebuilt from the database differs from the state in memory")]
    Diverged,
    /// What the scheduler itself finds wrong.
    #[error("the scheduler's state is unsound: {0}")]
    Unsound(String),
    /// Faults have stopped long ago, and a job still hasn't come to its end.
    #[error("job {job} is still {state} {hours} hours after the last fault: {because}")]
    Waits {
        /// The job.
        job: JobId,
        /// Its state.
        state: JobStateName,
        /// Virtual hours since the faults stopped.
        hours: i64,
        /// The scheduler's explanation.
        because: String,
    },
    /// Faults have stopped long ago, and somebody still has no answer.
    #[error("{0} calls of people are still without an answer long after the last fault")]
    Unanswered(usize),
    /// An experiment of the simulation's own is refused.
    #[error(transparent)]
    Plan(#[from] InvalidInput),
}

/// A command that was carried out, as the coordinator saw it.
#[derive(Debug)]
pub(crate) struct Applied {
    /// `None` for what the coordinator does by itself.
    pub(crate) ask: Option<Ask>,
    pub(crate) changes: Vec<Change>,
    pub(crate) reply: Result<Reply, Rejection>,
}

/// The written state, as far as promises rest on it.
#[derive(Debug)]
pub(crate) struct Audit {
    policy: Policy,
    jobs: Vec<JobNote>,
    /// The job of each attempt.
    leases: Vec<JobId>,
    experiments: Vec<Counts>,
    recipes: usize,
    /// Experiments that want a job besides its first.
    shared: HashMap<JobId, Vec<ExperimentId>>,
    workers: Vec<WorkerState>,
    /// What each plan became.
    plans: HashMap<usize, ExperimentId>,
    last_token: FencingToken,
    last_sequence: Sequence,
    touched: Vec<ExperimentId>,
    open: usize,
    packing: Packing,
    bases: Bases,
    faults: Faults,
    /// Whether what results rest on is followed.
    small: bool,
    /// Results that were recorded.
    recorded: u64,
    /// Jobs granted, and jobs brought to an end.
    decisions: u64,
}

#[derive(Clone, Copy, Debug)]
struct JobNote {
    /// 0 for a job that needs none.
    needs: JobId,
    /// 0 until it's linked.
    experiment: ExperimentId,
    /// 0 before the first attempt.
    latest: Held,
    /// Until when the latest lease's worker was told that it lasts.
    promised: Timestamp,
    state: JobStateName,
    /// Whether the latest lease is valid.
    valid: bool,
    results: u8,
}

impl Audit {
    pub(crate) fn new(policy: Policy, small: bool) -> Self {
        Self {
            policy,
            jobs: Vec::new(),
            leases: Vec::new(),
            experiments: Vec::new(),
            recipes: 0,
            shared: HashMap::new(),
            workers: Vec::new(),
            plans: HashMap::new(),
            last_token: FencingToken(0),
            last_sequence: Sequence(0),
            touched: Vec::new(),
            open: 0,
            packing: Packing::default(),
            bases: Bases::default(),
            faults: Faults::default(),
            small,
            recorded: 0,
            decisions: 0,
        }
    }

    /// Jobs that haven't come to their end.
    pub(crate) const fn open(&self) -> usize {
        self.open
    }

    pub(crate) const fn jobs(&self) -> usize {
        self.jobs.len()
    }

    pub(crate) const fn experiments(&self) -> usize {
        self.experiments.len()
    }

    pub(crate) const fn workers(&self) -> usize {
        self.workers.len()
    }

    pub(crate) const fn decisions(&self) -> u64 {
        self.decisions
    }

    /// Out-of-memory errors that were overlooked.
    pub(crate) fn spared(&self) -> usize {
        self.packing.spared()
    }

    /// How often a machine was found unable to use something, and losses of workers that didn't count.
    pub(crate) const fn faults(&self) -> (u64, u64) {
        (self.faults.found(), self.faults.uncounted())
    }

    /// The scheduler was rebuilt.
    pub(crate) fn restarted(&mut self) {
        self.faults.restarted();
    }

    /// Results that were superseded.
    pub(crate) const fn superseded(&self) -> u64 {
        self.bases.count()
    }

    /// Whether a lease was granted for a job of which a result was superseded, and isn't its latest.
    pub(crate) fn is_from_before(&self, held: Held) -> bool {
        self.job_of(held.lease).is_some_and(|job| self.bases.is_superseded(job))
            && self.latest(held.lease).is_some_and(|latest| latest != held && latest != NO_LEASE)
    }

    pub(crate) const fn last_sequence(&self) -> Sequence {
        self.last_sequence
    }

    /// The first job from one on that has a result; the job itself, if there is none.
    pub(crate) fn done_from(&self, job: JobId) -> JobId {
        let later = (1..).map(JobId).zip(&self.jobs).skip((job.0 as usize).saturating_sub(1));
        later.filter(|(_, note)| note.state.is_done()).map(|(job, _)| job).next().unwrap_or(job)
    }

    /// The bytes that the audit itself takes for jobs.
    pub(crate) fn bytes(&self) -> usize {
        self.jobs.capacity() * size_of::<JobNote>() + self.packing.bytes()
    }

    pub(crate) fn is_draining(&self, worker: WorkerId) -> bool {
        self.workers.get((worker.0 as usize).wrapping_sub(1)) == Some(&WorkerState::Draining)
    }

    /// The latest lease of the job that a lease was granted for.
    pub(crate) fn latest(&self, lease: LeaseId) -> Option<Held> {
        let job = self.job_of(lease)?;
        self.job(job).map(|note| note.latest)
    }

    pub(crate) fn job_of(&self, lease: LeaseId) -> Option<JobId> {
        self.leases.get((lease.0 as usize).wrapping_sub(1)).copied()
    }

    /// The final counts over all jobs.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for note in &self.jobs {
            *counts.of(note.state) += 1;
        }
        counts
    }

    /// A command whose changes were written at `at`, in the order in which it was carried out.
    pub(crate) fn written(&mut self, applied: &Applied, at: Timestamp) -> Result<(), Violation> {
        if applied.reply.is_err() && !applied.changes.is_empty() {
            return Err(Violation::RefusedButChanged);
        }
        if let Some(ask) = applied.ask {
            self.reply(ask, applied)?;
        }
        if self.small {
            self.faults.applied(applied);
        }
        for change in &applied.changes {
            self.change(change, at)?;
        }
        if let Ok(Reply::Granted(grants)) = &applied.reply {
            grants.iter().try_for_each(|grant| self.bases.granted(grant))?;
        }
        if let (Some(held), Ok(Reply::Renewed { ttl_ms })) = (applied.ask.and_then(Ask::held), &applied.reply)
            && let Some(job) = self.job_of(held.lease)
            && let Some(note) = self.job_mut(job)
        {
            note.promised = at.plus(*ttl_ms);
        }
        Ok(())
    }

    /// Whether the answer to a report is right in the state before it.
    fn reply(&self, ask: Ask, applied: &Applied) -> Result<(), Violation> {
        let Some(held) = ask.held() else { return Ok(()) };
        let known = self.job_of(held.lease).and_then(|job| Some((job, self.job(job)?)));
        let Some((job, note)) = known else {
            return if applied.reply.is_ok() {
                Err(Violation::StaleAccepted { lease: held.lease, job: JobId(0) })
            } else {
                Ok(())
            };
        };
        let hearable = note.latest == held && (note.state.is_held() || note.state.is_done() || note.is_queued());
        let completes = matches!(ask, Ask::Complete { .. });
        match &applied.reply {
            Ok(_) if !hearable => return Err(Violation::StaleAccepted { lease: held.lease, job }),
            Err(_) if completes && hearable => {
                return Err(Violation::ValidRefused { lease: held.lease, job, state: note.state });
            }
            _ => {}
        }
        let records = applied.changes.iter().any(|change| matches!(change, Change::ResultRecorded { .. }));
        if completes && applied.reply.is_ok() && note.results == 0 && !records {
            return Err(Violation::NoResult(job));
        }
        Ok(())
    }

    fn change(&mut self, change: &Change, at: Timestamp) -> Result<(), Violation> {
        self.packing.change(change)?;
        self.bases.change(change, self.small)?;
        if self.small {
            self.faults.change(change, at)?;
        }
        match change {
            Change::ExperimentAdded(record) => {
                follows("experiment", self.experiments.len(), record.id.0)?;
                self.experiments.push(Counts::default());
            }
            Change::ExperimentCancelled { experiment, .. } => {
                self.counts_of(*experiment)?;
            }
            Change::JobsAdded(records) => records.iter().try_for_each(|record| self.add(record, at))?,
            Change::RecipeAdded(id, _) => {
                follows("recipe", self.recipes, id.0)?;
                self.recipes += 1;
            }
            Change::JobsLinked(link) => link.jobs().try_for_each(|job| self.link(link.experiment, job))?,
            Change::JobChanged(change) => self.moves(change, at)?,
            Change::AttemptStarted { lease, token, job, .. } => {
                self.attempt(*job, Held { lease: *lease, token: *token }, at)?;
            }
            Change::AttemptEnded { lease, end, .. } => self.ends(*lease, *end, at)?,
            Change::ResultRecorded { job, .. } => {
                self.recorded += 1;
                let note = self.known(*job)?;
                note.results += 1;
                if note.results > 1 {
                    return Err(Violation::SecondResult(*job));
                }
            }
            Change::ResultSuperseded { job, .. } => {
                let note = self.known(*job)?;
                note.results = note.results.checked_sub(1).ok_or(Violation::NothingToSupersede(*job))?;
            }
            Change::Worker(record) => {
                let place = (record.id.0 as usize).wrapping_sub(1);
                if let Some(state) = self.workers.get_mut(place) {
                    *state = record.state;
                } else {
                    follows("worker", self.workers.len(), record.id.0)?;
                    self.workers.push(record.state);
                }
            }
            // The former are the packing's, the bases' and the faults'; nobody here keeps unfinished work, or has pools.
            Change::NeedChanged { .. }
            | Change::MachineFault { .. }
            | Change::SetbackChanged { .. }
            | Change::WorkerForgotten { .. }
            | Change::DataRead { .. }
            | Change::BackbonePinned { .. }
            | Change::JobSpared(_)
            | Change::UnfinishedChanged { .. }
            | Change::Pool(_)
            | Change::Pilot(_) => {}
            Change::Event(event) => {
                follows("event", self.last_sequence.0 as usize, event.sequence.0)?;
                self.last_sequence = event.sequence;
            }
        }
        Ok(())
    }

    fn add(&mut self, record: &JobRecord, at: Timestamp) -> Result<(), Violation> {
        follows("job", self.jobs.len(), record.id.0)?;
        let state = record.state.name();
        self.open += usize::from(!state.is_final());
        self.jobs.push(JobNote {
            needs: record.needs.unwrap_or(JobId(0)),
            experiment: ExperimentId(0),
            latest: NO_LEASE,
            promised: at,
            state,
            valid: false,
            results: 0,
        });
        self.check_needs(record.id)
    }

    fn link(&mut self, experiment: ExperimentId, job: JobId) -> Result<(), Violation> {
        let note = self.known(job)?;
        let (state, first) = (note.state, note.experiment);
        if first == ExperimentId(0) {
            note.experiment = experiment;
        } else if first == experiment {
            return Ok(());
        } else {
            let others = self.shared.entry(job).or_default();
            if others.contains(&experiment) {
                return Ok(());
            }
            others.push(experiment);
        }
        *self.counts_of(experiment)?.of(state) += 1;
        self.touched.push(experiment);
        Ok(())
    }

    fn moves(&mut self, change: &JobChange, at: Timestamp) -> Result<(), Violation> {
        let lease_ms = self.policy.lease_ms;
        let JobChange { job, state: next, latest, .. } = change;
        let job = *job;
        let note = self.known(job)?;
        let (from, to) = (note.state, next.name());
        if let Some(lease) = next.lease().filter(|lease| lease.attempt().held != note.latest) {
            return Err(Violation::StaleAccepted { lease: lease.id, job });
        }
        if from == to {
            // Its priority rose.
            return Ok(());
        }
        if !from.may_become(to) {
            return Err(Violation::IllegalMove { job, from, to });
        }
        match next.lease() {
            Some(_) if !note.valid => {
                // Its worker was cut off, and is back.
                note.valid = true;
                note.promised = at.plus(lease_ms);
            }
            Some(_) => {}
            None => note.valid = false,
        }
        if latest.is_none() {
            // Whoever had it has said that it's over.
            note.latest = NO_LEASE;
        }
        note.state = to;
        if to.is_done() != (note.results == 1) {
            return Err(Violation::ResultAndState { job, state: to, results: note.results });
        }
        let first = note.experiment;
        if from.is_done() {
            self.check_tests(job)?;
        }
        self.open += usize::from(!to.is_final());
        self.open -= usize::from(!from.is_final());
        self.decisions += u64::from(to.is_final());
        self.recount(first, from, to)?;
        for other in self.shared.get(&job).cloned().unwrap_or_default() {
            self.recount(other, from, to)?;
        }
        self.check_needs(job)
    }

    fn recount(&mut self, experiment: ExperimentId, from: JobStateName, to: JobStateName) -> Result<(), Violation> {
        let counts = self.counts_of(experiment)?;
        let left = counts.of(from);
        *left = left.saturating_sub(1);
        *counts.of(to) += 1;
        if self.touched.last() != Some(&experiment) {
            self.touched.push(experiment);
        }
        Ok(())
    }

    fn attempt(&mut self, job: JobId, held: Held, at: Timestamp) -> Result<(), Violation> {
        follows("attempt", self.leases.len(), held.lease.0)?;
        if held.token <= self.last_token {
            return Err(Violation::TokenWentBack { found: held.token, last: self.last_token });
        }
        self.last_token = held.token;
        self.leases.push(job);
        self.decisions += 1;
        let promised = at.plus(self.policy.lease_ms);
        let note = self.known(job)?;
        if note.valid {
            return Err(Violation::TwoLeases { job, lease: held.lease, other: note.latest.lease });
        }
        (note.latest, note.valid, note.promised) = (held, true, promised);
        Ok(())
    }

    fn ends(&mut self, lease: LeaseId, end: AttemptEnd, at: Timestamp) -> Result<(), Violation> {
        let Some(note) = self.job_of(lease).and_then(|job| self.job_mut(job)) else {
            return Err(Violation::StaleAccepted { lease, job: JobId(0) });
        };
        if note.latest.lease != lease {
            // The word of an attempt that was over already.
            return Ok(());
        }
        if end == AttemptEnd::Expired && at < note.promised {
            return Err(Violation::EndedEarly { lease, early_ms: note.promised.since(at) });
        }
        note.valid = false;
        Ok(())
    }

    /// A job that can run, or runs, needs a training job that is done.
    fn check_needs(&self, job: JobId) -> Result<(), Violation> {
        let Some(note) = self.job(job) else { return Ok(()) };
        let Some(training) = self.job(note.needs) else { return Ok(()) };
        if (note.is_queued() || note.state.is_held()) && !training.state.is_done() {
            return Err(Violation::TooSoon { job, state: note.state, training: training.state });
        }
        Ok(())
    }

    /// What tests a job's checkpoint waits when the job is computed again.
    fn check_tests(&self, job: JobId) -> Result<(), Violation> {
        let later = (1..).map(JobId).zip(&self.jobs).skip(job.0 as usize).filter(|(_, note)| note.needs == job);
        for (test, note) in later {
            if note.is_queued() || note.state.is_held() || note.state.is_done() {
                let training = self.job(job).map_or(JobStateName::Queued, |note| note.state);
                return Err(Violation::TooSoon { job: test, state: note.state, training });
            }
        }
        Ok(())
    }

    /// What a client was told must be in the database by the time it hears it.
    pub(crate) fn heard(&mut self, ask: Ask, answer: &Answer) -> Result<(), Violation> {
        let written = match answer {
            Answer::Granted(works) => works.iter().all(|work| self.job_of(work.lease) == Some(work.job)),
            Answer::Registered(worker) => worker.0 as usize <= self.workers.len(),
            Answer::Submitted { experiment, jobs, .. } => {
                let counts = self.experiments.get((experiment.0 as usize).wrapping_sub(1));
                counts.is_some_and(|counts| counts.total() == *jobs)
            }
            Answer::Done => match ask {
                Ask::Complete { lease, .. } => {
                    // It may have been superseded before its worker heard that it was recorded.
                    self.job_of(lease).is_some_and(|job| {
                        let counts = |note: &JobNote| note.results == 1 && note.state.is_done();
                        self.job(job).is_some_and(counts) || self.bases.is_superseded(job)
                    })
                }
                _ => true,
            },
            _ => true,
        };
        if !written {
            let (ask, answer) = (format!("{ask:?}"), format!("{answer:?}"));
            return Err(Violation::SaidNotWritten { ask, answer });
        }
        if let (Ask::Submit(plan), Answer::Submitted { experiment, .. }) = (ask, answer) {
            let first = *self.plans.entry(plan).or_insert(*experiment);
            if first != *experiment {
                return Err(Violation::SubmittedTwice { first, second: *experiment });
            }
        }
        Ok(())
    }

    /// After a batch: the counters of the experiments that it touched.
    pub(crate) fn compare_touched(&mut self, scheduler: &Scheduler) -> Result<(), Violation> {
        for experiment in std::mem::take(&mut self.touched) {
            self.compare_experiment(experiment, scheduler)?;
        }
        Ok(())
    }

    fn compare_experiment(&self, experiment: ExperimentId, scheduler: &Scheduler) -> Result<(), Violation> {
        let jobs = self.experiments.get((experiment.0 as usize).wrapping_sub(1)).copied().unwrap_or_default();
        let counted = scheduler.experiment(experiment).map(|(_, counts)| *counts).unwrap_or_default();
        if counted == jobs {
            Ok(())
        } else {
            Err(Violation::WrongCounts { experiment, counted: counted.into(), jobs: jobs.into() })
        }
    }

    /// Every job and every experiment, against a scheduler that has nothing unwritten: after a restart, and in the end.
    pub(crate) fn compare_all(&self, scheduler: &Scheduler) -> Result<(), Violation> {
        for (job, note) in (1..).map(JobId).zip(&self.jobs) {
            let known = scheduler.job(job);
            let latest = known.and_then(JobRecord::latest).map_or(NO_LEASE, |attempt| attempt.held);
            let known = known.map(|known| known.state.name());
            if known != Some(note.state) || latest != note.latest {
                return Err(Violation::JobLost { job, written: note.state, known });
            }
            if note.state.is_done() != (note.results == 1) {
                return Err(Violation::ResultAndState { job, state: note.state, results: note.results });
            }
        }
        let next = JobId(self.jobs.len() as u64 + 1);
        if scheduler.job(next).is_some() {
            return Err(Violation::JobFromNowhere(next));
        }
        (1..=self.experiments.len() as u64).try_for_each(|id| self.compare_experiment(ExperimentId(id), scheduler))
    }

    /// Everything that can be looked at, with the state rebuilt from the rows if there are any. `now` is when the scheduler
    /// last let time pass.
    pub(crate) fn inspect(&self, scheduler: &Scheduler, rows: Option<&Rows>, now: Timestamp) -> Result<(), Violation> {
        if let Some(unsound) = scheduler.violations().into_iter().next() {
            return Err(Violation::Unsound(unsound));
        }
        if let Some(rows) = rows
            && Scheduler::restore(self.policy.clone(), rows.clone(), now).essence() != scheduler.essence()
        {
            return Err(Violation::Diverged);
        }
        self.bases.compare(scheduler)?;
        self.compare_all(scheduler)
    }

    /// Whether all that was recorded counts, or was superseded.
    pub(crate) fn is_all_there(&self) -> bool {
        let count: u64 = self.jobs.iter().map(|note| u64::from(note.results)).sum();
        self.recorded == count + self.bases.count()
    }

    /// The first job that hasn't come to its end.
    pub(crate) fn first_open(&self) -> Option<(JobId, JobStateName)> {
        let open = (1..).map(JobId).zip(&self.jobs).find(|(_, note)| !note.state.is_final());
        open.map(|(job, note)| (job, note.state))
    }

    fn job(&self, id: JobId) -> Option<&JobNote> {
        self.jobs.get((id.0 as usize).wrapping_sub(1))
    }

    fn job_mut(&mut self, id: JobId) -> Option<&mut JobNote> {
        self.jobs.get_mut((id.0 as usize).wrapping_sub(1))
    }

    fn known(&mut self, id: JobId) -> Result<&mut JobNote, Violation> {
        self.job_mut(id).ok_or_else(|| Misfit::NoJob(id).into())
    }

    fn counts_of(&mut self, id: ExperimentId) -> Result<&mut Counts, Violation> {
        self.experiments.get_mut((id.0 as usize).wrapping_sub(1)).ok_or_else(|| Misfit::NoExperiment(id).into())
    }
}

impl JobNote {
    fn is_queued(&self) -> bool {
        self.state == JobStateName::Queued
    }
}

/// Identifiers count up from 1 without a gap.
fn follows(what: &'static str, known: usize, id: u64) -> Result<(), Violation> {
    let last = known as u64;
    if id == last + 1 { Ok(()) } else { Err(Misfit::OutOfOrder { what, id, last }.into()) }
}
