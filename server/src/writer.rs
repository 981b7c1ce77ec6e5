//! The one task that owns the scheduler and the database's write connection.
//!
//! It takes all requests that wait, carries them out in order, writes what they changed in one transaction, and only then
//! answers any of them: an answer means that the change is on the disk, and one fsync serves many requests. Then come the
//! looks at the state, which so see nothing that could still be undone.
//!
//! A commit that fails leaves the database as it was, and the scheduler ahead of it. So the scheduler is thrown away and
//! rebuilt from the database before anything else is done; everybody in that batch is told that nothing was stored.
//!
//! What is done with the requests of a transaction, and with the workers that wait for a job, is the scheduler's
//! [`Batch`]; this task brings it the time and the requests, commits, and answers.

use std::time::Duration;

use promptfield_core::chain::chain;
use promptfield_core::id::{Sequence, WorkerId};
use promptfield_core::scheduler::batch::{Batch, Poll, Recorder, Room, Served, Waiting};
use promptfield_core::scheduler::{Change, Command, Policy, Rejection, Reply, Scheduler, Submitted};
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

mod answer;
pub(crate) mod handed;

use answer::{Answer, Asker, tell};

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

/// A command, and what a running job reported with it.
pub(crate) type Reported = (Command, Option<Telemetry>);
/// What became of several commands, each for itself.
type Replies = Vec<Result<Reply, Rejection>>;
/// Gets the state, or why there is none.
type Look = Box<dyn FnOnce(Result<(&Scheduler, Timestamp), WriteError>) + Send>;

enum Request {
    /// A command.
    Apply(Command, Asker<Reply>),
    /// What a worker says of several leases.
    ApplyAll(Vec<Reported>, Asker<Replies>),
    /// An experiment comes in.
    Submit(Submission),
    /// A worker wants jobs, and waits for them.
    Poll(Poll<Polling>),
    /// Change tokens.
    Tokens(Vec<TokenChange>, Asker<Reply>),
    /// A webhook was told of events.
    Told(Told, Asker<Reply>),
    /// Can the database be written?
    Probe(Asker<Reply>),
    /// Take away what is old, and say how many rows it was.
    Remove(Removal, Asker<u64>),
    /// Look at the state.
    Look(Look),
}

/// An experiment, and what its client calls it.
struct Submission {
    command: Command,
    key: Option<Key>,
    asker: Asker<SubmitResponse>,
}

/// A worker that waits for a job.
#[derive(Debug)]
struct Polling {
    asker: Asker<Reply>,
    /// When it asked.
    since: Instant,
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
    clock: Clock,
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
            waiting: Waiting::default(),
        };
        (Self { inbox: sender, clock, sequence: published, reports: reported }, tokio::spawn(task.run()))
    }

    /// Carries a command out.
    pub(crate) async fn apply(&self, command: Command) -> Result<Reply, WriteError> {
        self.ask(|asker| Request::Apply(command, asker)).await
    }

    /// Carries several commands out, each for itself, and keeps what jobs reported with those that were not refused.
    pub(crate) async fn apply_all(&self, reported: Vec<Reported>) -> Result<Replies, WriteError> {
        self.ask(|asker| Request::ApplyAll(reported, asker)).await
    }

    /// Carries [`Command::Submit`] out. Under a key that stands for the same submission, gives the answer that it got.
    pub(crate) async fn submit(&self, command: Command, key: Option<Key>) -> Result<SubmitResponse, WriteError> {
        self.ask(|asker| Request::Submit(Submission { command, key, asker })).await
    }

    /// Grants a worker jobs; waits up to `wait` for the first.
    pub(crate) async fn lease(&self, worker: WorkerId, slots: usize, wait: Duration) -> Result<Reply, WriteError> {
        let until = self.clock.now().plus(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        let since = Instant::now();
        self.ask(|asker| Request::Poll(Poll { worker, slots, until, asker: Polling { asker, since } })).await
    }

    /// Writes changes of tokens; when this returns, they are in force.
    pub(crate) async fn change_tokens(&self, changes: Vec<TokenChange>) -> Result<(), WriteError> {
        self.ask(|asker| Request::Tokens(changes, asker)).await.map(drop)
    }

    /// Notes how far a webhook has been told of the events.
    pub(crate) async fn note_told(&self, told: Told) -> Result<(), WriteError> {
        self.ask(|asker| Request::Told(told, asker)).await.map(drop)
    }

    /// Finds out whether the database can be written, by writing to it.
    pub(crate) async fn probe(&self) -> Result<Reply, WriteError> {
        self.ask(Request::Probe).await
    }

    /// Takes a piece of what is old away, and says how many rows it was.
    pub(crate) async fn remove(&self, removal: Removal) -> Result<u64, WriteError> {
        self.ask(|asker| Request::Remove(removal, asker)).await
    }

    /// Looks at the state. The writer does nothing else meanwhile: clone what is needed and be gone.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Scheduler, Timestamp) -> T + Send + 'static,
    ) -> Result<T, WriteError> {
        self.ask(|asker| {
            Request::Look(Box::new(|state: Result<(&Scheduler, Timestamp), WriteError>| {
                tell(asker, state.map(|(scheduler, now)| look(scheduler, now)));
            }))
        })
        .await
    }

    /// The last event that is on the disk.
    pub(crate) fn sequence(&self) -> watch::Receiver<Sequence> {
        self.sequence.clone()
    }

    /// Changes whenever numbers or lines of running jobs were written.
    pub(crate) fn reports(&self) -> watch::Receiver<u64> {
        self.reports.clone()
    }

    async fn ask<T>(&self, request: impl FnOnce(Asker<T>) -> Request) -> Result<T, WriteError> {
        let (asker, answer) = oneshot::channel();
        self.send(request(asker))?;
        answer.await.map_err(|_| WriteError::Stopping)?
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
    waiting: Waiting<Polling>,
}

