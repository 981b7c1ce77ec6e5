//! The one task that owns the scheduler and the database's write connection.
//!
//! It takes all requests that wait, carries them out in order, writes what they changed in one transaction, and only then
//! answers any of them: an answer means that the change is on the disk, and one fsync serves many requests. Then come the
//! looks at the state, which so see nothing that could still be undone.
//!
//! A commit that fails leaves the database as it was, and the scheduler ahead of it. So the scheduler is thrown away and
//! rebuilt from the database before anything else is done; everybody in that batch is told that nothing was stored.
//!
//! Workers that wait for a job are parked here. Looking for a job and going to sleep are one step of one task, so no wake-up
//! can be lost, and a job that becomes ready goes to the first who can run it in the very transaction that made it ready.

use std::collections::HashSet;
use std::time::Duration;

use promptfield_core::chain::chain;
use promptfield_core::id::{Sequence, WorkerId};
use promptfield_core::scheduler::{
    Change, Command, Grant, Held, JobState, Policy, Rejection, Reply, Scheduler, Submitted, WorkerState,
};
use promptfield_core::time::Timestamp;
use promptfield_core::wire::api::{ExperimentSummary, SubmitResponse};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::store::{KeptAnswer, Key, Removal, Store, StoreError, Telemetry, TokenChange, Told, Writes};
use crate::tokens::Tokens;

pub(crate) mod handed;
mod parking;

use parking::Parking;

/// Requests of one transaction.
const BATCH: usize = 1024;

/// Why a request changed nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The scheduler refuses.
    #[error(transparent)]
    Rejected(Rejection),
    /// The database could not be written.
    #[error("the database can't be written, and nothing was changed: {0}")]
    NotStored(String),
    /// Something else was submitted under the same key.
    #[error("the key `{0}` stands for another submission: choose a new key for each experiment")]
    KeyReused(String),
    /// The scheduler gave an answer to another question: a bug.
    #[error("an unexpected reply: {0:?}")]
    Unexpected(Box<Reply>),
    /// All places to wait in are taken.
    #[error("too many requests wait already, and nothing was changed")]
    Busy,
    /// The coordinator is stopping.
    #[error("the coordinator is stopping")]
    Stopping,
}

type Answer = oneshot::Sender<Result<Reply, WriteError>>;
/// The answers to several commands, or why none was carried out.
type Answers = oneshot::Sender<Result<Vec<Result<Reply, Rejection>>, WriteError>>;
/// A command, and what a running job reported with it.
pub(crate) type Reported = (Command, Option<Telemetry>);
type Submitting = Result<SubmitResponse, WriteError>;
/// Gets the state, or why there is none.
type Look = Box<dyn FnOnce(Result<(&Scheduler, Timestamp), WriteError>) + Send>;

enum Request {
    /// A command.
    Apply(Command, Answer),
    /// What a worker says of several leases.
    ApplyAll(Vec<Reported>, Answers),
    /// An experiment comes in.
    Submit(Submission),
    /// A worker wants jobs, and waits for them.
    Poll(Poll),
    /// Change tokens.
    Tokens(Vec<TokenChange>, Answer),
    /// A webhook was told of events.
    Told(Told, Answer),
    /// Can the database be written?
    Probe(Answer),
    /// Take away what is old.
    Remove(Removing),
    /// Look at the state.
    Look(Look),
}

/// What goes, and who hears how many rows it was.
struct Removing {
    removal: Removal,
    answer: oneshot::Sender<Result<u64, WriteError>>,
}

/// An experiment, and what its client calls it.
struct Submission {
    command: Command,
    key: Option<Key>,
    answer: oneshot::Sender<Submitting>,
}

/// A worker that waits for a job.
#[derive(Debug)]
struct Poll {
    worker: WorkerId,
    slots: usize,
    /// When it asked.
    since: Instant,
    until: Instant,
    answer: Answer,
}

/// How the writer is told to end.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    /// Nobody waits for a job any more.
    pub(crate) stop: CancellationToken,
    /// What has come in is dealt with, and then the task ends.
    pub(crate) close: CancellationToken,
}

/// What the writer works with.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) policy: Policy,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) tokens: Tokens,
    pub(crate) metrics: Metrics,
    pub(crate) signals: Signals,
}

/// Sends requests to the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    inbox: mpsc::Sender<Request>,
    sequence: watch::Receiver<Sequence>,
    reports: watch::Receiver<u64>,
}

impl Writer {
    /// Starts the task.
    pub(crate) fn start(store: Store, scheduler: Scheduler, setup: Setup) -> (Self, JoinHandle<()>) {
        let Setup { policy, limits, clock, tokens, metrics, signals } = setup;
        let (sender, inbox) = mpsc::channel(limits.inbox.max(1));
        let (sequence, published) = watch::channel(scheduler.last_sequence());
        let (reports, reported) = watch::channel(0);
        let task = Task {
            store,
            scheduler: Some(scheduler),
            tokens,
            policy,
            clock,
            limits,
            metrics,
            signals,
            inbox,
            sequence,
            reports,
            parking: Parking::default(),
            undelivered: Vec::new(),
        };
        (Self { inbox: sender, sequence: published, reports: reported }, tokio::spawn(task.run()))
    }

    /// Carries a command out.
    pub(crate) async fn apply(&self, command: Command) -> Result<Reply, WriteError> {
        self.ask(|answer| Request::Apply(command, answer)).await
    }

    /// Carries several commands out, each for itself, and keeps what jobs reported with those that were not refused.
    pub(crate) async fn apply_all(&self, reported: Vec<Reported>) -> Result<Vec<Result<Reply, Rejection>>, WriteError> {
        let (answers, replies) = oneshot::channel();
        self.send(Request::ApplyAll(reported, answers))?;
        replies.await.map_err(|_| WriteError::Stopping)?
    }

    /// Carries [`Command::Submit`] out. Under a key that stands for the same submission, gives the answer that it got.
    pub(crate) async fn submit(&self, command: Command, key: Option<Key>) -> Submitting {
        let (answer, submitted) = oneshot::channel();
        self.send(Request::Submit(Submission { command, key, answer }))?;
        submitted.await.map_err(|_| WriteError::Stopping)?
    }

    /// Grants a worker jobs; waits up to `wait` for the first.
    pub(crate) async fn lease(&self, worker: WorkerId, slots: usize, wait: Duration) -> Result<Reply, WriteError> {
        let since = Instant::now();
        self.ask(|answer| Request::Poll(Poll { worker, slots, since, until: since + wait, answer })).await
    }

    /// Writes changes of tokens; when this returns, they are in force.
    pub(crate) async fn change_tokens(&self, changes: Vec<TokenChange>) -> Result<(), WriteError> {
        self.ask(|answer| Request::Tokens(changes, answer)).await.map(drop)
    }

    /// Notes how far a webhook has been told of the events.
    pub(crate) async fn note_told(&self, told: Told) -> Result<(), WriteError> {
        self.ask(|answer| Request::Told(told, answer)).await.map(drop)
    }

    /// Finds out whether the database can be written, by writing to it.
    pub(crate) async fn probe(&self) -> Result<Reply, WriteError> {
        self.ask(Request::Probe).await
    }

    /// Takes a piece of what is old away, and says how many rows it was.
    pub(crate) async fn remove(&self, removal: Removal) -> Result<u64, WriteError> {
        let (answer, removed) = oneshot::channel();
        self.send(Request::Remove(Removing { removal, answer }))?;
        removed.await.map_err(|_| WriteError::Stopping)?
    }