impl Recorder<Polling> for Writes {
    fn record(&mut self, _asker: Option<&Polling>, changes: Vec<Change>, _reply: &Result<Reply, Rejection>) {
        self.changes.extend(changes);
    }

    fn is_gone(&self, polling: &Polling) -> bool {
        polling.asker.is_closed()
    }
}

/// A batch that was carried out, and awaits its commit.
struct Outcome {
    now: Timestamp,
    writes: Writes,
    answers: Vec<Answer>,
    /// Since when those waited who get an answer to their poll.
    polled: Vec<Instant>,
    looks: Vec<Look>,
    removals: Vec<(Removal, Asker<u64>)>,
}

/// Carries a submission out, and keeps its answer if it has a key.
fn submit(
    batch: &mut Batch<'_, Polling, Writes>,
    command: Command,
    key: Option<Key>,
    now: Timestamp,
) -> Result<SubmitResponse, WriteError> {
    let Submitted { experiment, created, .. } = match batch.apply(None, command).map_err(WriteError::Rejected)? {
        Reply::Submitted(submitted) => submitted,
        other => return Err(WriteError::Unexpected(Box::new(other))),
    };
    let found = batch.scheduler().experiment(experiment);
    let (record, counts) = found.ok_or(WriteError::Rejected(Rejection::NoExperiment(experiment)))?;
    let answer = SubmitResponse { created, experiment: ExperimentSummary::new(record, counts) };
    batch.recorder().keys.extend(key.map(|key| KeptAnswer { key, answer: answer.clone(), at: now }));
    Ok(answer)
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
                () = stop.cancelled(), if !self.waiting.is_empty() => {}
                () = close.cancelled(), if !self.inbox.is_closed() => self.inbox.close(),
            }
            self.batch(&mut requests).await;
        }
        if let Err(error) = self.store.close().await {
            tracing::error!(error = chain(&error), "can't close the database");
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        let due = self.waiting.due(self.scheduler.as_ref(), self.clock.now());
        due.map(|due| self.clock.instant(due))
    }

    async fn batch(&mut self, requests: &mut Vec<Request>) {
        let rebuilt = self.scheduler.is_none();
        let mut scheduler = match self.scheduler().await {
            Ok(scheduler) => scheduler,
            Err(error) => {
                requests.drain(..).for_each(|request| request.refuse(&error));
                self.waiting.take_all().for_each(|polling| tell(polling.asker, Err(error.clone())));
                return;
            }
        };
        let (now, begun) = (self.clock.now(), Instant::now());
        let (mut answers, mut looks, mut removals) = (Vec::new(), Vec::new(), Vec::new());
        let mut batch = Batch::begin(&mut scheduler, &mut self.waiting, Writes::default(), now, rebuilt);
        for request in requests.drain(..) {
            match request {
                Request::Apply(command, asker) => {
                    let reply = batch.apply(None, command);
                    answers.push(Answer::Reply(asker, reply.map_err(WriteError::Rejected)));
                }
                Request::ApplyAll(reported, asker) => {
                    let mut replies = Vec::with_capacity(reported.len());
                    for (command, telemetry) in reported {
                        let reply = batch.apply(None, command);
                        batch.recorder().telemetry.extend(telemetry.filter(|_| reply.is_ok()));
                        replies.push(reply);
                    }
                    answers.push(Answer::Replies(asker, Ok(replies)));
                }
                Request::Submit(Submission { command, key, asker }) => {
                    let kept = match &key {
                        Some(key) => {
                            let here = batch.recorder().keys.iter().find(|kept| kept.key.name == key.name).cloned();
                            answer_under(&mut self.store, key, here, now).await
                        }
                        None => Ok(None),
                    };
                    let response = match kept {
                        Ok(Some(response)) => Ok(response),
                        Ok(None) => submit(&mut batch, command, key, now),
                        Err(error) => Err(error),
                    };
                    answers.push(Answer::Submitted(asker, response));
                }
                Request::Poll(poll) => batch.poll(poll),
                Request::Tokens(changes, asker) => {
                    batch.recorder().tokens.extend(changes);
                    answers.push(Answer::Reply(asker, Ok(Reply::Done)));
                }
                Request::Told(told, asker) => {
                    batch.recorder().told.push(told);
                    answers.push(Answer::Reply(asker, Ok(Reply::Done)));
                }
                Request::Probe(asker) => {
                    batch.recorder().readiness = Some(now);
                    answers.push(Answer::Reply(asker, Ok(Reply::Done)));
                }
                Request::Remove(removal, asker) => removals.push((removal, asker)),
                Request::Look(look) => looks.push(look),
            }
        }
        batch.pass_time();
        let (writes, served) =
            batch.serve(Room { most: self.limits.waiting, closes: self.signals.stop.is_cancelled() });
        let mut polled = Vec::new();
        for (Polling { asker, since }, served) in served {
            let reply = match served {
                Served::AtOnce(reply) => {
                    polled.push(since);
                    reply.map_err(WriteError::Rejected)
                }
                Served::Ready(reply) => {
                    polled.push(begun);
                    reply.map_err(WriteError::Rejected)
                }
                Served::Ended(reply) => reply.map_err(WriteError::Rejected),
                Served::Full => Err(WriteError::Busy),
            };
            answers.push(Answer::Reply(asker, reply));
        }
        self.finish(scheduler, Outcome { now, writes, answers, polled, looks, removals }).await;
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
                let mut scheduler = Scheduler::restore(self.policy.clone(), rows, self.clock.now());
                scheduler.recall(&took);
                Ok(scheduler)
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "can't rebuild the state from the database");
                Err(WriteError::NotStored(chain(&error)))
            }
        }
    }

    /// Commits, then answers.
    async fn finish(&mut self, scheduler: Scheduler, outcome: Outcome) {
        let Outcome { now, writes, answers, polled, looks, removals } = outcome;
        self.metrics.waiting(self.waiting.len());
        if !writes.is_empty() {
            let begun = Instant::now();
            if let Err(error) = self.store.write(&writes).await {
                let requests = answers.len();
                tracing::error!(error = chain(&error), "can't write to the database; {requests} requests are refused");
                let error = WriteError::NotStored(chain(&error));
                // Refusals too: they may rest on changes that were not stored.
                for answer in answers {
                    answer.refuse(&error);
                }
                for (_, asker) in removals {
                    tell(asker, Err(error.clone()));
                }
                for look in looks {
                    look(Err(error.clone()));
                }
                return;
            }
            self.metrics.committed(answers.len(), &writes, &scheduler, begun.elapsed());
        }
        self.tokens.commit(writes.tokens);
        self.sequence.send_if_modified(|last| {
            let modified = *last != scheduler.last_sequence();
            *last = scheduler.last_sequence();
            modified
        });
        if !writes.telemetry.is_empty() {
            self.reports.send_modify(|commits| *commits += 1);
        }
        for answer in answers {
            self.waiting.not_delivered(&answer.send());
        }
        for since in polled {
            self.metrics.leased(since.elapsed());
        }
        for look in looks {
            look(Ok((&scheduler, now)));
        }
        self.scheduler = Some(scheduler);
        for (removal, asker) in removals {
            tell(asker, self.remove(removal).await);
        }
    }

    /// Takes away what the scheduler knows nothing of: a transaction of its own, and nobody else waits for it or fails with it.
    async fn remove(&mut self, removal: Removal) -> Result<u64, WriteError> {
        self.store.remove(removal).await.map_err(|error| {
            tracing::error!(error = chain(&error), "can't remove what is old from the database");
            WriteError::NotStored(chain(&error))
        })
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

impl Request {
    /// Answers a request while there is no state to ask.
    fn refuse(self, error: &WriteError) {
        let error = error.clone();
        match self {
            Self::Apply(_, asker) | Self::Tokens(_, asker) | Self::Told(_, asker) | Self::Probe(asker) => {
                tell(asker, Err(error));
            }
            Self::Poll(poll) => tell(poll.asker.asker, Err(error)),
            Self::ApplyAll(_, asker) => tell(asker, Err(error)),
            Self::Submit(submission) => tell(submission.asker, Err(error)),
            Self::Remove(_, asker) => tell(asker, Err(error)),
            Self::Look(look) => look(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests;