    /// Looks at the state. The writer does nothing else meanwhile: clone what is needed and be gone.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Scheduler, Timestamp) -> T + Send + 'static,
    ) -> Result<T, WriteError> {
        let (answer, seen) = oneshot::channel();
        let look = Box::new(move |state: Result<(&Scheduler, Timestamp), WriteError>| {
            // Who asked may be gone.
            let _ = answer.send(state.map(|(scheduler, now)| look(scheduler, now)));
        });
        self.send(Request::Look(look))?;
        seen.await.map_err(|_| WriteError::Stopping)?
    }

    /// The last event that is on the disk.
    pub(crate) fn sequence(&self) -> watch::Receiver<Sequence> {
        self.sequence.clone()
    }

    /// Changes whenever numbers or lines of running jobs were written.
    pub(crate) fn reports(&self) -> watch::Receiver<u64> {
        self.reports.clone()
    }

    async fn ask(&self, request: impl FnOnce(Answer) -> Request) -> Result<Reply, WriteError> {
        let (answer, reply) = oneshot::channel();
        self.send(request(answer))?;
        reply.await.map_err(|_| WriteError::Stopping)?
    }

    /// Puts a request into the inbox, at once or not at all: who would have to wait for a place is better told so.
    fn send(&self, request: Request) -> Result<(), WriteError> {
        // A worker that waits for jobs may go: what it's granted then is given back.
        let changes = !matches!(request, Request::Look(_) | Request::Poll(_));
        self.inbox.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => WriteError::Busy,
            TrySendError::Closed(_) => WriteError::Stopping,
        })?;
        if changes {
            handed::note();
        }
        Ok(())
    }
}

struct Task {
    store: Store,
    /// `None` after a commit that failed, until the database could be read again.
    scheduler: Option<Scheduler>,
    tokens: Tokens,
    policy: Policy,
    clock: Clock,
    limits: Limits,
    metrics: Metrics,
    signals: Signals,
    inbox: mpsc::Receiver<Request>,
    sequence: watch::Sender<Sequence>,
    /// Counts the commits with reports of running jobs.
    reports: watch::Sender<u64>,
    /// Workers that wait for a job.
    parking: Parking,
    /// Leases whose worker was gone when the answer was ready.
    undelivered: Vec<Held>,
}

/// What becomes of the requests that are dealt with together.
#[derive(Default)]
struct Batch {
    writes: Writes,
    answers: Vec<(Answer, Result<Reply, Rejection>)>,
    several: Vec<(Answers, Vec<Result<Reply, Rejection>>)>,
    submissions: Vec<(oneshot::Sender<Submitting>, Submitting)>,
    looks: Vec<Look>,
    removals: Vec<Removing>,
    polls: Vec<Poll>,
    /// Since when those waited who get an answer to their poll.
    polled: Vec<Instant>,
    /// A job may have become ready.
    ready: bool,
    /// What workers can run may have changed.
    kinds: bool,
    /// Workers that get no more jobs from now on.
    dismissed: HashSet<WorkerId>,
}

impl Batch {
    fn apply(&mut self, scheduler: &mut Scheduler, command: Command, now: Timestamp) -> Result<Reply, Rejection> {
        let (changes, reply) = scheduler.apply(command, now);
        self.ready |= changes.iter().any(makes_ready);
        self.kinds |= changes.iter().any(changes_kinds);
        self.dismissed.extend(changes.iter().filter_map(dismisses));
        self.writes.changes.extend(changes);
        reply
    }

    fn lease(&mut self, scheduler: &mut Scheduler, poll: &Poll, now: Timestamp) -> Result<Reply, Rejection> {
        self.apply(scheduler, Command::Lease { worker: poll.worker, slots: poll.slots }, now)
    }
}

fn grants_nothing(reply: &Result<Reply, Rejection>) -> bool {
    matches!(reply, Ok(Reply::Granted(grants)) if grants.is_empty())
}

impl Batch {
    /// Carries a submission out, and keeps its answer if it has a key.
    fn submit(&mut self, scheduler: &mut Scheduler, command: Command, key: Option<Key>, now: Timestamp) -> Submitting {
        let Submitted { experiment, created, .. } = match self.apply(scheduler, command, now) {
            Ok(Reply::Submitted(submitted)) => submitted,
            Ok(other) => return Err(WriteError::Unexpected(Box::new(other))),
            Err(rejection) => return Err(WriteError::Rejected(rejection)),
        };
        let found = scheduler.experiment(experiment);
        let (record, counts) = found.ok_or(WriteError::Rejected(Rejection::NoExperiment(experiment)))?;
        let answer = SubmitResponse { created, experiment: ExperimentSummary::new(record, counts) };
        self.writes.keys.extend(key.map(|key| KeptAnswer { key, answer: answer.clone(), at: now }));
        Ok(answer)
    }
}

fn dismisses(change: &Change) -> Option<WorkerId> {
    match change {
        Change::Worker(record) if record.state != WorkerState::Active => Some(record.id),
        _ => None,
    }
}

fn changes_kinds(change: &Change) -> bool {
    match change {
        Change::Worker(record) => record.state == WorkerState::Active,
        Change::BackbonePinned { .. } => true,
        _ => false,
    }
}

fn makes_ready(change: &Change) -> bool {
    match change {
        Change::JobsAdded(jobs) => jobs.iter().any(|job| matches!(job.state, JobState::Queued { .. })),
        Change::JobChanged(change) => matches!(change.state, JobState::Queued { .. }),
        // Perhaps more of them fit now, or another worker is right for them.
        Change::NeedChanged { .. } | Change::BackbonePinned { .. } | Change::MachineFault { .. } => true,
        _ => false,
    }
}

impl Task {
    async fn run(mut self) {
        let mut requests = Vec::with_capacity(BATCH);
        let Signals { stop, close } = self.signals.clone();
        loop {
            let wake = self.wake_at();
            tokio::select! {
                received = self.inbox.recv_many(&mut requests, BATCH) => if received == 0 { break },
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                () = stop.cancelled(), if !self.parking.is_empty() => {}
                () = close.cancelled(), if !self.inbox.is_closed() => self.inbox.close(),
            }
            self.batch(&mut requests).await;
        }
        if let Err(error) = self.store.close().await {
            tracing::error!(error = chain(&error), "can't close the database");
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        if !self.undelivered.is_empty() {
            return Some(Instant::now());
        }
        let alarm = self.scheduler.as_ref().and_then(Scheduler::next_alarm).map(|alarm| self.clock.instant(alarm));
        self.parking.first_end().into_iter().chain(alarm).min()
    }

    async fn batch(&mut self, requests: &mut Vec<Request>) {
        // After a failure, those who wait look again at what the others did not get.
        let mut batch = Batch { ready: self.scheduler.is_none(), ..Batch::default() };
        let mut scheduler = match self.scheduler().await {
            Ok(scheduler) => scheduler,
            Err(error) => {
                refuse(requests.drain(..), &error);
                let mut parking = std::mem::take(&mut self.parking);
                refuse(std::iter::from_fn(|| parking.take_ended(Instant::now(), true)).map(Request::Poll), &error);
                return;
            }
        };
        let now = self.clock.now();
        for held in self.undelivered.drain(..) {
            // A refusal means that the lease has ended by other means.
            let _ = batch.apply(&mut scheduler, Command::Release { held, unfinished: None }, now);
        }
        for request in requests.drain(..) {
            match request {
                Request::Apply(command, answer) => {
                    let reply = batch.apply(&mut scheduler, command, now);
                    batch.answers.push((answer, reply));
                }
                Request::ApplyAll(reported, answers) => {
                    let mut replies = Vec::with_capacity(reported.len());
                    for (command, telemetry) in reported {
                        let reply = batch.apply(&mut scheduler, command, now);
                        batch.writes.telemetry.extend(telemetry.filter(|_| reply.is_ok()));
                        replies.push(reply);
                    }
                    batch.several.push((answers, replies));
                }
                Request::Submit(Submission { command, key, answer }) => {
                    let kept = match &key {
                        Some(key) => {
                            let here = batch.writes.keys.iter().find(|kept| kept.key.name == key.name).cloned();
                            answer_under(&mut self.store, key, here, now).await
                        }
                        None => Ok(None),
                    };
                    let response = match kept {
                        Ok(Some(response)) => Ok(response),
                        Ok(None) => batch.submit(&mut scheduler, command, key, now),
                        Err(error) => Err(error),
                    };
                    batch.submissions.push((answer, response));
                }
                Request::Poll(poll) => batch.polls.push(poll),
                Request::Tokens(changes, answer) => {
                    batch.writes.tokens.extend(changes);
                    batch.answers.push((answer, Ok(Reply::Done)));
                }
                Request::Told(told, answer) => {
                    batch.writes.told.push(told);
                    batch.answers.push((answer, Ok(Reply::Done)));
                }
                Request::Probe(answer) => {
                    batch.writes.readiness = Some(now);
                    batch.answers.push((answer, Ok(Reply::Done)));
                }
                Request::Remove(removing) => batch.removals.push(removing),
                Request::Look(look) => batch.looks.push(look),
            }
        }
        // Time passes after everyone was heard: no lease ends while its renewal waits in the inbox.
        if scheduler.next_alarm().is_some_and(|alarm| alarm <= now) {
            let _ = batch.apply(&mut scheduler, Command::Tick, now);
            batch.ready = true;
        }
        self.serve_polls(&mut scheduler, &mut batch, now);
        self.finish(scheduler, batch, now).await;
    }

    /// The scheduler, rebuilt from the database if it was thrown away.
    async fn scheduler(&mut self) -> Result<Scheduler, WriteError> {
        if let Some(scheduler) = self.scheduler.take() {
            return Ok(scheduler);
        }
        let loaded = async { Ok::<_, StoreError>((self.store.load().await?, self.store.durations().await?)) };
        match loaded.await {
            Ok((rows, took)) => {
                tracing::info!("the state was rebuilt from the database");
                let mut scheduler = Scheduler::restore(self.policy, rows, self.clock.now());
                scheduler.recall(&took);
                Ok(scheduler)
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "can't rebuild the state from the database");
                Err(WriteError::NotStored(chain(&error)))
            }
        }
    }

    /// Gives jobs to those who wait for them, and parks the others.
    fn serve_polls(&mut self, scheduler: &mut Scheduler, batch: &mut Batch, now: Timestamp) {
        let instant = Instant::now();
        if batch.kinds {
            self.parking.sort(|worker| scheduler.kind_of(worker));
        }
        if batch.ready {
            self.serve_parked(scheduler, batch, now, instant);
        }
        let stopping = self.signals.stop.is_cancelled();
        while let Some(poll) = self.parking.take_ended(instant, stopping) {
            batch.answers.push((poll.answer, Ok(Reply::Granted(Vec::new()))));
        }
        for poll in self.parking.take_of(&batch.dismissed) {
            let reply = batch.lease(scheduler, &poll, now);
            batch.answers.push((poll.answer, reply));
        }
        for poll in std::mem::take(&mut batch.polls) {
            let reply = batch.lease(scheduler, &poll, now);
            let kind = scheduler.kind_of(poll.worker).filter(|_| scheduler.takes_jobs(poll.worker));
            match kind.filter(|_| grants_nothing(&reply) && poll.until > instant && !stopping) {
                Some(kind) if self.parking.len() < self.limits.waiting => self.parking.park(kind, poll),
                // Who asked may be gone.
                Some(_) => drop(poll.answer.send(Err(WriteError::Busy))),
                None => {
                    batch.polled.push(poll.since);
                    batch.answers.push((poll.answer, reply));
                }
            }
        }
    }

    fn serve_parked(&mut self, scheduler: &mut Scheduler, batch: &mut Batch, now: Timestamp, instant: Instant) {
        let mut in_vain = HashSet::new();
        let mut last = None;
        while let Some((place, kind, poll)) = self.parking.after(last, &in_vain) {
            last = Some(place);
            if poll.answer.is_closed() {
                self.parking.take(place);
                continue;
            }
            let reply = batch.lease(scheduler, poll, now);
            if !grants_nothing(&reply) {
                if let Some(poll) = self.parking.take(place) {
                    batch.polled.push(instant);
                    batch.answers.push((poll.answer, reply));
                }
            } else if scheduler.speaks_for_its_kind(poll.worker) {
                in_vain.insert(kind);
            }
        }
    }

    /// Commits, then answers.
    async fn finish(&mut self, scheduler: Scheduler, batch: Batch, now: Timestamp) {
        self.metrics.waiting(self.parking.len());
        if !batch.writes.is_empty() {
            let begun = Instant::now();
            if let Err(error) = self.store.write(&batch.writes).await {
                not_stored(&error, batch);
                return;
            }
            let requests = batch.answers.len() + batch.submissions.len();
            self.metrics.committed(requests, &batch.writes, &scheduler, begun.elapsed());
        }
        self.tokens.commit(batch.writes.tokens);
        self.sequence.send_if_modified(|last| {
            let modified = *last != scheduler.last_sequence();
            *last = scheduler.last_sequence();
            modified
        });
        if !batch.writes.telemetry.is_empty() {
            self.reports.send_modify(|commits| *commits += 1);
        }
        for (answer, reply) in batch.answers {
            if let Err(Ok(Reply::Granted(grants))) = answer.send(reply.map_err(WriteError::Rejected)) {
                self.undelivered
                    .extend(grants.iter().map(|Grant { lease, token, .. }| Held { lease: *lease, token: *token }));
            }
        }
        for (answers, replies) in batch.several {
            // Who asked may be gone.
            let _ = answers.send(Ok(replies));
        }
        for (answer, response) in batch.submissions {
            let _ = answer.send(response);
        }
        for since in batch.polled {
            self.metrics.leased(since.elapsed());
        }
        for look in batch.looks {
            look(Ok((&scheduler, now)));
        }
        self.scheduler = Some(scheduler);
        for removing in batch.removals {
            self.remove(removing).await;
        }
    }

    /// Takes away what the scheduler knows nothing of: a transaction of its own, and nobody else waits for it or fails with it.
    async fn remove(&mut self, Removing { removal, answer }: Removing) {
        let removed = self.store.remove(removal).await.map_err(|error| {
            tracing::error!(error = chain(&error), "can't remove what is old from the database");
            WriteError::NotStored(chain(&error))
        });
        // Who asked may be gone.
        let _ = answer.send(removed);
    }
}

/// The answer that a submission under `key` got: `here` in the same batch, or an earlier one.
async fn answer_under(
    store: &mut Store,
    key: &Key,
    here: Option<KeptAnswer>,
    now: Timestamp,
) -> Result<Option<SubmitResponse>, WriteError> {
    let kept = match here {
        Some(kept) => Some(kept),
        None => store.answer_of(&key.name, now).await.map_err(|error| {
            tracing::error!(error = chain(&error), "can't look for an idempotency key");
            WriteError::NotStored(chain(&error))
        })?,
    };
    match kept {
        Some(kept) if kept.key.body != key.body => Err(WriteError::KeyReused(key.name.clone())),
        kept => Ok(kept.map(|kept| kept.answer)),
    }
}

/// Answers a batch whose commit failed.
fn not_stored(error: &StoreError, batch: Batch) {
    let requests = batch.answers.len() + batch.submissions.len();
    tracing::error!(error = chain(error), "can't write to the database; {requests} requests are refused");
    let error = WriteError::NotStored(chain(error));
    for (answer, _) in batch.submissions {
        // Who asked may be gone.
        let _ = answer.send(Err(error.clone()));
    }
    for (answer, _) in batch.answers {
        // Refusals too: they may rest on changes that were not stored.
        let _ = answer.send(Err(error.clone()));
    }
    for (answers, _) in batch.several {
        let _ = answers.send(Err(error.clone()));
    }
    for Removing { answer, .. } in batch.removals {
        let _ = answer.send(Err(error.clone()));
    }
    for look in batch.looks {
        look(Err(error.clone()));
    }
}

/// Answers requests while there is no state to ask.
fn refuse(requests: impl Iterator<Item = Request>, error: &WriteError) {
    for request in requests {
        let answer = match request {
            Request::ApplyAll(_, answers) => {
                // Who asked may be gone.
                let _ = answers.send(Err(error.clone()));
                continue;
            }
            Request::Submit(submission) => {
                let _ = submission.answer.send(Err(error.clone()));
                continue;
            }
            Request::Remove(Removing { answer, .. }) => {
                let _ = answer.send(Err(error.clone()));
                continue;
            }
            Request::Look(look) => {
                look(Err(error.clone()));
                continue;
            }
            Request::Apply(_, answer)
            | Request::Tokens(_, answer)
            | Request::Told(_, answer)
            | Request::Probe(answer)
            | Request::Poll(Poll { answer, .. }) => answer,
        };
        // Who asked may be gone.
        let _ = answer.send(Err(error.clone()));
    }
}

#[cfg(test)]
mod tests;
